"""log over all positive values: the exponent counted, a polynomial for the mantissa."""

from __future__ import annotations

import math

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import minus, plus
from spuvm.compiler.numeric.polynomial import Real, evaluate, shortest, unit_interval, working_bits
from spuvm.compiler.numeric.scaling import centred


def log(low: Lowering, x: int, zero: int | None = None, function: Real = np.log) -> int:
    """Natural logarithm, or np.log2, with the program's fraction bits; error about 2 units.

    log(x) for x <= 0 is log_of_zero, in the unit of `function`, which stands for minus infinity,
    or the encoded `zero`.
    """
    f, unit = low.f, float(function(np.array([math.e]))[0])
    x = arith.settle(low, x)
    with low.unchecked():
        c = centred(low, x)
        fraction = evaluate(low, c.w, shortest(function, c.lo, c.hi, 2.0**-f), f)

        def power_of_two(exponent: int) -> int:
            return round(math.ldexp(exponent * math.log(2.0) * unit, f))

        made = plus(low, fraction, power_of_two(c.normal.top - low.frac(x)))
        least = -power_of_two(low.frac(x) + 1) - (1 << 6)
        lowest = round(log_of_zero(low) * unit) if zero is None else zero
        # What is missing counts as one unit, whose logarithm is taken away again.
        first = c.normal.stages[0].most if c.normal.stages else 0
        missing = lowest + power_of_two(low.frac(x)) - power_of_two(first)
        shift = c.normal.total(low, lambda s: -power_of_two(s), missing)
        if shift is not None:
            made = low.emit("add_aa", made, arith.retype(low, shift, f))
        most = power_of_two(c.normal.top - low.frac(x)) + (1 << 6)
        return low.narrowed(made, lowest - 64 if missing_possible(low, x) else least, most)


def log_of_zero(low: Lowering) -> int:
    """-2^((k-2-f)/2), encoded: see docs/adr/0018."""
    return int(low.config.fxp.log_of_zero) << low.f


def missing_possible(low: Lowering, x: int) -> bool:
    """Whether x can be zero or negative."""
    lo = low.type(x).lo
    return lo is None or lo < 1


def log1p(low: Lowering, x: int) -> int:
    """log(1 + x), right to the last places in absolute terms; see log."""
    x = arith.to_frac(low, arith.settle(low, x), low.f)
    one = 1 << low.f
    bounds = low.type(x).bounds
    if bounds is not None and bounds[0] >= -(one >> 9) and bounds[1] <= one + (one >> 9):
        return _log1p_unit(low, x, bounds[0])
    with low.unchecked():
        # Where 1 + x would leave the range the logarithm does not notice the 1.
        above = order.negative(low, minus(low, low.bound - 1 - one, x))
        made = plus(low, x, one)
        if above is not False:
            back = low.emit("shl_a", low.emit("b2a", above), bits=low.f, frac=low.f)
            made = low.emit("sub_aa", made, back)
            made = low.narrowed(made, 1 - low.bound, low.bound - 1)
    return log(low, made)


def _log1p_unit(low: Lowering, x: int, lowest: int) -> int:
    """log(1 + x) for x in [0, 1], a little beyond it too: a polynomial, no normalisation."""
    with low.unchecked():
        w = unit_interval(low, arith.to_frac(low, x, working_bits(low)))
        made = evaluate(low, w, shortest(np.log1p, 0.0, 1.0, 2.0**-low.f), low.f)
        return low.narrowed(
            made, 2 * min(lowest, 0) - 4, round(math.ldexp(math.log(2.0), low.f)) + (1 << low.f - 7)
        )
