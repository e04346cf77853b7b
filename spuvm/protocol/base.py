"""What a protocol is: a table from instructions to what a party does, with declared costs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.isa import OPS, STRUCTURAL
from spuvm.bytecode.types import Type
from spuvm.errors import ProtocolError
from spuvm.net.channel import Spec
from spuvm.protocol.aby3.prss import Masks, Request
from spuvm.ring import Ring

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Exchange:
    """One round of one instruction: arrays to send and arrays expected, by peer rank."""

    send: dict[int, list[Array]] = field(default_factory=dict)
    receive: dict[int, list[Spec]] = field(default_factory=dict)


Received = dict[int, list[Array]]
Steps = Generator[Exchange, Received, Any]


@dataclass(slots=True)
class Party:
    """Context of one instruction at one party: first argument of every protocol function."""

    rank: int
    ring: Ring
    masks: Masks | None

    def draw(self, other: int, *requests: Request, lane: int = 0) -> list[Array]:
        """Flat masks shared with party `other`; see Masks.draw."""
        assert self.masks is not None, "local instructions draw no masks"
        return self.masks.draw(other, *requests, lane=lane)

    def fill(self, other: int, out: Array, lane: int = 0) -> None:
        """A mask shared with party `other` drawn into `out`; see Masks.fill."""
        assert self.masks is not None, "local instructions draw no masks"
        self.masks.fill(other, out, lane)


@dataclass(frozen=True, slots=True)
class OpCost:
    """Rounds of an instruction and payload bytes that each party sends."""

    rounds: int
    bytes_sent: tuple[int, int, int]


CostRule = Callable[[Ring, Sequence[Type], Mapping[str, Any]], OpCost]
LocalFn = Callable[..., Any]
StepsFn = Callable[..., Steps]


@dataclass(frozen=True)
class Protocol:
    """A protocol as a value: what each instruction does and what it costs.

    Raises:
        ProtocolError: at construction, when an instruction of the table is missing or superfluous.
    """

    name: str
    local: Mapping[str, LocalFn]
    steps: Mapping[str, StepsFn]
    costs: Mapping[str, CostRule]

    def __post_init__(self) -> None:
        for names, want in ((self.local, True), (self.steps, False), (self.costs, False)):
            expected = {n for n, op in OPS.items() if op.local is want} - STRUCTURAL
            if set(names) != expected:
                raise ProtocolError(
                    f"protocol {self.name} is incomplete",
                    got=f"missing {sorted(expected - set(names))}, "
                    f"unknown {sorted(set(names) - expected)}",
                    expected="one entry per instruction of bytecode/isa.py",
                )


@dataclass(frozen=True)
class Table:
    """The registry that one protocol's files fill by decoration; double entries are errors."""

    local: dict[str, LocalFn] = field(default_factory=dict)
    steps: dict[str, StepsFn] = field(default_factory=dict)
    costs: dict[str, CostRule] = field(default_factory=dict)

    def on_shares(self, name: str) -> Callable[[LocalFn], LocalFn]:
        """Register a local instruction."""

        def register(fn: LocalFn) -> LocalFn:
            _once(self.local, name)
            self.local[name] = fn
            return fn

        return register

    def kernel(self, name: str, cost: CostRule) -> Callable[[StepsFn], StepsFn]:
        """Register an interactive instruction with its declared cost."""

        def register(fn: StepsFn) -> StepsFn:
            _once(self.steps, name)
            self.steps[name] = fn
            self.costs[name] = cost
            return fn

        return register


def _once(table: Mapping[str, object], name: str) -> None:
    if name in table:
        raise ProtocolError(f"instruction {name!r} is registered twice")
    if name not in OPS:
        raise ProtocolError(f"instruction {name!r} is not in bytecode/isa.py")


def spec(dtype: np.dtype[Any], size: int) -> Spec:
    """Shorthand for what an Exchange expects."""
    return Spec(dtype, size)
