"""Derivatives of powers that are made of exponentials: jax.scipy.special.boxcox and boxcox1p."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import configuration, decode_all, encode_all, tolerance

import spuvm as sf
from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain

N = 24
FORMS: dict[str, Any] = {
    "boxcox": lambda x, a: jax.grad(lambda x: js.boxcox(x, a).sum())(x),
    "boxcox1p": lambda x, a: jax.grad(lambda x: js.boxcox1p(x - 1, a).sum())(x),
    "scaled": lambda x, a: jax.grad(lambda x: (3 * a * js.boxcox(x, a)).sum())(x) / (3 * a),
    "under vmap": lambda x, a: jax.vmap(jax.grad(js.boxcox))(x, a),
    "by hand": lambda x, a: jnp.exp(a * jnp.log(x)) / x,
}


def slopes(fn: Any, x: np.ndarray, a: np.ndarray, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """The results on secrets, and x^(a - 1) of what was encoded."""
    config = configuration(ring)
    specs = [SecretSpec(v.shape, "float32", "a") for v in (x, a)]
    made = compile_function(fn, specs, config=config)
    encoded = encode_all(made, (x, a), config)
    outs = run_plain(made.program, encoded, np.random.default_rng(1), "ranges")
    (got,) = decode_all(made, outs, config)
    x, a = (config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded)
    return got, x ** (a - 1)


def operands(seed: int, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """x from a few units on, log-spaced; a with 0 and small ones; all powers are moderate."""
    rng = np.random.default_rng(seed)
    f = configuration(ring).fxp.frac_bits
    x = 2.0 ** rng.uniform(4 - f, 8, N)
    x[:3] = 1, 0.5, 2.0 ** (4 - f)
    a = rng.uniform(0.5, 2.5, N)
    a[: N // 3] = rng.uniform(-1, 1, N // 3) * 2.0 ** rng.uniform(-f, 0, N // 3)
    most = 6 if ring == 32 else 20
    a = np.where(np.abs((a - 1) * np.log2(x)) < most, a, 0.75)
    return x.astype(np.float32), a.astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
@given(seed=st.integers(0, 2**16), ring=st.sampled_from((32, 64, 128)))
def test_slopes_of_small_numbers_keep_their_digits(name: str, seed: int, ring: int) -> None:
    x, a = operands(seed, ring)
    if name == "scaled":
        a = np.maximum(np.abs(a), 0.5)
    got, want = slopes(FORMS[name], x, a, ring)
    error = np.abs(got - want) / np.maximum(1, want)
    assert (error <= tolerance(configuration(ring))).all(), error.max()


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.25, 2.0])
def test_of_a_public_power(a: float) -> None:
    x = np.float32([2.0**-14, 0.001, 0.5, 1, 3, 60])
    got, want = slopes(lambda x, _: jax.grad(lambda x: js.boxcox(x, a).sum())(x), x,
                       np.full(6, a, np.float32), 64)  # fmt: skip
    assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, want)).all()


def test_under_shadow() -> None:
    x, a = np.float32([0.001, 0.5, 3]), np.float32([2, 0.5, 0])
    got = sf.simulate(FORMS["boxcox"], check="shadow")(x, a)
    np.testing.assert_allclose(got, x ** (a - 1), rtol=2.0**-12, atol=2.0**-12)
