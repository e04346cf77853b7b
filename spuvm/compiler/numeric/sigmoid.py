"""The logistic function: exp(-|x|) by repeated squaring, 1 / (1 + t) by a polynomial."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import evaluate, fitted, internal_bits, unit_interval

SQUARINGS = 4
REACH = 1 << SQUARINGS  # beyond 16 the logistic function is 0 or 1 to the last place


def _decay(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.exp(-u)


def _half(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + t)


def logistic(low: Lowering, x: int) -> int:
    """1 / (1 + exp(-x)) with the program's fraction bits; error about 2 units.

    Outside [-16, 16] the result is 0 or 1; the comparisons for that are left out where the bounds
    of x exclude it.
    """
    f, g = low.f, internal_bits(low)
    x = arith.to_frac(low, arith.settle(low, x), f)
    edge = REACH << f
    with low.unchecked():
        negative = order.negative(low, x)
        size = low.emit(
            "sub_aa", x, low.emit("shl_a", order.times(low, negative, x), bits=1, frac=f)
        )
        bounds = low.type(x).bounds
        inside: order.Bit = True
        if bounds is None or bounds[0] <= -edge or bounds[1] >= edge:
            above = order.negative(low, _minus(low, edge, x))
            below = order.negative(low, _plus(low, x, edge))
            inside = order.negate(low, _or(low, above, below))
            size = order.times(low, inside, size)
            size = low.narrowed(size, 0, edge)
        else:
            size = low.narrowed(size, 0, max(abs(bounds[0]), abs(bounds[1])))
        # u = |x| / 16 in [0, 1]: the same integer read with more fraction bits
        u = arith.to_frac(low, arith.retype(low, size, f + SQUARINGS), g)
        t = evaluate(low, unit_interval(low, u), fitted(_decay, 0.0, 1.0, 6))
        for _ in range(SQUARINGS):
            t = low.narrowed(t, 0, 1 << g)
            t = low.emit("mul_aa", t, t, trunc=g, form="narrow")
        t = order.times(low, inside, low.narrowed(t, 0, 1 << g))
        upper = evaluate(low, unit_interval(low, t), fitted(_half, 0.0, 1.0, 8))
        upper = low.narrowed(upper, 0, 1 << g)
        made = order.choose(low, negative, _minus(low, 1 << g, upper), upper)
        return low.narrowed(arith.to_frac(low, made, f), 0, 1 << f)


def tanh(low: Lowering, x: int) -> int:
    """tanh(x) = 2 logistic(2x) - 1."""
    with low.unchecked():
        x = arith.to_frac(low, arith.settle(low, x), low.f)
        # 2x may leave the ring: limit it first where the bounds do not
        limited = _limited(low, x, REACH << low.f)
        doubled = low.emit("shl_a", limited, bits=1, frac=low.f)
        upper = low.emit("shl_a", logistic(low, doubled), bits=1, frac=low.f)
        one = 1 << low.f
        return low.narrowed(_plus(low, upper, -one), -one, one)


def _limited(low: Lowering, x: int, edge: int) -> int:
    c = low.constant(low.ring.array(np.int64(edge)), low.frac(x))
    d = low.constant(low.ring.array(np.int64(-edge)), low.frac(x))
    made = x
    for bit, target in (
        (order.negative(low, _minus(low, edge, x)), c),
        (order.negative(low, _plus(low, x, edge)), d),
    ):
        if bit is not False:
            step = order.times(low, bit, low.emit("sub_pa", target, x))
            made = low.emit("add_aa", made, step)
    return low.narrowed(made, -edge, edge)


def _or(low: Lowering, a: order.Bit, b: order.Bit) -> order.Bit:
    """Exclusive cases: at most one of both holds."""
    if isinstance(a, bool):
        return b if a is False else True
    if isinstance(b, bool):
        return a if b is False else True
    return low.emit("xor_bb", a, b)


def _plus(low: Lowering, x: int, value: int) -> int:
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(value)), low.frac(x)))


def _minus(low: Lowering, value: int, x: int) -> int:
    return low.emit("sub_pa", low.constant(low.ring.array(np.int64(value)), low.frac(x)), x)
