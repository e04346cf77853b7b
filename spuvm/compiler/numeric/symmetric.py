"""Odd and even functions between limits: polynomials in x^2, constant or linear beyond."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import Masked, masked, side
from spuvm.compiler.numeric.polynomial import (
    Series,
    constant,
    evaluate,
    internal_bits,
    interpolated,
    value,
    working_bits,
)

Floats = npt.NDArray[np.float64]
Real = Callable[[Floats], Floats]
SMALL = 32  # bits of a truncation beyond which it takes twice the traffic
UNEVEN = 2.5  # units in the last place by which the fitted function may swing
GRID: Floats = np.linspace(-40, 0, 4001)


def uneven(f: int) -> float:
    """By how much a fitted function may swing."""
    return math.ldexp(UNEVEN, -f)


def fine_bits(low: Lowering) -> int:
    """Fraction bits of u, and of what it is multiplied by at the end.

    8 more than the program's are enough; with fewer than `internal_bits` less than 33 bits are
    truncated, and a truncation of so few costs 12 bytes less.
    """
    return min(internal_bits(low) + 2, low.f + 8)


def slack(f: int) -> int:
    """Units by which a result may leave the range of its function."""
    return 1 << max(3, f // 2 - 6)


@dataclass(frozen=True, slots=True)
class Scaled:
    """u = x / reach in [-1, 1], 0 where x is outside, with its fraction bits; T_1 = 2 u^2 - 1."""

    u: int
    square: int
    reach: float
    x: Masked


def scaled(low: Lowering, x: int, reach: float) -> Scaled:
    """x in units of `reach`, or of a little more, so that 1 / reach has few bits."""
    f, g = low.frac(x), fine_bits(low)
    t = low.type(x)
    if t.bounds is not None:
        reach = min(reach, max(math.ldexp(t.magnitude(0), -f), 2.0**-f))
    bits = max(g - f, 7)  # u = x * factor, not truncated where f is not extreme
    factor = max(1, math.floor(math.ldexp(1 / reach, bits)))
    most = (1 << f + bits) // factor
    kept = masked(low, x, -most, most)
    u = low.emit("mul_ap", kept.value, low.integer(factor, bits))
    u = arith.to_frac(low, low.narrowed(u, -(1 << f + bits), 1 << f + bits), g)
    return Scaled(u, chebyshev2(low, u), math.ldexp(1, bits) / factor, kept)


def chebyshev2(low: Lowering, u: int) -> int:
    """T_2(u) = 2 u^2 - 1 with working_bits, for u in [-1, 1]."""
    g, w = low.frac(u), working_bits(low)
    twice = low.emit("mul_aa", u, u, trunc=2 * g - w - 1, form="narrow")
    square = low.narrowed(arith.retype(low, twice, w), 0, 2 << w)
    return low.emit("add_ap", square, constant(low, -1.0, w))


@cache
def odd_series(function: Real, reach: float, error: float) -> Series:
    """q with function(reach u) = u q(2 u^2 - 1), swinging by less than `error`."""
    u = np.linspace(0, 1, 2001)[1:]

    def quotient(t: Floats) -> Floats:
        v = np.sqrt(np.maximum((np.asarray(t) + 1) / 2, 1e-14))
        return function(reach * v) / v

    return _least(quotient, lambda q: u * q(2 * u * u - 1) - function(reach * u), error)


@cache
def even_series(function: Real, reach: float, error: float) -> Series:
    """p with function(reach u) = p(2 u^2 - 1), swinging by less than `error`."""
    u = np.linspace(0, 1, 2001)

    def folded(t: Floats) -> Floats:
        return function(reach * np.sqrt(np.maximum((np.asarray(t) + 1) / 2, 0)))

    return _least(folded, lambda p: p(2 * u * u - 1) - function(reach * u), error)


def _least(function: Real, mistake: Callable[[Real], Floats], error: float) -> Series:
    for degree in range(1, 160):
        series = interpolated(function, degree)
        if np.abs(mistake(partial(value, series))).max() <= error:
            break
    return series


def odd_unit(low: Lowering, u: int, square: int, series: Series, frac: int) -> int:
    """u q(2 u^2 - 1) with `frac` fraction bits, `square` being 2 u^2 - 1."""
    steep = max(1.0, float(np.max(np.abs(value(series, np.linspace(-1, 1, 99))))))
    room = low.bits - 3 - low.frac(u) - math.ceil(math.log2(1.1 * steep))
    few = max(frac + 5, SMALL + frac - low.frac(u))
    q = evaluate(low, square, series, min(internal_bits(low), room, few))
    top = math.ceil(math.ldexp(1.05 * steep, low.frac(q)))
    q = low.narrowed(q, -top, top)
    cut = low.frac(q) + low.frac(u) - frac
    return low.emit("mul_aa", *sorted((u, q)), trunc=cut, form="narrow")


def odd(low: Lowering, x: int, function: Real, reach: float, limit: float) -> int:
    """function(x) with the program's fraction bits for an odd function; +-limit beyond `reach`."""
    f = low.f
    with low.unchecked():
        s = scaled(low, arith.settle(low, x), reach)
        series = odd_series(function, s.reach, uneven(f))
        made = odd_unit(low, s.u, s.square, series, f)
        beyond = side(low, s.x) if limit else None
        if beyond is None:
            return made
        step = low.emit("mul_ap", beyond, constant(low, limit, f))
        return low.emit("add_aa", made, step)


@cache
def _bottom(function: Real) -> float:
    """The least x/2 + function(x): a grid alone would miss it by more than a unit."""
    x = GRID
    while True:
        y = function(x) + x / 2
        k = int(np.argmin(y))
        ends = x[max(k - 1, 0)], x[min(k + 1, x.size - 1)]
        if ends[1] - ends[0] < 1e-7:
            return float(y[k]) - 1e-14
        x = np.linspace(*ends, 101)


def ramp(low: Lowering, x: int, function: Real, reach: float) -> int:
    """x/2 + function(x) with the program's fraction bits for an even function; 0 or x beyond."""
    f = low.f
    with low.unchecked():
        settled = arith.to_frac(low, arith.settle(low, x), f)
        s = scaled(low, settled, reach)
        series = even_series(function, s.reach, uneven(f))
        even = evaluate(low, s.square, series, f + 1)
        made = low.emit("add_aa", even, arith.retype(low, s.x.value, f + 1))
        at_zero = float(function(np.zeros(1))[0])
        if s.x.outside is True:
            made = low.emit("add_ap", made, constant(low, -at_zero, f + 1))
        elif s.x.outside is not False and at_zero:  # there x counts as 0
            excess = low.emit("b2a", s.x.outside)
            excess = low.emit("mul_ap", excess, constant(low, at_zero, f + 1))
            made = low.emit("sub_aa", made, excess)
        made = arith.to_frac(low, made, f)
        least = math.floor(math.ldexp(_bottom(function), f))
        ends = s.reach * np.linspace(-1, 1, 2001)
        most = math.ceil(math.ldexp(float(np.max(function(ends) + ends / 2)), f))
        made = low.narrowed(made, least - 256, most + 256)
        if s.x.above is False:
            return made
        made = low.emit("add_aa", made, order.times(low, s.x.above, settled))
        hi = low.type(settled).hi
        return low.narrowed(made, least - 256, (low.bound if hi is None else hi) + 256)
