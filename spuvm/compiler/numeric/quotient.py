"""Quotients by few divisors: the fewest rounds, where bytes do not matter.

A divisor that is known to lie in [lo, hi] is compared with 16 numbers per octave at once. The
outcomes choose a factor s with y s = 1 - e, |e| < 2^-5.5, and x / y = x s (1 + e) (1 + e^2) up to
e^4 < 2^-22. That takes 15 rounds and some kilobytes per divisor, where the usual way takes twice as
many rounds and a twentieth of the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import minus, plus
from spuvm.compiler.numeric.polynomial import internal_bits

FEW = 16
"""Divisors up to this number are worth the bytes."""

STEPS = 16  # per octave
OCTAVES = 16
SPARE = 10  # bits of the least factor
MOST_FRACTION = 26  # bits: finer results need more terms than two
E = 1 / 44  # bound of |e|: half a step, the rounding of factors and truncation


def by_few(
    low: Lowering, x: int, y: int, shape: tuple[int, ...], again: Callable[[int], int]
) -> int | None:
    """x / y of the given shape with the program's fraction bits; None where this way is not open.

    x has the shape; `again` and a broadcast bring y to it. Needs few y in a known positive range,
    and products that fit. Error: about 2^-22 relative plus 2 units.
    """
    t, f, g = low.type(y), low.f, internal_bits(low)
    if (
        low.bits < 64
        or f > MOST_FRACTION
        or not 1 <= math.prod(t.shape) <= FEW
        or t.bounds is None
        or t.bounds[0] < 1
    ):
        return None
    lo, hi = t.bounds
    octaves = math.log2(hi / lo)
    if not 0 < octaves <= OCTAVES:
        return None
    unit = max(hi.bit_length() + SPARE, t.frac, g)
    steps = _steps(lo, hi, math.ceil(octaves * STEPS))
    # Between a and b - 1: of whole numbers, such as 1 and 2, that is not the same as up to b.
    factors = [round(2 ** (unit + 1) / (a + b - 1)) for a, b in pairwise([*steps, hi + 1])]
    quotient = low.magnitude(x) / lo * 2 ** (f + t.frac - low.frac(x))
    spare = min(SPARE, low.bits - 3 - g - math.ceil(math.log2(max(quotient, 1.0) * 1.1 + 1)))
    cut = low.frac(x) + unit - t.frac - f - spare
    if spare < 2 or cut < 0 or unit + 2 >= low.bits - 2:
        return None
    if max(low.magnitude(x), hi) * factors[0] >= low.bound:
        return None

    def spread(value: int) -> int:
        return low.spread(again(value), shape)

    s = _factor(low, y, steps[1:], factors, unit - t.frac)
    u = arith.retype(low, _product(low, y, s, unit - g), g)
    e = low.narrowed(minus(low, 1 << g, u), -math.ceil(E * 2**g), math.ceil(E * 2**g))
    most = math.ceil(quotient * 2**spare * 1.05) + 2
    made = low.narrowed(_product(low, x, spread(s), cut), -most, most)
    first, second = plus(low, e, 1 << g), plus(low, _product(low, e, e, g), 1 << g)
    if math.prod(shape) <= FEW:
        made = low.narrowed(_product(low, made, spread(first), g), -most, most)
        return _product(low, made, spread(second), g + spare)
    inverse = _product(low, first, second, g)
    return _product(low, made, spread(inverse), g + spare)


def _steps(lo: int, hi: int, count: int) -> list[int]:
    """lo and up to count - 1 numbers above it, in equal ratios."""
    return sorted({math.ceil(lo * (hi / lo) ** (i / count)) for i in range(count)} | {lo})


def _factor(low: Lowering, y: int, steps: list[int], factors: list[int], frac: int) -> int:
    """factors[i] where y is at least i of the steps, with `frac` fraction bits."""
    shape, count = low.shape(y), len(steps)
    dims = range(1, len(shape) + 1)
    many = low.broadcast(y, (count, *shape), dims)
    ends = np.array([-v for v in steps], object).reshape(count, *(1 for _ in shape))
    ends = np.broadcast_to(ends, (count, *shape))
    below = order.negative(
        low, low.emit("add_ap", many, low.constant(low.ring.array(ends), low.frac(y)))
    )
    assert not isinstance(below, bool), "steps lie inside the range"
    bits = low.emit("b2a", low.emit("not_b", below))
    changes = [b - a for a, b in pairwise(factors)]
    weights = low.constant(low.ring.array(np.array(changes, object).reshape(1, 1, -1)), frac)
    made = low.emit("dot_pa", weights, low.reshape(bits, (1, count, math.prod(shape))))
    made = plus(low, low.reshape(made, shape), factors[0])
    return low.narrowed(made, factors[-1], factors[0])


def _product(low: Lowering, x: int, y: int, cut: int) -> int:
    return low.emit("mul_aa", *sorted((x, y)), trunc=cut, form="narrow")
