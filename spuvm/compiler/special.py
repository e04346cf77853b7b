"""Special functions as JAX functions of one real array, for lowering: sums, products, logarithms.

lgamma and digamma step up to where Stirling's series (Abramowitz and Stegun 6.1.40, 6.3.18) is as
exact as the fraction bits, and reflect what is negative (6.1.17, 6.3.7). The Bessel functions are
Chebyshev series of their scaled form, below and above 8 (9.8). For all of them the accuracy
contract holds away from the poles at 0, -1, -2, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.compiler.series import chebyshev, finer, finer_product, interpolated

Array = Any
LGAMMA = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)  # of z^-1, z^-3, ...
DIGAMMA = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760)  # of z^-2, z^-4, ...
SPLIT = 8.0


def steps(f: int) -> int:
    """How far arguments are raised: the first term that is left out is below 2^-f there."""
    return 3 if f <= 12 else 8 if f <= 28 else 12


def _raised(x: Array, f: int, sign: str) -> tuple[Array, Array, Array]:
    """With 1 - x for x < 0: where it is small, a value above `steps`, 1 where it is not small."""
    y = x if sign == "positive" else jnp.where(x < 0, 1 - x, x)
    small = y < steps(f)
    return small, jnp.where(small, y + steps(f), y), jnp.where(small, y, 1.0)


def _series(coefficients: Sequence[float], w: Array) -> Array:
    made: Array = coefficients[-1]
    for c in coefficients[-2::-1]:
        made = made * w + c
    return made


def lgamma(x: Array, f: int, sign: str) -> Array:
    """log |gamma(x)|."""
    small, z, low = _raised(x, f, sign)
    inverse = 1 / z
    logarithm = finer(jnp.log)
    stirling = finer_product(z - 0.5, logarithm(z)) - z + 0.5 * np.log(2 * np.pi)
    stirling += inverse * _series(LGAMMA, inverse * inverse)
    rest = low + 1
    for i in range(2, steps(f)):
        rest = rest * (low + i)
    made = stirling - jnp.where(small, logarithm(low) + logarithm(rest), 0.0)
    if sign == "positive":
        return made
    sine = jnp.sin(np.pi * (x - jnp.round(x)))
    return jnp.where(x < 0, np.log(np.pi) - jnp.log(jnp.abs(sine)) - made, made)


def digamma(x: Array, f: int, sign: str) -> Array:
    """The derivative of log gamma(x)."""
    small, z, low = _raised(x, f, sign)
    inverse = 1 / z
    w = inverse * inverse
    stirling = jnp.log(z) - 0.5 * inverse + w * _series(DIGAMMA, w)
    below = 1 / jnp.stack([low + i for i in range(steps(f))])
    made = stirling - jnp.where(small, below.sum(0), 0.0)
    if sign == "positive":
        return made
    return jnp.where(x < 0, made - cotangent(x, f), made)


def cotangent(x: Array, f: int) -> Array:
    """pi cot(pi x): 1 / d less an odd series in the distance d to the nearest integer (4.3.91)."""
    d = x - jnp.round(x)
    odd = finer(lambda d: d * chebyshev(_between_poles(f), 8 * d * d - 1))
    return 1 / d - odd(d)


@cache
def _between_poles(f: int) -> tuple[float, ...]:
    """(1 / d - pi cot(pi d)) / d for d^2 in [0, 1/4]: 2 (zeta(2) + zeta(4) d^2 + ...)."""
    from scipy import special as exact

    k = np.arange(40)
    series = np.polynomial.Polynomial(2 * exact.zeta(2.0 * k + 2) / 8.0**k)
    return interpolated(lambda t: series(t + 1), 2.0 ** -(f + 2))


@cache
def _scaled(order: int, part: str, f: int) -> tuple[float, ...]:
    """Chebyshev coefficients of i_n(x) e^-x on [0, 8], or of its product with sqrt(x) above."""
    from scipy import special as exact

    scaled: Callable[[Any], Any] = exact.i0e if order == 0 else exact.i1e

    def above(t: Any) -> Any:
        x = SPLIT * 2 / np.maximum(t + 1, 1e-9)
        return scaled(x) * np.sqrt(x)

    fn = (lambda t: scaled(SPLIT * (t + 1) / 2)) if part == "below" else above
    return interpolated(fn, 2.0 ** -(f + 1), 40)


def bessel_ie(x: Array, f: int, sign: str, *, order: int) -> Array:
    """i_n(x) e^-|x| for n = 0, 1."""
    size = x if sign == "positive" else jnp.abs(x)
    large = size > SPLIT
    t = jnp.where(large, 2 * SPLIT / jnp.where(large, size, SPLIT), size * (2 / SPLIT)) - 1
    below, above = (chebyshev(_scaled(order, part, f), t) for part in ("below", "above"))
    root = lax.rsqrt(jnp.where(large, size, SPLIT))
    made = jnp.where(large, above * root, below)
    return jnp.where(x < 0, -made, made) if order == 1 and sign != "positive" else made


FUNCTIONS: dict[str, Callable[[Array, int, str], Array]] = {
    "lgamma": lgamma,
    "digamma": digamma,
    "bessel_i0e": partial(bessel_ie, order=0),
    "bessel_i1e": partial(bessel_ie, order=1),
}
