"""Sums that are only divided: right whenever the quotient is representable, and as fine as it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import configuration, decode_all, encode_all, tolerance

import spuvm as sf
from spuvm.compiler import SecretSpec, compile_function
from spuvm.compiler.means import LONG, LONG_PRODUCT
from spuvm.protocol.plain import run_plain


def off(fn: Any, x: np.ndarray, ring: int = 64, bounds: float | None = None) -> float:
    """The largest error as a part of what is allowed."""
    config = configuration(ring)
    limits = {} if bounds is None else {"lo": -bounds, "hi": bounds}
    made = compile_function(fn, [SecretSpec(x.shape, "float32", "a", **limits)], config=config)
    assert made.warnings == ()
    encoded = encode_all(made, [x], config)
    outs = run_plain(made.program, encoded, np.random.default_rng(1), "ranges")
    (got,) = decode_all(made, outs, config)
    exact = encoded[0].view(f"<i{ring // 8}") / 2.0**config.fxp.frac_bits
    with jax.enable_x64(True):
        want = np.asarray(fn(jnp.asarray(exact)))
    assert np.abs(want).max() < config.fxp.max_float
    return float((np.abs(got - want) / np.maximum(1, np.abs(want))).max() / tolerance(config))


MEANS = {
    "mean of products": lambda x, by: x.T @ x / by,
    "of a vector's": lambda x, by: jnp.vdot(x[:, 0], x[:, 1]) / by,
    "over two axes": lambda x, by: jnp.einsum("ij,ij->", x, x[::-1]) / by,
    "times an inverse": lambda x, by: (1 / by) * (x.T @ x),
    "by several": lambda x, by: x.T @ x / np.float32([[by, 2 * by]] * 2),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("bounds", [None, 2.0**20])
@given(seed=st.integers(0, 2**32 - 1))
def test_means_of_products_of_every_size(name: str, bounds: float | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(LONG_PRODUCT, 4 * LONG_PRODUCT))
    size = 2.0 ** rng.uniform(-8, 20)  # of which the mean of squares is representable
    x = np.float32(rng.uniform(-size, size, (count, 2)) + rng.choice([0, size / 2]))
    x = np.clip(x, -(2.0**20), 2.0**20)
    assert off(lambda v: MEANS[name](v, count), x, bounds=bounds) <= 1


@pytest.mark.parametrize("by", [0.25, 2.0, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("fn", [jnp.sum, lambda x: x @ x[::-1]], ids=["sum", "dot"])
def test_a_small_divisor_takes_no_digits(fn: Any, by: float) -> None:
    """Of a long column; the quotient is as right as a sum is that is not divided."""
    x = np.float32(np.random.default_rng(0).normal(0, 0.5, LONG + 100))
    assert off(lambda v: fn(v) / by, x) <= 1
    assert off(lambda v: fn(v) * (1 / by), x) <= 1


def test_covariances_of_incomes() -> None:
    """Products of single elements that are representable, whose sums are not."""
    x = np.float32(np.random.default_rng(0).normal(4e4, 5e4, (5000, 3)))
    assert off(lambda v: jnp.cov(v, rowvar=False), x) <= 1
    got = sf.simulate(lambda v: jnp.cov(v, rowvar=False))(x)
    np.testing.assert_allclose(got, np.cov(x, rowvar=False), rtol=1e-4)


def test_other_uses_of_a_sum_see_all_of_it() -> None:
    """A sum that is also returned, or compared, is not cut."""
    x = np.float32(np.random.default_rng(0).normal(0, 1, LONG + 1))
    assert off(lambda v: jnp.stack([jnp.sum(v) / v.size, jnp.sum(v)]), x) <= 1

    def both(v: Any) -> Any:
        total = jnp.sum(v)
        return jnp.stack([total / v.size, total])

    assert off(both, x) <= 1
    assert off(lambda v: jnp.where(v.sum() > 1, v.sum() / v.size, 0.5 * v.sum()), x) <= 1
