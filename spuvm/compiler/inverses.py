"""Reciprocals and inverse roots in products: numbers far below 1, of which f fraction bits are few.

x rsqrt(v), as normalisations have it, would have the rounding of rsqrt(v) |x| times; for v = 1e6
that is up to a percent of the product. So such a number is made once more, with more fraction bits,
where it meets a secret that may be large. What nobody uses then is left out by the passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Inverse, Lowering
from spuvm.compiler.facts import root
from spuvm.compiler.varying import Varying

MOVES = frozenset(["broadcast", "reshape", "transpose", "slice", "neg_a"])
SPARE = 4
"""Bits of a factor's size that the rounding of an inverse may be multiplied by."""


def note(low: Lowering, value: int, largest: float, make: Callable[[int], int]) -> int:
    """`value`, of which make(n) has n fraction bits; it is at most `largest`, or saturated."""
    most = low.bits - 3 - math.ceil(math.log2(largest))
    if low.lines == "own" and most > low.f:
        low.inverses.setdefault(root(low, value), Inverse(make, min(most, 2 * low.f)))
    return value


def scaled(low: Lowering, x: int, c: arith.Array | Varying, made: int) -> int:
    """`made`, which is x times public numbers."""
    known = _known(low, x)
    size = float(np.abs(arith.elements(c)).max(initial=0))
    if known is None or not 0 < size < low.bound or low.lines != "own":
        return made

    def make(frac: int) -> int:
        with low.unchecked():  # read with the program's fraction bits, to which values are cut
            whole = arith.retype(low, known.make(frac), low.f)
            product = arith.to_frac(low, arith.mul_public(low, whole, c), low.f)
            return arith.retype(low, product, frac)

    most = known.most - max(0, math.ceil(math.log2(size)))
    if most > low.f:
        low.inverses.setdefault(root(low, made), Inverse(make, most))
    return made


def times(low: Lowering, x: int, y: int) -> int:
    """x * y for floats; where one of them is such a number it takes part with more bits."""
    known = [_known(low, v) if low.lines == "own" else None for v in (x, y)]
    if (known[0] is None) == (known[1] is None):
        return arith.mul(low, x, y)
    z, value, inverse = (x, y, known[1]) if known[1] is not None else (y, x, known[0])
    assert inverse is not None
    large = arith.settle(low, z)
    wanted = low.f + (low.magnitude(large) >> low.frac(large)).bit_length() - SPARE
    wanted = min(wanted, inverse.most)
    if wanted <= low.f:
        return arith.mul(low, x, y)
    room = (low.bound - 1) // max(1, low.magnitude(large) * low.magnitude(value))
    if low.frac(value) + room.bit_length() - 2 >= wanted:  # nothing needs to be truncated first
        return arith.mul(low, large, inverse.make(wanted))
    surplus = min((low.bits - 4) // 2, inverse.most + low.frac(large) - low.f) // 2 * 2
    frac = surplus + low.f - low.frac(large)
    if frac <= low.f:
        return arith.mul(low, x, y)
    factors = sorted((large, inverse.make(frac)))
    made = low.emit("mul_aa", *factors, trunc=surplus, form="full")
    if low.magnitude(value) < low.bound - (low.bound >> 6):
        return made
    most = low.bound - 1  # saturated it may be anything, as if nothing had been declared
    return arith.retype(low, made, low.f, -most, most)


def _known(low: Lowering, value: int) -> Inverse | None:
    """How to make a value with more bits, if it is such a number, moved or negated."""
    value = root(low, value)
    if value in low.inverses:
        return low.inverses[value]
    made = low.builder.instruction(value)
    if made is None or made.op not in MOVES:
        return None
    inner = _known(low, made.args[0])
    if inner is None:
        return None
    return Inverse(lambda n: low.emit(made.op, inner.make(n), **made.attrs), inner.most)
