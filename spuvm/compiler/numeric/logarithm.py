"""log over all positive values: the exponent counted, a polynomial for the mantissa."""

from __future__ import annotations

import math

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import evaluate, fitted, internal_bits, unit_interval
from spuvm.compiler.numeric.scaling import normalise, number


def log(low: Lowering, x: int) -> int:
    """Natural logarithm with the program's fraction bits; error about 2^-17.

    log(x) for x <= 0 is the most negative representable number: it stands for minus infinity.
    """
    f, g = low.f, internal_bits(low)
    x = arith.to_frac(low, arith.settle(low, x), f)
    with low.unchecked():
        bad = order.negative(low, _plus(low, x, -1))
        positive = x
        if bad is not False:
            # Anything will do in its place; 1 unit keeps the normalisation inside its range.
            unit = low.constant(low.ring.array(np.int64(1)), f)
            step = order.times(low, bad, low.emit("sub_pa", unit, x))
            positive = low.narrowed(low.emit("add_aa", x, step), 1, low.magnitude(x))
        normal = normalise(low, positive)
        # w = 4 m - 3 maps [1/2, 1] to [-1, 1]
        w = _plus(low, low.emit("shl_a", normal.mantissa, bits=2, frac=g), -(3 << g))
        fraction = evaluate(low, w, fitted(np.log, 0.5, 1.0, 8 if low.bits >= 64 else 5))
        total = _plus(low, fraction, round(math.ldexp((normal.top - f) * math.log(2.0), g)))
        shift = number(low, normal.digits(low))
        if shift is not None:
            factor = low.constant(low.ring.array(np.int64(round(math.ldexp(math.log(2.0), g)))), g)
            total = low.emit("sub_aa", total, low.emit("mul_ap", shift, factor))
        made = arith.to_frac(low, total, f)
        limit = round(math.ldexp((low.bits + 2) * math.log(2.0), f))
        made = low.narrowed(made, -limit, limit)
        if bad is not False:
            least = low.constant(low.ring.array(np.int64(1 - low.bound)), f)
            step = order.times(low, bad, low.emit("sub_pa", least, made))
            made = low.narrowed(low.emit("add_aa", made, step), 1 - low.bound, limit)
        return made


def log1p(low: Lowering, x: int) -> int:
    """log(1 + x), right to the last places in absolute terms; see log."""
    x = arith.to_frac(low, arith.settle(low, x), low.f)
    one = 1 << low.f
    bounds = low.type(x).bounds
    if bounds is not None and bounds[0] >= 0 and bounds[1] <= one + (one >> 9):
        return _log1p_unit(low, x)
    with low.unchecked():
        # Where 1 + x would leave the range the logarithm does not notice the 1.
        limit = low.constant(low.ring.array(np.int64(low.bound - 1 - one)), low.f)
        above = order.negative(low, low.emit("sub_pa", limit, x))
        made = _plus(low, x, one)
        if above is not False:
            back = low.emit("shl_a", low.emit("b2a", above), bits=low.f, frac=low.f)
            made = low.emit("sub_aa", made, back)
            made = low.narrowed(made, 1 - low.bound, low.bound - 1)
    return log(low, made)


def _log1p_unit(low: Lowering, x: int) -> int:
    """log(1 + x) for x in [0, 1]: a polynomial, no normalisation."""
    g = internal_bits(low)
    with low.unchecked():
        w = unit_interval(low, arith.to_frac(low, x, g))
        made = evaluate(low, w, fitted(np.log1p, 0.0, 1.0, 8 if low.bits >= 64 else 5))
        made = arith.to_frac(low, made, low.f)
        return low.narrowed(made, -4, round(math.ldexp(math.log(2.0), low.f)) + (1 << low.f - 7))


def _plus(low: Lowering, x: int, value: int) -> int:
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(value)), low.frac(x)))
