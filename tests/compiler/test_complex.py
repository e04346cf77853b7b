"""Complex numbers as pairs: against numpy, and through devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import spuvm as sf

RNG = np.random.default_rng(11)
X = np.float32(np.rint(RNG.normal(size=(2, 6)) * 256) / 256)
UNIT = 2.0**-12


@pytest.mark.parametrize("n", [1, 7, 128, 131, 250])
def test_transforms_of_every_length_and_back(n):
    """One product, a prime length beyond it, and two stages."""
    x = np.float32(RNG.normal(size=n))

    def there_and_back(v):
        f = jnp.fft.rfft(v)
        return f, jnp.fft.fft(v), jnp.fft.irfft(f, n=n), jnp.fft.ifft(v + 1j * v[::-1])

    half, whole, back, other = sf.simulate(there_and_back)(x)
    assert half.dtype == whole.dtype == np.complex64
    np.testing.assert_allclose(half, np.fft.rfft(x), atol=UNIT)
    np.testing.assert_allclose(whole, np.fft.fft(x), atol=UNIT)
    np.testing.assert_allclose(back, x, atol=UNIT)
    np.testing.assert_allclose(other, np.fft.ifft(x + 1j * x[::-1]), atol=UNIT)


@pytest.mark.parametrize("n", [6, 140])
def test_what_the_inverse_takes_no_notice_of(n):
    """The imaginary parts of the frequencies 0 and n / 2, as in numpy."""
    re, im = np.float32(RNG.normal(size=(2, n // 2 + 1)))
    made = sf.simulate(lambda a, b: jnp.fft.irfft(lax.complex(a, b), n=n))(re, im)
    np.testing.assert_allclose(made, np.fft.irfft(re + 1j * im, n=n), atol=UNIT)


def arithmetic(v):
    v = jnp.asarray(v)
    z, w = v[0] + 1j * v[1], v[1] - 2j * v[0]
    looped, steps = lax.scan(lambda c, t: (c * (0.5 + 0.25j) + t, c), 0j, z)
    return {
        "product": z * w,
        "quotient": w / (z + 4),
        "powers": (z**3, (z + 4) ** -2),
        "matrix": jnp.outer(z, w) @ w,
        "moved": jnp.stack([z, w])[:, jnp.argmax(v[0])],
        "set": z.at[1].set(2j).at[2].multiply(3),
        "product of all": jnp.prod(z),
        "chosen": jnp.where(v[0] > 0, z, w),
        "equal": z == w,
        "looped": (looped, steps),
        "called": jax.jit(lambda t: t.conj() * 1j)(z),
    }


def test_arithmetic_against_jax():
    got, want = sf.simulate(arithmetic)(X), arithmetic(X)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, atol=UNIT, rtol=UNIT)


def test_roots_whose_parts_differ_much():
    re = np.float32([1, -1, 1, -1000, 0, 0, 2**-8])
    im = np.float32([2**-9, 2**-9, -(2**-9), 2**-4, 0, -2, 0])
    got = sf.simulate(lambda a, b: jnp.sqrt(lax.complex(a, b)))(re, im)
    np.testing.assert_allclose(got, np.sqrt(re + 1j * im), atol=UNIT)


def test_gradients_through_a_spectrum():
    def energy(v):
        return jnp.sum(jnp.abs(jnp.fft.rfft(v)) ** 2 * jnp.arange(4.0))

    got, want = sf.simulate(jax.grad(energy))(X[0]), jax.grad(energy)(X[0])
    np.testing.assert_allclose(got, want, atol=UNIT, rtol=UNIT)


def test_a_complex_result_goes_into_another_call():
    sf.init(parties=["alice", "bob", "carol"], backend="inprocess")
    try:
        alice, spu = sf.PYU("alice"), sf.SPU(["alice", "bob", "carol"])
        x = alice(lambda: X[0])().to(spu)
        f = spu(jnp.fft.fft)(x)
        again = spu(lambda z, v: jnp.abs(z) + v)(f, x)
        np.testing.assert_allclose(sf.reveal(f), np.fft.fft(X[0]), atol=UNIT)
        np.testing.assert_allclose(sf.reveal(again), np.abs(np.fft.fft(X[0])) + X[0], atol=UNIT)
    finally:
        sf.shutdown()


def test_refusals_name_the_primitive_and_the_line():
    with pytest.raises(sf.errors.CompileError, match="'sort' of secret complex") as caught:
        sf.simulate(lambda v: jnp.sort(v + 1j))(X)
    assert "test_complex.py" in caught.value.at
    assert "x.real" in caught.value.next
