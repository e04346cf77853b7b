"""check="shadow": the first equation that goes wrong, with the line of the user."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import spuvm as sf

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def line_of(fn, text):
    """``test_shadow.py:N`` of the first line of a function that contains the text."""
    source, first = inspect.getsourcelines(fn)
    return f"test_shadow.py:{next(i for i, s in enumerate(source, first) if text in s)} "


def sound(x):
    soft = jax.nn.softmax(x @ x.T, axis=-1)
    loop = lax.fori_loop(0, 3, lambda i, c: c * 0.5 + i, soft)
    picked = lax.cond(loop.sum() > 1, lambda v: v * 2, lambda v: v, loop)
    noise = sf.random.uniform((3,))
    return {
        "sorted": jnp.sort(picked, 0),
        "place": jnp.argmax(picked, 1),
        "whole": (x * 3).astype(jnp.int32),
        "grad": jax.grad(lambda v: jnp.logaddexp(v, 0.0).sum())(x),
        "masked": jnp.where(x > 0, jnp.log(jnp.abs(x) + 1), x) + noise[0] * 0,
    }


def test_a_sound_function_gives_its_result():
    f = sf.simulate(sound, check="shadow")
    got = f(X)
    assert f.last_run.rounds == f.cost(X).rounds  # the last run is the one without openings
    np.testing.assert_allclose(got["grad"], jax.nn.sigmoid(X), atol=1e-4)
    assert got["place"].dtype == np.int32


def overflowing(x):
    small = x * 0.5
    large = (small + 1.0) * 100000.0
    cube = large * large * large
    return jnp.tanh(cube)


def test_sorts_and_secret_draws_pass():
    x = np.arange(6, dtype=np.float32)
    made = sf.simulate(lambda v: sf.random.permutation(jnp.sort(-v)), check="shadow")(x)
    assert sorted(made) == sorted(-x)


def test_the_first_wrong_result_is_named():
    with (
        pytest.warns(sf.errors.RangeWarning),
        pytest.raises(sf.errors.ShadowError, match="beyond the representable") as caught,
    ):
        sf.simulate(overflowing, sf.Config(input_range=(-4, 4)), check="shadow")(X)
    assert line_of(overflowing, "cube =") in caught.value.at
    assert caught.value.message.startswith("mul(")


def promising(x):
    return jnp.sqrt(sf.assume_range(x, 0.0, 1.0) + 0.5)


def test_a_broken_promise_is_named():
    with pytest.raises(sf.errors.ShadowError, match="assume_range") as caught:
        sf.simulate(promising, check="shadow")(X)
    assert line_of(promising, "assume_range") in caught.value.at
    assert caught.value.got == "9 of 12 elements outside of it"
    kept = sf.simulate(promising, check="shadow")(np.abs(X) / 2)
    np.testing.assert_allclose(kept, np.sqrt(np.abs(X) / 2 + 0.5), atol=1e-4)


def test_a_wrong_rule_is_found(monkeypatch):
    from spuvm.compiler.rules import RULES

    honest = RULES["tanh"]

    def wrong(low, out, x, **params):
        return honest(low, out, RULES["mul"](low, out, x, np.float32(1.01)), **params)

    monkeypatch.setitem(RULES, "tanh", wrong)

    def model(x):
        hidden = x * 0.25
        return jnp.tanh(hidden) + 1

    with pytest.raises(sf.errors.ShadowError, match="tanh") as caught:
        sf.simulate(model, check="shadow")(X)
    assert line_of(model, "jnp.tanh") in caught.value.at


# --- inside loops ------------------------------------------------------------------------------


def training(x, y):
    def loss(w):
        return jnp.mean(jnp.logaddexp(0.0, x @ w) - y * (x @ w))

    def step(i, w):
        return w - 2.0 / (i + 1) * jax.grad(loss)(w)

    return lax.fori_loop(0, 6, step, jnp.zeros(x.shape[1]))


def nested(x):
    def outer(total, row):
        inner = lax.fori_loop(0, 3, lambda i, v: jnp.where(v > i, v * 0.5, v + i), row)
        return total + inner, lax.cond(inner[0] > 0, jnp.exp, jnp.negative, inner)

    return lax.scan(outer, jnp.zeros(4), x, reverse=True)


@pytest.mark.parametrize("ring", [32, 64, 128])
def test_loops_are_sound_in_every_ring(ring):
    """Equation by equation, so that what roundings add up to in many iterations is no matter."""
    config = sf.Config(ring=ring)
    y = np.float32([0, 1, 1])
    got = sf.simulate(training, config, check="shadow")(X, y)
    np.testing.assert_allclose(got, training(X, y), atol=0.2 if ring == 32 else 1e-3)
    total, _ = sf.simulate(nested, config, check="shadow")(X)
    np.testing.assert_allclose(total, nested(X)[0], atol=0.1 if ring == 32 else 1e-4)


def many_roundings(x):
    return lax.fori_loop(0, 300, lambda i, v: v * 0.3 - v * 0.3 + v, x)


def test_errors_that_add_up_are_no_errors():
    sf.simulate(many_roundings, sf.Config(frac_bits=10), check="shadow")(X[0, :2])


def growing(x):
    def step(i, v):
        return v * 30.0 + 1.0

    return lax.fori_loop(0, 12, step, x)


@pytest.mark.parametrize(("ring", "iteration"), [(32, 4), (64, 8)])
def test_the_iteration_that_goes_wrong_is_named(ring, iteration):
    with pytest.raises(sf.errors.ShadowError, match=f"in iteration {iteration}") as caught:
        sf.simulate(growing, sf.Config(ring=ring), check="shadow")(np.float32([2.0]))
    assert line_of(growing, "v * 30.0") in caught.value.at


def promised_in_a_loop(x):
    def inner(j, v):
        return v + 1.0

    def outer(i, v):
        v = lax.fori_loop(0, 2, inner, v)
        return sf.assume_range(v, -8.0, 6.4)

    return lax.fori_loop(0, 4, outer, x)


@pytest.mark.parametrize("ring", [32, 64, 128])
def test_a_promise_that_breaks_in_a_loop_is_named(ring):
    check = sf.simulate(promised_in_a_loop, sf.Config(ring=ring), check="shadow")
    with pytest.raises(sf.errors.ShadowError, match=r"assume_range .* in iteration 2") as caught:
        check(np.float32([0.0, 1.0]))
    assert caught.value.got == "1 of 2 elements outside of it"
    assert line_of(promised_in_a_loop, "assume_range") in caught.value.at
    np.testing.assert_allclose(check(np.float32([-2.0, -3.0])), [6, 5], atol=1e-3)


def test_means_of_long_columns_are_sound():
    x = np.linspace(4e12, 9e12, 5000, dtype=np.float32)
    got = sf.simulate(lambda x: jnp.mean(x) - x[0], check="shadow")(x)
    np.testing.assert_allclose(got, x.mean(dtype=np.float64) - x[0], rtol=1e-4)


def test_saturated_results_are_meant():
    """1 / (1 + e^-x) far from 0: the exponential is the largest number, the result right."""
    got = sf.simulate(lambda x: 1 / (1 + jnp.exp(-x) / 2), check="shadow")(np.float32([-60, 60]))
    np.testing.assert_allclose(got, [0, 1], atol=1e-5)


def test_the_logarithm_of_zero_is_meant():
    x = np.float32([0, 1])
    got = sf.simulate(lambda x: jnp.log(x) + 2 * jnp.log1p(x - 1), check="shadow")(x)
    np.testing.assert_allclose(got, [-3 * 2.0**22, 0], atol=1e-3)


def test_the_word_is_checked():
    with pytest.raises(sf.errors.UsageError, match="unknown check"):
        sf.simulate(sound, check="light")
