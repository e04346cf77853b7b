"""When each instruction of a program starts: independent ones share rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spuvm.bytecode.loops import loop_of
from spuvm.bytecode.program import Program
from spuvm.errors import ProtocolError
from spuvm.protocol.aby3.prss import INSTRUCTION_BITS
from spuvm.protocol.base import Protocol
from spuvm.ring import Ring


@dataclass(frozen=True, slots=True)
class Schedule:
    """The plan of a program, or of the body of a loop.

    starts[r]  the instruction numbers that begin in round r, in program order; only rounds in which
               some do are there.
    uses       how often each value is an operand or an output.
    places     per instruction, the first of the places of masks that are its own; a loop owns as
               many as all its iterations need, so that no path of iterations shares a place.
    span       how many places one run of the whole takes.
    bodies     the plans of loops, by instruction number.
    """

    rounds: int
    starts: Mapping[int, tuple[int, ...]]
    uses: dict[int, int]
    places: tuple[int, ...]
    span: int
    bodies: Mapping[int, Schedule]


def schedule(program: Program, protocol: Protocol) -> Schedule:
    """As early as possible: an instruction starts in the round in which its last operand is ready.

    A local instruction takes no round; a loop those of its body, once per iteration, and what does
    not depend on it runs beside it. The result depends on the program alone, so that all parties
    have the same schedule and frames need no addresses.

    Raises:
        ProtocolError: the iterations of its loops need more places of masks than there are.
    """
    ring, types = Ring(program.ring), program.types
    ready: dict[int, int] = dict.fromkeys(range(len(program.inputs)), 0)
    starts: dict[int, list[int]] = {}
    uses: dict[int, int] = {}
    bodies: dict[int, Schedule] = {}
    places = []
    rounds = span = 0
    for number, instruction in enumerate(program.instructions):
        begin = max((ready[a] for a in instruction.args), default=0)
        duration, taken = 0, 1
        if instruction.op in protocol.costs:
            args = [types[i] for i in instruction.args]
            duration = protocol.costs[instruction.op](ring, args, instruction.attrs).rounds
        elif instruction.body is not None:
            inner = bodies[number] = schedule(instruction.body, protocol)
            trip = loop_of(instruction).trip
            duration, taken = trip * inner.rounds, trip * inner.span
        places.append(span)
        span += taken
        for result in instruction.results:
            ready[result] = begin + duration
        rounds = max(rounds, begin + duration)
        starts.setdefault(begin, []).append(number)
        for argument in instruction.args:
            uses[argument] = uses.get(argument, 0) + 1
    for output in program.outputs:
        uses[output.value] = uses.get(output.value, 0) + 1
    if span >> INSTRUCTION_BITS:
        raise ProtocolError(
            "the program has more steps than a run has places for masks",
            got=f"{span} instructions, iterations counted",
            expected=f"fewer than 2^{INSTRUCTION_BITS}",
            next="run the outer loop outside and call the body",
        )
    table = {r: tuple(numbers) for r, numbers in sorted(starts.items())}
    return Schedule(rounds, table, uses, tuple(places), span, bodies)
