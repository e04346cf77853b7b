"""sinh, cosh and the inverse hyperbolic functions, from exponentials, roots and logarithms."""

from __future__ import annotations

import math

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.exponential import LOG2_E, exp2
from spuvm.compiler.numeric.limits import clamped, masked, plus
from spuvm.compiler.numeric.logarithm import log, log1p
from spuvm.compiler.numeric.roots import sqrt

LN2 = math.log(2.0)


def sinh(low: Lowering, x: int) -> int:
    """(e^x - e^-x) / 2; saturates."""
    rising, falling = _halves(low, x)
    with low.unchecked():
        return _saturated(low, low.emit("sub_aa", rising, falling))


def cosh(low: Lowering, x: int) -> int:
    """(e^x + e^-x) / 2; saturates."""
    rising, falling = _halves(low, x)
    with low.unchecked():
        return _saturated(low, low.emit("add_aa", rising, falling))


def _halves(low: Lowering, x: int) -> tuple[int, int]:
    """e^x / 2 and e^-x / 2."""
    with low.unchecked():
        x = arith.to_frac(low, arith.settle(low, x), low.f)
        half = round(math.ldexp(LN2, low.f))
        both = plus(low, x, -half), plus(low, low.emit("neg_a", x), -half)
        rising, falling = (exp2(low, v, LOG2_E) for v in both)
        return rising, falling


def _saturated(low: Lowering, x: int) -> int:
    """One of two summands is small where the other is large: the sum stays representable."""
    return low.narrowed(x, 1 - low.bound, low.bound - 1)


def asinh(low: Lowering, x: int) -> int:
    """sign(x) log(|x| + sqrt(x^2 + 1)) for every representable x; error about 6 units.

    Far from 0 the square may leave the range: there the sum is 2 |x|.
    """
    f = low.f
    with low.unchecked():
        x = arith.to_frac(low, arith.settle(low, x), f)
        sign, size = order.negative(low, x), order.absolute(low, x)
        size = low.narrowed(size, 0, low.bound - 1)
        near = masked(low, size, 0, 1 << f + f // 2 + 1)
        square = plus(low, arith.settle(low, arith.mul(low, near.value, near.value)), 1 << f)
        root = sqrt(low, low.narrowed(square, (1 << f) - 8, low.bound - 1))
        half = low.emit("trunc_a", size, bits=1)
        terms = [
            arith.retype(low, half, f),
            arith.retype(low, low.emit("trunc_a", root, bits=1), f),
        ]
        if near.above is not False:  # there the root is 1
            terms.append(order.times(low, near.above, plus(low, terms[0], -2 - (1 << f - 1))))
        total = low.emit("lincomb_a", *terms, coefficients=[1] * len(terms))
        total = low.narrowed(total, (1 << f - 1) - 8, low.bound - 1)
        made = plus(low, log(low, total), round(math.ldexp(LN2, f)))
        made = low.narrowed(made, -64, low.bound - 1)
        return _signed(low, made, sign)


def acosh(low: Lowering, x: int) -> int:
    """2 log(sqrt(x + 1) + sqrt(x - 1)) - log 2 for x >= 1, 0 below; error about 8 units."""
    f = low.f
    with low.unchecked():
        x = arith.to_frac(low, arith.settle(low, x), f)
        x = clamped(low, x, 1 << f, low.bound - 1 - (1 << f))
        roots = [sqrt(low, plus(low, x, side << f)) for side in (1, -1)]
        total = low.narrowed(low.emit("add_aa", *roots), 1 << f, low.bound - 1)
        twice = low.emit("shl_a", log(low, total), bits=1, frac=f)
        return plus(low, twice, -round(math.ldexp(LN2, f)))


def atanh(low: Lowering, x: int) -> int:
    """(log(1 + x) - log(1 - x)) / 2 for |x| < 1; for |x| >= 1 half the largest number."""
    f = low.f
    one = 1 << f
    with low.unchecked():
        x = clamped(low, arith.to_frac(low, arith.settle(low, x), f), -one, one)
        up, down = log1p(low, x), log1p(low, low.emit("neg_a", x))
        twice = low.emit("sub_aa", up, down)
        return arith.to_frac(
            low, arith.retype(low, low.narrowed(twice, 1 - low.bound, low.bound - 1), f + 1), f
        )


def _signed(low: Lowering, x: int, sign: order.Bit) -> int:
    if isinstance(sign, bool):
        return low.emit("neg_a", x) if sign else x
    return low.emit("lincomb_a", x, order.times(low, sign, x), coefficients=(1, -2))
