"""Polynomials of a value in [-1, 1], in the Chebyshev basis, with few products and little depth.

The basis keeps every value and coefficient small, so that all of them go with the same number of
fraction bits, and degree 20 is as safe as degree 3. T_1 .. T_b and T_2b, T_4b .. are computed by
2 T_i T_j = T_(i+j) + T_|i-j|; what is between them is linear, hence free (baby and giant steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering

Real = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
Series = tuple[float, ...]

CUT, RAW, SHIFT = 36, 24, 16  # bytes of a product with and without truncation, of a truncation


def internal_bits(low: Lowering) -> int:
    """Fraction bits inside numeric algorithms: the product of two values of size 1 must fit."""
    return low.bits // 2 - 4


def working_bits(low: Lowering) -> int:
    """Fraction bits of what polynomials are made of: a little more than the program's."""
    more = low.f + 2 + max(0, low.f - 26)  # long series lose places
    return min(internal_bits(low), max((low.bits - 2) // 3, more))


@cache
def fitted(function: Real, lo: float, hi: float, degree: int) -> Series:
    """Coefficients of function((hi + lo)/2 + w (hi - lo)/2) in T_0(w), T_1(w), ..; near minimax."""
    return interpolated(lambda w: function((hi + lo) / 2 + w * (hi - lo) / 2), degree)


@cache
def shortest(function: Real, lo: float, hi: float, error: float, kind: str = "absolute") -> Series:
    """The fitted series of least degree within `error`, absolute or relative to the function."""
    w = np.linspace(-1, 1, 801)
    wanted = function((hi + lo) / 2 + w * (hi - lo) / 2)
    scale = np.abs(wanted) if kind == "relative" else np.ones_like(w)
    for degree in range(2, 40):
        series = fitted(function, lo, hi, degree)
        if np.max(np.abs(value(series, w) - wanted) / scale) <= error:
            break
    return series


def interpolated(function: Real, degree: int) -> Series:
    """Coefficients of `function` on [-1, 1], exact at the zeros of T_(degree+1)."""
    angles = (np.arange(degree + 1) + 0.5) * (math.pi / (degree + 1))
    values = function(np.cos(angles))
    sums = [float(np.sum(values * np.cos(k * angles))) for k in range(degree + 1)]
    return tuple((2.0 if k else 1.0) * s / (degree + 1) for k, s in enumerate(sums))


def value(series: Series, w: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The series at w, in float64, inside [-1, 1] and outside."""
    after, later = np.zeros_like(w), np.zeros_like(w)
    for c in series[:0:-1]:
        after, later = c + 2 * w * after - later, after
    return series[0] + w * after - later


@dataclass
class _Basis:
    """T_k(w) by k, each made once."""

    low: Lowering
    frac: int
    reach: float
    made: dict[int, int] = field(default_factory=dict)

    def size(self, k: int) -> float:
        """A bound of |T_k|, w may leave [-1, 1] a little."""
        return math.cosh(k * math.acosh(self.reach))

    def get(self, k: int) -> int:
        """Id of T_k, k >= 1."""
        if k not in self.made:
            low, i = self.low, (k + 1) // 2
            j, x, y = k - i, self.get(i), self.get(k - i)
            cut = low.frac(x) + low.frac(y) - self.frac - 1
            twice = low.emit("mul_aa", *sorted((x, y)), trunc=cut, form="narrow")
            twice = arith.retype(low, twice, self.frac)
            if i == j:
                made = low.emit("add_ap", twice, constant(low, -1.0, self.frac))
            else:
                made = low.emit("sub_aa", twice, self.get(i - j))
            limit = math.ceil(math.ldexp(self.size(k), self.frac)) + 4 * k * k
            self.made[k] = low.narrowed(made, -limit, limit)
        return self.made[k]


def evaluate(low: Lowering, w: int, series: Series, frac: int | None = None) -> int:
    """sum c_k T_k(w) with `frac` fraction bits (internal_bits by default), w in [-1, 1].

    w may leave the interval by a hundredth; it can have any number of fraction bits up to half the
    ring. Error: that of the series plus some units of 2^-working_bits.
    """
    frac, f = internal_bits(low) if frac is None else frac, working_bits(low)
    size = max(1.0, 1.01 * sum(map(abs, series)))  # with twice the bits it must fit
    f = min(f, (low.bits - 3 - math.ceil(math.log2(size))) // 2)
    with low.unchecked():
        w = arith.to_frac(low, w, f)
        most = 1.01 + 8 * 2.0**-f  # by a hundredth and by roundings
        reach = max(1.0, math.ldexp(low.magnitude(w), -f))
        limit = min(max(low.magnitude(w), 1 << f), math.ceil(math.ldexp(most, f)))
        basis = _Basis(low, f, min(reach, most), {1: low.narrowed(w, -limit, limit)})
        step = _plan(len(series) - 1)
        total = _Evaluation(basis, step, _coefficient_bits(basis, step, series)).all(series)
        return arith.to_frac(low, total, frac)


def basis(low: Lowering, w: int, degree: int) -> list[int]:
    """T_1(w) .. T_degree(w) with the program's fraction bits, w in [-1, 1]."""
    f = working_bits(low)
    with low.unchecked():
        w = arith.to_frac(low, w, f)
        most = math.ceil(math.ldexp(1 + max(8 * 2.0**-low.f, 2.0**-16), f))  # by roundings
        limit = min(max(low.magnitude(w), 1 << f), most)
        made = _Basis(low, f, max(1.0, math.ldexp(limit, -f)), {1: low.narrowed(w, -limit, limit)})
        return [arith.to_frac(low, made.get(k), low.f) for k in range(1, degree + 1)]


@dataclass(frozen=True)
class _Evaluation:
    """Sums are kept with `wide` fraction bits, and cut once at the end.

    `bits` are the coefficients' fraction bits, or 0 where a linear part is cut to the basis' bits
    before it meets its giant.
    """

    basis: _Basis
    step: int
    bits: int

    @property
    def wide(self) -> int:
        """Fraction bits of sums."""
        return 2 * self.basis.frac + self.bits

    def all(self, series: Series) -> int:
        """The series, with `wide` fraction bits."""
        if len(series) <= self.step:
            return self.linear(series, self.wide)
        giant = _giant(len(series) - 1, self.step)
        upper, rest = _divided(series, giant)
        low, frac = self.basis.low, self.basis.frac
        if len(upper) > self.step:
            factor = arith.to_frac(low, self.all(upper), frac + self.bits)
        elif self.bits:
            factor = self.linear(upper, frac + self.bits)
        else:
            room = low.bits - 3 - math.ceil(math.log2(sum(map(abs, upper)) + 1))
            factor = arith.to_frac(low, self.linear(upper, min(2 * frac, room)), frac)
        product = low.emit(
            "mul_aa", *sorted((self.basis.get(giant), factor)), trunc=0, form="narrow"
        )
        return low.emit("add_aa", product, self.all(rest))

    def linear(self, series: Series, frac: int) -> int:
        """A combination of T_0 .. T_(step-1) with `frac` fraction bits: no product of secrets."""
        low, first = self.basis.low, series[0]
        bits = frac - self.basis.frac
        terms = [(self.basis.get(k), c) for k, c in enumerate(series) if k]
        weights = [round(math.ldexp(c, bits)) for _, c in terms]
        if not any(weights):
            terms, weights = [(self.basis.get(1), 0.0)], [0]
        made = low.emit("lincomb_a", *(x for x, _ in terms), coefficients=weights)
        return low.emit("add_ap", arith.retype(low, made, frac), constant(low, first, frac))


def _giant(degree: int, step: int) -> int:
    """The largest step * 2^i that is not above the degree."""
    while 2 * step <= degree:
        step *= 2
    return step


def _divided(series: Series, giant: int) -> tuple[Series, Series]:
    """(q, r) with series = T_giant q + r, of degrees below `giant`."""
    upper = (series[giant], *(2 * c for c in series[giant + 1 :]))
    rest = list(series[:giant])
    for i, c in enumerate(series[giant + 1 :], start=1):
        rest[giant - i] -= c
    return upper, tuple(rest)


def _size(basis: _Basis, step: int, series: Series) -> float:
    """A bound of the interval arithmetic's own bound for a series evaluated in steps."""
    if len(series) <= step:
        return sum(abs(c) * basis.size(k) for k, c in enumerate(series))
    giant = _giant(len(series) - 1, step)
    upper, rest = _divided(series, giant)
    return basis.size(giant) * _size(basis, step, upper) + _size(basis, step, rest)


def _coefficient_bits(basis: _Basis, step: int, series: Series) -> int:
    room = basis.low.bits - 2 - 2 * basis.frac - math.log2(1.01 * _size(basis, step, series))
    bits = min(basis.frac + 4, math.floor(room))
    return bits if bits >= basis.frac - 3 else 0


@cache
def _plan(degree: int) -> int:
    """Number of baby steps with the least traffic."""
    return min(range(2, degree + 2), key=lambda b: (_cost(degree, b), b))


def _cost(degree: int, step: int) -> int:
    made: set[int] = set()

    def need(k: int) -> int:
        if k in made or k <= 1:
            return 0
        made.add(k)
        i = (k + 1) // 2
        return CUT + need(i) + need(k - i) + need(i - (k - i))

    def whole(d: int) -> int:
        if d < step:
            return sum(need(k) for k in range(2, d + 1))
        giant = _giant(d, step)
        upper = whole(d - giant) + (SHIFT if d - giant >= step else 0)
        return RAW + need(giant) + upper + whole(giant - 1)

    return whole(degree) + SHIFT


def constant(low: Lowering, value: float, frac: int) -> int:
    """A public scalar with `frac` fraction bits."""
    return low.integer(round(math.ldexp(value, frac)), frac)


def unit_interval(low: Lowering, t: int) -> int:
    """w = 2 t - 1 for t in [0, 1] or a little beyond, with the fraction bits of t."""
    g = low.frac(t)
    with low.unchecked():
        slack = 1 << (g - 9)
        t = low.narrowed(t, -slack, (1 << g) + slack)
        doubled = low.emit("shl_a", t, bits=1, frac=g)
        return low.emit("add_ap", doubled, constant(low, -1.0, g))


def add_constant(low: Lowering, x: int, value: float) -> int:
    """x + value at the fraction bits of x."""
    with low.unchecked():
        return low.emit("add_ap", x, constant(low, value, low.frac(x)))


def scaled(low: Lowering, x: int, value: float, bits: int) -> int:
    """x * value where value is encoded with `bits` fraction bits; nothing is truncated."""
    with low.unchecked():
        return low.emit("mul_ap", x, constant(low, value, bits))
