"""What a program will open: to whom, made from whose data, written on which line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spuvm.bytecode.loops import loop_of
from spuvm.bytecode.program import Instruction, Program


@dataclass(frozen=True)
class Disclosure:
    """One value that somebody learns.

    what     starts with "output" for results; anything else is a deliberate leak.
    to       the receiver's name; "caller" until the result is sent somewhere.
    origins  the parties whose data it depends on.
    source   the user's line that computes it, "" where an input is passed through.
    """

    what: str
    to: str
    origins: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    source: str


Origins = frozenset[str]


def origins_of(program: Program) -> list[Origins]:
    """Whose inputs each value depends on, by value id."""
    return _origins(program, [frozenset((given.origin,)) for given in program.inputs])


def _origins(program: Program, given: Sequence[Origins]) -> list[Origins]:
    table = list(given)
    for instruction in program.instructions:
        if instruction.body is not None:
            table += _of_loop(instruction, instruction.body, [table[a] for a in instruction.args])
            continue
        empty = not instruction.types[0].size  # zero shares are made of empty slices: no data
        sources = () if empty else instruction.args
        table.append(frozenset().union(*(table[a] for a in sources)))
    return table


def _of_loop(instruction: Instruction, body: Program, args: list[Origins]) -> list[Origins]:
    """A carry depends on all that any iteration brings into it."""
    loop = loop_of(instruction)
    while True:
        table = _origins(body, [frozenset(), *args])
        made = [table[out.value] for out in body.outputs]
        before = list(args)
        for k in range(loop.carries):
            args[loop.first_carry + k] |= made[k]
        if args == before:
            return made


def disclosures(program: Program, to: str = "caller") -> tuple[Disclosure, ...]:
    """One Disclosure per output, in order."""
    sources = {r: i.source for i in program.instructions for r in i.results}
    made = []
    for out in program.outputs:
        shape = program.types[out.value].shape
        source = sources.get(out.value, "")
        what = f"output {out.name}"
        if out.divisor > 1:
            what += f" as a sum, divided by {out.divisor} where it is opened"
        made.append(Disclosure(what, to, out.origins, shape, out.dtype, source))
    return tuple(made)


def with_origins(program: Program) -> Program:
    """The program with the origins of every output filled in."""
    table = origins_of(program)
    outputs = tuple(replace(o, origins=tuple(sorted(table[o.value]))) for o in program.outputs)
    return replace(program, outputs=outputs)
