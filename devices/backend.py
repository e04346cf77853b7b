"""Where the work of the parties runs: the one interface that Ray and threads both offer.

Every operation names the party that does it and the names and numbers that it uses, so that a
backend in which each party runs the script itself can do its own part and skip the others'.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spuvm.compiler.config import Compiled
from spuvm.devices.calls import Call
from spuvm.devices.checkpoints import LoadOrder, SaveOrder
from spuvm.devices.failure import Failure
from spuvm.devices.host import OpenOrder, RunOrder


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A value that lives at a party, or will; what `handle` is only its backend knows.

    what     name of the function that made the value, through moves too.
    origins  parties whose data the value depends on, sorted; the devices fill it in.
    """

    party: str
    what: str
    handle: Any
    origins: tuple[str, ...] = ()


class Backend(ABC):
    """Runs calls at parties and hosts their virtual machines; nothing here blocks but `fetch`."""

    parties: tuple[str, ...]
    me: str | None = None  # the party whose script this is; None: a driver that all parties trust

    @abstractmethod
    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        """Start `fn` at a party; one Ref per result."""

    @abstractmethod
    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        """Make an instance that lives at a party; its Ref is only good for `invoke`."""

    @abstractmethod
    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        """Start a method of an instance; calls run one after another in the order they are made."""

    @abstractmethod
    def describe(self, ref: Ref, what: str, look: Callable[[Any], Any]) -> Ref:
        """Public structure of a value, which `look` finds at its owner; anyone may fetch it."""

    @abstractmethod
    def move(self, ref: Ref, target: str) -> Ref:
        """The same value at another party, in clear."""

    @abstractmethod
    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        """The values themselves, here; a Failure stands for what went wrong."""

    @abstractmethod
    def wait(self, refs: Sequence[Ref]) -> list[Failure]:
        """Block until the values exist; their Failures, without the values."""

    @abstractmethod
    def start_machines(self, plan: MachinePlan) -> Machines:
        """Start one virtual machine per party and connect them."""

    def agree(
        self, what: str, compiled: Compiled, again: Callable[[Sequence[Any]], Compiled]
    ) -> Compiled:
        """The program that all parties run; `again` compiles with the constants of another one."""
        return compiled

    def settle(self) -> list[Failure]:
        """Wait for all calls that were started; failures of theirs that nobody has heard of."""
        return []

    @abstractmethod
    def close(self) -> None:
        """End everything; idempotent."""


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """Who computes, in which ring, and where each listens (None: any free port).

    config  everything that was chosen about this SPU, as text: equal at all parties.
    """

    name: str
    parties: tuple[str, str, str]
    ring_bits: int
    deadline: float
    addresses: tuple[tuple[str, int], ...] | None = None
    config: str = ""


class Machines(ABC):
    """The three virtual machines of one SPU.

    Steps are done in the order they are asked for, at all three. A Ref that a step returns holds
    None, public statistics or a Failure, unless it is said to hold shares.
    """

    plan: MachinePlan

    @abstractmethod
    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        """At `owner`, deal a value: the pieces go to the machines; the Ref is its structure."""

    @abstractmethod
    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        """Run a program; one Ref with an Outcome per machine."""

    @abstractmethod
    def open_here(self, order: OpenOrder) -> tuple[Ref, ...]:
        """This caller's right to see a value: one Ref with additive parts per machine."""

    @abstractmethod
    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        """At `party`, the value that `join` makes of the machines' additive parts."""

    @abstractmethod
    def pass_on(self, order: OpenOrder, target: Machines, names: Sequence[str]) -> tuple[Ref, ...]:
        """Each machine deals its additive parts of a value to the machines of another SPU."""

    @abstractmethod
    def save(self, order: SaveOrder) -> tuple[Ref, ...]:
        """Each machine writes its shares of a value to its party's own storage."""

    @abstractmethod
    def load(self, order: LoadOrder) -> tuple[Ref, ...]:
        """Each machine reads shares back; one Ref with what it Loaded per machine."""

    @abstractmethod
    def free(self, names: Sequence[str]) -> None:
        """Forget values, after everything that was asked for before."""

    @abstractmethod
    def close(self) -> None:
        """End the machines; idempotent."""
