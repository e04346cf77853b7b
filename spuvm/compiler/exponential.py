"""Exponential integrals as JAX functions of one real array.

JAX evaluates them by continued fractions and series that end when the value says so, and by
polynomials that fixed point cannot hold. Here: near 0, the logarithm and an entire function, which
is a short Chebyshev series; beyond, the exponential of x and of a series in 1/x, so that results of
any size keep their relative accuracy. Abramowitz and Stegun 5.1.10 to 5.1.12.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import jax.numpy as jnp
import numpy as np

from spuvm.compiler.series import Array, chebyshev, finer, interpolated
from spuvm.fxp import Fxp

BELOW, ABOVE = 1.0, 4.0  # expi is near 0 between -BELOW and ABOVE


def _reciprocals(start: float, end: float) -> tuple[float, float]:
    """(a, b) with a / x + b from 1 to -1 for x from `start` to `end`."""
    first, last = 1 / start, 1 / end
    return 2 / (first - last), -(first + last) / (first - last)


@cache
def _near(f: int) -> tuple[float, ...]:
    from scipy import special as exact

    def entire(t: Array) -> Array:
        x = (t + 1) / 2 * (ABOVE + BELOW) - BELOW
        x = np.where(np.abs(x) < 1e-9, 1e-9, x)
        return exact.expi(x) - np.log(np.abs(x))

    return interpolated(entire, 2.0 ** -(f + 2))


@cache
def _far(f: int, side: Literal["above", "below"], end: float) -> tuple[float, ...]:
    """log(|Ei(x)| |x| exp(-x)), in 1 / |x|."""
    from scipy import special as exact

    start = ABOVE if side == "above" else BELOW
    slope, shift = _reciprocals(start, end)

    def rest(t: Array) -> Array:
        x = slope / (t - shift)
        return np.log(
            x * (exact.expi(x) / np.exp(x) if side == "above" else exact.exp1(x) * np.exp(x))
        )

    return interpolated(rest, 2.0 ** -(f + 2))


def expi(x: Array, fxp: Fxp, sign: str) -> Array:
    """The integral of exp(t) / t up to x; saturates at 0 and where it is too large."""
    f, end = fxp.frac_bits, math.log(fxp.max_float) + 6
    size = x if sign == "positive" else jnp.abs(x)
    logarithm = jnp.log(size)
    inner = jnp.clip(x, -BELOW, ABOVE)
    close = chebyshev(_near(f), (inner + BELOW) * (2 / (ABOVE + BELOW)) - 1) + logarithm
    outer = jnp.clip(size, BELOW, end)
    inverse, lost = 1 / outer, jnp.clip(logarithm, 0.0, math.log(end))

    def rest(side: Literal["above", "below"], start: float) -> Array:
        slope, shift = _reciprocals(start, end)
        return chebyshev(_far(f, side, end), jnp.minimum(inverse, 1 / start) * slope + shift)

    above = outer + rest("above", ABOVE) - lost
    if sign == "positive":
        return jnp.where(x > ABOVE, jnp.exp(above), close)
    negative = x < 0
    grown = jnp.exp(jnp.where(negative, rest("below", BELOW) - outer - lost, above))
    near = (x >= -BELOW) & (x <= ABOVE)
    return jnp.where(near, close, jnp.where(negative, -grown, grown))


def _share(n: int) -> float:
    """What x^(n-1) log(x) is multiplied by in -E_n(x)."""
    return (-1.0) ** (n - 1) / math.gamma(n) if n < 170 else 0.0


@cache
def _near_of(f: int, n: int) -> tuple[float, ...]:
    from scipy import special as exact

    def entire(t: Array) -> Array:
        x = np.maximum((t + 1) / 2, 1e-12)
        return exact.expn(n, x) + _share(n) * x ** (n - 1) * np.log(x)

    return interpolated(entire, 2.0 ** -(f + 2))


@cache
def _far_of(f: int, n: int, end: float) -> tuple[float, ...]:
    from scipy import special as exact

    slope, shift = _reciprocals(1.0, end)

    def rest(t: Array) -> Array:
        x = slope / (t - shift)
        return np.log(x * exact.expn(n, x) * np.exp(x))

    return interpolated(rest, 2.0 ** -(f + 2))


def expn(x: Array, n: int, fxp: Fxp) -> Array:
    """E_n(x) for x >= 0 and n >= 0; saturates where it is infinite."""
    if n == 0:
        return jnp.exp(-x) / x
    f = fxp.frac_bits
    end = (f + 3) * math.log(2)
    logarithm = jnp.log(x)
    inner = jnp.clip(x, 0.0, 1.0)
    close = chebyshev(_near_of(f, n), inner * 2 - 1)
    if n == 1:
        close = close - logarithm
    elif abs(_share(n)) / (math.e * (n - 1)) > 2.0 ** -(f + 3):
        finite = jnp.clip(logarithm, -(f + 1) * math.log(2), 0.0)
        close = close - inner ** (n - 1) * finite * _share(n)
    outer = jnp.clip(x, 1.0, end)
    slope, shift = _reciprocals(1.0, end)
    rest = chebyshev(_far_of(f, n, end), slope / outer + shift)
    lost = jnp.clip(logarithm, 0.0, math.log(end))
    return jnp.where(x > 1, jnp.exp(rest - outer - lost), close)


@cache
def _slope(f: int) -> tuple[float, ...]:
    """(1 - e^-u) / u for u in [0, 1]."""
    return interpolated(lambda t: -np.expm1(-(t + 1) / 2) / np.maximum((t + 1) / 2, 1e-12),
                        2.0 ** -(f + 6))  # fmt: skip


@cache
def _share_of_growth(f: int) -> tuple[float, ...]:
    """(e^u - 1) / u for u in [-1, 1]; none of the nodes is 0."""
    return interpolated(lambda u: np.expm1(u) / u, 2.0 ** -(f + 2), 45)


def growth(u: Array, b: Array, quotient: Array, f: int) -> Array:
    """(e^u - 1) / a for u = a b, which beyond |u| = 1 is the quotient as it is."""
    near = chebyshev(_share_of_growth(f), jnp.clip(u, -1.0, 1.0))
    return jnp.where(jnp.abs(u) <= 1, b * near, quotient)


@cache
def _bend(f: int) -> tuple[float, ...]:
    """((u - 1) e^u + 1) / u^2 = sum of u^k (k + 1) / (k + 2)! for u in [-1, 1]."""
    terms = [(k + 1) / math.factorial(k + 2) for k in range(25)]
    return interpolated(lambda u: np.polynomial.polynomial.polyval(u, terms), 2.0 ** -(f + 2), 45)


def bend_of_growth(u: Array, a: Array, b: Array, power: Array, f: int) -> Array:
    """The derivative of (e^u - 1) / a in a, for u = a b and e^u = `power`.

    Up to |u| = 1 a series in u times b^2; below, (e^u (u - 1) + 1) / a^2, which makes the least of
    an error of e^u; above, (e^u / a) (b - 1 / a) + 1 / a^2, of which no part is larger than it has
    to be.
    """
    near, below = jnp.abs(u) <= 1, u < 0
    small = b * (b * chebyshev(_bend(f), jnp.clip(u, -1.0, 1.0)))
    some = jnp.where(near, 1.0, a)
    first = jnp.where(near, 0.0, jnp.where(below, power * (u - 1) + 1, power))
    part, inverse = jnp.stack([first, jnp.ones_like(u)]) / some
    second, third = jnp.where(
        below, jnp.stack([inverse, jnp.zeros_like(u)]), jnp.stack([b - inverse, inverse * inverse])
    )
    return jnp.where(near, small, part * second + third)


def log_of_double_exponential(x: Array, f: int) -> Array:
    """log(1 - exp(-e^x)), for x < 0 as x + log((1 - e^-u) / u) with u = e^x."""

    def part(v: Array) -> Array:
        u = jnp.exp(v)
        near = chebyshev(_slope(f), 2 * jnp.minimum(u, 1.0) - 1)
        return jnp.log(jnp.where(v < 0, near, 1 - jnp.exp(-u)))

    return finer(part)(jnp.clip(x, -(f + 6) * math.log(2.0), ABOVE)) + jnp.minimum(x, 0.0)
