"""When each instruction of a program starts: independent ones share rounds."""

from __future__ import annotations

from dataclasses import dataclass

from spuvm.bytecode.program import Program
from spuvm.protocol.base import Protocol
from spuvm.ring import Ring


@dataclass(frozen=True, slots=True)
class Schedule:
    """`starts[r]` are the instruction numbers that begin in round r, in program order."""

    rounds: int
    starts: tuple[tuple[int, ...], ...]
    uses: dict[int, int]


def schedule(program: Program, protocol: Protocol) -> Schedule:
    """As early as possible: an instruction starts in the round in which its last operand is ready.

    A local instruction takes no round. The result depends on the program alone, so that all parties
    have the same schedule and frames need no addresses.
    """
    ring, types = Ring(program.ring), program.types
    ready: dict[int, int] = dict.fromkeys(range(len(program.inputs)), 0)
    starts: dict[int, list[int]] = {}
    uses: dict[int, int] = {}
    rounds = 0
    for number, instruction in enumerate(program.instructions):
        begin = max((ready[a] for a in instruction.args), default=0)
        cost = protocol.costs.get(instruction.op)
        duration = 0
        if cost is not None:
            args = [types[i] for i in instruction.args]
            duration = cost(ring, args, instruction.attrs).rounds
        for result in instruction.results:
            ready[result] = begin + duration
        rounds = max(rounds, begin + duration)
        starts.setdefault(begin, []).append(number)
        for argument in instruction.args:
            uses[argument] = uses.get(argument, 0) + 1
    for output in program.outputs:
        uses[output.value] = uses.get(output.value, 0) + 1
    table = tuple(tuple(starts.get(r, ())) for r in range(rounds + 1))
    return Schedule(rounds, table, uses)
