"""Up to where README.md says that functions hold, where nothing is declared: they do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import jax.scipy.stats as stats
import numpy as np
import pytest

from spuvm import simulate


def slope(fn: Any) -> Any:
    return jax.vmap(jax.grad(fn))


def of_each(fn: Any) -> Any:
    return lambda x: jax.vmap(fn)(x)


SQUARE = jnp.array([[1.0, 0.2], [0.3, 1.1]])
LARGEST = 2.0**44
FUNCTIONS = {
    "sinc": (jnp.sinc, [1e3, 1e9, -LARGEST / 4]),
    "i0": (js.i0, [1.0, -20.0, 30.0]),
    "i1": (js.i1, [1.0, -20.0, 30.0]),
    "round": (lambda x: jnp.round(x, 2), [0.125, -1e6, 1.7e11]),
    "gamma.logcdf": (lambda x: stats.gamma.logcdf(x, 3.0), [0.5, 1.0, 9.0]),
    "slope of log_ndtr": (slope(js.log_ndtr), [-50.0, -3.0, 2.0]),
    "slope of erfcx": (slope(js.erfcx), [-1.0, 3.0, 50.0]),
    "slope of dawsn": (slope(js.dawsn), [-50.0, 0.5, 3.0]),
    "norm of third powers": (
        of_each(lambda v: jnp.linalg.norm(v * jnp.ones(2), 3)),
        [0.5, 2.0**14],
    ),
    "QR": (of_each(lambda v: jnp.abs(jnp.linalg.qr(SQUARE * v)[1])), [0.5, 2.0**21]),
    "SVD": (of_each(lambda v: jnp.linalg.svd(SQUARE * v, compute_uv=False)), [0.5, 2.0**21]),
}


# JAX 0.12 makes the slope of erfcx otherwise: two warnings, of a coefficient and of a range.
@pytest.mark.filterwarnings("ignore::spuvm.errors.RangeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_the_ends(name: str) -> None:
    fn, ends = FUNCTIONS[name]
    with jax.enable_x64(True):
        x = np.rint(np.array(ends) * 2.0**18) / 2.0**18
        got, want = simulate(fn)(x), np.asarray(fn(jnp.asarray(x)))
    tolerance = 2.0**-12 * (4 if name.startswith("slope") else 1)  # of compositions
    assert (np.abs(got - want) <= tolerance * np.maximum(1, np.abs(want))).all(), (got, want)
