"""optax with its default settings: second moments far below a unit, and what is said of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

RNG = np.random.default_rng(1)
X = RNG.normal(size=(32, 6)).astype(np.float32)
Y = (X @ RNG.normal(size=6) > 0).astype(np.float32)
START = {
    "w": np.zeros(6, np.float32),
    "v": 0.3 * RNG.normal(size=(6, 4)).astype(np.float32),
    "u": 0.3 * RNG.normal(size=4).astype(np.float32),
}
LEAVES, TREE = jax.tree.flatten(START)
STEPS = 12
DEFAULT = configuration(64)
FINE = CompileConfig(Ring(128), Fxp(Ring(128), 40))


def loss(p: Any, x: Any, y: Any) -> Any:
    z = x @ p["w"] + jnp.tanh(x @ p["v"]) @ p["u"]
    return jnp.mean(jnp.logaddexp(0.0, -z * (2 * y - 1)))


def training(optimiser: Any, steps: int = STEPS) -> Any:
    """Steps in one loop, as a function of the leaves of the parameters, x and y."""

    def train(*args: Any) -> Any:
        p = jax.tree.map(jnp.asarray, jax.tree.unflatten(TREE, args[:-2]))

        def step(i: Any, carry: Any) -> Any:
            p, state = carry
            updates, state = optimiser.update(jax.grad(loss)(p, *args[-2:]), state, p)
            return optax.apply_updates(p, updates), state

        return lax.fori_loop(0, steps, step, (p, optimiser.init(p)))[0]

    return train


def run(fn: Any, config: CompileConfig, arrays: Any = (*LEAVES, X, Y)) -> tuple[float, Any]:
    """The largest error of the parameters against float64, and the warnings."""
    dtype = "float64" if config.fxp.frac_bits > 28 else "float32"
    with jax.enable_x64(dtype == "float64"):
        specs = [SecretSpec(a.shape, dtype, "a") for a in arrays]
        made = compile_function(fn, specs, config=config)
    encoded = encode_all(made, [a.astype(dtype) for a in arrays], config)
    outs = run_plain(made.program, encoded, np.random.default_rng(2), "ranges")
    f = config.fxp.frac_bits
    with jax.enable_x64(True):
        plain = [jnp.asarray(config.fxp.decode(e, "float64", f)) for e in encoded]
        want = [np.asarray(w) for w in jax.tree.leaves(jax.jit(fn)(*plain))]
    pairs = zip(decode_all(made, outs, config), want, strict=True)
    return max(np.abs(g - w).max() for g, w in pairs), made.warnings


@pytest.mark.parametrize(
    "optimiser",
    [optax.sgd(0.1), optax.sgd(0.1, momentum=0.9), optax.adam(1e-3), optax.adamw(1e-3),
     optax.rmsprop(1e-3)],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop"],
)  # fmt: skip
def test_default_settings_with_clipped_gradients(optimiser: Any) -> None:
    """64 units after 12 steps, in the default Config; no warning."""
    error, warnings = run(training(optax.chain(optax.clip(1.0), optimiser)), DEFAULT)
    assert error <= 64 * 2.0**-18
    assert warnings == ()


@pytest.mark.parametrize("steps", [2, STEPS])
def test_adafactor_with_clipped_gradients(steps: int) -> None:
    """Its decay depends on the step; of its epsilon, 1e-30, it is said that it is 0."""
    optimiser = optax.chain(optax.clip(1.0), optax.adafactor(1e-3))
    error, warnings = run(training(optimiser, steps), DEFAULT)
    assert error <= 64 * 2.0**-18
    assert all("1e-30 is 0" in w for w in warnings)


@pytest.mark.parametrize(
    "optimiser", [optax.adam(1e-3), optax.adamw(1e-3), optax.lamb(1e-3), optax.adagrad(1e-2)],
    ids=["adam", "adamw", "lamb", "adagrad"],
)  # fmt: skip
def test_default_settings_without_ranges(optimiser: Any) -> None:
    """In 2^128 with 40 fraction bits nothing needs to be known of gradients."""
    error, warnings = run(training(optimiser, 4), FINE)
    assert error <= 1e-5
    assert warnings == ()


@pytest.mark.parametrize(
    "optimiser", [optax.adam(1e-3), optax.adamw(1e-3, eps=1e-4), optax.rmsprop(1e-3)],
    ids=["adam", "adamw, eps=1e-4", "rmsprop"],
)  # fmt: skip
def test_moments_that_are_cut_are_reported(optimiser: Any) -> None:
    """Nothing known of gradients; and a state that crosses programs, which cuts it."""
    config = DEFAULT

    def texts(fn: Any, *arrays: Any) -> tuple[str, ...]:
        specs = [SecretSpec(np.shape(a), str(np.asarray(a).dtype), "a") for a in arrays]
        return compile_function(fn, specs, config=config).warnings

    assert any("cut to 18 fraction bits" in t for t in texts(training(optimiser), *LEAVES, X, Y))
    clipped = optax.chain(optax.clip(1.0), optimiser)
    state, tree = jax.tree.flatten(clipped.init(START["w"]))
    moments = [np.asarray(s) for s in state if np.shape(s)]

    def step(g: Any, *given: Any) -> Any:
        left = iter(given)
        whole = jax.tree.unflatten(tree, [next(left) if np.shape(s) else s for s in state])
        return clipped.update(g, whole, g)

    found = texts(step, START["w"], *moments)
    assert any("cut to 18 fraction bits" in t for t in found)


def test_cut_moments_of_a_loop_are_reported_where_others_are_not_cut() -> None:
    """AdaDelta: the squares of its own steps have no known range, those of clipped gradients do."""
    specs = [SecretSpec(a.shape, "float32", "a") for a in (*LEAVES, X, Y)]
    clipped = optax.chain(optax.clip(1.0), optax.adadelta(1.0))
    made = compile_function(training(clipped), specs, config=DEFAULT)
    assert any("cut to 18 fraction bits" in t for t in made.warnings)


def test_roots_of_ordinary_squares_are_as_before() -> None:
    """Norms, standard deviations, layer norm: no warning, no other form."""
    for fn in (
        lambda x: jnp.sqrt(x * x + 1.0),
        lambda x: jnp.linalg.norm(x),
        lambda x: x / jnp.sqrt(jnp.mean(x**2) + 1e-3),
        lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 1e-3),
        lambda x: jnp.sqrt(0.5 * jnp.square(x)),
    ):
        made = compile_function(fn, [SecretSpec((6,), "float32", "a")], config=DEFAULT)
        assert made.warnings == ()
