"""exp and exp2 over the whole range: 2^n 2^r with few bits of n and a polynomial for 2^r."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering
from spuvm.compiler.facts import Peak, below_maximum, logistic_argument
from spuvm.compiler.numeric.limits import clamped
from spuvm.compiler.numeric.polynomial import (
    Series,
    add_constant,
    constant,
    evaluate,
    fitted,
    internal_bits,
    interpolated,
    scaled,
    value,
    working_bits,
)
from spuvm.compiler.numeric.sigmoid import logistic

LOG2_E = 1.0 / math.log(2.0)
SLACK = 2.0**-8  # of roundings in the exponent
WIDEST = 3.0  # up to this span of exponents one polynomial is cheaper than bits


@dataclass(frozen=True, slots=True)
class _Split:
    """y = first + n + r: n < 2^places from an 8 or 16 bit word, 0 <= r <= 1 + 2 guard.

    The word is y - guard, stochastically rounded to `guard`, so that n is never too large and the
    border between n and n + 1 need not be met exactly.
    """

    first: int
    places: int
    guard: float

    @property
    def fraction_bits(self) -> int:
        """Bits of the word below those of n."""
        return round(-math.log2(self.guard))


def exp2(low: Lowering, x: int, factor: float = 1.0) -> int:
    """2^(factor x) with the program's fraction bits, for every representable x.

    Saturates: below half a unit to 0 (or 1 unit), above at the largest representable power.
    Error: about 2^-19 relative plus one unit.
    """
    f, scale = low.f, low.frac(arith.settle(low, x))
    x = arith.settle(low, x)
    most = low.bits - 2 - f - 2.0 ** max(3 - f, 5 - working_bits(low), -18)
    limits = low.type(x).bounds or (-low.bound, low.bound)
    least = _lowest(low, min(most, max(math.ldexp(end, -scale) * factor for end in limits)))
    ends = sorted(math.ldexp(end / factor, scale) for end in (least, most))
    with low.unchecked():
        x = clamped(low, x, math.ceil(ends[0]), math.floor(ends[1]))
        if max(math.ldexp(end, -scale) * factor for end in _bounds(low, x)) < -(f + 1):
            return arith.retype(low, arith.sub(low, x, x), f)
        lo, hi = sorted(math.ldexp(end, -scale) * factor for end in _bounds(low, x))
        error = 2.0 ** (6 - f)
        bottom = math.floor(math.ldexp(2.0**lo, f) * (1 - error)) - 4
        top = math.ceil(math.ldexp(2.0**hi, f) * (1 + error)) + 2
        if hi - lo <= WIDEST and hi + 2 * working_bits(low) + 4 <= low.bits - 2:
            made = _narrow(low, x, factor, lo, hi)
        else:
            made = _by_bits(low, x, factor, _split(lo, hi), hi)
            bottom = max(0, bottom)
        return low.narrowed(made, bottom, min(top, low.bound - 1))


def exp(low: Lowering, x: int) -> int:
    """e^x; see exp2. What is known about x may make it a logistic function, or bound it."""
    known = logistic_argument(low, x)
    if known is not None:
        difference, sign = known
        with low.unchecked():
            return logistic(low, difference if sign > 0 else arith.neg(low, difference))
    axes = below_maximum(low, x)
    if axes is None:
        return exp2(low, x, LOG2_E)
    made = exp2(low, low.narrowed(x, 1 - low.bound, 0), LOG2_E)
    low.facts[made] = Peak(axes)
    return made


def _bounds(low: Lowering, x: int) -> tuple[int, int]:
    bounds = low.type(x).bounds
    assert bounds is not None, "limited values have bounds"
    return bounds


def _guards(span: float) -> Iterator[tuple[int, float]]:
    """(places, guard) for exponents in [0, span), the fewest bits first."""
    places = math.ceil(math.log2(max(span, 2.0)))
    for word in (8, 16):
        if word - places >= 2:
            yield places, 2.0 ** (places - word)


def _lowest(low: Lowering, hi: float) -> float:
    """The least y that is told from 0: 2^y is a quarter unit, or 1/256 where the word has room.

    Less, because a sum over thousands of such terms is right only if each is nearly 0.
    """
    quarter = -(low.f + 2)
    above = math.floor(hi) + 1
    span = max(1.0, above - quarter)
    places, guard = next(_guards(span))
    first = max(above - (1 << places), -(low.f + 8))
    if internal_bits(low) + above - first >= low.bits - 2:  # the highest digit by a choice: _grown
        first = max(first, internal_bits(low) - low.f - (1 << places - 1))
    return min(first, quarter) + guard + SLACK


def _split(lo: float, hi: float) -> _Split:
    """The smallest word for y in [lo, hi]."""
    for places, guard in (g for extra in (0, 1) for g in _guards(hi - lo + extra)):
        first = math.floor(lo - guard - SLACK)
        if hi < first + (1 << places):
            return _Split(first, places, guard)
    raise AssertionError("a word of 16 bits holds every exponent")


def _narrow(low: Lowering, x: int, factor: float, lo: float, hi: float) -> int:
    """2^(factor x) for a small range of exponents: one polynomial."""
    half = max((hi - lo) / 2, 2.0**-6)
    room = low.bits - 3 - math.ceil(math.log2(1 + max(abs(lo), abs(hi)) / half))
    f = min(working_bits(low) + 30, room)
    w = scaled(low, x, factor / half, f - low.frac(x))
    w = add_constant(low, w, -(hi + lo) / 2 / half)
    reach = (1 << f) + (1 << f - 8)  # the factor and the middle are rounded
    w = arith.to_frac(low, low.narrowed(w, -reach, reach), working_bits(low))
    middle = (hi + lo) / 2
    series = _power_series(middle - half, middle + half, 1.0, 2.0 ** -(low.f + 1))
    return evaluate(low, w, series, low.f)


@cache
def _power_series(lo: float, hi: float, half: float, error: float) -> Series:
    """2^(middle + half' w) for the interval [lo, hi] in T_k(w); relative error up to `error`.

    half' = half * (hi - lo) / 2 where w in [-1, 1] runs over `half` times the interval.
    """
    grid = np.linspace(lo, hi, 501)
    for degree in range(2, 30):
        series = fitted(np.exp2, lo, hi, degree)
        made = value(series, (grid - (lo + hi) / 2) / ((hi - lo) / 2))
        if np.abs(made / np.exp2(grid) - 1).max() <= error:
            break
    if half == 1.0:
        return series
    return interpolated(lambda w: value(series, half * w), degree)


def _by_bits(low: Lowering, x: int, factor: float, split: _Split, hi: float) -> int:
    """2^(factor x): bits of the exponent, a polynomial, exact products by powers of two."""
    f, g, w = low.f, internal_bits(low), working_bits(low)
    # y = factor x - first in [guard, 2^places), as precise as one truncation of 32 bits can take
    size = max(map(abs, _bounds(low, x))) * abs(factor) * 2.0 ** -low.frac(x)
    room = low.bits - 4 - math.ceil(math.log2(size + (1 << split.places) + 1))
    fine, coarse = low.frac(x) + w + 8, low.frac(x) + split.fraction_bits + 20  # of the factor too
    y = _shifted(low, x, factor, min(max(fine, w + 32), room), -split.first)
    bits = max(coarse, split.fraction_bits + 32)
    rough = _shifted(low, x, factor, min(bits, room), -split.first)
    word = arith.to_frac(low, add_constant(low, rough, -split.guard), split.fraction_bits)
    bits = low.emit("a2b", word, bits=split.fraction_bits + split.places)
    digits = [
        low.emit("b2a", low.emit("bits_b", bits, low=split.fraction_bits + j, width=1))
        for j in range(split.places)
    ]
    n = low.emit("lincomb_a", *digits, coefficients=[1 << (w + j) for j in range(split.places)])
    y = arith.to_frac(low, y, w)
    r = low.emit("sub_aa", y, arith.retype(low, n, w))
    half = 0.5 + split.guard  # r - half is within [-half, half]
    centred = low.narrowed(add_constant(low, r, -half), -(1 << w), 1 << w)
    series = _power_series(0.0, 2 * half, 1 / half, 2.0 ** -(f + 1))
    mantissa = evaluate(low, centred, series, g)
    mantissa = low.narrowed(mantissa, 1 << (g - 1), math.ceil(2.0 ** (g + 2 * half) * 1.01))
    return _grown(low, mantissa, digits, split, hi)


def _shifted(low: Lowering, x: int, factor: float, frac: int, shift: int) -> int:
    """factor x + shift with `frac` fraction bits, not truncated."""
    return add_constant(low, scaled(low, x, factor, frac - low.frac(x)), float(shift))


def _grown(low: Lowering, mantissa: int, digits: Sequence[int], split: _Split, hi: float) -> int:
    """mantissa * 2^(n + first) with the program's fraction bits.

    Where the largest n would leave the ring, its highest digit is applied by choosing between the
    product and its truncation.
    """
    f, g = low.f, low.frac(mantissa)
    top = g + hi - split.first + 0.1  # bits of mantissa * 2^n
    last = len(digits) if top < low.bits - 2 else len(digits) - 1
    scale = _power(low, digits[:last])
    product = low.emit("mul_aa", *sorted((mantissa, scale)), trunc=0, form="narrow")
    tall = max(top - (1 << last), g + (1 << last) + 2 * split.guard + 0.1)
    size = math.ceil(2.0 ** (top if last == len(digits) else tall))
    product = low.narrowed(product, 0, min(size, low.bound - 1))
    product = arith.retype(low, product, g - split.first)
    small = arith.to_frac(low, product, f)
    if last == len(digits):
        return small
    up = (1 << last) - (low.frac(product) - f)
    large = low.emit("shl_a", product, bits=up, frac=f)
    step = low.emit("sub_aa", large, small)
    step = low.emit("mul_aa", *sorted((digits[last], step)), trunc=0, form="narrow")
    return low.emit("add_aa", small, step)


def _power(low: Lowering, digits: Sequence[int]) -> int:
    """2^(sum of 2^j digit_j) as an integer: a tree of products of 1 or 2^(2^j)."""
    factors = []
    for j, digit in enumerate(digits):
        grown = low.emit("mul_ap", digit, constant(low, float((1 << (1 << j)) - 1), 0))
        factors.append(low.emit("add_ap", grown, constant(low, 1.0, 0)))
    while len(factors) > 1:
        pairs = [
            low.emit("mul_aa", *sorted(pair), trunc=0, form="narrow")
            for pair in zip(factors[::2], factors[1::2], strict=False)
        ]
        factors = pairs + factors[len(pairs) * 2 :]
    return factors[0]
