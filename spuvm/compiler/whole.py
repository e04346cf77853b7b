"""Functions of integers as JAX functions, for lowering: a fixed number of steps, whatever is given.

The greatest common divisor is Stein's algorithm (J. Comput. Phys. 1, 1967; Knuth, TAOCP 4.5.2,
algorithm B) without its branches: common factors of 2 are taken out first, then one of two numbers
is odd, and a step takes at least one bit away from them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

Array = Any


def gcd(x: Array, y: Array) -> Array:
    """The greatest common divisor of two integer arrays of one shape and dtype, as jnp.gcd."""
    dtype = x.dtype
    width = dtype.itemsize * 8
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if dtype.kind == "i":  # the smallest number has its size only without a sign
        x, y = (lax.bitcast_convert_type(jnp.abs(v), unsigned) for v in (x, y))
    both = x | y
    lowest = both & (jnp.zeros((), unsigned) - both)
    twos = lax.population_count(lowest - jnp.ones((), unsigned))
    x, y = (lax.shift_right_logical(v, twos) for v in (x, y))
    odd = (y & 1) != 0
    x, y = jnp.where(odd, x, y), jnp.where(odd, y, x)

    def step(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = pair
        odd = (a & 1) != 0
        swapped = odd & (a < b)
        rest = a - jnp.where(odd, b, jnp.zeros((), unsigned))
        size = jnp.where(swapped, jnp.zeros((), unsigned) - rest, rest)
        return lax.shift_right_logical(size, jnp.ones((), unsigned)), jnp.where(swapped, a, b)

    steps = 2 * width - (2 if dtype.kind == "i" else 1)
    y = lax.fori_loop(0, steps, step, (x, y))[1]
    made = lax.shift_left(y, twos)
    return lax.bitcast_convert_type(made, dtype) if dtype.kind == "i" else made
