"""sin(v) / v and its derivative in place of the parts that JAX 0.10 makes of `sinc`.

There (sin v) / v, and (cos v) / v - (sin v) v^-2 as its derivative, lose all digits near 0. Near 0
both are series in v^2 here. JAX 0.12 has a polynomial of its own, which is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler.series import Array, chebyshev, interpolated

MEET = 2.0  # the series are in v^2 / 2 - 1, up to |v| = 2


def _angle(t: Array) -> Array:
    return np.sqrt(np.maximum(2 * (t + 1), 1e-6))


@cache
def _near(f: int) -> tuple[float, ...]:
    return interpolated(lambda t: np.sinc(_angle(t) / np.pi), 2.0 ** -(f + 2))


@cache
def _near_slope(f: int) -> tuple[float, ...]:
    """The derivative divided by v."""

    def part(t: Array) -> Array:
        v = _angle(t)
        return (np.cos(v) - np.sin(v) / v) / v**2

    return interpolated(part, 2.0 ** -(f + 2), 20)


def _parts(v: Array) -> tuple[Array, Array, Array]:
    """(is |v| < MEET, v there and 0 elsewhere, v elsewhere and MEET there)."""
    near = jnp.abs(v) < MEET
    return near, jnp.where(near, v, 0.0), jnp.where(near, MEET, v)


def quotient(v: Array, f: int) -> Array:
    """sin(v) / v."""
    near, inner, outer = _parts(v)
    return jnp.where(near, chebyshev(_near(f), inner * inner / 2 - 1), jnp.sin(outer) / outer)


def slope(v: Array, f: int) -> Array:
    """The derivative of sin(v) / v."""
    near, inner, outer = _parts(v)
    series = inner * chebyshev(_near_slope(f), inner * inner / 2 - 1)
    return jnp.where(near, series, (jnp.cos(outer) - jnp.sin(outer) / outer) / outer)


def _count(jaxpr: Any) -> tuple[int, int, int]:
    found = Counter(eqn.primitive.name for eqn in jaxpr.eqns)
    return found["sin"], found["cos"], found["integer_pow"]


def is_known(jaxpr: Any) -> bool:
    """Whether this body of a call of sinc has no such parts, or those of a first derivative."""
    count = _count(jaxpr)
    return not (count[0] or count[1]) or count in ((1, 0, 0), (1, 1, 1))


def repaired(jaxpr: Any, f: int) -> Any:
    """The body of a call of sinc with `quotient` and `slope` in it, where it has such parts.

    In a first derivative, forwards or backwards, sin v is multiplied by -v^-2, and cos v by 1 / v
    and the same: with minus the slope for sin v, 1 for v^-2 and 0 for cos v the sum is the slope.
    """
    count = _count(jaxpr)
    if not (count[0] and is_known(jaxpr)):
        return jaxpr
    (sine,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "sin")
    quotients = [sine.outvars[0], sine.invars[0]]
    eqns = []
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "div" and all(a is b for a, b in zip(eqn.invars, quotients, strict=True)):
            eqns.append(_with(eqn, lambda v: quotient(v, f), 1))
        elif name == "sin" and count[1]:
            eqns.append(_with(eqn, lambda v: -slope(v, f)))
        elif name == "cos":
            eqns.append(_with(eqn, jnp.zeros_like))
        elif name == "integer_pow":
            eqns.append(_with(eqn, jnp.ones_like))
        else:
            eqns.append(eqn)
    return jaxpr.replace(eqns=eqns)


def _with(eqn: Any, function: Callable[[Array], Array], place: int = 0) -> Any:
    """A call of another function of one operand, with the same result."""
    operand = eqn.invars[place]
    shape = jax.ShapeDtypeStruct(operand.aval.shape, operand.aval.dtype)
    made = jax.make_jaxpr(jax.jit(function))(shape).jaxpr.eqns[0]
    return eqn.replace(invars=[operand], primitive=made.primitive, params=made.params)
