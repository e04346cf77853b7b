"""Reciprocals and inverse roots in products: numbers far below 1, of which f fraction bits are few.

x rsqrt(v), as normalisations have it, would have the rounding of rsqrt(v) |x| times; for v = 1e6
that is up to a percent of the product. So such a number is made once more, with more fraction bits,
where it meets a secret that may be large. What nobody uses then is left out by the passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Inverse, Lowering
from spuvm.compiler.facts import Product, root
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


def divided_by(low: Lowering, made: int, x: int | arith.Array, *divisors: int) -> None:
    """`made` is x over norms, which may be of any size: a product with it is divided late."""
    sources = low.norms.get(root(low, divisors[0]))
    if low.lines != "own" or sources is None:
        return
    factor, before = _factor(low, x)
    if not factor or any(low.shape(made) != low.shape(d) for d in (*before, *divisors)):
        return
    known = low.inverses.get(root(low, made), Inverse(lambda _: made, low.f))
    low.inverses[root(low, made)] = Inverse(
        known.make, known.most, (*before, *divisors), factor, (), sources
    )


def _factor(low: Lowering, x: int | arith.Array) -> tuple[float, tuple[int, ...]]:
    """(c, d) where x is c over the divisors d; a c of 0 if it is nothing of the kind."""
    if isinstance(x, int):
        known = _known(low, x)
        if known is None or known.numerators or not known.divisors or np.ndim(known.factor):
            return 0.0, ()
        return float(known.factor), known.divisors
    c = arith.uniform(np.asarray(x))
    return float(c) if c.ndim == 0 else 0.0, ()


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
    if most > low.f or known.divisors:
        inverse = Inverse(make, most)
        if not isinstance(c, Varying):
            inverse = replace(known, make=make, most=most, factor=known.factor * arith.uniform(c))
        low.inverses.setdefault(root(low, made), inverse)
    return made


def times(low: Lowering, x: int, y: int) -> int:
    """x * y for floats; where one of them is such a number it takes part with more bits."""
    first, second = (_known(low, v) if low.lines == "own" else None for v in (x, y))
    if first is not None and second is not None:  # what was multiplied already is a number as any
        first, second = (None if k.numerators else k for k in (first, second))
    if (first is None) == (second is None):
        return arith.mul(low, x, y)
    z, value, inverse = (x, y, second) if second is not None else (y, x, first)
    assert inverse is not None
    large = arith.settle(low, z)
    wanted = low.f + (low.magnitude(large) >> low.frac(large)).bit_length() - SPARE
    late = _divided(low, large, inverse) if wanted > inverse.most else None
    if late is not None:
        return late
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
    if low.magnitude(value) < low.full:
        return made
    most = low.bound - 1  # saturated it may be anything, as if nothing had been declared
    return arith.retype(low, made, low.f, -most, most)


def _divided(low: Lowering, z: int, inverse: Inverse) -> int | None:
    """z times an inverse of norms of any size, which of large ones has no digits left.

    Every divisor has a numerator if there are as many. Where there is one more, and that is what
    the norm is of, as in derivatives, it takes the place of the last: no element is above a norm.
    """
    from spuvm.compiler.numeric.reciprocal import divide

    above, below, rest = [*inverse.numerators, z], inverse.divisors, []
    if not below:
        return None
    if len(above) > len(below):
        if not _is_source(low, z, inverse.sources):
            return None
        rest = [above.pop(-2)]
    factor = np.asarray(inverse.factor)
    if np.abs(factor).max() > 1:  # it would multiply the rounding of quotients
        above[0], factor = arith.settle(low, arith.mul_public(low, above[0], factor)), np.ones(())
    made = None
    for i, divisor in enumerate(below):
        part = made if i >= len(above) else above[i]
        assert part is not None
        positive = (low.type(divisor).lo or 0) > 0  # then quotients need not saturate
        part = divide(low, part, divisor, low.shape(z), "representable" if positive else "any")
        made = part if made is None or i >= len(above) else arith.mul(low, made, part)
    for part in rest:
        made = arith.mul(low, _filled(made), part)
    made = arith.mul_public(low, _filled(made), factor)
    if low.lines == "own" and not rest:
        late = replace(
            inverse, make=lambda _: made, most=low.f, numerators=(*inverse.numerators, z)
        )
        low.inverses.setdefault(root(low, made), late)
    return made


def _filled(made: int | None) -> int:
    assert made is not None
    return made


def _is_source(low: Lowering, z: int, sources: frozenset[int]) -> bool:
    """Whether z is one of those, or public numbers times one."""
    known = low.facts.get(root(low, z))
    if isinstance(known, Product) and not isinstance(known.y, int):
        z = known.x
    return root(low, z) in sources


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

    def moved(value: int) -> int:
        return low.emit(made.op, value, **made.attrs)

    if made.op == "neg_a":
        return replace(inner, make=lambda n: moved(inner.make(n)), factor=-inner.factor)
    if np.ndim(inner.factor):
        return Inverse(lambda n: moved(inner.make(n)), inner.most)
    by, numerators = (tuple(map(moved, v)) for v in (inner.divisors, inner.numerators))
    return replace(inner, make=lambda n: moved(inner.make(n)), divisors=by, numerators=numerators)
