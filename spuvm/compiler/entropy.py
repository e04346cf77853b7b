"""x log y, and the relative entropy of two numbers, as JAX functions, for lowering.

An error of the logarithm counts as often as x says, and differences of such products cancel. So
where y is near 1, or q near p, the result is a product with what is exact there, y - 1 or p - q,
and a series in the Chebyshev basis that is about 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import jax.numpy as jnp
import numpy as np

from spuvm.compiler.series import Array, chebyshev, interpolated

NEAR = 0.5  # up to there series stand for logarithms
FAR = 0.6  # and for the divergence: up to p = 4 q
Form = Literal["log", "entropy", "divergence"]


@cache
def _series(f: int, form: Form) -> tuple[float, ...]:
    """log(1 + v) / v, or times 1 + v, for |v| <= NEAR; or `divergence` for |t| <= FAR."""

    def of(t: Array) -> Array:
        if form == "divergence":
            v = FAR * t
            first = np.arctanh(v) / v
            return first + (first - 1) / v
        v = NEAR * t
        return np.log1p(v) / v * (1 + v if form == "entropy" else 1)

    return interpolated(of, 2.0 ** -(f + 2), 45)  # an even number of nodes: none of them is 0


def times_log(
    x: Array, y: Array, f: int, most: float, logarithm: Callable[[Array], Array], one: float
) -> Array:
    """x times a logarithm of y, which is 0 for y = `one`; 0 for x = 0.

    For a logarithm of 0 that is `most`, negative, with the sign of x: the product would leave the
    range for a large x.
    """
    least = -(f + 1) * np.log(2.0)
    found = logarithm(y)
    v = y - one if one else y
    near = jnp.abs(v) <= NEAR
    inner = jnp.clip(v, -NEAR, NEAR)
    slope = chebyshev(_series(f, "log"), inner * (1 / NEAR))
    first, second = jnp.where(
        near, jnp.stack([x * inner, slope]), jnp.stack([x, jnp.maximum(found, least)])
    )
    return jnp.where(found < least, most * jnp.sign(x), first * second)


def relative_entropy(p: Array, q: Array, f: int) -> Array:
    """p log(p / q) for p > 0, q > 0."""
    change = p - q
    v = change / q
    near = jnp.abs(v) <= NEAR
    slope = chebyshev(_series(f, "entropy"), jnp.clip(v, -NEAR, NEAR) * (1 / NEAR))
    first, second = jnp.where(
        near, jnp.stack([change, slope]), jnp.stack([p, jnp.log(p) - jnp.log(q)])
    )
    return first * second


def divergence(p: Array, q: Array, f: int, logarithm: Array | None = None) -> Array:
    """p log(p / q) - p + q for p > 0, q > 0: near p = q about half of the square of w.

    The logarithm of p / q may be given where more is known of q than its digits.
    With m = (p + q) / 2, t = (p - q) / 2m and w = (p - q) / sqrt(m) it is w^2 / 2 times
    ((1 + t) arctanh(t) - t) / t^2. Further away the logarithms' errors no longer count much.
    """
    change, middle = p - q, 0.5 * p + 0.5 * q
    root = jnp.sqrt(middle)
    if f > 20:  # quotients of large numbers have few digits more than are needed, and w is squared
        ones = jnp.ones_like(change)
        twice, w, inverse = jnp.stack([change, change, ones]) / jnp.stack([middle, root, root])
        w = w + (change - w * root) * inverse
    else:
        twice, w = jnp.stack([change, change]) / jnp.stack([middle, root])
    if logarithm is None:
        logarithm = jnp.log(p) - jnp.log(q)
    near = jnp.abs(twice) <= 2 * FAR
    t = jnp.clip(twice, -2 * FAR, 2 * FAR) * (0.5 / FAR)
    w = jnp.where(near, w, 0.0)
    half = 0.5 * w * chebyshev(_series(f, "divergence"), t)
    first, second = jnp.where(near, jnp.stack([w, half]), jnp.stack([p, logarithm - 1]))
    return first * second + jnp.where(near, 0.0, q)
