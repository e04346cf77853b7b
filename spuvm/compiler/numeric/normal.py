"""The error function and its inverse."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import clamped, plus
from spuvm.compiler.numeric.logarithm import log, log1p
from spuvm.compiler.numeric.polynomial import evaluate, internal_bits, shortest
from spuvm.compiler.numeric.roots import sqrt
from spuvm.compiler.numeric.symmetric import odd, slack

Floats = npt.NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])


def erf(low: Lowering, x: int) -> int:
    """The error function, constant where it differs from +-1 by few units; error about 10 units."""
    made = odd(low, x, _erf, _reach(low.f), 1.0)
    one = (1 << low.f) + slack(low.f)
    return low.narrowed(made, -one, one)


def _reach(f: int) -> float:
    """Where erfc is 2^((f - 8) / 4) units, at most 16: inside the 2^6 that are promised."""
    return _crossing(2.0 ** (-f + min((f - 8) / 4, 4.0)))


@cache
def _crossing(value: float) -> float:
    lo, hi = 0.0, 30.0
    for _ in range(60):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if math.erfc(middle) > value else (lo, middle)
    return hi


def erf_inv(low: Lowering, x: int) -> int:
    """The inverse of erf for |x| < 1; from |x| = 1 on, that of the largest |x| below 1.

    x r(t) with t = sqrt(1 - log(1 - x^2)), r being smooth and nearly linear.
    """
    f = low.f
    one = 1 << f
    with low.unchecked():
        x = clamped(low, arith.to_frac(low, arith.settle(low, x), f), 1 - one, one - 1)
        size = order.absolute(low, x)
        up = log1p(low, size)
        down = log(low, plus(low, low.emit("neg_a", size), one))
        total = low.emit("neg_a", low.emit("add_aa", up, down))
        most = math.ceil(math.ldexp((f + 1) * math.log(2.0), f))
        total = low.narrowed(plus(low, low.narrowed(total, -16, most), one), one - 16, most + one)
        root = sqrt(low, low.narrowed(total, one - 16, most + one))
        hi = math.sqrt(1 + (f + 1) * math.log(2.0)) + 2.0**-6
        lo, half = 1.0, (hi - 1) / 2
        g = internal_bits(low)
        w = low.emit("mul_ap", root, low.integer(round(math.ldexp(1 / half, g)), g))
        w = arith.to_frac(low, w, g)
        w = plus(low, w, -round(math.ldexp((lo + hi) / 2 / half, g)))
        w = low.narrowed(w, -(1 << g) - (1 << g - 7), (1 << g) + (1 << g - 7))
        ratio = evaluate(low, w, shortest(_inverse_by_operand, lo, hi, 2.0 ** -(f + 1)), f + 2)
        ratio = low.narrowed(ratio, 0, math.ceil(math.ldexp(hi + 1, f + 2)))
        return low.emit("mul_aa", *sorted((x, ratio)), trunc=f + 2, form="narrow")


def _inverse_by_operand(t: Floats) -> Floats:
    """erf_inv(x) / x where t = sqrt(1 - log(1 - x^2)); continued smoothly below t = 1."""
    exponent = 1 - np.asarray(t) ** 2  # log(1 - x^2)
    square = -np.expm1(exponent)
    small = np.abs(square) < 1e-3
    x = np.sqrt(np.where(small, 0.5, np.maximum(square, 1e-3)))
    tail = np.exp(exponent) / (1 + x)  # 1 - x, without cancellation
    z = np.sqrt(np.maximum(-exponent, 0.05))
    for _ in range(60):
        slope = 2 / math.sqrt(math.pi) * np.exp(-z * z)
        z = z + np.clip((_erfc(z) - tail) / slope, -0.5, 0.5)
    c = math.pi * square  # the series of erf_inv at 0, in x^2
    near = 1 + c / 12 + 7 * c**2 / 480 + 127 * c**3 / 40320 + 4369 * c**4 / 5806080
    return np.asarray(np.where(small, math.sqrt(math.pi) / 2 * near, z / x))
