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


def test_the_word_is_checked():
    with pytest.raises(sf.errors.UsageError, match="unknown check"):
        sf.simulate(sound, check="light")
