"""NaN that a secret mask chooses, as far as x != x can see it."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import spuvm as sf
from spuvm.errors import RangeWarning
from spuvm.fxp import DEFAULT_FRAC_BITS

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
    "comparisons": lambda x, m: [
        f(jnp.where(m, x, nan), 0.25) for f in (lax.lt, lax.le, lax.gt, lax.ge, lax.eq, lax.ne)
    ],
    "compared with itself": lambda x, m: (jnp.where(m, x, nan) <= jnp.where(m, x, nan)),
    "zero where it is": lambda x, m: jnp.where(jnp.where(m, x, nan) > 0, jnp.where(m, x, nan), 0),
    "the other one": lambda x, m: jnp.fmax(jnp.where(m, x, nan), x - 1),
    "a sum with one": lambda x, m: jnp.nan_to_num(jnp.where(m, x, nan).sum(0), nan=7.0),
    "a median with one": lambda x, m: jnp.nan_to_num(jnp.median(jnp.where(m, x, nan), 0), nan=7.0),
    "softmax": lambda x, m: jnp.nan_to_num(jax.nn.softmax(jnp.where(m, x, nan), 1), nan=7.0),
    "sorted": lambda x, m: jnp.nan_to_num(jnp.sort(jnp.where(m, x, nan), 0), nan=7.0),
    "sorted down": lambda x, m: jnp.nan_to_num(
        jnp.sort(jnp.where(m, x, nan), 0, descending=True), nan=7.0
    ),
    "argsort": lambda x, m: jnp.argsort(3 - jnp.where(m, x, nan), 0),
    "sorted beside": lambda x, m: [
        jnp.nan_to_num(v, nan=7.0)
        for v in lax.sort((jnp.where(m, x, nan), x, jnp.where(x > 0, x, nan)), num_keys=2)
    ],
    "at a secret place": lambda x, m: jnp.nan_to_num(
        jnp.where(m, x, nan)[m.astype(jnp.int32)[:, 0]], nan=7.0
    ),
    "a slice": lambda x, m: jnp.isnan(
        lax.dynamic_slice(jnp.where(m, x, nan), (m.sum() % 3, 1), (2, 2))
    ),
    "gradient of a median": lambda x, m: jax.grad(
        lambda x: jnp.nanmedian(jnp.where(m, x, nan)[:, 1])
    )(x),
}  # fmt: skip
WHOLE: dict[str, Any] = {  # what is lowered as one function
    "xlogy": lambda v, x: js.xlogy(v, 0.5 + x * x),
    "xlogy in the other": lambda v, x: js.xlogy(x, jnp.abs(v) + 0.25),
    "xlog1py": lambda v, x: js.xlog1py(v, x * x),
    "kl_div": lambda v, x: js.kl_div(jnp.abs(v) + 0.25, 0.5 + x * x),
    "along another axis": lambda v, x: jax.vmap(js.xlogy, (1, None), 1)(v, 1 + x[:, 0] ** 2),
    "poch": lambda v, x: js.poch(2 + jnp.abs(x), jnp.sin(v)),
    "logaddexp": lambda v, x: jnp.logaddexp(v, x),
    "softplus": lambda v, x: jax.nn.softplus(v),
    "ldexp": lambda v, x: jnp.ldexp(v, 2),
    "frexp": lambda v, x: jnp.frexp(v)[0],
    "hypot": lambda v, x: jnp.hypot(x, v),
    "erfcx": lambda v, x: js.erfcx(v * v),
    "expi": lambda v, x: js.expi(2 + jnp.sin(v)),
    "expn": lambda v, x: js.expn(2, 1 + v * v),
    "gammaln": lambda v, x: js.gammaln(1 + v * v),
    "betainc": lambda v, x: js.betainc(1.5, 2.5, jax.nn.sigmoid(v)),
    "log_ndtr": lambda v, x: js.log_ndtr(v),
    "arcsinh": lambda v, x: jnp.arcsinh(v),
    "sinc": lambda v, x: jnp.sinc(v),
}
WEIGHTS = np.float32([0.5, nan, 2, -1])
COMPARISONS = (jnp.less, jnp.less_equal, jnp.greater, jnp.greater_equal, jnp.equal, jnp.not_equal)
NOT_NUMBERS: dict[str, Any] = {  # public ones beside secrets
    "joined": lambda x: jnp.nanmean(jnp.concatenate([x, jnp.full((2, 4), nan)]), 0),
    "padded": lambda x: jnp.nansum(jnp.pad(x, 1, constant_values=nan), 0),
    "chosen": lambda x: jnp.nanmean(jnp.where(np.eye(6, 4) == 0, x, nan), 0),
    "written into": lambda x: jnp.nansum(jnp.full((8, 4), nan).at[1:7].set(x), 1),
    "written": lambda x: jnp.isnan(x.at[1].set(nan)),
    "written at a secret place": lambda x: jnp.nansum(
        x.at[(x[0, 0] > 0).astype(jnp.int32)].set(nan), 0
    ),
    "before differences": lambda x: jnp.nansum(jnp.diff(x, axis=0, prepend=nan), 0),
    "read at a secret place": lambda x: jnp.isnan(
        jnp.array([1.0, nan, 2.0])[(x[:, 0] > 0).astype(jnp.int32)]
    ),
    "computed with": lambda x: jnp.nanmean(x * WEIGHTS + x / WEIGHTS - jnp.maximum(x, WEIGHTS), 0),
    "computed with and not taken": lambda x: jnp.where(np.isnan(nan), x, x * np.float32(nan)),
    "compared": lambda x: [f(x, WEIGHTS) for f in COMPARISONS],
    "compared the other way": lambda x: [f(WEIGHTS, x) for f in COMPARISONS],
    "compared with missing ones": lambda x: [
        f(jnp.where(x > 0, x, nan), WEIGHTS) for f in COMPARISONS
    ],
}
WARNED: dict[str, Any] = {  # right too, but where a column is missing: JAX has NaN there
    "all of it": lambda x, m: x + nan,
    "nanmax": lambda x, m: jnp.nanmax(jnp.where(m, x, nan), 0),
    "nanvar": lambda x, m: jnp.nanvar(jnp.where(m, x, nan), 0),
    "nanstd": lambda x, m: jnp.nanstd(jnp.where(m, x, nan), 0),
    "nanmedian": lambda x, m: jnp.nanmedian(jnp.where(m, x, nan), 0),
    "nanmedian of all": lambda x, m: jnp.nanmedian(jnp.where(m, x, nan)),
    "nanquantile": lambda x, m: jnp.nanquantile(
        jnp.where(m, x, nan), jnp.array([0.0, 0.2, 0.3, 1.0]), axis=0
    ),
    # Exact: an error of q counts 23 times in the place, times the gap between neighbours.
    "nanquantile at a secret": lambda x, m: jnp.nanquantile(
        jnp.where(m, x, nan), 0.5 + 0.25 * jnp.sign(x[0, 0])
    ),
    "nanquantile below": lambda x, m: jnp.nanquantile(
        jnp.where(m, x, nan), 0.45, axis=0, method="lower"
    ),
    "nanpercentile": lambda x, m: jnp.nanpercentile(jnp.where(m, x, nan), 30.0, axis=0),
    "nanmedian under vmap": lambda x, m: jax.vmap(
        lambda x, m: jnp.nanmedian(jnp.where(m, x, nan)), 1
    )(x, m),
}
LOST: dict[str, Any] = {
    "a result": lambda x, m: jnp.where(m, x, nan),
    "a sum": lambda x, m: jnp.where(m, x, nan).sum(),
    "a mean": lambda x, m: jnp.mean(2 * jnp.where(m, x, nan)),
    "a product": lambda x, m: jnp.where(m, x, nan) @ x.T,
    "several orders": lambda x, m: js.bessel_jn(jnp.where(m, x, nan)[:, 1], v=1),
    "a sort": lambda x, m: jnp.sort(jnp.where(m, x, nan), 0),
    "into a loop": lambda x, m: lax.fori_loop(0, 2, lambda i, v: v + 1, jnp.where(m, x, nan)),
    "out of a loop": lambda x, m: lax.map(lambda v: jnp.where(v > 0, v, nan), x),
}


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(6, 4)) < rng.uniform(0.2, 0.9)
    mask[rng.integers(0, 6)] = True  # no column without any
    mask[1, 1] = True
    x = np.rint(rng.normal(size=(6, 4)) * 256) / 256
    x[1] = x[0]  # ties
    return x.astype("f4"), mask


def simulated(fn: Any, ring: int, check: Any = None) -> Any:
    config = sf.Config(ring=ring, frac_bits={32: 8, 64: 18, 128: 40}[ring])
    return sf.simulate(fn, config=config, check=check)


kept = cache(simulated)  # with its programs, which are made once for all examples, and warn once


def compare(
    fn: Any, *args: np.ndarray, ring: int = 64, run: Any = None, squares: float = 0.0
) -> None:
    """Within the contract; `squares` is how far what a root is taken of may be off."""
    got = (run or kept(fn, ring))(*args)
    with jax.enable_x64(True):
        wide = [a.astype("f8") if a.dtype == "f4" else a for a in args]
        want = fn(*map(jnp.asarray, wide))
    tolerance = {32: 2.0**-4, 64: 2.0**-12, 128: 2.0**-22}[ring]
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        g, w = np.asarray(g, "f8"), np.nan_to_num(np.asarray(w, "f8"), nan=0.0)  # 0 / 0 is 0 too
        allowed = tolerance * np.maximum(1, np.abs(w))
        if squares:
            allowed = np.maximum(allowed, w - np.sqrt(np.maximum(0, w * w - squares)))
        assert (np.abs(g - w) <= allowed).all(), (g, w)


RINGS = st.sampled_from((32, 64, 128))
SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("name", RIGHT)
@given(seed=SEEDS, ring=RINGS)
def test_what_a_mask_leaves_out_is_not_counted(name: str, seed: int, ring: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        compare(RIGHT[name], *data(seed), ring=ring)


@pytest.mark.parametrize("name", WARNED)
@given(seed=SEEDS, ring=RINGS)
def test_what_is_nan_where_nothing_is_left(name: str, seed: int, ring: int) -> None:
    # A variance near 0 is off by up to two units, a deviation then by their root.
    squares = 2 * 2.0 ** -DEFAULT_FRAC_BITS[ring] if name == "nanstd" else 0.0
    fn, args = WARNED[name], data(seed)
    with pytest.warns(RangeWarning, match=r"test_missing.py:\d+ .*NaN cannot be represented"):
        compare(fn, *args, ring=ring, run=simulated(fn, ring), squares=squares)


@cache
def masked(whole: Any) -> Any:
    def fn(x: Any, m: Any) -> Any:
        made = whole(jnp.where(m, x, nan), x)
        return jnp.isnan(made), jnp.nan_to_num(made, nan=7.0)

    return fn


@pytest.mark.parametrize("name", WHOLE)
@given(seed=SEEDS, ring=RINGS)
def test_through_functions_that_are_lowered_as_one(name: str, seed: int, ring: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        compare(masked(WHOLE[name]), *data(seed), ring=ring)


@pytest.mark.parametrize("name", NOT_NUMBERS)
@given(seed=SEEDS, ring=RINGS)
def test_public_ones_beside_secrets(name: str, seed: int, ring: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        compare(NOT_NUMBERS[name], data(seed)[0], ring=ring)


def test_in_some_iterations_of_a_loop() -> None:
    """Where it is not taken nothing is lost but the certainty, which a warning says."""

    def fn(x: Any) -> Any:
        def step(i: Any, v: Any) -> Any:
            return jnp.where(i > 2, v * jnp.sqrt(i - 2.0), v)  # NaN at first, as in RAdam

        return lax.fori_loop(0, 5, step, x)

    with pytest.warns(RangeWarning, match="in iterations where this takes it"):
        compare(fn, data(4)[0])


@given(seed=SEEDS, ring=RINGS, size=st.integers(1, 11), part=st.floats(0, 1, width=16))
def test_quantiles_as_numpy_has_them(seed: int, ring: int, size: int, part: float) -> None:
    """Of any number of those that are there, from one to all of them."""
    rng, part = np.random.default_rng(seed), np.rint(part * 256) / 256
    x = np.float32(np.rint(rng.normal(size=(size, 3)) * 10 ** rng.uniform(0, 3) * 256) / 256)
    mask = rng.uniform(size=x.shape) < rng.uniform(0, 1)
    mask[rng.integers(0, size)] = True

    def fn(x: Any, m: Any) -> Any:
        left = jnp.where(m, x, nan)
        return jnp.nanmedian(left, 0), jnp.nanquantile(left, part, axis=0)

    config = sf.Config(ring=ring, frac_bits={32: 8, 64: 18, 128: 40}[ring])
    with pytest.warns(RangeWarning, match="NaN cannot be represented"):
        got = sf.simulate(fn, config=config)(x, mask)
    left = np.where(mask, x.astype("f8"), np.nan)
    want = np.nanmedian(left, 0), np.nanquantile(left, part, axis=0)
    tolerance = {32: 2.0**-4, 64: 2.0**-12, 128: 2.0**-22}[ring]
    for g, w in zip(got, want, strict=True):
        assert (np.abs(g - w) <= tolerance * np.maximum(1, np.abs(w))).all(), (g, w)


def test_a_result_is_0_where_it_is_missing() -> None:
    """Nothing else of what it was made of is opened there."""
    x, mask = data(3)
    with pytest.warns(RangeWarning, match="the result is 0"):
        got = sf.simulate(lambda x, m: jnp.maximum(jnp.where(m, x, nan), 100 + x))(x, mask)
    np.testing.assert_allclose(got, np.where(mask, 100 + x, 0), atol=2.0**-16)


@pytest.mark.parametrize("name", LOST)
def test_what_loses_it_says_so(name: str) -> None:
    x, mask = data(1)
    with pytest.warns(RangeWarning, match=r"test_missing.py:\d+ .*NaN cannot be represented"):
        sf.simulate(LOST[name])(x, mask)


@pytest.mark.parametrize(
    "name", ["nanmean", "equal", "finite", "replaced", "sorted", "argsort", "sorted beside"]
)
def test_under_shadow(name: str) -> None:
    compare(RIGHT[name], *data(2), run=simulated(RIGHT[name], 64, "shadow"))
