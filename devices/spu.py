"""SPU: a virtual machine made of three parties that computes on data none of them sees."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spuvm.bytecode.program import Program
from spuvm.devices.about import about, from_about
from spuvm.devices.backend import MachinePlan, Ref
from spuvm.devices.base import Device, DeviceObject, checked_results
from spuvm.devices.checkpoints import Loaded, LoadOrder, SaveOrder, in_common
from spuvm.devices.clusterdef import parse
from spuvm.devices.compiling import Programs, resharing, sum_of_parts
from spuvm.devices.config import Config
from spuvm.devices.costs import Run
from spuvm.devices.crossings import (
    Dealer,
    Joiner,
    RingDealer,
    RingJoiner,
    shared_by_owner,
    widest_type,
)
from spuvm.devices.failure import checked, source_line
from spuvm.devices.flow import Form
from spuvm.devices.host import PROGRAMS, OpenOrder, RunOrder
from spuvm.devices.pyu import PYUObject
from spuvm.devices.recent import Recent
from spuvm.devices.session import checked_parties, current
from spuvm.devices.statics import Statics
from spuvm.devices.structure import Shared, describe, leaves_of, origins_of
from spuvm.devices.warmup import warm_up
from spuvm.errors import UsageError

if TYPE_CHECKING:
    from spuvm.devices.function import SPUFunction

log = logging.getLogger("spuvm")

PARTIES = 3


class SPU(Device):
    """Three parties of the session, their configuration, and the machines they run.

    Args:
        parties: three distinct names, or SecretFlow's cluster definition (a dict with nodes).
        config: numbers and habits; must be equal for values to move between two SPUs.

    Raises:
        UsageError: no session, not three parties, an unknown or repeated one.
        PartyError: a party's machine did not start.
    """

    def __init__(
        self, parties: Sequence[str] | Mapping[str, Any], config: Config | None = None
    ) -> None:
        self._session = current()
        addresses = None
        if isinstance(parties, Mapping):
            names, addresses, config = parse(parties, config)
        else:
            names = parties  # type: ignore[assignment]
        first, second, third = _three(names, self._session.parties)
        self.parties = (first, second, third)
        self.config = config or Config()
        if not isinstance(self.config, Config):
            raise UsageError("config is a Config", got=repr(config), expected="sf.Config(...)")
        self.fxp = self.config.fxp
        self.name = self._session.fresh("spu")
        self.programs = Programs(self.config)
        plan = MachinePlan(
            self.name, self.parties, self.config.ring, self.config.deadline, addresses,
            repr(self.config),
        )  # fmt: skip
        warm_up(self.config.ring)
        self.machines = self._session.backend.start_machines(plan)
        self._resharing = threading.Lock()  # held around a run, which takes the other one
        self._lock = threading.Lock()
        self._next_run = 1
        self._values = itertools.count()
        self._sent: Recent[str, bool] = Recent(PROGRAMS)
        self._last: tuple[Ref, ...] = ()

    def __call__(
        self,
        fn: Callable[..., Any],
        static_argnames: str | Sequence[str] = (),
        num_returns: int | None = None,
        *,
        static_argnums: int | Sequence[int] = (),
    ) -> SPUFunction:
        """`fn` as a function of values on this SPU.

        It is traced once for the same function, shapes and public values, as under jax.jit: what it
        captures (globals, attributes of `self`) is read then. Pass what changes as an argument.

        Args:
            fn: a JAX function.
            static_argnames, static_argnums: arguments that are known while tracing, as in jax.jit.
            num_returns: None for one handle of the whole result; n for a tuple of n handles.
        """
        from spuvm.devices.function import SPUFunction

        return SPUFunction(
            self, fn, checked_results(num_returns), Statics(fn, static_argnums, static_argnames)
        )

    def rank(self, party: str) -> int | None:
        """Place of a party among the three, None for others."""
        return self.parties.index(party) if party in self.parties else None

    def receive(self, x: PYUObject) -> SPUObject:
        """Share a party's value: its owner deals, the machines get the pieces."""
        self._check_open()
        owner, what = x.device.party, x.ref.what
        limits, rank = self.config.input_range, self.rank(owner)
        dealer = Dealer(what, self.fxp, limits, rank, widest_type(), source_line())
        return SPUObject(self.take_from(owner, what, dealer, x.ref), source=x)

    def take_from(self, owner: str, what: str, dealer: Dealer | RingDealer, ref: Ref) -> Stored:
        """Have a party deal a value to the machines."""
        self._check_open()
        name = self._fresh()
        self._session.flow.note(owner, self.name, "shared", what)
        with self._lock:
            facts = self.machines.feed(name, owner, f"sharing {what}", dealer, ref)
        return Stored(self, name, what, (facts,))

    def run(self, program: Program, inputs: Sequence[str], what: str) -> Stored:
        """Run a program on named arrays; its outputs are arrays 0, 1, ... of what is returned."""
        self._check_open()
        name = self._fresh()
        self._session.flow.note_run(self.name, what, program)
        with self._lock:
            new = self._sent.get(program.digest) is None
            self._sent.put(program.digest, True)
            self._last = self.machines.run(
                RunOrder(
                    self._take(1), what, program.digest, program if new else None,
                    tuple(inputs), name,
                )
            )  # fmt: skip
            return Stored(self, name, what, self._last)

    def open_to(self, x: SPUObject, party: str, joiner: RingJoiner | None = None) -> Ref:
        """Open a value to one party: reconstructed there and nowhere else."""
        self._check_open()
        leaves, tree = x.structure()
        join = joiner or Joiner(self.fxp, leaves, tree)
        with self._lock:
            order = self._order(list(zip(x.names, leaves, strict=True)), self.rank(party))
            ref = self.machines.open_at(order, party, x.stored.what, join)
        form: Form = "opened" if order.origins else "hidden"
        self._session.flow.note(self.name, party, form, x.stored.what)
        return replace(ref, origins=order.origins)

    def open_here(self, arrays: Sequence[tuple[str, Shared]]) -> tuple[Ref, ...]:
        """Open arrays to the driver: one Ref with all their parts per machine."""
        self._check_open()
        with self._lock:
            return self.machines.open_here(self._order(arrays, None))

    def pass_on(self, x: SPUObject, target: SPU) -> SPUObject:
        """Share the shares of a value among the machines of another SPU; nothing becomes clear."""
        target._check_open()
        if target.fxp != self.fxp:
            raise UsageError(
                "two SPUs with different encodings",
                got=f"{self.fxp} to {target.fxp}",
                next="give both the same ring and frac_bits",
            )
        leaves, tree = x.structure()
        leaves = tuple(replace(leaf, additive=False) for leaf in leaves)
        parts = [target._fresh() for _ in range(PARTIES)]
        self._session.flow.note(self.name, target.name, "shared", x.stored.what)
        with self._lock:
            order = self._order(list(zip(x.names, leaves, strict=True)), None, whole=True)
            self.machines.pass_on(order, target.machines, parts)
        program = sum_of_parts(self.fxp, leaves)
        inputs = [f"{part}.{i}" for i in range(len(leaves)) for part in parts]
        stored = target.run(program, inputs, x.stored.what)
        target.machines.free(parts)
        return SPUObject(stored, leaves, tree)

    def dump(self, x: SPUObject, path: str | os.PathLike[str]) -> None:
        """Save a value of this SPU: each party writes its shares to `path`.PARTY on its own disk.

        The files are encrypted with a key of each party ([local] checkpoint_key of the cluster
        file; ~/.spuvm/PARTY.checkpoint.key where there is none). Waits until all have written.

        Raises:
            UsageError: not a value of this SPU, or a file that cannot be written.
        """
        self._check_open()
        if not isinstance(x, SPUObject) or x.device is not self:
            raise UsageError("an SPU saves its own values", got=repr(x), expected=repr(self))
        x = x.replicated()
        leaves, tree = x.structure()
        text = about(x.stored.what, leaves, tree, repr(self.fxp))
        with self._lock:
            refs = self.machines.save(SaveOrder(tuple(x.names), os.fspath(path), text))
        checked(self._session.backend.wait(refs))

    def load(self, path: str | os.PathLike[str]) -> SPUObject:
        """A value that was saved under `path` by an SPU of the same parties in the same order.

        Where a saving was interrupted and only some have the last one, all load the one before.

        Raises:
            UsageError: a party's file is missing, changed, of another moment than the others', or
                of an SPU with another encoding; without a driver also where the value depends on
                data of a party that is not in this session, whose consent nobody could ask for.
        """
        self._check_open()
        name, refs, found = self._load(os.fspath(path), "")
        common = in_common(found)
        if any(one.checkpoint != common for one in found) and common:
            log.warning("%s was saved by some parties only: loading the one before", path)
            self.machines.free([name])
            name, refs, found = self._load(os.fspath(path), common)
        what, leaves, tree = from_about(found, repr(self.fxp))
        stored = Stored(self, name, what, refs)
        absent = sorted(set(origins_of(leaves)) - set(self._session.parties))
        if absent and self._session.backend.me is not None:
            raise UsageError(
                "this checkpoint depends on data of parties that are not in this session",
                got=", ".join(absent),
                expected=f"only data of {', '.join(self._session.parties)}",
                next="name them in the cluster file: what becomes clear of their data needs them",
            )
        return SPUObject(stored, leaves, tree)

    def _load(self, path: str, checkpoint: str) -> tuple[str, tuple[Ref, ...], Sequence[Loaded]]:
        name = self._fresh()
        with self._lock:
            refs = self.machines.load(LoadOrder(name, path, checkpoint))
        return name, refs, checked(self._session.backend.fetch(refs))

    @property
    def last_run(self) -> Run | None:
        """What the last program that was started took, waiting for its end; None before any.

        Raises:
            UsageError: the session was shut down.
        """
        self._check_open()
        if not self._last:
            return None
        outcomes = checked(self._session.backend.fetch(self._last))
        return Run(
            outcomes[0].rounds,
            (outcomes[0].bytes_sent, outcomes[1].bytes_sent, outcomes[2].bytes_sent),
            max(outcome.seconds for outcome in outcomes),
        )

    def _order(
        self, arrays: Sequence[tuple[str, Shared]], to: int | None, *, whole: bool = False
    ) -> OpenOrder:
        ring = self.config.ring
        leaves = [leaf for _, leaf in arrays]
        if any(leaf.additive for leaf in leaves):
            to = None  # nobody has two of such shares
        return OpenOrder(
            self._take(len(arrays)),
            tuple(name for name, _ in arrays),
            tuple(leaf.width or ring if whole else leaf.bits(ring) for leaf in leaves),
            tuple(leaf.width for leaf in leaves),
            tuple(leaf.spec.shape for leaf in leaves),
            to,
            origins_of(leaves),
        )

    def _take(self, count: int) -> int:
        """The first of `count` run numbers; the lock is held until they are sent."""
        first = self._next_run
        self._next_run += count
        return first

    def _fresh(self) -> str:
        return f"v{next(self._values)}"

    def _check_open(self) -> None:
        if current() is not self._session:
            raise UsageError(
                f"{self!r} belongs to a session that was shut down", next="make it again"
            )

    def __repr__(self) -> str:
        return f"SPU({self.name}: {', '.join(self.parties)})"


