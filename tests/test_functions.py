"""The aggregation functions and the logistic loss: right in clear, and right under the protocol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spuvm as sf
from spuvm import functions as F

RNG = np.random.default_rng(0)


def models(n, scale=1.0):
    return [
        {"w": (scale * RNG.normal(size=(3, 2))).astype("float32"), "b": [np.float32(i)]}
        for i in range(n)
    ]


def stacked(trees):
    return jax.tree.map(lambda *xs: np.stack(xs).astype(np.float64), *trees)


def check(got, want, atol):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def trimmed(x, trim):
    return np.sort(x, axis=0)[trim : len(x) - trim].mean(axis=0)


CASES = {
    "total": (F.total, lambda x: x.sum(0)),
    "average": (F.average, lambda x: x.mean(0)),
    "median": (F.median, lambda x: np.median(x, 0)),
    "trimmed_mean": (lambda t: F.trimmed_mean(t, 1), lambda x: trimmed(x, 1)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [3, 4, 7])
def test_aggregations(name, n):
    fn, reference = CASES[name]
    trees = models(n)
    want = jax.tree.map(reference, stacked(trees))
    check(fn(trees), want, 1e-5)
    check(sf.simulate(fn)(trees), want, 2.0**-12)


@pytest.mark.parametrize("kind", ["secret", "public"])
def test_weighted_average(kind):
    trees, counts = models(4), [30.0, 5.0, 1.0, 200.0]
    want = jax.tree.map(lambda x: np.average(x, axis=0, weights=counts), stacked(trees))
    check(F.weighted_average(trees, counts), want, 1e-5)
    check(F.weighted_average(trees, np.float32(counts)), want, 1e-5)
    if kind == "secret":
        got = sf.simulate(F.weighted_average)(trees, counts)
    else:
        got = sf.simulate(lambda t: F.weighted_average(t, counts))(trees)
    check(got, want, 2.0**-11)


def test_trim_must_leave_something():
    with pytest.raises(ValueError, match="leaves nothing"):
        F.trimmed_mean(models(4), 2)


@given(st.integers(1, 17), st.integers(0, 2**31))
def test_the_network_sorts(n, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (n, 64))  # the 0-1 principle
    rows = list(bits.copy())
    for i, j in F._network(n):
        rows[i], rows[j] = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
    np.testing.assert_array_equal(np.stack(rows), np.sort(bits, axis=0))


def test_logistic_loss_and_gradient():
    x = RNG.normal(size=(50, 4)).astype("float32")
    w = np.float32([0.5, -1, 0, 2])
    y = (RNG.random(50) < 0.5).astype("float32")
    z = (x @ w).astype(np.float64)
    want = np.mean(np.log1p(np.exp(z)) - y * z)
    np.testing.assert_allclose(F.logistic_loss(w, x, y), want, rtol=1e-5)
    slope = x.T @ (1 / (1 + np.exp(-z)) - y) / 50
    np.testing.assert_allclose(F.logistic_gradient(w, x, y), slope, atol=1e-6)
    for fn in (F.logistic_gradient, jax.grad(F.logistic_loss)):
        np.testing.assert_allclose(fn(w, x, y), slope, atol=1e-6)
        np.testing.assert_allclose(sf.simulate(fn)(w, x, y), slope, atol=2.0**-12)
    np.testing.assert_allclose(sf.simulate(F.logistic_loss)(w, x, y), want, atol=2.0**-11)
    big = np.float32([100.0, -100.0])
    np.testing.assert_allclose(F.softplus(big), [100, 0], atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_real_fourier_transform_and_back(n):
    x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)
    want = np.fft.rfft(x)
    re, im = F.real_fft(jnp.asarray(x))
    np.testing.assert_allclose(re, want.real, atol=1e-5)
    np.testing.assert_allclose(im, want.imag, atol=1e-5)
    np.testing.assert_allclose(F.inverse_real_fft(re, im, n), x, atol=1e-5)


def test_fourier_transform_of_a_secret():
    x = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)

    def low_pass(x):
        re, im = F.real_fft(x)
        keep = jnp.arange(re.shape[-1]) < 4
        return F.inverse_real_fft(jnp.where(keep, re, 0.0), jnp.where(keep, im, 0.0))

    np.testing.assert_allclose(sf.simulate(low_pass)(x), low_pass(x), atol=2.0**-12)
    np.testing.assert_allclose(sf.simulate(jnp.fft.rfft)(x), np.fft.rfft(x), atol=2.0**-12)
