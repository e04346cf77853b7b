"""Polynomials of a value in [-1, 1] at high internal precision, in logarithmic depth."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering

Real = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def internal_bits(low: Lowering) -> int:
    """Fraction bits inside numeric algorithms: the product of two values of size 1 must fit."""
    return 28 if low.bits >= 64 else 12


@cache
def fitted(function: Real, lo: float, hi: float, degree: int) -> tuple[float, ...]:
    """Coefficients in w of function((hi + lo)/2 + w (hi - lo)/2), w in [-1, 1], nearly minimax."""
    series = np.polynomial.chebyshev.Chebyshev.interpolate(
        lambda w: function(np.asarray((hi + lo) / 2 + w * (hi - lo) / 2)), degree
    )
    return tuple(float(c) for c in series.convert(kind=np.polynomial.Polynomial).coef)


def evaluate(low: Lowering, w: int, coefficients: tuple[float, ...]) -> int:
    """sum c_k w^k with internal_bits fraction bits, w in [-1, 1] with as many.

    Powers are made by doubling: degree d takes ceil(log2 d) products in depth.
    """
    g = internal_bits(low)
    one = 1 << g
    with low.unchecked():
        powers = {1: low.narrowed(w, -one, one)}
        while len(powers) < len(coefficients) - 1:
            top = len(powers)
            for k in range(top + 1, min(2 * top, len(coefficients) - 1) + 1):
                product = low.emit("mul_aa", powers[top], powers[k - top], trunc=g, form="narrow")
                powers[k] = low.narrowed(product, -one, one)
        # Coefficients get as many bits as the sum of all terms leaves room for.
        size = sum(abs(c) for c in coefficients) + 1
        bits = min(g, low.bits - 4 - g - int(np.ceil(np.log2(size))))
        terms = [
            low.emit("mul_ap", powers[k], _public(low, c, bits))
            for k, c in enumerate(coefficients)
            if k
        ]
        total = terms[0]
        for term in terms[1:]:
            total = low.emit("add_aa", total, term)
        total = low.emit("add_ap", total, _public(low, coefficients[0], bits + g))
        return arith.to_frac(low, total, g)


def _public(low: Lowering, value: float, frac: int) -> int:
    return low.constant(low.ring.array(np.int64(np.rint(np.ldexp(value, frac)))), frac)


def unit_interval(low: Lowering, t: int) -> int:
    """w = 2 t - 1 for t in [0, 1], both with internal_bits fraction bits."""
    g = internal_bits(low)
    with low.unchecked():
        doubled = low.emit("shl_a", low.narrowed(t, 0, 1 << g), bits=1, frac=g)
        return low.emit("add_ap", doubled, _public(low, -1.0, g))


def add_constant(low: Lowering, x: int, value: float) -> int:
    """x + value at the fraction bits of x."""
    with low.unchecked():
        return low.emit("add_ap", x, _public(low, value, low.frac(x)))


def scaled(low: Lowering, x: int, value: float, bits: int) -> int:
    """x * value where value is encoded with `bits` fraction bits; nothing is truncated."""
    with low.unchecked():
        return low.emit("mul_ap", x, _public(low, value, bits))
