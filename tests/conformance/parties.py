"""Three parties in one process, for tests: in lock step without a channel, or as three Machines."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spuvm.bytecode.program import Program
from spuvm.net.channel import Channel
from spuvm.net.local import LocalNetwork
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.io import accept, deal, reconstruct
from spuvm.protocol.aby3.keystream import FIRST, Stream
from spuvm.protocol.aby3.prss import BLOCK_BITS, LANE_BITS, Masks
from spuvm.protocol.aby3.share import AShare, BShare, ZShare
from spuvm.protocol.base import Exchange, Party
from spuvm.ring import Ring
from spuvm.vm.machine import Machine
from spuvm.wide import elements

RANKS = (0, 1, 2)
PAIRS = ((0, 1), (0, 2), (1, 2))
NAMES = ("alice", "bob", "carol")


# --- lock step: one instruction, one thread, everything visible --------------------------------


@dataclass(frozen=True)
class Drawn:
    """One mask: with whom, at which blocks of the pair's stream, and its value."""

    other: int
    first: int
    blocks: int
    array: np.ndarray


class RecordingMasks(Masks):
    """Masks that keep a copy of every array drawn and its place in the stream."""

    __slots__ = ("drawn",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.drawn: list[Drawn] = []

    def _next(self, other: int, lane: int) -> int:
        return self._place + (lane << BLOCK_BITS - LANE_BITS) + self._used.get((other, lane), FIRST)

    def draw(self, other: int, *requests: Any, lane: int = 0) -> list[np.ndarray]:
        first = self._next(other, lane)
        arrays = super().draw(other, *requests, lane=lane)
        for a in arrays:
            blocks = -(-a.nbytes // 16)
            self.drawn.append(Drawn(other, first, blocks, a.copy()))
            first += blocks
        return arrays

    def fill(self, other: int, out: np.ndarray, lane: int = 0) -> None:
        first = self._next(other, lane)
        super().fill(other, out, lane)
        self.drawn.append(Drawn(other, first, -(-out.nbytes // 16), out.copy()))


@dataclass
class Trace:
    """One instruction at all three parties: result shares, cost, and what each party saw."""

    results: list[Any]
    rounds: int
    bytes_sent: tuple[int, int, int]
    received: list[list[np.ndarray]]
    drawn: list[list[Drawn]]


def pair_streams(
    make: Callable[[int, int, bytes], Stream] | None = None,
) -> list[dict[int, Stream]]:
    """Fresh keys for every pair, as each party holds them; `make(i, j, key)` builds a stream."""
    make = make or (lambda i, j, key: Stream(key))
    streams: list[dict[int, Stream]] = [{}, {}, {}]
    for i, j in PAIRS:
        key = os.urandom(16)
        streams[i][j], streams[j][i] = make(i, j, key), make(i, j, key)
    return streams


def lockstep(
    ring: Ring,
    steps: Callable[..., Any],
    operands: Sequence[Sequence[Any]],
    attrs: Mapping[str, Any],
    *,
    streams: Sequence[Mapping[int, Stream]] | None = None,
    run: int = 0,
    number: int = 0,
    masks: Callable[..., RecordingMasks] | None = None,
) -> Trace:
    """Run a protocol function at three parties at once; `masks(rank, ...)` may stand in for theirs.

    `operands[i]` holds operand i of the three parties. Checked on the way: what is sent is what the
    receiver expects, all parties take the same number of rounds, nobody writes to an operand or to
    an array after it was sent, the two holders of each component agree, and no place of a stream
    is drawn twice by a party, and every place by both of its holders.
    """
    streams = streams or pair_streams()
    make = masks or (lambda rank, *place: RecordingMasks(*place))
    drawing = [make(i, streams[i], run, number) for i in RANKS]
    parties = [Party(i, ring, drawing[i]) for i in RANKS]
    frozen = [(a, a.copy()) for operand in operands for share in operand for a in arrays_of(share)]
    runs = [steps(parties[i], *(o[i] for o in operands), **attrs) for i in RANKS]
    results: list[Any] = [None] * 3
    inbox: list[Any] = [None] * 3
    received: list[list[np.ndarray]] = [[], [], []]
    sent = [0, 0, 0]
    rounds = 0
    while True:
        pending: list[Exchange | None] = []
        for i in RANKS:
            try:
                pending.append(runs[i].send(inbox[i]))
            except StopIteration as stop:
                results[i] = stop.value
                pending.append(None)
        if pending == [None] * 3:
            break
        assert None not in pending, "parties disagree about the number of rounds"
        rounds += 1
        inbox = [{}, {}, {}]
        for i in RANKS:
            for peer, arrays in pending[i].send.items():
                specs = pending[peer].receive.pop(i)
                assert [(a.dtype, a.size) for a in arrays] == [(s.dtype, s.size) for s in specs]
                assert all(a.flags.c_contiguous for a in arrays)
                sent[i] += sum(a.nbytes for a in arrays)
                frozen += [(a, a.copy()) for a in arrays]
                inbox[peer][i] = [elements(a.reshape(-1)) for a in arrays]
        assert not any(p.receive for p in pending), "something is expected that nobody sends"
        for i in RANKS:
            received[i] += [a for peer in sorted(inbox[i]) for a in inbox[i][peer]]
    for array, before in frozen:
        assert np.array_equal(array, before), "an operand or a sent array was written to"
    check_replicated(results)
    drawn = [m.drawn for m in drawing]
    for i, j in PAIRS:
        mine, other = places_of(drawn[i], j), places_of(drawn[j], i)
        assert mine == other, "holders of a mask drew different places"
    return Trace(results, rounds, (sent[0], sent[1], sent[2]), received, drawn)


def places_of(drawn: Sequence[Drawn], other: int) -> list[tuple[int, int]]:
    """Ranges of the stream shared with a party, joined where they touch; none overlap."""
    made: list[tuple[int, int]] = []
    for d in sorted((d for d in drawn if d.other == other and d.blocks), key=lambda d: d.first):
        last = d.first + d.blocks
        if made and made[-1][1] >= d.first:
            assert made[-1][1] == d.first, "a mask was drawn twice"
            made[-1] = (made[-1][0], last)
        else:
            made.append((d.first, last))
    return made


def arrays_of(value: Any) -> list[np.ndarray]:
    """The arrays behind a share or a public value."""
    if isinstance(value, ZShare):
        return [value.z]
    return [value.x0, value.x1] if isinstance(value, AShare | BShare) else [np.asarray(value)]


def check_replicated(shares: Sequence[Any]) -> None:
    """Second component of party i = first component of party i+1; alike in shape, dtype, width."""
    for i in RANKS:
        mine, other = shares[i], shares[(i + 1) % 3]
        assert type(mine) is type(other)
        assert mine.x0.dtype == mine.x1.dtype == other.x0.dtype
        assert mine.x0.shape == mine.x1.shape == other.x0.shape
        assert np.array_equal(mine.x1, other.x0), "holders of a component disagree"
        if isinstance(mine, BShare):
            assert mine.width == other.width


def share(values: np.ndarray, ring: Ring, width: int = 0, owner: int | None = None) -> list[Any]:
    """Fresh shares of encoded values at the three parties."""
    return [accept(d) for d in deal(values, ring, width=width, owner=owner)]


def value_of(shares: Sequence[Any]) -> np.ndarray:
    """The clear value; bits above the width are cut."""
    width = shares[0].width if isinstance(shares[0], BShare) else 0
    total = reconstruct([arrays_of(s)[0] for s in shares], width)
    return total & ((1 << width) - 1) if width else total


def interactive(op: str) -> Callable[..., Any]:
    """The protocol function of an interactive instruction."""
    return ABY3.steps[op]


# --- three machines ----------------------------------------------------------------------------


class ClockedChannel(Channel):
    """A channel that measures the longest chain of messages that depend on each other.

    Of one instruction that is its rounds. In a program a party that has nothing to wait for may
    begin the next instruction a round before the schedule does, so there it can be less.
    """

    def __init__(self, inner: Channel, stamps: Mapping[tuple[int, int], deque[int]]) -> None:
        self._inner, self._stamps = inner, stamps
        self.rank, self.peers, self.stats = inner.rank, inner.peers, inner.stats
        self.clock = 0

    def exchange(self, sends: Any, receives: Any) -> Any:
        now = self.clock + 1
        for peer in sends:
            self._stamps[self.rank, peer].append(now)
        got = self._inner.exchange(sends, receives)
        arrived = [self._stamps[peer, self.rank].popleft() for peer in receives]
        self.clock = max([*arrived, now if sends else self.clock])
        return got

    def abort(self, message: str) -> None:
        self._inner.abort(message)

    def close(self) -> None:
        self._inner.close()


def at_all(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run one job per party in threads; the first error in rank order is raised."""
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException | None] = [None] * len(jobs)

    def work(i: int) -> None:
        try:
            results[i] = jobs[i]()
        except BaseException as error:
            errors[i] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for error in errors:
        if error is not None:
            raise error
    return results


@dataclass
class Measured:
    """What a run of a program gave and took: rounds of the schedule, the longest chain in them."""

    outputs: list[np.ndarray]
    rounds: int
    chain: int
    bytes_sent: tuple[int, int, int]
    stats: list[Any] = field(default_factory=list)


class Trio:
    """Three machines over in-process channels; run numbers count up by themselves."""

    def __init__(self, ring: Ring, timeout: float = 20.0) -> None:
        self.ring = ring
        network = LocalNetwork(3, timeout, names=NAMES)
        stamps: dict[tuple[int, int], deque[int]] = {
            (i, j): deque() for i in RANKS for j in RANKS if i != j
        }
        self.channels = [ClockedChannel(c, stamps) for c in network.channels]
        self.machines = at_all([lambda c=c: Machine(c.rank, c, ring, NAMES) for c in self.channels])
        self.run_id = 0

    def next_run(self) -> int:
        self.run_id += 1
        return self.run_id

    def put(self, name: str, values: np.ndarray, width: int = 0, owner: int | None = None) -> None:
        for machine, dealt in zip(
            self.machines, deal(values, self.ring, width=width, owner=owner), strict=True
        ):
            machine.put(name, dealt)

    def execute(
        self, program: Program, inputs: Sequence[str], outputs: Sequence[str], record: str = "none"
    ) -> Measured:
        """Run a program on values that are there; measured by the channels, not by the machines."""
        at_all([lambda m=m: m.prepare(program) for m in self.machines])
        run_id = self.next_run()
        before = [c.stats.bytes_sent for c in self.channels]
        start = max(c.clock for c in self.channels)
        for c in self.channels:
            c.clock = start
        stats = at_all(
            [lambda m=m: m.run(run_id, program, inputs, outputs, record=record)
             for m in self.machines]
        )  # fmt: skip
        b0, b1, b2 = (c.stats.bytes_sent - b for c, b in zip(self.channels, before, strict=True))
        chain = max(c.clock for c in self.channels) - start
        (rounds,) = {s.rounds for s in stats}
        assert chain <= rounds
        return Measured([], rounds, chain, (b0, b1, b2), stats)

    def open(self, name: str, *, to: int | None = None, bits: int | None = None) -> np.ndarray:
        """The clear value, flat, as its receiver puts it together."""
        run_id = self.next_run()
        bits = bits or self.ring.bits
        parts = at_all([lambda m=m: m.part(run_id, name, to=to, bits=bits) for m in self.machines])
        shape, width = self.machines[0].describe(name)
        total = reconstruct(parts, width)
        if width == 1:
            total = np.unpackbits(total, count=int(np.prod(shape, dtype=int)), bitorder="little")
        return total.reshape(shape)

    def run(self, program: Program, values: Sequence[np.ndarray], record: str = "none") -> Measured:
        """Share values, run the program on them, open all outputs, forget everything."""
        names = [f"in{i}" for i in range(len(values))]
        for name, given, v in zip(names, program.inputs, values, strict=True):
            self.put(name, v, given.type.width)
        outputs = [f"out{i}" for i in range(len(program.outputs))]
        measured = self.execute(program, names, outputs, record)
        measured.outputs = [self.open(name) for name in outputs]
        for machine in self.machines:
            machine.free([*names, *outputs])
        return measured

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
