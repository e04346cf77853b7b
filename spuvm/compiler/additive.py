"""Products that are only rounded and given away stay additive shares: nothing is sent for them.

What takes such a result into another program re-shares it first, one round; see protocol/aby3.
"""

from __future__ import annotations

from functools import cache

from spuvm.bytecode.isa import MOVES
from spuvm.bytecode.program import Instruction, Program
from spuvm.bytecode.types import Type
from spuvm.compiler.passes import dce, number, rewritten
from spuvm.compiler.rebuild import Rebuild

_BETWEEN = (*MOVES, "retype_a")


def additive_results(program: Program) -> Program:
    """round_a(dot_aa) becomes round_z(additive_dot_aa) where the result is only an output.

    All that is made of a product or nothing: rounded in both ways it would have two thresholds. Not
    for bodies of loops: what they give is carried on.
    """
    outputs = {out.value for out in program.outputs}
    users: dict[int, list[Instruction]] = {}
    for instruction in program.instructions:
        for a in instruction.args:
            users.setdefault(a, []).append(instruction)

    @cache
    def stays(dot: int, t: Type) -> bool:
        """Whether every way from a product ends in a rounding that only outputs use."""
        waiting = [dot]
        while waiting:
            value = waiting.pop()
            if value in outputs:
                return False
            for user in users.get(value, ()):
                if user.op in _BETWEEN:
                    waiting.append(user.results[0])
                elif user.op != "round_a" or user.results[0] in users or not _fits(user, t):
                    return False
        return True

    def _fits(rounding: Instruction, t: Type) -> bool:
        """Whether the product's own range leaves room, not one that was promised on the way."""
        most = t.magnitude(1 << program.ring) + (3 << number(rounding, "bits") - 1)
        return rounding.types[0].frac == t.frac and most < 1 << program.ring - 2

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        way: list[Instruction] = []
        value = i.args[0]
        while (dot := r.made_by.get(value)) is not None and dot.op in _BETWEEN:
            way.append(dot)
            value = dot.args[0]
        if dot is None or dot.op != "dot_aa" or dot.attrs["trunc"]:
            return None
        if not stays(value, dot.types[0]):
            return None
        made = r.emit("additive_dot_aa", *(r.new[a] for a in dot.args), source=dot.source)
        for move in reversed(way):
            if move.op in MOVES:
                made = r.emit(move.op, made, source=move.source, **move.attrs)
        bits, known, own = number(i, "bits"), i.types[0].bounds, dot.types[0].bounds
        assert own is not None, "or it would not fit"
        more = 3 << bits - 1
        promised = () if known is None or known == (own[0] - more, own[1] + more) else known
        return r.emit("round_z", made, source=i.source, bits=bits, range=promised)

    return dce(rewritten(program, rewrite, "round_a"))
