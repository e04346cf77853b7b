"""Relative entropies, products with logarithms, and how operands meet under vmap."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from reference import configuration, decode_all, encode_all, tolerance
from scipy import special as exact
from scipy.stats import beta

import spuvm as sf
from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain


@lru_cache(maxsize=4)
def compiled(fn: Any, specs: tuple[SecretSpec, ...], ring: int) -> Any:
    """Once for all examples of a property."""
    return compile_function(fn, specs, config=configuration(ring))


def run(fn: Any, *xs: np.ndarray, ring: int = 64, range: Any = (None, None)) -> list[np.ndarray]:
    """The results on secrets of these values."""
    config = configuration(ring)
    made = compiled(fn, tuple(SecretSpec(x.shape, str(x.dtype), "a", *range) for x in xs), ring)
    outs = run_plain(made.program, encode_all(made, xs, config), np.random.default_rng(1), "ranges")
    return decode_all(made, outs, config)


def near(got: np.ndarray, want: np.ndarray, ring: int = 64) -> bool:
    """The accuracy contract."""
    error = np.abs(got - want) / np.maximum(1, np.abs(want))
    return bool((error <= tolerance(configuration(ring))).all())


P = np.float32([255, 255, 254.5, 1e6, 3e7, 0, 0.25, 7, 0])
Q = np.float32([255.5, 254, 254.5, 1e6 + 16, 3e7 + 4, 3, 0.125, 1e-3, 0])


def kept(p: Any, q: Any, body: Any) -> Any:
    """In a loop of one iteration."""
    return lax.fori_loop(0, 2, lambda i, v: jnp.where(i == 0, body(p, q), v), jnp.zeros_like(p))


WAYS: dict[str, Any] = {
    "plain": lambda fn: fn,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "of one of two": lambda fn: lambda p, q: jax.vmap(fn, (None, 0))(p, jnp.stack([q, q]))[1],
    "another axis": lambda fn: lambda p, q: jax.vmap(fn, (1, None))(jnp.stack([p, p], 1), q)[0],
    "with derivatives": lambda fn: jax.vmap(lambda p, q: jax.value_and_grad(fn)(p, q)[0]),
    "linearised": lambda fn: lambda p, q: jax.linearize(fn, p, q)[0],
    "rematerialised": jax.checkpoint,
    "in a loop": lambda fn: lambda p, q: kept(p, q, fn),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["kl_div", "rel_entr"])
def test_relative_entropies_of_numbers_that_are_near(name: str, way: str) -> None:
    (got,) = run(WAYS[way](getattr(js, name)), P, Q)
    want = getattr(exact, name)(P.astype(np.float64), Q)
    assert near(got, want), got - want


def test_relative_entropies_where_one_side_is_public() -> None:
    """Where ranges say that all are above 0 nothing is chosen, and JAX has computed p log p."""
    p, q = P[:5], Q[:5]
    for fn in (js.kl_div, js.rel_entr):
        want = getattr(exact, fn.__name__)(p.astype(np.float64), q)
        for known in ((None, None), (0.5, 1e8)):
            assert near(run(lambda v, fn=fn: fn(p, v), q, range=known)[0], want)
            assert near(run(lambda v, fn=fn: fn(v, q), p, range=known)[0], want)
        assert near(run(fn, p, q, range=(0.5, 1e8))[0], want)


def test_what_only_looks_like_a_divergence() -> None:
    p, q = P[:5], Q[:5]
    others = {
        "another p": lambda p, q: js.rel_entr(p, q) - q + q,
        "another q": lambda p, q: js.rel_entr(p, q) - p + p,
        "turned": lambda p, q: js.rel_entr(p, q) - p[::-1] + q,
        "twice": lambda p, q: js.rel_entr(p, q) - p - p + q,
        "the other way round": lambda p, q: js.xlogy(p, q) - js.xlogy(p, p),
    }
    for name, fn in others.items():
        (got,) = run(fn, p, q)
        with jax.enable_x64(True):
            want = np.asarray(fn(jnp.asarray(p.astype(np.float64)), jnp.asarray(q, "float64")))
        assert (np.abs(got - want) <= 2.0**-17 * np.abs(p) + 2.0**-12).all(), name


def test_gradients_of_relative_entropies() -> None:
    p, q = P[:5], Q[:5]
    for fn, slope in ((js.kl_div, 0), (js.rel_entr, 1)):
        made = run(lambda p, q, fn=fn: jax.grad(lambda *v: fn(*v).sum(), (0, 1))(p, q), p, q)
        wide = p.astype(np.float64)
        assert near(made[0], np.log(wide / q) + slope)
        assert near(made[1], 1 - slope - wide / q)


def test_relative_entropies_of_small_numbers_and_much_larger_ones() -> None:
    """Where p / q has few digits, or none, and an error of its logarithm counts little."""
    p = np.float32([1.5, 0.25, 2, 0.0078125, 2, 1.75, 0.5, 0])
    q = np.float32([1e5, 3e9, 2e12, 17, 2.125, 1.625, 2.0**-18, 4e9])
    for name in ("kl_div", "rel_entr"):
        fn, want = getattr(js, name), getattr(exact, name)(p.astype(np.float64), q)
        assert near(run(lambda p, q, fn=fn: fn(jnp.clip(p, 0, 2), q), p, q)[0], want)
        assert near(run(fn, p, q)[0], want)


def test_relative_entropies_outside_of_their_domain() -> None:
    p, q = np.float32([-1, -3e12, 2, 0, 1e3, 0]), np.float32([2, 3e12, 0, -1, -1e12, 1e12])
    most = configuration(64).fxp.max_float
    for fn in (js.kl_div, js.rel_entr):
        (got,) = run(fn, p, q)
        assert near(got, np.minimum(np.asarray(fn(p, q), np.float64), most)), fn


def test_second_derivatives_of_relative_entropies() -> None:
    p, q = np.float32([0.5, 3, 255, 1e4, 0.03125, 7]), np.float32([0.25, 3, 1.5, 2e3, 0.5, 1e6])
    wide = p.astype(np.float64)
    for fn in (js.kl_div, js.rel_entr):
        (first, mixed), _ = run(lambda p, q, fn=fn: _rows(fn, p, q), p, q)[0]
        assert near(first, 1 / wide), first
        assert near(mixed, -1 / q.astype(np.float64)), mixed


def _rows(fn: Any, p: Any, q: Any) -> Any:
    """The matrices of second derivatives, element by element, as one array."""
    return jnp.stack([jnp.stack(row) for row in jax.vmap(jax.hessian(fn, (0, 1)))(p, q)])


def test_relative_entropies_in_the_derivative_of_a_loop() -> None:
    """JAX keeps what does not depend on the iteration for the way back."""
    q = np.float32([254.5, 255, 255.5])

    def total(p: Any, q: Any, fn: Any) -> Any:
        return lax.scan(lambda c, v: (c + fn(p, v), None), jnp.zeros(()), q)[0]

    for fn, slope in ((js.kl_div, 0), (js.rel_entr, 1)):
        (got,) = run(lambda p, q, fn=fn: jax.grad(total)(p, q, fn), np.float32(255), q)
        assert near(got, (np.log(255 / q.astype(np.float64)) + slope).sum())


def test_squares_of_quotients_of_small_numbers_keep_their_digits() -> None:
    """Only a factor of -1, 0 or 1 may be taken out of a quotient: others are rounded first."""
    x, y = np.float32([1.25e-3, -0.001]), np.float32([1.5e-3, 0.0015])
    unit = 2.0**-18
    x, y = (np.rint(v / unit).astype(np.float32) * np.float32(unit) for v in (x, y))
    for fn in (lambda x, y: (x / y) ** 2, lambda x, y: jnp.square(x / y), jnp.hypot):
        (got,) = run(fn, x, y, range=(-0.5, 0.5))
        assert near(got, np.asarray(fn(x.astype(np.float64), y.astype(np.float64)), "f8"))


def test_shadow_knows_that_results_are_better_than_those_of_their_parts() -> None:
    sf.simulate(js.kl_div, check="shadow")(P[:5], Q[:5])


AXES = [(0, 0), (0, 1), (1, 0), (1, 1), (1, None), (None, 1), (0, None), (None, 0)]
TWO: dict[str, Any] = {
    "xlogy": exact.xlogy,
    "xlog1py": exact.xlog1py,
    "poch": exact.poch,
    "kl_div": exact.kl_div,
    "zeta": exact.zeta,
    "betaln": exact.betaln,
    "gammainc": exact.gammainc,
}


@pytest.mark.parametrize("axes", AXES)
@given(name=st.sampled_from(sorted(TWO)))
def test_operands_meet_as_vmap_says(axes: tuple[Any, Any], name: str) -> None:
    """Squares, whose axes cannot be told apart by their lengths."""
    rng = np.random.default_rng(5)
    x, y = (rng.uniform(1.25, 3.5, (3,) * (1 + (a is not None))).astype("f4") for a in axes)
    (got,) = run(jax.vmap(getattr(js, name), axes), x, y)
    x, y = (
        v[None] if a is None else np.moveaxis(v, a, 0) for v, a in zip((x, y), axes, strict=True)
    )
    assert near(got, TWO[name](x.astype(np.float64), y)), got


@pytest.mark.parametrize("axes", [(0, 1), (0, None), (None, 1), (1, 0)])
def test_orders_of_exponential_integrals_meet_as_vmap_says(axes: tuple[Any, Any]) -> None:
    n, x = np.array([1, 2, 4]), np.float32([0.5, 1.25, 3])
    n = n if axes[0] is None else np.stack([n, n[::-1], n + 1], 1 - axes[0])
    x = x if axes[1] is None else np.stack([x, x[::-1], x + 1], 1 - axes[1])
    (got,) = run(lambda v: jax.vmap(js.expn, axes)(n, v), x)
    n, x = (
        v[None] if a is None else np.moveaxis(v, a, 0) for v, a in zip((n, x), axes, strict=True)
    )
    assert near(got, exact.expn(n, x.astype(np.float64)))


@pytest.mark.parametrize("axes", AXES)
@given(ring=st.sampled_from((32, 64, 128)), seed=st.integers(0, 2**16), out=st.integers(0, 1))
def test_functions_with_whole_numbers_meet_as_vmap_says(
    axes: tuple[Any, Any], ring: int, seed: int, out: int
) -> None:
    """Squares; what numpy says of them."""
    rng = np.random.default_rng(seed)
    shapes = [(3,) * (1 + (a is not None)) for a in axes]
    x = np.float32(rng.integers(-999, 999, shapes[0]) / 256)
    n, k = (rng.integers(-5, 6, s).astype("i4") for s in (shapes[1], shapes[0]))
    x_, n_, k_ = (
        v[None] if a is None else np.moveaxis(v, a, 0)
        for v, a in ((x, axes[0]), (n, axes[1]), (k, axes[0]))
    )
    (got,) = run(jax.vmap(jnp.ldexp, axes, out), x, n, ring=ring)
    assert near(np.moveaxis(got, out, 0), np.ldexp(x_.astype("f8"), n_), ring), got
    (got,) = run(jax.vmap(jnp.gcd, axes, out), k, n, ring=ring)
    np.testing.assert_array_equal(np.moveaxis(got, out, 0), np.gcd(k_, n_))
    if axes[0] is not None:
        mantissa, exponent = run(jax.vmap(jnp.frexp, axes[0], (out, 1 - out)), x, ring=ring)
        parts = np.frexp(x_.astype("f8"))
        assert near(np.moveaxis(mantissa, out, 0), parts[0], ring)
        np.testing.assert_array_equal(np.moveaxis(exponent, 1 - out, 0), parts[1])


def test_the_slope_of_ldexp_under_vmap() -> None:
    x, n = np.float32([[0.5, -3], [1.25, 7]]), np.int32([2, -3])
    slope = jax.grad(lambda v: jax.vmap(jnp.ldexp, (1, 0))(v, n).sum())
    (got,) = run(slope, x)
    assert near(got, np.broadcast_to(np.ldexp(1.0, n), (2, 2)))


# --- the density of the beta distribution, the derivative of betainc ---------------------------

SLOPE = jax.grad(js.betainc, 2)
EACH_SLOPE = jax.vmap(SLOPE)


def samples(most: float, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Parameters of any size up to `most`, and points where the density is."""
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.uniform(0, np.log(most), (2, count))).astype("f4")
    return a, b, np.clip(rng.beta(a, b), 1e-4, 1 - 1e-4).astype("f4")


