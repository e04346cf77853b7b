"""One party's virtual machine: values under names, programs run round by round."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.program import Program
from spuvm.errors import ProtocolError, SpuvmError, UsageError
from spuvm.kernels.arith import small_dtype
from spuvm.net.channel import Channel, Spec
from spuvm.net.keys import agree
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.io import Dealt, accept, part_of
from spuvm.protocol.aby3.keystream import Stream
from spuvm.protocol.aby3.packing import pack_bits
from spuvm.protocol.aby3.prss import RUN_BITS, Masks
from spuvm.protocol.aby3.share import AShare, BShare, Held, Share, ZShare
from spuvm.protocol.base import Party, Protocol
from spuvm.ring import Ring
from spuvm.vm.checkpoint import Header, read, write
from spuvm.vm.frames import Executor, Frame, Path
from spuvm.vm.schedule import Schedule, schedule
from spuvm.wide import cast, elements

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RunStats:
    """What one run took at this party: rounds, payload bytes sent, seconds, bytes by instruction.

    A round is one step of the parties' common schedule, counted while running; a party need not
    have a message in each.
    `views` holds every array received, in order, when the run recorded them.
    """

    rounds: int
    bytes_sent: int
    seconds: float
    rows: tuple[tuple[str, int, str], ...] = ()
    views: tuple[Array, ...] | None = None


class Machine:
    """The virtual machine of party `rank`.

    Construction blocks until the three parties have agreed on pairwise keys and a session. A
    machine that failed stays failed: masks of a broken run are never used again.
    """

    def __init__(
        self, rank: int, channel: Channel, ring: Ring, names: tuple[str, str, str]
    ) -> None:
        self.rank, self.ring, self.party_names = rank, ring, names
        self._channel = channel
        self._protocol: Protocol = ABY3
        keys = agree(channel)
        self.session = keys.session
        self._streams = {peer: Stream(key) for peer, key in keys.pair.items()}
        self._values: dict[str, Held] = {}
        self._plans: dict[str, Schedule] = {}
        self._last_run = -1
        self._saved = 0
        self._failure: str | None = None

    @property
    def names(self) -> list[str]:
        """Names of the values that are alive."""
        return list(self._values)

    def put(self, name: str, dealt: Dealt) -> None:
        """Keep what an owner dealt to this party under `name`."""
        if dealt.rank != self.rank:
            raise UsageError(f"shares of party {dealt.rank} came to party {self.rank}")
        expected = small_dtype(dealt.width) if dealt.width else self.ring.dtype
        if dealt.dtype != expected.str:
            raise UsageError(
                "shares of another ring",
                got=f"dtype {dealt.dtype}",
                expected=f"dtype {expected.str}",
            )
        self._values[name] = accept(dealt)

    def free(self, names: Iterable[str]) -> None:
        """Forget values; unknown names are ignored."""
        for name in names:
            self._values.pop(name, None)

    def save(self, path: FilePath, key: bytes, names: Sequence[str], about: str) -> None:
        """Write values to this party's own file; all parties save in the same order.

        Raises:
            UsageError: no such value, or additive shares, which are re-shared first.
        """
        self._saved += 1
        moment = sha256(self.session + self._saved.to_bytes(8, "little")).hexdigest()
        me = self.party_names[self.rank]
        header = Header(me, self.rank, self.ring.bits, moment, about)
        write(path, key, header, [self._replicated(name) for name in names])

    def restore(self, path: FilePath, key: bytes, name: str) -> Header:
        """Read values back as `name`.0, `name`.1, ...; what the file says about them.

        Raises:
            UsageError: the file cannot be used, or is another rank's or of another ring.
        """
        header, shares = read(path, key)
        if (header.rank, header.ring) != (self.rank, self.ring.bits):
            raise UsageError(
                "this checkpoint does not belong to this machine",
                got=f"rank {header.rank}, ring {header.ring}",
                expected=f"rank {self.rank}, ring {self.ring.bits}",
                next="name the parties of the SPU in the same order as when it was saved",
            )
        for i, share in enumerate(shares):
            self._values[f"{name}.{i}"] = share
        return header

    def abort(self, message: str) -> None:
        """Mark this machine as failed and tell the peers."""
        self._failure = self._failure or message
        self._channel.abort(message)

    def close(self) -> None:
        """Forget everything and close the links."""
        self._values.clear()
        self._channel.close()

    def run(
        self,
        run_id: int,
        program: Program,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        record: str = "none",
    ) -> RunStats:
        """Run `program` on the values named `inputs`; keep its outputs under the names `outputs`.

        All parties call it with the same arguments. `record="views"` keeps what was received.

        Raises:
            UsageError: the values do not fit the program's inputs; nothing was sent and the machine
                can be used on.
            ProtocolError: an instruction failed here; the text names party, instruction and source.
            ChannelError: a peer failed or did not answer.
        """
        self._check_call(program, inputs, outputs, record)
        self._begin(run_id)
        started = time.perf_counter()
        plan = self.prepare(program)
        values: dict[int, Any] = {i: self._value(name) for i, name in enumerate(inputs)}
        executor = Executor(
            self.rank, self.party_names[self.rank], self.ring, self._protocol, self._streams, run_id
        )
        views: list[Array] | None = [] if record == "views" else None
        before = self._channel.stats.bytes_sent
        try:
            rounds, made = self._execute(
                executor, Frame(program, plan, values, dict(plan.uses)), views
            )
        except SpuvmError as error:
            self.abort(f"party {self.party_names[self.rank]}: {error.message}")
            raise
        except Exception as error:
            message = f"party {self.party_names[self.rank]} failed: {type(error).__name__}"
            self.abort(message)
            raise ProtocolError(message) from error
        for name, output, value in zip(outputs, program.outputs, made, strict=True):
            self._values[name] = _as_share(value, self.rank, program, output.value)
        rows = tuple(_row_of(program, *item) for item in sorted(executor.sent.items()))
        return RunStats(
            rounds,
            self._channel.stats.bytes_sent - before,
            time.perf_counter() - started,
            rows,
            None if views is None else tuple(views),
        )

    def part(self, run_id: int, name: str, *, to: int | None, bits: int) -> Array | None:
        """This party's additive part of a value for opening it: low `bits` bits only, bits packed.

        To an outsider (to=None) all three parts are re-randomised, so the receiver learns the sum
        alone. To party `to` it adds what it has, the next party adds the component it lacks, and
        the third sends nothing (None).

        Raises:
            UsageError: no value of that name, or ring elements to be opened to another number of
                bits than 8, 16, 32, 64: parts are whole words, so more would be seen.
        """
        value = self._value(name)
        if not isinstance(value, BShare) and small_dtype(bits).itemsize * 8 != bits:
            raise UsageError(f"ring elements cannot be opened to {bits} bits")
        self._begin(run_id)
        masks = Masks(self._streams, run_id, 0, self.ring.nbytes * value.size)
        part = part_of(Party(self.rank, self.ring, masks), value, to)
        if part is None:
            return None
        if isinstance(value, BShare) and value.width == 1:
            return pack_bits(part & 1)
        if isinstance(value, BShare):
            return np.asarray(part & ((1 << value.width) - 1))
        return np.asanyarray(part.astype(small_dtype(bits), copy=False))

    def describe(self, name: str) -> tuple[tuple[int, ...], int]:
        """(shape, width) of a value; width 0 for arithmetic shares."""
        value = self._value(name)
        return value.shape, value.width if isinstance(value, BShare) else 0

    def _check_call(
        self, program: Program, inputs: Sequence[str], outputs: Sequence[str], record: str
    ) -> None:
        if program.ring != self.ring.bits:
            raise UsageError(
                "the program is for another ring",
                got=f"ring={program.ring}",
                expected=f"ring={self.ring.bits}",
            )
        counts = (len(inputs), len(outputs))
        if counts != (len(program.inputs), len(program.outputs)):
            raise UsageError(
                "the program takes and gives other numbers of values",
                got=f"{counts[0]} inputs, {counts[1]} outputs",
                expected=f"{len(program.inputs)} inputs, {len(program.outputs)} outputs",
            )
        if record not in ("none", "views"):
            raise UsageError(f"cannot record {record!r}", expected="'none' or 'views'")
        for name, expected in zip(inputs, program.inputs, strict=True):
            described = self.describe(name)
            if isinstance(self._value(name), ZShare) != (expected.type.kind == "z"):
                raise UsageError(
                    f"value {name!r} does not fit the program's input",
                    got=repr(self._value(name)),
                    expected=f"shares of kind {expected.type.kind}",
                )
            if described != (expected.type.shape, expected.type.width):
                raise UsageError(
                    f"value {name!r} does not fit the program's input",
                    got=f"shape {described[0]}, width {described[1]}",
                    expected=f"shape {expected.type.shape}, width {expected.type.width}",
                )

    def prepare(self, program: Program) -> Schedule:
        """The schedule of a program; the first time the parties compare its digest.

        Not part of the program's cost: 32 bytes to each peer, once per program and session.

        Raises:
            ProtocolError: a peer was given another program; nothing was computed.
        """
        plan = self._plans.get(program.digest)
        if plan is None:
            self._compare(program)
            plan = self._plans[program.digest] = schedule(program, self._protocol)
        return plan

    def _compare(self, program: Program) -> None:
        mine = np.frombuffer(bytes.fromhex(program.digest), np.uint8)
        peers = self._channel.peers
        expected = Spec(mine.dtype, mine.size)
        got = self._channel.exchange({q: [mine] for q in peers}, {q: [expected] for q in peers})
        differing = [self.party_names[q] for q in peers if bytes(got[q][0]) != bytes(mine)]
        if differing:
            error = ProtocolError(
                f"party {self.party_names[self.rank]} was given another program than "
                f"{' and '.join(differing)}",
                expected="the same program at all parties",
                next="compare str(program) at the parties; nothing was computed",
            )
            self.abort(error.message)
            raise error

    def _begin(self, run_id: int) -> None:
        if self._failure is not None:
            raise ProtocolError(
                "this machine failed before and cannot be used again",
                got=self._failure,
                next="make a new SPU; a failed session is never continued",
            )
        if not self._last_run < run_id < 1 << RUN_BITS:
            raise ProtocolError(
                "run numbers must count upwards, or masks would be used twice",
                got=f"run {run_id} after {self._last_run}",
            )
        self._last_run = run_id

    def _value(self, name: str) -> Held:
        try:
            return self._values[name]
        except KeyError:
            raise UsageError(
                f"party {self.party_names[self.rank]} has no value named {name!r}",
                next="it was freed or never shared",
            ) from None

    def _replicated(self, name: str) -> Share:
        value = self._value(name)
        if isinstance(value, ZShare):
            raise UsageError(f"value {name!r} is not saved as additive shares", next="reshare_z")
        return value

    def _execute(
        self, executor: Executor, frame: Frame, views: list[Array] | None
    ) -> tuple[int, list[Any]]:
        """Exchange what the frame yields, round by round; how many they were, and its outputs."""
        steps, received, rounds = executor.steps(frame), None, 0
        while True:
            try:
                due = next(steps) if received is None else steps.send(received)
            except StopIteration as stop:
                outputs: list[Any] = stop.value
                return rounds, outputs
            received, rounds = {}, rounds + 1
            if due.send or due.receive:
                received = self._channel.exchange(due.send, due.receive)
            if self.ring.bits == 128:
                received = {peer: [elements(a) for a in got] for peer, got in received.items()}
            if views is not None:
                for peer in sorted(received):
                    views.extend(a.copy() for a in received[peer])
            del due  # what was sent is freed while the next round is made


def _row_of(program: Program, path: Path, count: int) -> tuple[str, int, str]:
    """What a run reports of an instruction inside of loops: its name, bytes, the user's line."""
    for number in path[:-1]:
        body = program.instructions[number].body
        assert body is not None
        program = body
    instruction = program.instructions[path[-1]]
    return instruction.op, count, instruction.source


def _as_share(value: Any, rank: int, program: Program, number: int) -> Held:
    """A result that turned out public is kept as a trivial share: component 0 is the value."""
    if isinstance(value, AShare | BShare | ZShare):
        return value
    width = program.types[number].width
    if width:
        value = cast(value, small_dtype(width))
    zero = np.zeros_like(value)
    first = value if rank == 0 else zero
    second = value if rank == 2 else zero
    return BShare(first, second, width) if width else AShare(first, second)
