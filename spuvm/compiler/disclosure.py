"""What a program will open: to whom, made from whose data, written on which line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spuvm.bytecode.program import Program


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


def origins_of(program: Program) -> list[frozenset[str]]:
    """Whose inputs each value depends on, by value id."""
    table = [frozenset((given.origin,)) for given in program.inputs]
    for instruction in program.instructions:
        empty = not instruction.types[0].size  # zero shares are made of empty slices: no data
        sources = () if empty else instruction.args
        table.append(frozenset().union(*(table[a] for a in sources)))
    return table


def disclosures(program: Program, to: str = "caller") -> tuple[Disclosure, ...]:
    """One Disclosure per output, in order."""
    first = len(program.inputs)
    made = []
    for out in program.outputs:
        source = ""
        if out.value >= first:
            source = program.instructions[out.value - first].source
        shape = program.types[out.value].shape
        made.append(Disclosure(f"output {out.name}", to, out.origins, shape, out.dtype, source))
    return tuple(made)


def with_origins(program: Program) -> Program:
    """The program with the origins of every output filled in."""
    table = origins_of(program)
    outputs = tuple(replace(o, origins=tuple(sorted(table[o.value]))) for o in program.outputs)
    return replace(program, outputs=outputs)