@pytest.mark.parametrize("ring", [64, 128])
@given(seed=st.integers(0, 2**16))
def test_the_derivative_of_betainc_where_parameters_are_large(ring: int, seed: int) -> None:
    a, b, x = samples(2.0**20, 200, seed)
    unit = 2.0 ** configuration(ring).fxp.frac_bits
    a, b, x = (np.rint(v.astype(np.float64) * unit) / unit for v in (a, b, x))
    (got,) = run(EACH_SLOPE, *(v.astype(np.float32) for v in (a, b, x)), ring=ring)
    a, b, x = (np.rint(np.float32(v).astype(np.float64) * unit) / unit for v in (a, b, x))
    assert near(got, beta.pdf(x, a, b), ring)


@pytest.mark.parametrize("which", ["secret", "public", "scalars", "under vmap", "in a loop"])
def test_the_derivative_of_betainc_is_known_in_every_way_to_ask_for_it(which: str) -> None:
    x = np.linspace(0.05, 0.95, 19, dtype=np.float32)
    a, b = np.full_like(x, 40.5), np.full_like(x, 75.25)
    each = jax.vmap(SLOPE, (None, None, 0))
    summed = jax.grad(lambda a, b, x: js.betainc(a, b, x).sum(), 2)
    if which == "secret":
        (got,) = run(summed, a, b, x)
    elif which == "public":
        (got,) = run(lambda v: summed(np.float32(40.5), np.float32(75.25), v), x)
    elif which == "scalars":
        (got,) = run(each, np.float32(40.5), np.float32(75.25), x)
    elif which == "under vmap":
        (got,) = run(jax.jit(jax.vmap(SLOPE)), a, b, x)
    else:
        (got,) = run(lambda a, b, x: kept(x, b, lambda x, b: summed(a, b, x)), a, b, x)
    assert near(got, beta.pdf(x.astype(np.float64), 40.5, 75.25)), got
