"""The incomplete gamma function as a JAX function of two real arrays, for lowering.

P(a, x) = Phi(z), and z is almost what it is for large a: with r = sqrt(a) and m = x / a - 1,
z = sign(m) r sqrt(2 (m - log(1 + m))) + c / r, where c is smooth in t = (x - a) / (x + a) and in
1 / a (Temme, SIAM J. Math. Anal. 13, 1982, has the terms; here c is fitted). Below `START` that is
taken at a + START, and the terms between are added: P(a, x) = P(a + 1, x) + x^a e^-x / gamma(a + 1)
(Abramowitz and Stegun 6.5.21). All terms are positive and together at most 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler.series import chebyshev, finer, interpolated

Array = Any
Series = tuple[float, ...]
FAR = 40.0
FINER = 6  # bits


def start_of(f: int) -> int:
    """From where on a is large."""
    return 4 if f <= 12 else 8 if f <= 28 else 16


def ends(f: int) -> tuple[float, float]:
    """t where less than the accuracy is left on the other side."""
    return (-0.92 if 20 < f <= 28 else -0.85), 0.7


def root_of(m: Any) -> Any:
    """sqrt(2 (m - log(1 + m))) / |m|, 1 at 0."""
    size = np.where(np.abs(m) < 1e-3, m * m / 2 - m**3 / 3 + m**4 / 4 - m**5 / 5, m - np.log1p(m))
    safe = np.where(np.abs(m) < 1e-12, 1.0, m)
    return np.where(np.abs(m) < 1e-12, 1.0, np.sqrt(2 * size) / np.abs(safe))


def _points(t: Any, f: int) -> tuple[Any, Any, Any]:
    """(t between its ends, m, its root) for t in [-1, 1]."""
    low, high = ends(f)
    t = low + (high - low) * (np.asarray(t) + 1) / 2
    m = 2 * t / (1 - t)
    return t, m, root_of(m)


@cache
def leading(f: int) -> Series:
    """The root as a series in t between its ends."""
    return interpolated(lambda t: _points(t, f)[2], 2.0 ** -(f + 2))


@cache
def _corrections(f: int) -> tuple[Series, ...]:
    """c as a series in t per power of START / a."""
    from scipy import special as exact

    start = start_of(f)
    powers, degree = (2, 8) if f <= 12 else (2, 11) if f <= 20 else (4, 16) if f <= 28 else (6, 26)
    u = (np.cos(np.pi * (np.arange(20) + 0.5) / 20) + 1) / 2
    t = np.cos(np.pi * (np.arange(80) + 0.5) / 80)
    a, grid = np.meshgrid(start / u, t, indexing="ij")
    _, m, root = _points(grid, f)
    x = a * (1 + m)
    lower, upper = exact.gammainc(a, x), exact.gammaincc(a, x)
    z = m * root * np.sqrt(a)
    below = lower < 0.5
    found = np.where(below, exact.ndtri(np.minimum(lower, 0.5)),
                     -exact.ndtri(np.minimum(upper, 0.5)))  # fmt: skip
    use = np.abs(z) < 12
    c = ((found - z) * np.sqrt(a))[use]
    weight = np.exp(-z * z / 8)[use]
    basis = np.polynomial.chebyshev.chebvander(grid, degree)[..., None, :]
    rows = (basis * ((start / a)[..., None, None] ** np.arange(powers)[:, None]))[use]
    rows = rows.reshape(c.size, -1)
    made = np.linalg.lstsq(rows * weight[:, None], c * weight, rcond=1e-13)[0]
    return tuple(tuple(map(float, row)) for row in made.reshape(powers, degree + 1))


@cache
def _log_gamma(f: int, step: int, name: str) -> Series:
    """log gamma(a + step + 1), or its derivative, for a in [0, START]."""
    from scipy import special as exact

    start, function = start_of(f), getattr(exact, name)
    return interpolated(lambda t: function(start * (t + 1) / 2 + step + 1), 2.0 ** -(f + 2), 90)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def log_gamma_at(a: Array, f: int, step: int) -> Array:
    return chebyshev(_log_gamma(f, step, "gammaln"), a * (2 / start_of(f)) - 1)


@log_gamma_at.defjvp
def _(f: int, step: int, given: tuple[Array], change: tuple[Array]) -> tuple[Array, Array]:
    (a,), (d,) = given, change
    slope = chebyshev(_log_gamma(f, step, "digamma"), a * (2 / start_of(f)) - 1)
    return log_gamma_at(a, f, step), d * slope


def igamma(a: Array, x: Array, f: int) -> Array:
    """P(a, x), the lower incomplete gamma function over gamma(a), for a > 0 and x >= 0."""
    start = start_of(f)
    small = a < start
    large = jnp.where(small, a + start, a)
    root = jnp.sqrt(large)
    y, t, inverse = jnp.stack([x - large, x - large, jnp.ones_like(x)]) / jnp.stack(
        [root, x + large, root]
    )
    low, high = ends(f)
    few, at = jnp.clip(a, 0.0, start), jnp.minimum(x, 8.0 * start)  # beyond that nothing is left
    made = finer(partial(_sum, f=f))(
        jnp.clip(y, -FAR, FAR), jnp.clip(t, low, high), inverse, few, at, small
    )
    return jnp.where(x > 0, made, 0.0)


def _sum(y: Array, t: Array, inverse: Array, a: Array, x: Array, small: Array, f: int) -> Array:
    """P for large a, with the terms between where it is small."""
    low, high = ends(f)
    w = (t - low) * (2 / (high - low)) - 1
    square = inverse * inverse * start_of(f)
    first, *more = [chebyshev(series, w) for series in _corrections(f)]
    correction = more[-1]
    for term in more[-2::-1]:
        correction = correction * square + term
    correction = correction * square + first
    z = y * chebyshev(leading(f), w) + correction * inverse
    made = 0.5 + 0.5 * jax.scipy.special.erf(z * np.sqrt(0.5))
    return made + jnp.where(small, _between(a, x, f), 0.0)


def _between(a: Array, x: Array, f: int) -> Array:
    """P(a, x) - P(a + START, x) for a in [0, START]."""
    log = jnp.log(jnp.where(x > 0, x, 1.0))
    steps = [a * log + (j * log - x) - log_gamma_at(a, f, j) for j in range(start_of(f))]
    made = jnp.exp(jnp.stack(steps) + FINER * np.log(2.0))  # roundings of terms that are small
    return made.sum(0) * 2.0**-FINER


def igammac(a: Array, x: Array, f: int) -> Array:
    """Q(a, x) = 1 - P(a, x)."""
    return 1 - igamma(a, x, f)


def igamma_grad_a(a: Array, x: Array, f: int) -> Array:
    """The derivative of P(a, x) for a."""
    return jax.jvp(lambda v: igamma(v, x, f), (a,), (jnp.ones_like(a),))[1]


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "igamma": igamma,
    "igammac": igammac,
    "igamma_grad_a": igamma_grad_a,
}
