"""States of optimisers that go from call to call: means of squares keep their digits."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import spuvm as sf

RNG = np.random.default_rng(3)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = (X @ np.array([1.0, -1.0, 0.5, 2.0]) / 50).astype("float32")
W = np.zeros(4, "float32")
RATE = 0.01
OPTIMISERS = {
    "adam": optax.adam(RATE),
    "amsgrad": optax.amsgrad(RATE),
    "rmsprop": optax.rmsprop(RATE),
}


def stepper(optimiser):
    def step(w, state, x, y):
        g = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(w)
        updates, state = optimiser.update(g, state, w)
        return optax.apply_updates(w, updates), state

    return step


def plain(optimiser, steps):
    w, state = W, optimiser.init(W)
    for _ in range(steps):
        w, state = stepper(optimiser)(w, state, X, Y)
    return np.asarray(w), state


def begun(spu, optimiser):
    """Weights and a state at their start, and the data."""
    w, x, y = (sf.PYU("alice")(lambda v=v: v)().to(spu) for v in (W, X, Y))
    return w, spu(optimiser.init)(w), x, y


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_are_calls(spu, name):
    """Gradients of 0.03, whose squares are a few units of 18 bits: within 2 % of a step."""
    optimiser = OPTIMISERS[name]
    w, state, x, y = begun(spu, optimiser)
    step = spu(stepper(optimiser), num_returns=2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(4):
            w, state = step(w, state, x, y)
    assert said
    assert all("in these squares they count as at most 128" in str(m.message) for m in said)
    want, want_state = plain(optimiser, 4)
    np.testing.assert_allclose(sf.reveal(w), want, atol=0.02 * RATE)
    got = sf.reveal(state)  # the whole state is what it is in clear
    assert jax.tree.structure(got) == jax.tree.structure(want_state)
    for name, value in got[0]._asdict().items():
        want = getattr(want_state[0], name)
        assert value.dtype == want.dtype
        if name.startswith("nu"):  # of 36 fraction bits
            np.testing.assert_allclose(value, want, rtol=0.02)
        else:
            np.testing.assert_allclose(value, want, atol=16 * 2.0**-18)


def test_a_mean_of_squares_shows_its_digits(spu):
    """Opened, moved to another party, or doubled in a program of its own."""
    optimiser = OPTIMISERS["rmsprop"]
    w, state, x, y = begun(spu, optimiser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w, state = spu(stepper(optimiser), num_returns=2)(w, state, x, y)
    (want,) = jax.tree.leaves(plain(optimiser, 1)[1])
    assert 0 < np.abs(want).max() < 2.0**-9
    (opened,) = jax.tree.leaves(sf.reveal(state))
    np.testing.assert_allclose(opened, want, atol=2.0**-20)
    (moved,) = jax.tree.leaves(sf.reveal(state.to(sf.PYU("bob"))))
    np.testing.assert_array_equal(moved, opened)
    doubled = spu(lambda s: jax.tree.leaves(s)[0] * 2 + 1)(state)
    np.testing.assert_allclose(sf.reveal(doubled), want * 2 + 1, atol=2.0**-16)


def test_digits_of_another_float_dtype(spu):
    """What a bfloat16 holds depends on fraction bits like any float."""

    def mean(v, g):
        v = v * jnp.bfloat16(0.875) + g * g * jnp.bfloat16(0.125)
        return v, jnp.sqrt(v)

    g = sf.PYU("alice")(lambda: np.asarray(jnp.array([0.0625, 3.0], jnp.bfloat16)))().to(spu)
    v = spu(lambda g: jnp.zeros_like(g))(g)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            v, root = spu(mean, num_returns=2)(v, g)
    want = np.array([0.0625, 3.0]) ** 2 * (1 - 0.875**2)
    np.testing.assert_allclose(np.asarray(sf.reveal(v), "float64"), want, rtol=0.01)
    np.testing.assert_allclose(np.asarray(sf.reveal(root), "float64"), want**0.5, rtol=0.01)


def test_a_loop_goes_on_from_a_state(spu):
    """Two calls of three steps each in a loop."""
    optimiser = OPTIMISERS["adam"]
    step = stepper(optimiser)

    def three(w, state, x, y):
        return lax.fori_loop(0, 3, lambda _, c: step(*c, x, y), (w, state))

    w, state, x, y = begun(spu, optimiser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            w, state = spu(three, num_returns=2)(w, state, x, y)
    np.testing.assert_allclose(sf.reveal(w), plain(optimiser, 6)[0], atol=0.04 * RATE)


def test_a_state_from_outside_is_cut_which_is_said(spu):
    """Its range is not known, so there is no room for more digits."""
    optimiser = OPTIMISERS["rmsprop"]
    w, _, x, y = begun(spu, optimiser)
    state = sf.PYU("alice")(lambda: optimiser.init(W))().to(spu)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        spu(stepper(optimiser), num_returns=2)(w, state, x, y)
    assert any("cut to 18 fraction bits" in str(m.message) for m in said)
