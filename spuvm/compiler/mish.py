"""x tanh(log(1 + e^x)), whose factor is all rounding where x is far below 0.

With s = logistic(x) that factor is s (2 - s) / (1 + (1 - s)^2): x s is silu, known as one function,
and the rest is between 1 and 1.21, a series in s.
"""

from __future__ import annotations

from functools import cache

import jax

from spuvm.compiler.series import Array, chebyshev, interpolated


def _rest(w: Array) -> Array:
    s = (w + 1) / 2
    return (2 - s) / (1 + (1 - s) ** 2)


@cache
def _series(f: int) -> tuple[float, ...]:
    return interpolated(_rest, 2.0 ** -(f + 2))


def mish(v: Array, f: int) -> Array:
    """v tanh(log(1 + e^v)) with f fraction bits."""
    s = jax.nn.sigmoid(v)
    return v * s * chebyshev(_series(f), 2 * s - 1)
