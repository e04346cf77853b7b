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
from spuvm.errors import CompileError
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


@pytest.mark.parametrize("limit", [64.0, 250.0])
def test_gradients_that_may_be_large(limit: float) -> None:
    """Squares keep twice the fraction bits, with a truncation where there is no room for more."""
    error, warnings = run(training(optax.chain(optax.clip(limit), optax.adam(1e-3))), DEFAULT)
    assert error <= 64 * 2.0**-18
    assert warnings == ()


def test_gradients_that_may_be_too_large() -> None:
    """Their squares have room, means of them that are corrected for their bias have not."""
    error, (text,) = run(training(optax.chain(optax.clip(2000.0), optax.adam(1e-3))), DEFAULT)
    assert error <= 64 * 2.0**-18
    assert "in these squares they count as at most 128" in text


@pytest.mark.parametrize(
    "optimiser",
    [optax.adam(1e-3), optax.adamw(1e-3), optax.rmsprop(1e-3), optax.amsgrad(1e-3),
     optax.nadam(1e-3), optax.adabelief(1e-3), optax.adadelta(1.0), optax.adafactor(1e-3)],
    ids=["adam", "adamw", "rmsprop", "amsgrad", "nadam", "adabelief", "adadelta", "adafactor"],
)  # fmt: skip
def test_gradients_of_any_size(optimiser: Any) -> None:
    """In means of squares below roots they are limited, which is said, and nothing else."""
    error, warnings = run(training(optimiser), DEFAULT)
    assert error <= 256 * 2.0**-18
    (text,) = [w for w in warnings if "1e-30 is 0" not in w]
    assert "in these squares they count as at most 128" in text


def test_an_error_where_that_is_asked_for() -> None:
    """Known gradients whose squares fit, but not with digits for small ones."""
    config = CompileConfig(DEFAULT.ring, DEFAULT.fxp, on_overflow="error")

    def fn(g: Any) -> Any:
        def step(_: Any, carry: Any) -> Any:
            v = 0.9 * carry[0] + 0.1 * g**2
            return v, jnp.sqrt(v)

        return lax.fori_loop(0, 5, step, (jnp.zeros(3), jnp.zeros(3)))[1]

    compile_function(fn, [SecretSpec((3,), "float32", "a", -100.0, 100.0)], config=config)
    with pytest.raises(CompileError, match="a root of means of squares"):
        compile_function(fn, [SecretSpec((3,), "float32", "a", -1e6, 1e6)], config=config)


def test_loops_in_loops() -> None:
    """Epochs of batches: the state keeps its digits through both."""

    def train(w: Any, x: Any, y: Any) -> Any:
        optimiser = optax.adam(1e-3)

        def batch(carry: Any, data: Any) -> Any:
            w, state = carry
            x, y = data
            g = jax.grad(lambda w: jnp.mean(jnp.logaddexp(0.0, -(x @ w) * (2 * y - 1))))(w)
            updates, state = optimiser.update(g, state, w)
            return (optax.apply_updates(w, updates), state), None

        batches = x.reshape(4, 8, 6), y.reshape(4, 8)

        def epoch(_: Any, carry: Any) -> Any:
            return lax.scan(batch, carry, batches)[0]

        return lax.fori_loop(0, 3, epoch, (w, optimiser.init(w)))[0]

    error, warnings = run(train, DEFAULT, (START["w"], X, Y))
    assert error <= 256 * 2.0**-18
    (text,) = warnings
    assert "in these squares they count as at most 128" in text


def test_nothing_is_limited_in_vain() -> None:
    """A mean of an unknown start has no room for digits, in a loop or not."""

    def mean(v: Any, g: Any) -> Any:
        return 0.9 * v + 0.1 * g**2

    def looped(v: Any, g: Any) -> Any:
        return jnp.sqrt(lax.fori_loop(0, 3, lambda _, v: mean(v, g), v))

    for fn in (lambda v, g: jnp.sqrt(mean(v, g)), looped):
        specs = [SecretSpec((3,), "float32", "a") for _ in range(2)]
        made = compile_function(fn, specs, config=DEFAULT)
        assert not [w for w in made.warnings if "count as at most" in w]
        g, v = np.array([1000.0, -300.0, 2.0], np.float32), np.zeros(3, np.float32)
        encoded = encode_all(made, [v, g], DEFAULT)
        (got,) = decode_all(
            made, run_plain(made.program, encoded, np.random.default_rng(2), "ranges"), DEFAULT
        )
        np.testing.assert_allclose(got, fn(v, g), rtol=1e-3)


def test_other_squares_are_not_limited() -> None:
    """Beside Adam: a penalty, and a mean of squares of which no root is taken."""

    def fn(w: Any, g: Any) -> Any:
        optimiser = optax.adam(1e-3)

        def step(_: Any, carry: Any) -> Any:
            state, mean, _ = carry
            updates, state = optimiser.update(g, state, w)
            return state, 0.9 * mean + 0.1 * w**2, 0.25 * w**2 + updates

        zero = jnp.zeros(3)
        _, mean, penalty = lax.fori_loop(0, 2, step, (optimiser.init(w), zero, zero))
        return mean, penalty

    w = np.array([1000.0, -300.0, 2.0], np.float32)
    specs = [SecretSpec((3,), "float32", "a") for _ in range(2)]
    made = compile_function(fn, specs, config=DEFAULT)
    encoded = encode_all(made, [w, np.full(3, 0.01, np.float32)], DEFAULT)
    outs = run_plain(made.program, encoded, np.random.default_rng(2), "ranges")
    mean, penalty = decode_all(made, outs, DEFAULT)
    np.testing.assert_allclose(mean, 0.19 * w**2, rtol=1e-5)
    np.testing.assert_allclose(penalty, 0.25 * w**2 - 1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    "optimiser", [optax.adam(1e-3), optax.adamw(1e-3, eps=1e-4), optax.rmsprop(1e-3)],
    ids=["adam", "adamw, eps=1e-4", "rmsprop"],
)  # fmt: skip
def test_moments_that_are_cut_are_reported(optimiser: Any) -> None:
    """A state that crosses programs, which cuts it."""
    clipped = optax.chain(optax.clip(1.0), optimiser)
    state, tree = jax.tree.flatten(clipped.init(START["w"]))
    moments = [np.asarray(s) for s in state if np.shape(s)]

    def step(g: Any, *given: Any) -> Any:
        left = iter(given)
        whole = jax.tree.unflatten(tree, [next(left) if np.shape(s) else s for s in state])
        return clipped.update(g, whole, g)

    arrays = (START["w"], *moments)
    specs = [SecretSpec(np.shape(a), str(np.asarray(a).dtype), "a") for a in arrays]
    found = compile_function(step, specs, config=DEFAULT).warnings
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
