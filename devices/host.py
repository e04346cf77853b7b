"""What surrounds a party's virtual machine: orders in, outcomes out, errors as values."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from spuvm.bytecode.program import Program
from spuvm.devices.checkpoints import Loaded, LoadOrder, SaveOrder, default_key, file_of
from spuvm.devices.failure import Failure, caught
from spuvm.devices.recent import Recent
from spuvm.errors import ProtocolError
from spuvm.net.channel import Channel
from spuvm.protocol.aby3.io import Dealt
from spuvm.ring import Ring
from spuvm.vm.checkpoint import choose, found, key_of, previous
from spuvm.vm.machine import Machine

Part = npt.NDArray[Any] | None
PROGRAMS = 256  # programs that a machine remembers; whoever gives orders counts along


@dataclass(frozen=True, slots=True)
class RunOrder:
    """Run the program with this digest on named values; results are `output`.0, `output`.1, ..."""

    run_id: int
    what: str
    digest: str
    program: Program | None
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """Make additive parts of arrays for the rank `to` that may see them; None: an outsider.

    The arrays `names` take the run ids from `run_id` on; `bits` are the low bits that may be seen,
    `origins` the parties whose data they depend on.
    """

    run_id: int
    names: tuple[str, ...]
    bits: tuple[int, ...]
    widths: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    to: int | None
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run cost this party."""

    rounds: int
    bytes_sent: int
    seconds: float


class Host:
    """One party's virtual machine; does what it is told in the order it is told."""

    def __init__(self, party: str, key: Path | None = None) -> None:
        self.party = party
        self._key = key or default_key(party)  # of saved values
        self._machine: Machine | None = None
        self._broken: Failure | None = None
        self._failed: dict[str, Failure] = {}
        self._sizes: dict[str, int] = {}
        self._inbox: dict[str, Sequence[Dealt] | Failure] = {}
        self._arrived = threading.Condition()
        self._programs: Recent[str, Program] = Recent(PROGRAMS)

    def attach(self, rank: int, channel: Channel, ring_bits: int, names: Sequence[str]) -> None:
        """Meet the other two machines; blocks until all three are there."""
        first, second, third = names
        self._machine = Machine(rank, channel, Ring(ring_bits), (first, second, third))

    def put(self, name: str, dealt: Sequence[Dealt] | Failure) -> None:
        """Take this party's pieces of a value, or the reason why there are none.

        The only method that may be called from another thread than the others.
        """
        with self._arrived:
            self._inbox[name] = dealt
            self._arrived.notify_all()

    def expect(self, names: Sequence[str], seconds: float) -> None:
        """Wait for values that are on their way; a value that does not come is a failed one."""
        missing = {name for name in names if name not in self._sizes and name not in self._failed}
        with self._arrived:
            self._arrived.wait_for(lambda: self._inbox.keys() >= missing, seconds)
            for name in missing - self._inbox.keys():
                self._failed[name] = self._lost(name)
        self._take_in()

    def run(self, order: RunOrder) -> Outcome | Failure:
        """Run a program; a failed input makes a failed output, and nothing is sent."""
        try:
            program = order.program or self._programs.get(order.digest)
            if program is None:
                raise ProtocolError("a program was never sent", got=order.digest)
            self._programs.put(order.digest, program)
            self._take_in()
            failure = self._failure_in(order.inputs)
            if failure is not None:
                self._failed[order.output] = failure
                return failure
            outputs = [f"{order.output}.{i}" for i in range(len(program.outputs))]
            self._sizes[order.output] = len(outputs)
            stats = self._ready().run(order.run_id, program, order.inputs, outputs)
            return Outcome(stats.rounds, stats.bytes_sent, stats.seconds)
        except Exception as error:
            return self._break(order.what, error)

    def open(self, order: OpenOrder) -> list[Part] | Failure:
        """This party's additive part of each array."""
        try:
            self._take_in()
            failure = self._failure_in(order.names)
            if failure is not None:
                return failure
            machine = self._ready()
            ids = range(order.run_id, order.run_id + len(order.names))
            return [
                machine.part(run_id, name, to=order.to, bits=bits)
                for run_id, name, bits in zip(ids, order.names, order.bits, strict=True)
            ]
        except Exception as error:
            return self._break("opening a value", error)

    def save(self, order: SaveOrder) -> Failure | None:
        """Write arrays to this party's own storage."""
        try:
            self._take_in()
            failure = self._failure_in(order.names)
            if failure is not None:
                return failure
            path = file_of(order.path, self.party)
            self._ready().save(path, key_of(self._key), order.names, order.about)
            return None
        except Exception as error:  # nothing was sent: the machine can be used on
            return caught(self.party, "saving a value", error)

    def load(self, order: LoadOrder) -> Loaded | Failure:
        """Read arrays from this party's own storage."""
        try:
            path = file_of(order.path, self.party)
            if order.checkpoint or not path.exists():
                choose(path, order.checkpoint or found(previous(path)))
            header = self._ready().restore(path, key_of(self._key), order.name)
            self._sizes[order.name] = len(header.arrays)
            return Loaded(header.checkpoint, header.about, found(previous(path)))
        except Exception as error:
            self._failed[order.name] = caught(self.party, "loading a value", error)
            return self._failed[order.name]

    def free(self, names: Sequence[str]) -> None:
        """Forget values by the names they were put or run under."""
        self._take_in()
        for name in names:
            self._failed.pop(name, None)
            count = self._sizes.pop(name, 0)
            if self._machine is not None and self._broken is None:
                self._machine.free([f"{name}.{i}" for i in range(count)])

    def names(self) -> list[str]:
        """Names of the values that this machine holds."""
        self._take_in()
        return sorted(self._sizes)

    def close(self) -> None:
        """Leave the others; idempotent."""
        if self._machine is not None:
            self._machine.close()

    def _ready(self) -> Machine:
        if self._broken is not None:
            self._broken.throw()
        if self._machine is None:
            raise ProtocolError("the machine has not met its peers yet")
        return self._machine

    def _take_in(self) -> None:
        """Give the machine what has arrived."""
        with self._arrived:
            arrived, self._inbox = self._inbox, {}
        for name, dealt in arrived.items():
            if isinstance(dealt, Failure):
                self._failed[name] = dealt
            elif self._broken is None and self._machine is not None:
                self._sizes[name] = len(dealt)
                for i, piece in enumerate(dealt):
                    self._machine.put(f"{name}.{i}", piece)

    def _lost(self, name: str) -> Failure:
        error = ProtocolError(f"value {name} never arrived", next="see the log of its owner")
        return Failure(self.party, "waiting for its inputs", error)

    def _failure_in(self, names: Sequence[str]) -> Failure | None:
        if self._broken is not None:
            return self._broken
        for name in names:
            base = name.rpartition(".")[0]
            if base in self._failed:
                return self._failed[base]
            if base not in self._sizes:
                return self._lost(base)
        return None

    def _break(self, what: str, error: Exception) -> Failure:
        if self._broken is None:
            self._broken = caught(self.party, what, error)
            if self._machine is not None:
                self._machine.abort(f"party {self.party!r} failed in {what}: {error}")
        return self._broken
