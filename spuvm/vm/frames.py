"""Running a program, or the body of a loop, round by round: one frame per run of a body.

A frame is a generator like the interactive instructions inside it: it yields what all that are
running send in one round and receives what came in. A loop is such a generator too, so what does
not depend on it shares its rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.isa import DRAWING
from spuvm.bytecode.loops import Loop, loop_of
from spuvm.bytecode.program import Instruction, Program
from spuvm.errors import ProtocolError, SpuvmError
from spuvm.net.channel import Spec
from spuvm.protocol.aby3.keystream import Stream
from spuvm.protocol.aby3.prss import Masks
from spuvm.protocol.aby3.rows import Stack, row
from spuvm.protocol.base import Exchange, Party, Protocol, Received, Steps
from spuvm.ring import Ring
from spuvm.vm.schedule import Schedule

Array = npt.NDArray[Any]
Path = tuple[int, ...]

_NOTHING = Exchange()


@dataclass(slots=True)
class Frame:
    """Registers of one run of a program or body.

    `left` counts the uses of a register that are still to come; `place` is where its masks begin;
    `path` are the numbers of the loops it is in.
    """

    program: Program
    plan: Schedule
    values: dict[int, Any]
    left: dict[int, int]
    place: int = 0
    path: Path = ()


@dataclass(slots=True)
class _Active:
    """An interactive instruction or loop between two of its rounds."""

    number: int
    instruction: Instruction
    steps: Steps
    pending: Exchange


@dataclass(slots=True)
class Executor:
    """What the frames of one run share; `sent` counts bytes by path of instruction numbers."""

    rank: int
    name: str
    ring: Ring
    protocol: Protocol
    streams: Mapping[int, Stream]
    run_id: int
    sent: dict[Path, int] = field(default_factory=dict)

    def steps(self, frame: Frame) -> Steps:
        """Run a frame; yields once per round and returns the outputs."""
        active: list[_Active] = []
        inbox: dict[int, Received] = {}
        starts, rounds = frame.plan.starts, frame.plan.rounds
        for now in range(rounds + 1):
            still = [task for task in active if self._advance(frame, task, inbox.pop(task.number))]
            for number in starts.get(now, ()):
                fresh = self._start(frame, number)
                if fresh is not None:
                    still.append(fresh)
            active = still
            if not active:
                continue
            if now == rounds:
                raise ProtocolError("an instruction took more rounds than its declared cost")
            self._count(frame, active)
            if len(active) == 1:
                inbox = {active[0].number: (yield active[0].pending)}
            else:
                inbox = _handed_out(active, (yield _joined(active)))
        return [frame.values[out.value] for out in frame.program.outputs]

    def _count(self, frame: Frame, active: Sequence[_Active]) -> None:
        for task in active:
            if task.instruction.body is not None:
                continue  # counted inside
            count = 0
            for arrays in task.pending.send.values():
                for array in arrays:
                    count += array.nbytes
            key = (*frame.path, task.number)
            self.sent[key] = self.sent.get(key, 0) + count

    def _start(self, frame: Frame, number: int) -> _Active | None:
        instruction = frame.program.instructions[number]
        op = instruction.op
        if op == "const":
            index = instruction.attrs["index"]
            assert isinstance(index, int)
            frame.values[instruction.results[0]] = frame.program.constants[index]
            return None
        args = [frame.values[a] for a in instruction.args]
        place = frame.place + frame.plan.places[number]
        try:
            local = self.protocol.local.get(op)
            if local is not None:
                drawing = op in DRAWING
                masks = self._masks(instruction, place) if drawing else None
                party = Party(self.rank, self.ring, masks)
                _finish(frame, instruction, local(party, *args, **instruction.attrs))
                return None
            if op == "loop":
                steps = self._loop(frame, number, loop_of(instruction), args, place)
            else:
                party = Party(self.rank, self.ring, self._masks(instruction, place))
                steps = self.protocol.steps[op](party, *args, **instruction.attrs)
            return _Active(number, instruction, steps, next(steps))
        except StopIteration as stop:  # a loop without rounds
            _finish(frame, instruction, stop.value)
            return None
        except SpuvmError:
            raise
        except Exception as error:
            raise self._wrapped(instruction, error) from error

    def _masks(self, instruction: Instruction, place: int) -> Masks:
        size = instruction.types[0].size if instruction.types else 0
        return Masks(self.streams, self.run_id, place, self.ring.nbytes * size)

    def _advance(self, frame: Frame, task: _Active, received: Received) -> bool:
        """Give a running instruction what came in; True when it has another round."""
        try:
            task.pending = _NOTHING  # what was sent may be freed
            task.pending = task.steps.send(received)
            return True
        except StopIteration as stop:
            _finish(frame, task.instruction, stop.value)
            return False
        except SpuvmError:
            raise
        except Exception as error:
            raise self._wrapped(task.instruction, error) from error

    def _loop(self, frame: Frame, number: int, loop: Loop, args: list[Any], place: int) -> Steps:
        """One frame per iteration, each with places of masks of its own."""
        plan = frame.plan.bodies[number]
        captured, carried = args[: loop.first_carry], args[loop.first_carry : loop.first_row]
        scanned = args[loop.first_row :]
        stacks = [Stack(loop.trip) for _ in loop.body.outputs[loop.carries :]]
        path = (*frame.path, number)
        for step, i in enumerate(loop.iterations()):
            index = self.ring.array(np.asarray(i))
            given = [index, *captured, *carried, *(row(x, i) for x in scanned)]
            inner = Frame(
                loop.body, plan, dict(enumerate(given)), dict(plan.uses),
                place + step * plan.span, path,
            )  # fmt: skip
            made = yield from self.steps(inner)
            carried = made[: loop.carries]
            for stack, value in zip(stacks, made[loop.carries :], strict=True):
                stack.put(i, value)
        return [*carried, *(stack.value() for stack in stacks)]

    def _wrapped(self, instruction: Instruction, error: Exception) -> ProtocolError:
        return ProtocolError(
            f"party {self.name}: instruction {instruction.op} failed ({type(error).__name__})",
            at=instruction.source or None,
        )


def _finish(frame: Frame, instruction: Instruction, value: Any) -> None:
    values, left = frame.values, frame.left
    if instruction.body is None:
        values[instruction.results[0]] = value
    else:
        values.update(zip(instruction.results, value, strict=True))
    for argument in instruction.args:
        left[argument] -= 1
        if not left[argument]:
            del values[argument]


def _joined(active: Sequence[_Active]) -> Exchange:
    """The messages of several instructions, in program order, as one frame per peer."""
    sends: dict[int, list[Array]] = {}
    receives: dict[int, list[Spec]] = {}
    for task in active:
        for peer, arrays in task.pending.send.items():
            sends.setdefault(peer, []).extend(arrays)
        for peer, specs in task.pending.receive.items():
            receives.setdefault(peer, []).extend(specs)
    return Exchange(sends, receives)


def _handed_out(active: Sequence[_Active], got: Received) -> dict[int, Received]:
    """To each instruction its part of what came in."""
    cursor = dict.fromkeys(got, 0)
    inbox: dict[int, Received] = {}
    for task in active:
        mine: Received = {}
        for peer, specs in task.pending.receive.items():
            first = cursor[peer]
            cursor[peer] = first + len(specs)
            mine[peer] = got[peer][first : cursor[peer]]
        inbox[task.number] = mine
    got.clear()  # an instruction frees what it received as soon as it can
    return inbox
