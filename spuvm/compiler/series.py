"""For functions that are written in JAX: Chebyshev series, and parts with more digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad

Array = Any

chebyshev_p = core.Primitive("chebyshev")
chebyshev_p.def_abstract_eval(lambda w, *, series: w)
chebyshev_p.def_impl(
    lambda w, *, series: jnp.asarray(np.polynomial.chebyshev.chebval(w, series), w.dtype)
)


def _derivative(g: Array, w: Array, *, series: tuple[float, ...]) -> Array:
    steps = tuple(map(float, np.polynomial.chebyshev.chebder(series)))
    return g * chebyshev_p.bind(w, series=steps)


ad.defjvp(chebyshev_p, _derivative)


def chebyshev(series: tuple[float, ...], w: Array) -> Array:
    """sum series[k] T_k(w) for w in [-1, 1], or beyond by roundings."""
    return chebyshev_p.bind(w, series=series)


basis_p = core.Primitive("chebyshev_basis")
basis_p.def_abstract_eval(lambda w, *, degree: w.update(shape=(degree + 1, *w.shape)))
basis_p.def_impl(
    lambda w, *, degree: jnp.moveaxis(
        jnp.asarray(np.polynomial.chebyshev.chebvander(w, degree), w.dtype), -1, 0
    )
)


def chebyshev_basis(w: Array, degree: int) -> Array:
    """T_0(w) .. T_degree(w), stacked, for w in [-1, 1]; lowered as it is, without derivatives."""
    return basis_p.bind(w, degree=degree)


def interpolated(function: Callable[[Any], Any], error: float, most: int = 60) -> tuple[float, ...]:
    """The series of a function on [-1, 1], left off where the rest is below `error`.

    Through no more points than it takes: high coefficients are roundings of the function's, which
    add up to more than the rest. Their number is even, so that 0 is none of them.
    """
    degree = 11
    while True:
        c = _through(function, min(degree, most) + 1)
        tail = np.cumsum(np.abs(c[::-1]))[::-1]
        if degree >= most or tail[-4] < error / 4:
            return tuple(float(v) for v in c[: max(3, int((tail > error).sum()))])
        degree = degree * 3 // 2 | 1


def _through(function: Callable[[Any], Any], count: int) -> np.ndarray:
    """The coefficients through so many points, from cosines rather than a recurrence."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    values = np.asarray(function(np.cos(angles)))
    c: np.ndarray = np.cos(np.outer(np.arange(count), angles)) @ values * (2 / count)
    c[0] /= 2
    return c


def finer(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, lowered with more fraction bits: for operands and results of a small size.

    A call like any other to JAX, which lowering knows by its name (`is_finer`).
    """

    def with_more_bits(*operands: Array) -> Array:
        return function(*operands)

    made: Callable[..., Array] = jax.jit(with_more_bits)
    return made


def is_finer(jaxpr: Any) -> bool:
    """Whether `finer` made this call."""
    source = jaxpr.debug_info.func_src_info
    return source.startswith("with_more_bits at ") and "series.py" in source


product_p = core.Primitive("finer_product")
product_p.def_abstract_eval(lambda x, y: x)
product_p.def_impl(lambda x, y: x * y)


def finer_product(x: Array, y: Array) -> Array:
    """x y where y comes from `finer` and its digits beyond the program's count; no derivative."""
    return product_p.bind(x, y)
