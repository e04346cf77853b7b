"""Fresh secret randomness inside a program: ``sf.random.uniform(shape)`` and others.

The values come from the streams that the parties share pairwise; no party knows them, nobody can
choose them, and every call draws new ones, also in every step of a loop and in every run. They are
secret like any other value. `jax.random` with a public key is something else: the values that JAX
gives for this key, which everybody knows.

Under `jax.vmap` each member of the batch gets its own draw (for one that all share, draw outside
and hand it in), and so does each step of a loop, differentiated or not. What is drawn in a loop or
a `jax.jit` that is called under `vmap` is each member's own, too. `like` is any array that the draw
shall depend on besides. `jax.checkpoint` refuses these functions: it would compute, that is draw,
twice. So do `jax.jacfwd` and `jax.hessian`, whose columns would be of different draws: draw outside
of what they differentiate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import source_info_util

from spuvm.compiler.fresh import fresh, shuffled, surroundings
from spuvm.errors import UsageError

source_info_util.register_exclusion(__file__)

Shape = int | Sequence[int]


def _shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)


def _float() -> Any:
    return jax.dtypes.canonicalize_dtype(float)


def uniform(
    shape: Shape = (), minval: float = 0.0, maxval: float = 1.0, *, like: Any = None
) -> jax.Array:
    """Floats uniform in [minval, maxval), on a grid of 2^-frac_bits times the width."""
    unit = fresh("unit", _shape(shape), _float(), like)
    return unit * (maxval - minval) + minval if (minval, maxval) != (0.0, 1.0) else unit


def bernoulli(p: Any = 0.5, shape: Shape | None = None, *, like: Any = None) -> jax.Array:
    """Booleans, true with probability p (rounded to a multiple of 2^-frac_bits; may be secret)."""
    size = jnp.shape(p) if shape is None else _shape(shape)
    if isinstance(p, int | float) and p == 0.5:
        return fresh("bit", size, np.bool_, like)
    return jnp.less(fresh("unit", size, _float(), like), p)


def randint(shape: Shape, minval: int, maxval: int, *, like: Any = None) -> jax.Array:
    """int32 in minval .. maxval-1, both public; each has probability 1/n up to 2^-32 of it."""
    n = maxval - minval
    if not 0 < n <= 1 << 31 or minval < -(1 << 31) or maxval > 1 << 31:
        raise UsageError(
            "randint: no such range", got=f"{minval} .. {maxval}", expected="minval < maxval, int32"
        )
    return fresh("below", _shape(shape), np.int32, like, below=n) + minval


def _series(fn: Any) -> tuple[float, ...]:
    """Coefficients, highest first, of a polynomial in s = t^2 on [0, 1]; error below 2^-26."""
    fit = np.polynomial.Chebyshev.interpolate(fn, 5, domain=[0, 1])
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


COS = _series(lambda s: np.cos(np.pi / 2 * np.sqrt(s)))
SIN = _series(lambda s: np.pi / 2 * np.sinc(np.sqrt(s) / 2))  # sin(pi t / 2) / t


def _polynomial(coefficients: Sequence[float], s: jax.Array) -> jax.Array:
    made: Any = coefficients[0]
    for c in coefficients[1:]:
        made = made * s + c
    return jnp.asarray(made)


def normal(shape: Shape = (), *, like: Any = None) -> jax.Array:
    """Standard normal floats, by Box and Muller; |x| is at most sqrt(4 frac_bits ln 2), about 7.

    The quarter of the circle is drawn as two signs, the angle inside it as a float.
    """
    size = _shape(shape)
    half = (math.prod(size) + 1) // 2
    radius = jnp.sqrt(fresh("squared_radius", (half,), _float(), like))
    t = fresh("unit", (half,), _float(), like)
    s = t * t
    parts = []
    for angle in (_polynomial(COS, s), t * _polynomial(SIN, s)):
        sign = fresh("bit", (half,), np.bool_, like)
        value = radius * angle
        parts.append(jnp.where(sign, value, -value))
    return jnp.concatenate(parts)[: math.prod(size)].reshape(size)


def permutation(x: Any, axis: int = 0, *, like: Any = None) -> jax.Array:
    """`x` in a uniform random order along an axis; an int n means arange(n).

    A shuffle: 48 bytes per element and three rounds. A gradient goes back by sorting.
    """
    x = jnp.arange(x) if isinstance(x, int | np.integer) else jnp.asarray(x)
    if not x.ndim:
        raise UsageError("permutation: an array, or a number of elements", got=f"shape {x.shape}")
    moved = jnp.moveaxis(x, axis, 0)
    return jnp.moveaxis(_permuted(moved, (surroundings(), like)), 0, axis)


@jax.custom_vjp
def _permuted(x: jax.Array, like: Any) -> jax.Array:
    return shuffled([x], like)[0]


def _permuted_forward(x: jax.Array, like: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    made, places = shuffled([x, jnp.arange(x.shape[0])], like)
    return made, (places, like)


def _permuted_backward(kept: tuple[jax.Array, Any], slope: jax.Array) -> tuple[jax.Array, Any]:
    """Rows back to where they came from."""
    places, like = kept
    columns = slope.reshape(slope.shape[0], -1)
    ordered = lax.sort((places, *columns.T), num_keys=1)[1:]
    made = jnp.stack(ordered, 1) if ordered else columns
    return made.reshape(slope.shape), jax.tree.map(_zero, like)


def _zero(x: Any) -> Any:
    x = jnp.asarray(x)
    return (
        jnp.zeros_like(x)
        if jnp.issubdtype(x.dtype, jnp.floating)
        else np.zeros(x.shape, jax.dtypes.float0)
    )


_permuted.defvjp(_permuted_forward, _permuted_backward)
