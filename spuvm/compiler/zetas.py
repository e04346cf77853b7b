"""Hurwitz's zeta function and polygamma functions as JAX functions of real arrays, for lowering.

The first terms of the sum, and from there Euler and Maclaurin's formula (Abramowitz and Stegun
23.1.30, 6.4.10, 6.4.11).
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from spuvm.compiler.series import finer, finer_product
from spuvm.compiler.special import cotangent, steps

Array = Any
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
NEAR = 4.0  # the cotangent at 0.08 from a pole
SMALL = 16.0  # beyond that exponent the rest is nothing


def _taken(f: int) -> int:
    """How many terms of the formula."""
    return 2 if f <= 12 else 4 if f <= 28 else 8


def zeta(s: Array, q: Array, f: int) -> Array:
    """The sum of (q + k)^-s over k = 0, 1, ..., for s > 1 and q > 0."""
    count = steps(f)
    terms = [jnp.maximum(q, 2.0**-f), *(q + k for k in range(1, count + 1))]
    last = q + count
    logs = finer(jnp.log)(jnp.stack(terms))  # exponents are up to s times as wrong as these
    logs = jnp.concatenate([logs, logs[-1:]])
    powers = jnp.exp(finer_product(jnp.stack([*(-s for _ in terms), 1 - s]), logs))
    least = jnp.minimum(s, SMALL)
    inverse = 1 / last
    made = jnp.zeros_like(q)
    for j in range(_taken(f), 0, -1):  # a term is that before it times two more factors
        ratio = BERNOULLI[j - 1] / math.factorial(2 * j)
        made = ratio + made * ((least + (2 * j - 1)) * inverse) * ((least + 2 * j) * inverse)
    made = 0.5 + made * (least * inverse)
    rest = powers[count] * made + powers[count + 1] / (s - 1)
    return powers[:count].sum(0) + rest


def polygamma(n: int, x: Array, f: int, sign: str) -> Array:
    """The derivative of order n >= 1 of digamma, away from its poles; 6.4.7 for x < 0."""
    if sign == "positive":
        return _polygamma(n, x, f)
    made = _polygamma(n, jnp.where(x < 0, 1 - x, x), f)
    cot = jnp.clip(cotangent(x, f) * (1 / np.pi), -NEAR, NEAR)
    slopes = np.polynomial.Polynomial([0.0, 1.0])  # of cot(pi x), as polynomials in it
    for _ in range(n):
        slopes = slopes.deriv() * np.polynomial.Polynomial([-np.pi, 0.0, -np.pi])
    reflected = jnp.full_like(x, slopes.coef[-1])
    for c in slopes.coef[-2::-1]:
        reflected = reflected * cot + c
    return jnp.where(x < 0, (made if n % 2 == 0 else -made) - np.pi * reflected, made)


def _polygamma(n: int, x: Array, f: int) -> Array:
    count = max(steps(f), n)
    inverse = 1 / jnp.stack([x + k for k in range(count + 1)])
    powers = inverse
    for i in range(1, n):
        powers = powers * (inverse * i)  # (n - 1)! / (x + k)^n
    first, u = (powers[:count] * (inverse[:count] * n)).sum(0), inverse[count]
    made = jnp.zeros_like(x)
    for j in range(_taken(f), 0, -1):
        ratio = BERNOULLI[j - 1] / math.factorial(2 * j)
        made = ratio + made * (u * (n + 2 * j)) * (u * (n + 2 * j + 1))
    rest = powers[count] * (1 + u * (n / 2) + made * (u * n) * (u * (n + 1)))
    made = first + rest
    return made if n % 2 else -made
