"""Quotients by few divisors: the fewest rounds, where bytes do not matter.

A divisor y that is known to lie in [lo, hi] chooses a factor s with y s = 1 - e, |e| < 1/28: by its
leading bits, which name a row of a table, or by comparisons with 10 numbers per octave where that
table would be too large. Then x / y = x s q(e), q a product of two factors that is 1 / (1 - e) to
2^-22; or 1/56, 20 numbers and 2^-26 where there are more than 20 fraction bits. That takes 8 or 9
rounds (14 by comparisons) and several kilobytes per divisor, where the usual way takes twice as
many rounds and fewer bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.counts import has_room
from spuvm.compiler.numeric.limits import minus, plus
from spuvm.compiler.numeric.polynomial import internal_bits

FEW = 16
"""Divisors up to this number are worth the bytes."""

OCTAVES = 16
SPARE = 11  # bits of the least factor
MOST_FRACTION = 26  # bits: finer results need more terms


class _Form:
    """How close factors are, and the constants of q.

    Among multiples of (1 - e) q(e), 1 - c T_4(e / E) with the Chebyshev polynomial T_4 is nearest
    to 1 on [-E, E]. As (1 - e) (1 + e) (A + B e^2) it shows q; with v = K e, K^4 = B, so do K + v
    and A / K^2 + v^2, which take no products with constants.
    """

    def __init__(self, fraction_bits: int) -> None:
        fine = 2 if fraction_bits > 20 else 1
        self.bound = 1 / (28 * fine)  # of |e|: half a step, or a row, and the rounding of factors
        self.widest_row = 1 / (29 * fine)  # of the least divisor, likewise without the rounding
        self.steps = 10 * fine  # per octave
        nearest = 1 / (8 / self.bound**4 - 8 / self.bound**2 + 1)
        self.first = (8 * nearest / self.bound**4) ** 0.25
        self.second = (1 - nearest) / self.first**2


def by_few(
    low: Lowering, x: int, y: int, shape: tuple[int, ...], again: Callable[[int], int]
) -> int | None:
    """x / y of the given shape with the program's fraction bits; None where this way is not open.

    x has the shape; `again` and a broadcast bring y to it. Needs few y in a known positive range,
    and products that fit. Error: about 2^-22 relative (2^-26 with more than 20 fraction bits), plus
    2 units.
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
    quotient = low.magnitude(x) / lo * 2 ** (f + t.frac - low.frac(x))
    spare = min(SPARE, low.bits - 3 - g - math.ceil(math.log2(max(quotient, 1.0) * 1.1 + 1)))
    cut = low.frac(x) + unit - t.frac - f - spare
    if spare < 2 or cut < 0 or unit + 2 >= low.bits - 2:
        return None
    if max(low.magnitude(x), hi) * 2**unit * 1.05 / lo >= low.bound:
        return None

    def spread(value: int) -> int:
        return low.spread(again(value), shape)

    form = _Form(f)
    s = _factor(low, y, unit, form)
    u = arith.retype(low, _product(low, y, s, unit - g), g)
    k, most = round(form.first * 2**g), math.ceil(1.01 * form.bound * 2**g)
    v = low.narrowed(minus(low, k, u), -most, most)
    most = math.ceil(quotient * 2**spare * 1.05) + 2
    made = low.narrowed(_product(low, x, spread(s), cut), -most, most)
    factors = plus(low, v, k), plus(low, _product(low, v, v, g), round(form.second * 2**g))
    if math.prod(shape) <= FEW:
        made = low.narrowed(_product(low, made, spread(factors[0]), g), -most, most)
        return _product(low, made, spread(factors[1]), g + spare)
    inverse = _product(low, *factors, g)
    return _product(low, made, spread(inverse), g + spare)


def _factor(low: Lowering, y: int, unit: int, form: _Form) -> int:
    """form.first / y to a relative form.bound; times y it has `unit` fraction bits."""
    lo, hi = low.type(y).bounds or (1, 1)
    frac, size = unit - low.frac(y), math.prod(low.shape(y))
    cut = max(0, math.floor(math.log2(lo * form.widest_row)))
    rows = (-(-(hi - lo) >> cut)) + 1
    if has_room(size, rows):
        # Row i is of y between the neighbours of lo + i 2^cut, of lo and above for i = 0.
        places = np.maximum(lo + (np.arange(rows) << cut), lo + (1 << cut) / 2 - 0.5)
        return _by_leading_bits(
            low, y, [round(2**unit * form.first / v) for v in places], cut, frac
        )
    steps = _steps(lo, hi, math.ceil(math.log2(hi / lo) * form.steps))
    # Between a and b - 1: of whole numbers, such as 1 and 2, that is not the same as up to b.
    factors = [
        round(2 ** (unit + 1) * form.first / (a + b - 1)) for a, b in pairwise([*steps, hi + 1])
    ]
    return _by_comparison(low, y, steps[1:], factors, frac)


def _by_leading_bits(low: Lowering, y: int, factors: list[int], cut: int, frac: int) -> int:
    """factors[i], i = (y - lo) / 2^cut rounded either way, with `frac` fraction bits."""
    lo, _ = low.type(y).bounds or (1, 1)
    table = low.constant(low.ring.array(np.array(factors, object).reshape(-1, 1)), frac)
    place = low.emit("add_ap", y, low.constant(low.ring.array(-lo), low.frac(y)))
    made = low.emit("lookup_pa", table, place, bits=cut)
    return low.narrowed(low.reshape(made, low.shape(y)), min(factors), max(factors))


def _steps(lo: int, hi: int, count: int) -> list[int]:
    """lo and up to count - 1 numbers above it, in equal ratios."""
    return sorted({math.ceil(lo * (hi / lo) ** (i / count)) for i in range(count)} | {lo})


def _by_comparison(low: Lowering, y: int, steps: list[int], factors: list[int], frac: int) -> int:
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
