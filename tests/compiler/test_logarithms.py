"""Logarithms of probabilities and quotients: right where the operand has no digits left."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from jax import nn
from reference import configuration, decode_all, encode_all, tolerance

import spuvm as sf
from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain

RNG = np.random.default_rng(8)
SCORES = np.float32(12 * RNG.normal(size=(4, 6)))
POINTS = np.float32([-300, -30, -15, -4, -1, 0, 1, 4, 15, 30, 300])
CHOSEN = np.eye(6, dtype=np.float32)[[0, 2, 4, 5]]
PRICES = np.float32(RNG.uniform(0.5, 60, 9))
SIZES = np.float32(RNG.uniform(500, 60000, 9))
PARTS = np.float32([2.0**-8, 0.02, 0.3, 0.5, 0.9, 1 - 2.0**-8])
LABELS = np.array([1, 0, 3, 2])

PROGRAMS: dict[str, tuple[Any, ...]] = {
    "log of softmax": (lambda x: jnp.log(nn.softmax(x)), SCORES),
    "of some of it": (lambda x: jnp.log(nn.softmax(x)[np.arange(4), LABELS]), SCORES),
    "cross entropy": (lambda x, y: -jnp.sum(y * jnp.log(nn.softmax(x)), 1), SCORES, CHOSEN),
    "of the logistic function": (lambda z: jnp.log(nn.sigmoid(z)), POINTS),
    "of half of it": (lambda z: jnp.log(0.5 * nn.sigmoid(z)) + jnp.log(nn.sigmoid(-z) / 3), POINTS),
    "of what it lacks": (
        lambda z: (jnp.log(1 - nn.sigmoid(z)), jnp.log1p(-nn.sigmoid(z))), POINTS[2:-2]
    ),
    "binary cross entropy": (
        lambda z, y: -y * jnp.log(nn.sigmoid(z)) - (1 - y) * jnp.log(1 - nn.sigmoid(z)),
        SCORES[0],
        CHOSEN[0],
    ),
    "of an exponential": (lambda z: jnp.log(jnp.exp(z)), POINTS[1:-1]),
    "base 2 and 10": (lambda z: (jnp.log2(nn.sigmoid(z)), jnp.log10(nn.sigmoid(z))), POINTS),
    "by public numbers": (
        lambda x: (jnp.log(x / SIZES), jnp.log(1e-4 * x), jnp.log(jnp.abs(x) / 3e4)), PRICES
    ),
    "a public one by a secret": (lambda y: jnp.log(0.25 / jnp.abs(y)), SIZES),
    "a quotient": (lambda x, y: jnp.log(jnp.abs(x) / jnp.abs(y)), PRICES, SIZES),
    "repeated": (lambda x: jnp.log(jnp.broadcast_to(x / 2e4, (2, 9)).T), PRICES),
    "logit": (js.logit, PARTS),
    "a long mean": (lambda x: jnp.log(jnp.mean(x, 0)), np.full((5000, 2), 90.0, np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("name", PROGRAMS)
def test_keeps_the_contract(name: str, bits: int) -> None:
    fn, *arrays = PROGRAMS[name]
    config = configuration(bits)
    specs = [SecretSpec(a.shape, "float32", "owner") for a in arrays]
    compiled = compile_function(fn, specs, config=config)
    encoded = encode_all(compiled, arrays, config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(0), "ranges")
    clear = [config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded]
    with jax.enable_x64(True):
        wanted = [np.asarray(w) for w in jax.tree.leaves(fn(*map(jnp.asarray, clear)))]
    for got, want in zip(decode_all(compiled, outs, config), wanted, strict=True):
        assert (np.abs(got - want) <= tolerance(config) * np.maximum(1, np.abs(want))).all()


def test_of_zero_and_below_it_stays_what_it_is() -> None:
    x = np.float32([0, -1, 1])
    got = sf.simulate(lambda x: (jnp.log(x * 0.5), jnp.log(x)))(x)
    for g in got:
        assert (g[:2] <= -(2.0**22)).all()
        assert abs(g[2]) < 1


def test_under_shadow() -> None:
    """They are better than the logarithm of the digits that are left."""
    made = sf.simulate(lambda x: jnp.log(nn.softmax(x)), check="shadow")(SCORES)
    np.testing.assert_allclose(made, nn.log_softmax(SCORES), atol=1e-2)
