"""Square roots: the mantissa by a polynomial, half the exponent put back."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import evaluate, fitted, internal_bits
from spuvm.compiler.numeric.scaling import apply_exponent, normalise


def _root(m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sqrt(m)


def _inverse_root(m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / np.sqrt(m)


def sqrt(low: Lowering, x: int) -> int:
    """Square root with the program's fraction bits; 0 for x <= 0. Error about 2^-20 relative."""
    f, g = low.f, internal_bits(low)
    x = arith.to_frac(low, arith.settle(low, x), f)
    with low.unchecked():
        bad = order.negative(low, _plus(low, x, -1))
        kept = x if bad is False else order.times(low, order.negate(low, bad), x)
        normal = normalise(low, low.narrowed(kept, 0, low.magnitude(x)), zero="one")
        w = _plus(low, low.emit("shl_a", normal.mantissa, bits=2, frac=g), -(3 << g))
        root = evaluate(low, w, fitted(_root, 0.5, 1.0, 8 if low.bits >= 64 else 5))
        root = low.narrowed(root, 0, (1 << g) + (1 << (g - 6)))
        # sqrt(m 2^(top - s - f)) with s = s_0 + 2 s': the odd part goes to the mantissa
        odd = (normal.top - f) % 2
        if odd:
            root = _times(low, root, math.sqrt(2.0))
        first, *others = normal.digits(low)
        halved = order.choose(low, first, _times(low, root, math.sqrt(0.5)), root)
        halved = low.narrowed(halved, 0, (2 << g) + (1 << (g - 6)))
        rest = [order.negate(low, bit) for bit in others]
        base = (normal.top - f - odd) // 2 - ((1 << len(rest)) - 1)
        made = apply_exponent(low, halved, rest, base, f)
        made = low.narrowed(made, 0, 1 << (low.bits // 2 + f // 2))
        if bad is not False:
            made = order.times(low, order.negate(low, bad), made)
        return arith.retype(low, made, f)


def rsqrt(low: Lowering, x: int) -> int:
    """1 / sqrt(x); at x <= 0 that of the least positive number. Error 2^-20 relative."""
    f, g = low.f, internal_bits(low)
    x = arith.to_frac(low, arith.settle(low, x), f)
    with low.unchecked():
        bad = order.negative(low, _plus(low, x, -1))
        positive = x
        if bad is not False:
            unit = low.constant(low.ring.array(np.int64(1)), f)
            step = order.times(low, bad, low.emit("sub_pa", unit, x))
            positive = low.narrowed(low.emit("add_aa", x, step), 1, low.magnitude(x))
        normal = normalise(low, positive)
        w = _plus(low, low.emit("shl_a", normal.mantissa, bits=2, frac=g), -(3 << g))
        root = evaluate(low, w, fitted(_inverse_root, 0.5, 1.0, 8 if low.bits >= 64 else 5))
        root = low.narrowed(root, 0, (1 << g) * 3 // 2)
        half, odd = divmod(normal.top - f, 2)
        if odd:
            root = _times(low, root, math.sqrt(0.5))
        first, *others = normal.digits(low)
        grown = order.choose(low, first, _times(low, root, math.sqrt(2.0)), root)
        grown = low.narrowed(grown, 0, (2 << g) + (1 << (g - 6)))
        made = apply_exponent(low, grown, others, -half, f)
        return arith.retype(low, low.narrowed(made, 0, 1 << (f + f // 2 + 1)), f)


def _plus(low: Lowering, x: int, value: int) -> int:
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(value)), low.frac(x)))


def _times(low: Lowering, x: int, value: float) -> int:
    """x * value for x < 2 at internal precision."""
    g = internal_bits(low)
    p = low.constant(low.ring.array(np.int64(round(math.ldexp(value, g)))), g)
    product = low.emit("mul_ap", x, p)
    return arith.to_frac(low, product, g)
