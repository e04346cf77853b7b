"""asin, acos, atan, atan2: a root or a quotient brings the operand to [0, 1], a polynomial ends."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import clamped, plus
from spuvm.compiler.numeric.polynomial import (
    constant,
    evaluate,
    shortest,
    unit_interval,
    working_bits,
)
from spuvm.compiler.numeric.reciprocal import ratio
from spuvm.compiler.numeric.roots import sqrt
from spuvm.compiler.numeric.symmetric import odd

Floats = npt.NDArray[np.float64]


def _acos_by_root(a: Floats) -> Floats:
    """acos(a) / sqrt(1 - a), smooth up to a = 1."""
    gap = np.maximum(1 - a, 1e-12)
    return np.asarray(2 * np.arcsin(np.sqrt(gap / 2)) / np.sqrt(gap))


def acos(low: Lowering, x: int) -> int:
    """acos(x) for |x| <= 1, beyond that of the nearest end; error about 4 units."""
    with low.unchecked():
        made, sign = _acos_of_size(low, x)
        half = constant(low, math.pi / 2, low.f)
        turned = low.emit("sub_pa", half, made)  # asin |x|
        signed = _signed(low, turned, sign)
        return _within(low, low.emit("sub_pa", half, signed), -8, math.pi)


def asin(low: Lowering, x: int) -> int:
    """asin(x) for |x| <= 1, beyond that of the nearest end; error about 4 units."""
    with low.unchecked():
        made, sign = _acos_of_size(low, x)
        turned = low.emit("sub_pa", constant(low, math.pi / 2, low.f), made)
        return _within(low, _signed(low, turned, sign), -math.pi / 2, math.pi / 2)


def _acos_of_size(low: Lowering, x: int) -> tuple[int, order.Bit]:
    """(acos |x|, x < 0)."""
    f = low.f
    one = 1 << f
    x = clamped(low, arith.to_frac(low, arith.settle(low, x), f), -one, one)
    size, sign = order.absolute(low, x), order.negative(low, x)
    root = sqrt(low, plus(low, low.emit("neg_a", size), one))
    w = unit_interval(low, arith.to_frac(low, size, working_bits(low)))
    by_root = evaluate(low, w, shortest(_acos_by_root, 0.0, 1.0, 2.0 ** -(f + 1)), f + 2)
    by_root = low.narrowed(by_root, 0, 2 << f + 2)
    root = low.narrowed(root, 0, one + 64)
    return low.emit("mul_aa", *sorted((root, by_root)), trunc=f + 2, form="narrow"), sign


def atan(low: Lowering, x: int) -> int:
    """atan(x) for every representable x; error about 4 units."""
    f = low.f
    with low.unchecked():
        x = arith.to_frac(low, arith.settle(low, x), f)
        sign = order.negative(low, x)
        # A promise of at most 1 leaves room for a rounding.
        near = 1 + 2.0**-6
        if low.type(x).bounds is not None and low.magnitude(x) <= math.ldexp(near, f):
            most = math.atan(near)
            return _within(low, odd(low, x, np.arctan, near, 0.0), -most, most)
        size = _positive(low, order.absolute(low, x))
        over = plus(low, size, -(1 << f))
        steep = order.negative(low, low.emit("neg_a", over))  # |x| > 1
        step = order.times(low, steep, over)
        made = _of_ratio(low, low.emit("sub_aa", size, step), plus(low, step, 1 << f), steep)
        return _within(low, _signed(low, made, sign), -math.pi / 2, math.pi / 2)


def atan2(low: Lowering, y: int, x: int) -> int:
    """The angle of (x, y) in [-pi, pi], for all representable x and y; 0 for both 0."""
    with low.unchecked():
        y, x = (arith.to_frac(low, arith.settle(low, v), low.f) for v in (y, x))
        below, left = order.negative(low, y), order.negative(low, x)
        high, wide = (_positive(low, order.absolute(low, v)) for v in (y, x))
        over = low.emit("sub_aa", high, wide)
        steep = order.negative(low, low.emit("neg_a", over))  # |y| > |x|
        step = order.times(low, steep, over)
        least, most = low.emit("sub_aa", high, step), low.emit("add_aa", wide, step)
        made = _of_ratio(low, least, _positive(low, most), steep)
        made = _reflected(low, made, left, math.pi)
        return _within(low, _signed(low, made, below), -math.pi, math.pi)


def _of_ratio(low: Lowering, n: int, d: int, steep: order.Bit) -> int:
    """atan(n / d) for 0 <= n <= d, or pi/2 minus that where `steep`."""
    q = ratio(low, _positive(low, n), d)  # its bounds are a little above 1, and so are its values
    return _reflected(low, odd(low, q, np.arctan, 2.0, 0.0), steep, math.pi / 2)


def _positive(low: Lowering, x: int) -> int:
    """`x`, known to be at least 0 and representable."""
    return low.narrowed(x, 0, low.bound - 1)


def _reflected(low: Lowering, x: int, where: order.Bit, total: float) -> int:
    """total - x where the bit is set, else x."""
    if where is False:
        return x
    opposite = low.emit("sub_pa", constant(low, total, low.f), x)
    if where is True:
        return opposite
    return low.emit("add_aa", x, order.times(low, where, low.emit("sub_aa", opposite, x)))


def _signed(low: Lowering, x: int, sign: order.Bit) -> int:
    """-x where `sign` is set, else x."""
    if isinstance(sign, bool):
        return low.emit("neg_a", x) if sign else x
    return low.emit("lincomb_a", x, order.times(low, sign, x), coefficients=(1, -2))


def _within(low: Lowering, x: int, lo: float, hi: float) -> int:
    """`x` with bounds a few units outside [lo, hi]."""
    f = low.f
    return low.narrowed(x, math.floor(math.ldexp(lo, f)) - 16, math.ceil(math.ldexp(hi, f)) + 16)
