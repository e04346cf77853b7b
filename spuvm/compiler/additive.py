"""Products that are only rounded and given away stay additive shares: nothing is sent for them.

What takes such a result into another program re-shares it first, one round; see protocol/aby3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from spuvm.bytecode.isa import MOVES
from spuvm.bytecode.program import Instruction, Program
from spuvm.compiler.passes import dce, number, rewritten
from spuvm.compiler.rebuild import Rebuild

_BETWEEN = (*MOVES, "retype_a")


@dataclass(frozen=True, slots=True)
class _Product:
    """An exact product, and what leads from it to where it is rounded."""

    dot: Instruction
    way: tuple[Instruction, ...]


def additive_results(program: Program) -> Program:
    """round_a(dot_aa) becomes round_z(additive_dot_aa) where the result is only an output.

    Not for bodies of loops: what they give is carried on.
    """
    users: dict[int, list[Instruction]] = {}
    for instruction in program.instructions:
        for a in instruction.args:
            users.setdefault(a, []).append(instruction)

    @cache
    def only_rounded(value: int) -> bool:
        """Whether every way from here ends in a rounding that only outputs use."""
        if value in outputs:
            return False
        return all(
            (i.op == "round_a" and i.results[0] not in users)
            or (i.op in _BETWEEN and only_rounded(i.results[0]))
            for i in users.get(value, ())
        )

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        found = _product(r, i)
        if found is None or not only_rounded(found.dot.results[0]):
            return None
        bits, t = number(i, "bits"), found.dot.types[0]
        most = 3 << bits - 1
        if t.bounds is None or t.magnitude(0) + most >= 1 << program.ring - 2:
            return None  # the range was promised later, not proven by the operands
        args = (r.new[a] for a in found.dot.args)
        made = r.emit("additive_dot_aa", *args, source=found.dot.source)
        for move in reversed(found.way):
            if move.op in MOVES:
                made = r.emit(move.op, made, source=move.source, **move.attrs)
        proven, known = (t.bounds[0] - most, t.bounds[1] + most), i.types[0].bounds
        promised = () if known is None or known == proven else known
        return r.emit("round_z", made, source=i.source, bits=bits, range=promised)

    outputs = {out.value for out in program.outputs}
    return dce(rewritten(program, rewrite, "round_a"))


def _product(r: Rebuild, rounding: Instruction) -> _Product | None:
    way: list[Instruction] = []
    value = rounding.args[0]
    while (made := r.made_by.get(value)) is not None and made.op in _BETWEEN:
        way.append(made)
        value = made.args[0]
    if made is None or made.op != "dot_aa" or made.attrs["trunc"]:
        return None
    if made.types[0].frac != rounding.types[0].frac:
        return None
    return _Product(made, tuple(way))
