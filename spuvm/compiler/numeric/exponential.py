"""exp and exp2 over the whole range: 2^n 2^r with the bits of n applied one by one."""

from __future__ import annotations

import math

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import (
    add_constant,
    evaluate,
    fitted,
    internal_bits,
    scaled,
    unit_interval,
)
from spuvm.compiler.numeric.scaling import apply_exponent

LOG2_E = 1.0 / math.log(2.0)


def exp2(low: Lowering, x: int, factor: float = 1.0) -> int:
    """2^(factor x) with the program's fraction bits, for every representable x.

    Saturates: below half a unit to 0 (or 1 unit), above at the largest representable power.
    Error: about 2^-20 relative plus one unit.
    """
    f, g = low.f, internal_bits(low)
    x = arith.settle(low, x)
    x = arith.to_frac(low, x, f)
    lowest, highest = -float(f + 2), float(low.bits - 2 - f) - 2.0 ** -(f - 2)
    x = _clamped(low, x, lowest / factor, highest / factor)
    bounds = low.type(x).bounds
    assert bounds is not None
    first = math.floor(math.ldexp(bounds[0], -f) * factor - 2.0**-8)
    last = math.floor(math.ldexp(bounds[1], -f) * factor + 2.0**-8)
    exponent_bits = max(1, (last - first).bit_length())
    with low.unchecked():
        # y = factor x - first >= 0, as precise as the ring allows
        h = g - 4
        fine = min(g, low.bits - 4 - low.magnitude(x).bit_length() - 1)
        y = scaled(low, x, factor, fine)
        y = arith.to_frac(low, y, h)
        y = add_constant(low, y, -float(first))
        bits = low.emit("a2b", low.narrowed(y, 0, 1 << (h + exponent_bits)), bits=h + exponent_bits)
        whole = low.emit("bits_b", bits, low=h, width=exponent_bits)
        n = low.emit("shl_a", low.emit("b2a", whole), bits=h, frac=h)
        fraction = low.narrowed(low.emit("sub_aa", y, n), 0, 1 << h)
        r = low.emit("shl_a", fraction, bits=g - h, frac=g)
        coefficients = fitted(np.exp2, 0.0, 1.0, 6 if low.bits >= 64 else 4)
        mantissa = evaluate(low, unit_interval(low, r), coefficients)
        digits: list[order.Bit] = [
            low.emit("bits_b", whole, low=j, width=1) for j in range(exponent_bits)
        ]
        made = apply_exponent(low, mantissa, digits, first, f)
        return low.narrowed(made, 0, low.bound - 1)


def exp(low: Lowering, x: int) -> int:
    """e^x; see exp2."""
    return exp2(low, x, LOG2_E)


def _clamped(low: Lowering, x: int, lo: float, hi: float) -> int:
    """x limited to [lo, hi]; comparisons that the bounds decide are left out."""
    f = low.frac(x)
    least, most = math.ceil(math.ldexp(lo, f)), math.floor(math.ldexp(hi, f))
    with low.unchecked():
        under = order.negative(low, add_constant(low, x, -math.ldexp(least, -f)))
        above = order.negative(low, order_minus(low, x, most))
        low_value, high_value = _constant_like(low, x, least), _constant_like(low, x, most)
        made = x
        if under is not False:
            made = _moved_to(low, made, under, x, low_value)
        if above is not False:
            made = _moved_to(low, made, above, x, high_value)
    return low.narrowed(made, least, most)


def order_minus(low: Lowering, x: int, most: int) -> int:
    """most - x, negative where x is above `most`."""
    c = low.constant(low.ring.array(np.int64(most)), low.frac(x))
    return low.emit("sub_pa", c, x)


def _constant_like(low: Lowering, x: int, value: int) -> int:
    return low.constant(low.ring.array(np.int64(value)), low.frac(x))


def _moved_to(low: Lowering, made: int, bit: order.Bit, x: int, target: int) -> int:
    """made + bit * (target - x): both limits can be applied at once."""
    step = order.times(low, bit, low.emit("sub_pa", target, x))
    return low.emit("add_aa", made, step)
