"""logistic, tanh, softplus: one polynomial in x^2 between limits beyond which nothing changes."""

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
SLACK = 8  # units by which a result may leave the range of its function
UNEVEN = 2.5  # units in the last place by which the fitted function may swing


@dataclass(frozen=True, slots=True)
class _Scaled:
    """u = x / reach in [-1, 1], 0 where x is outside, with its fraction bits; T_1 = 2 u^2 - 1."""

    u: int
    square: int
    reach: float
    x: Masked


def _scaled(low: Lowering, x: int, reach: float) -> _Scaled:
    """x in units of `reach`, or of a little more, so that 1 / reach has few bits."""
    f, g = low.frac(x), internal_bits(low) + 2
    t = low.type(x)
    if t.bounds is not None:
        reach = min(reach, max(math.ldexp(t.magnitude(0), -f), 2.0**-f))
    bits = max(g - f, 7)  # u = x * factor, not truncated where f is not extreme
    factor = max(1, math.floor(math.ldexp(1 / reach, bits)))
    most = (1 << f + bits) // factor
    kept = masked(low, x, -most, most)
    u = low.emit("mul_ap", kept.value, low.integer(factor, bits))
    u = arith.to_frac(low, low.narrowed(u, -(1 << f + bits), 1 << f + bits), g)
    w = working_bits(low)
    twice = low.emit("mul_aa", u, u, trunc=2 * g - w - 1, form="narrow")
    square = low.emit(
        "add_ap", low.narrowed(arith.retype(low, twice, w), 0, 2 << w), constant(low, -1.0, w)
    )
    return _Scaled(u, square, math.ldexp(1, bits) / factor, kept)


@cache
def _odd_series(function: Real, reach: float, error: float) -> Series:
    """q with function(reach u) = u q(2 u^2 - 1), swinging by less than `error`."""
    u = np.linspace(0, 1, 2001)[1:]

    def quotient(t: Floats) -> Floats:
        v = np.sqrt(np.maximum((np.asarray(t) + 1) / 2, 1e-14))
        return function(reach * v) / v

    return _least(quotient, lambda q: u * q(2 * u * u - 1) - function(reach * u), error)


@cache
def _even_series(function: Real, reach: float, error: float) -> Series:
    """p with function(reach u) = p(2 u^2 - 1), swinging by less than `error`."""
    u = np.linspace(0, 1, 2001)

    def folded(t: Floats) -> Floats:
        return function(reach * np.sqrt(np.maximum((np.asarray(t) + 1) / 2, 0)))

    return _least(folded, lambda p: p(2 * u * u - 1) - function(reach * u), error)


def _least(function: Real, mistake: Callable[[Real], Floats], error: float) -> Series:
    for degree in range(1, 60):
        series = interpolated(function, degree)
        if np.abs(mistake(partial(value, series))).max() <= error:
            break
    return series


def _odd(low: Lowering, x: int, function: Real, reach: float, limit: float) -> int:
    """function(x) with the program's fraction bits for an odd function; +-limit beyond `reach`."""
    f, g = low.f, internal_bits(low)
    with low.unchecked():
        s = _scaled(low, arith.settle(low, x), reach)
        series = _odd_series(function, s.reach, math.ldexp(UNEVEN, -f))
        steep = max(1.0, float(np.max(np.abs(value(series, np.linspace(-1, 1, 99))))))
        room = low.bits - 3 - low.frac(s.u) - math.ceil(math.log2(1.1 * steep))
        q = evaluate(low, s.square, series, min(g, room))
        top = math.ceil(math.ldexp(1.05 * steep, low.frac(q)))
        q = low.narrowed(q, -top, top)
        cut = low.frac(q) + low.frac(s.u) - f
        made = low.emit("mul_aa", *sorted((s.u, q)), trunc=cut, form="narrow")
        beyond = side(low, s.x)
        if beyond is None:
            return made
        step = low.emit("mul_ap", beyond, constant(low, limit, f))
        return low.emit("add_aa", made, step)


def _flat(low: Lowering, lost: float) -> float:
    """Where exp(-x) is that many units in the last place: a few for short fractions, more for
    long ones, far inside the accuracy that is promised."""
    return (low.f - lost) * math.log(2.0)


def _half_logistic(x: Floats) -> Floats:
    return 0.5 * np.tanh(0.5 * x)


def logistic(low: Lowering, x: int) -> int:
    """1 / (1 + exp(-x)) with the program's fraction bits; error about 2^-f * 15 for f = 18.

    1/2 plus an odd polynomial on |x| <= 10 (f = 18), constant beyond; where the bounds of x are
    narrower, the comparisons are left out and the degree is lower.
    """
    f = low.f
    x, negated = _sign_aside(low, x)
    made = _odd(low, x, _half_logistic, _flat(low, (f - 4) / 4), 0.5)
    with low.unchecked():
        half = constant(low, 0.5, f)
        made = low.emit("sub_pa", half, made) if negated else low.emit("add_ap", made, half)
    return low.narrowed(made, -SLACK, (1 << f) + SLACK)


def _sign_aside(low: Lowering, x: int) -> tuple[int, bool]:
    """(y, negated) where x is y or -y, so that f(x) and f(-x) share their work."""
    made = low.builder.instruction(x)
    return (made.args[0], True) if made is not None and made.op == "neg_a" else (x, False)


def tanh(low: Lowering, x: int) -> int:
    """tanh(x) with the program's fraction bits; error about 2^-f * 20 for f = 18; see logistic."""
    x, negated = _sign_aside(low, x)
    made = _odd(low, x, np.tanh, (_flat(low, (low.f - 8) / 4) + math.log(2)) / 2, 1.0)
    made = low.emit("neg_a", made) if negated else made
    one = (1 << low.f) + SLACK
    return low.narrowed(made, -one, one)


def _even_part(x: Floats) -> Floats:
    return np.logaddexp(0.5 * x, -0.5 * x)


def softplus(low: Lowering, x: int) -> int:
    """log(1 + exp(x)) with the program's fraction bits; error about 2^-f * 15 for f = 18.

    x/2 + log(2 cosh(x/2)), the second an even polynomial between limits; 0 or x beyond them.
    """
    f = low.f
    positive, negated = _sign_aside(low, x)
    if negated:
        with low.unchecked():
            return arith.sub(low, softplus(low, positive), arith.settle(low, positive))
    with low.unchecked():
        settled = arith.to_frac(low, arith.settle(low, x), f)
        s = _scaled(low, settled, _flat(low, (f - 4) / 4))
        series = _even_series(_even_part, s.reach, math.ldexp(UNEVEN, -f))
        even = evaluate(low, s.square, series, f + 1)
        made = low.emit("add_aa", even, arith.retype(low, s.x.value, f + 1))
        if not isinstance(s.x.outside, bool):  # there x counts as 0, where the sum is log 2
            excess = low.emit("b2a", s.x.outside)
            made = low.emit(
                "sub_aa", made, low.emit("mul_ap", excess, constant(low, math.log(2.0), f + 1))
            )
        made = arith.to_frac(low, made, f)
        made = low.narrowed(made, -(1 << 8), math.ceil(math.ldexp(s.reach, f)) + (1 << 8))
        if s.x.above is False:
            return made
        made = low.emit("add_aa", made, order.times(low, s.x.above, settled))
        t = low.type(x)
        return low.narrowed(made, -(1 << 8), (low.bound if t.hi is None else t.hi) + (1 << 8))
