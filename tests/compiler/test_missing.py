"""NaN that a secret mask chooses, as far as x != x can see it."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import spuvm as sf
from spuvm.errors import RangeWarning

nan = jnp.nan
RIGHT: dict[str, Any] = {
    "nansum": lambda x, m: jnp.nansum(jnp.where(m, x, nan), 0),
    "nanmean": lambda x, m: jnp.nanmean(jnp.where(m, x, nan), 0),
    "nanmean of all": lambda x, m: jnp.nanmean(jnp.where(~m, nan, x)),
    "nanprod": lambda x, m: jnp.nanprod(jnp.where(m, x, nan), 0),
    "nancumsum": lambda x, m: jnp.nancumsum(jnp.where(m, x, nan), 0),
    "nanargmin": lambda x, m: jnp.nanargmin(jnp.where(m, x, nan), 0),
    "moved": lambda x, m: jnp.nanmean(jnp.where(m, x, nan).T.reshape(-1, 3)[::-1, 1:], 0),
    "computed with": lambda x, m: jnp.nanmean(jnp.exp(1 - 2 * jnp.where(m, x, nan)), 0),
    "two": lambda x, m: jnp.nansum(jnp.where(m, x, nan) * jnp.where(m[::-1], x, nan), 0),
    "joined": lambda x, m: jnp.nanmean(jnp.concatenate([x, jnp.where(m, x, nan)]), 0),
    "one in another": lambda x, m: jnp.nansum(jnp.where(x > 0, jnp.where(m, x, nan), nan), 0),
    "replaced": lambda x, m: jnp.nan_to_num(jnp.where(m, x, nan), nan=7.0),
    "counted": lambda x, m: jnp.isnan(jnp.where(m, x, nan)).sum(0),
    "equal": lambda x, m: jnp.where(m, x, nan) == jnp.where(m, x, nan),
    "finite": lambda x, m: jnp.isfinite(jnp.where(m, x, nan)),
    "zeros beside": lambda x, m: (
        jnp.isnan(jnp.where(m, x, 0.0)),
        jnp.nanmean(jnp.where(m, x, nan), 0),
        jnp.isnan(jnp.where(m, x, 0.0)),
    ),
    "vmap": lambda x, m: jax.vmap(lambda x, m: jnp.nanmean(jnp.where(m, x, nan)), 1)(x, m),
    "gradient": lambda x, m: jax.grad(lambda x: jnp.nanmean(jnp.where(m, x * x, nan)))(x),
    "in a loop": lambda x, m: lax.fori_loop(
        0, 3, lambda i, v: v + jnp.nanmean(jnp.where(m, x, nan), 0), x[0]
    ),
    "a branch": lambda x, m: jnp.nansum(
        lax.cond(m[2, 1], lambda v: v, lambda v: v * 2, jnp.where(m, x, nan)), 0
    ),
}  # fmt: skip
WARNED: dict[str, Any] = {  # right too, but where a column is missing: JAX has NaN there
    "nanmax": lambda x, m: jnp.nanmax(jnp.where(m, x, nan), 0),
    "nanvar": lambda x, m: jnp.nanvar(jnp.where(m, x, nan), 0),
    "nanstd": lambda x, m: jnp.nanstd(jnp.where(m, x, nan), 0),
}
LOST: dict[str, Any] = {
    "a result": lambda x, m: jnp.where(m, x, nan),
    "a sum": lambda x, m: jnp.where(m, x, nan).sum(),
    "a mean": lambda x, m: jnp.mean(2 * jnp.where(m, x, nan)),
    "a comparison": lambda x, m: jnp.where(m, x, nan) < 1,
    "a sort": lambda x, m: jnp.sort(jnp.where(m, x, nan), 0),
    "into a loop": lambda x, m: lax.fori_loop(0, 2, lambda i, v: v + 1, jnp.where(m, x, nan)),
    "out of a loop": lambda x, m: lax.map(lambda v: jnp.where(v > 0, v, nan), x),
}


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(6, 4)) < rng.uniform(0.2, 0.9)
    mask[rng.integers(0, 6)] = True  # no column without any
    mask[1, 1] = True
    return rng.normal(size=(6, 4)).astype("f4"), mask


def compare(fn: Any, x: np.ndarray, mask: np.ndarray, **options: Any) -> None:
    got, want = sf.simulate(fn, **options)(x, mask), fn(x, mask)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.abs(np.asarray(g, "f8") - np.asarray(w, "f8")).max() < 2e-3


@pytest.mark.parametrize("name", RIGHT)
@given(seed=st.integers(0, 2**16))
def test_what_a_mask_leaves_out_is_not_counted(name: str, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        compare(RIGHT[name], *data(seed))


@pytest.mark.parametrize("name", WARNED)
@given(seed=st.integers(0, 2**16))
def test_what_is_nan_where_nothing_is_left(name: str, seed: int) -> None:
    with pytest.warns(RangeWarning, match=r"test_missing.py:\d+ .*NaN cannot be represented"):
        compare(WARNED[name], *data(seed))


@pytest.mark.parametrize("name", LOST)
def test_what_loses_it_says_so(name: str) -> None:
    x, mask = data(1)
    with pytest.warns(RangeWarning, match=r"test_missing.py:\d+ .*NaN cannot be represented"):
        sf.simulate(LOST[name])(x, mask)


@pytest.mark.parametrize("name", ["nanmean", "equal", "finite", "replaced"])
def test_under_shadow(name: str) -> None:
    compare(RIGHT[name], *data(2), check="shadow")