class Stored:
    """A value at the machines of an SPU, under one name; freed there when nobody holds it."""

    __slots__ = ("__weakref__", "name", "refs", "spu", "what")

    def __init__(self, spu: SPU, name: str, what: str, refs: tuple[Ref, ...]) -> None:
        self.spu, self.name, self.what, self.refs = spu, name, what, refs
        finalizer = weakref.finalize(self, spu._session.drop, spu.machines, name)
        finalizer.atexit = False


class SPUObject(DeviceObject):
    """A handle of a pytree of secret arrays on an SPU.

    The structure of a value that was moved here is learned from its owner when it is first needed.
    """

    __slots__ = ("_facts", "_first", "_replicated", "_source", "stored")

    def __init__(
        self,
        stored: Stored,
        leaves: tuple[Shared, ...] | None = None,
        tree: Any = None,
        first: int = 0,
        source: PYUObject | None = None,
    ) -> None:
        super().__init__(stored.spu)
        self.stored = stored
        self._facts = None if leaves is None else (leaves, tree)
        self._first = first
        self._replicated: SPUObject | None = None
        self._source = source
        if source is not None and source.facts is not None:
            self._learn(source.facts)

    @property
    def names(self) -> list[str]:
        """Names of the arrays at the machines, in the order of the tree's leaves."""
        count = len(self.structure()[0])
        return [f"{self.stored.name}.{self._first + i}" for i in range(count)]

    def structure(self) -> tuple[tuple[Shared, ...], Any]:
        """Public facts: the arrays and the tree of their specs; waits for the owner if need be.

        Raises:
            ValueRangeError, PartyError, UsageError: the owner could not share the value.
        """
        if self._facts is None:
            (tree,) = checked(self._session.backend.fetch(self.stored.refs))
            assert self._source is not None
            self._source.facts = tree
            self._learn(tree)
        assert self._facts is not None
        return self._facts

    @property
    def waits(self) -> bool:
        """Whether it has additive shares that nothing has taken yet; see `replicated`."""
        facts = self._facts  # of a value that was dealt they may be unknown, and are not waited for
        additive = facts is not None and any(leaf.additive for leaf in facts[0])
        return additive and self._replicated is None

    def replicated(self) -> SPUObject:
        """A handle of the same value in shares that programs take.

        Additive ones are re-shared, in one round, once for all that take them.
        """
        spu = self.stored.spu
        with spu._resharing:
            if self.waits:
                leaves, tree = self.structure()
                stored = spu.run(resharing(spu.fxp, leaves), self.names, self.stored.what)
                made = tuple(replace(leaf, additive=False) for leaf in leaves)
                self._replicated = SPUObject(stored, made, tree)
            return self if self._replicated is None else self._replicated

    def _learn(self, tree: Any) -> None:
        assert self._source is not None
        spu, origins = self.stored.spu, self._source.ref.origins
        specs, _ = leaves_of(tree)
        limits = spu.config.input_range
        leaves = tuple(shared_by_owner(spec, spu.fxp, limits, origins) for spec in specs)
        self._facts, self._source = (leaves, tree), None

    def __repr__(self) -> str:
        tree = "?" if self._facts is None else describe(self._facts[1])
        return f"SPUObject({self.stored.spu.name}: {tree})"


def _three(names: Sequence[Any], known: Sequence[str]) -> tuple[str, str, str]:
    parties = checked_parties(names)
    if len(parties) != PARTIES:
        raise UsageError(
            "an SPU is made of three parties",
            got=f"{len(parties)}: {', '.join(parties)}",
            expected="three distinct names; data owners need not be among them",
        )
    unknown = [name for name in parties if name not in known]
    if unknown:
        raise UsageError(
            "unknown party",
            got=", ".join(unknown),
            expected=f"one of {', '.join(known)}",
            next="name it in sf.init(parties=[...])",
        )
    return parties[0], parties[1], parties[2]
