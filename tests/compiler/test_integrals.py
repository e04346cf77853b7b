"""Integrals and Bessel functions of jax.scipy.special, and constants that fixed point cannot hold.

Their accuracy over the whole domain is in test_functions_accuracy.py.
"""

from __future__ import annotations

import warnings
from functools import cache
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

import spuvm as sf
from spuvm.compiler import SecretSpec, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain

POINTS = np.float32(np.concatenate([np.linspace(-12, 12, 97), [0.004, -0.5, 19.25]]))


RNG = np.random.default_rng(0)


def run(fn: Any, x: np.ndarray, ring: int = 64) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Results and warnings."""
    config = configuration(ring)
    made = compile_function(fn, [SecretSpec(x.shape, "float32", "a")], config=config)
    rng = np.random.default_rng(1)
    outs = run_plain(made.program, encode_all(made, [x], config), rng, "ranges")
    return decode_all(made, outs, config), made.warnings


@pytest.mark.parametrize("ring", [32, 64, 128])
@pytest.mark.parametrize("order", [0, 1, 6])
def test_bessel_functions_of_all_orders(order: int, ring: int) -> None:
    x = POINTS * 2
    (got,), warnings = run(lambda v: js.bessel_jn(v, v=order), x, ring)
    want = np.stack([exact.jv(n, x.astype(np.float64)) for n in range(order + 1)])
    assert got.shape == (order + 1, *x.shape)
    assert np.abs(got - want).max() <= tolerance(configuration(ring))
    assert warnings == ()


def of_three_orders(x: Any) -> Any:
    return js.bessel_jn(x, v=2, n_iter=40)


@pytest.mark.parametrize("maps", [0, 1, 2])
@pytest.mark.parametrize("columns", [2, 3])
def test_bessel_functions_of_a_matrix_and_under_vmap(maps: int, columns: int) -> None:
    """Also where an axis of the matrix is as long as that of the orders."""
    fn = of_three_orders
    for _ in range(maps):
        fn = jax.vmap(fn)
    x = POINTS[: 3 * columns].reshape(3, columns)
    (got,), warnings = run(fn, x)
    want = np.stack([exact.jv(n, x.astype(np.float64)) for n in range(3)], maps)
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-4
    assert warnings == ()


@pytest.mark.parametrize("size", [(), (3,), (5,)])
def test_slopes_of_bessel_functions_by_forward_mode(size: tuple[int, ...]) -> None:
    x = POINTS[: int(np.prod(size))].reshape(size)
    fn = jax.jacfwd(of_three_orders)
    (got,), _ = run(fn, x)
    slopes = np.stack([exact.jvp(n, x.astype(np.float64)) for n in range(3)])
    want = slopes[..., None] * np.eye(*size) if size else slopes
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-4
    with pytest.raises(CompileError, match="derivative of bessel_jn has no form"):
        run(jax.jacfwd(fn), x)


@pytest.mark.parametrize("name", ["erfcx", "dawsn", "fresnel", "sici"])
def test_under_transformations(name: str) -> None:
    """The same form inside of vmap, jit and derivatives; no warning."""
    fn = getattr(js, name)
    first = (lambda v: fn(v)[0]) if name in ("fresnel", "sici") else fn
    x = POINTS[40:60].reshape(4, 5)
    every = lambda v: (jax.vmap(jax.jit(first))(v), jax.vmap(jax.vmap(jax.grad(first)))(v))  # noqa: E731
    got, warnings = run(every, x)
    with jax.enable_x64(True):
        want = [np.asarray(w) for w in every(jnp.asarray(x.astype(np.float64)))]
    for g, w in zip(got, want, strict=True):
        assert (np.abs(g - w) <= 2.0**-12 * np.maximum(1, np.abs(w))).all()
    assert warnings == ()


def test_bounds_of_results_are_known() -> None:
    """What follows with declared operands is right, as the maximum that softmax takes."""
    config, x = configuration(128), POINTS[:40]
    spec = SecretSpec(x.shape, "float32", "a", -12.0, 12.0)
    made = compile_function(lambda v: jax.nn.softmax(js.dawsn(v)), [spec], config=config)
    outs = run_plain(made.program, encode_all(made, [x], config), RNG, "ranges")
    (got,) = decode_all(made, outs, config)
    want = np.exp(exact.dawsn(x.astype(np.float64)))
    assert np.abs(got - want / want.sum()).max() <= tolerance(config)


SLOPES: dict[str, tuple[Any, Any]] = {
    "of one order": (
        lambda x: jax.grad(lambda v: js.bessel_jn(v, v=2)[2].sum())(x),
        lambda x: exact.jvp(2, x),
    ),
    "of the first": (
        lambda x: jax.grad(lambda v: js.bessel_jn(v, v=0)[0].sum())(x),
        lambda x: exact.jvp(0, x),
    ),
    "of all, weighted": (
        lambda x: jax.grad(lambda v: (js.bessel_jn(v, v=3) * jnp.arange(4.0)[:, None] / 4).sum())(
            x
        ),
        lambda x: sum(k / 4 * exact.jvp(k, x) for k in range(4)),
    ),
    "of several calls": (
        lambda x: jax.grad(lambda v: js.bessel_jn(v, v=1)[1].sum() + js.bessel_jn(v, v=2)[2].sum())(
            x
        ),
        lambda x: exact.jvp(1, x) + exact.jvp(2, x),
    ),
    "of a function of x": (
        lambda x: jax.grad(lambda v: js.bessel_jn(jnp.sin(v), v=1)[1].sum())(x),
        lambda x: exact.jvp(1, np.sin(x)) * np.cos(x),
    ),
    "forwards": (
        lambda x: jax.jvp(lambda v: js.bessel_jn(v, v=2)[2], (x,), (x / 16,))[1],
        lambda x: exact.jvp(2, x) * x / 16,
    ),
    "of one number": (
        lambda x: jax.grad(lambda v: js.bessel_jn(v, v=2)[2])(x[1])[None],
        lambda x: exact.jvp(2, x[1:2]),
    ),
}


@pytest.mark.parametrize("ring", [32, 64, 128])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_of_bessel_functions(name: str, ring: int) -> None:
    x = np.float32([0.5, 2, 7.5, -3, 0, 14])
    fn, truth = SLOPES[name]
    (got,), warnings = run(fn, x, ring)
    want = truth(x.astype(np.float64))
    assert np.abs(got - want).max() <= tolerance(configuration(ring))
    assert warnings == ()


# --- constants that are 0 in fixed point ------------------------------------------------------

LOST = {
    "added": lambda x: x * x + 1e-9,
    "subtracted from": lambda x: 1e-9 - x,
    "chosen": lambda x: jnp.where(x > 0, 1e-9, x),
    "carried": lambda x: lax.fori_loop(0, 3, lambda i, v: v * x, jnp.full(x.shape, 1e-9)),
    "of a polynomial": lambda x: jnp.polyval(jnp.array([2e-9, 3e-7, 0.5, 1.0]), x),
    "in an iteration": lambda x: lax.fori_loop(0, 3, lambda i, v: v + 1e-7 * 10.0**-i, x),
}


@pytest.mark.parametrize("name", LOST)
def test_constants_that_vanish_are_reported(name: str) -> None:
    _, texts = run(LOST[name], POINTS[:4])
    assert any("is 0 with 18 fraction bits" in t and "test_integrals.py:" in t for t in texts)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * 1e-9,
        lambda x: x + jnp.array([1.0, 1e-9, 0.0, 3.0]),
        lambda x: jnp.where(x > 0, 0.0, x) + 1e-4,
        lambda x: jnp.polyval(jnp.array([0.0, 0.25, 1.0]), x),
    ],
)
def test_small_factors_and_data_are_not(fn: Any) -> None:
    assert run(fn, POINTS[:4])[1] == ()


def test_exponential_integrals_of_several_orders_and_their_derivative() -> None:
    x = np.float32([0.0078125, 0.5, 1.5, 9.25])
    orders = np.array([1, 2, 3, 12])
    want = exact.expn(orders, x.astype(np.float64))
    (got,), warnings = run(lambda v: js.expn(orders, v), x)
    assert np.abs(got - want).max() < 2e-4
    assert warnings == ()
    (got,), _ = run(lambda v: jax.vmap(lambda u: js.expn(2, u).sum())(v.reshape(2, 2)), x)
    assert np.abs(got - exact.expn(2, x.astype(np.float64)).reshape(2, 2).sum(1)).max() < 2e-4
    (got,), _ = run(jax.grad(lambda v: js.exp1(v).sum()), x[1:])
    slope = -np.exp(-x[1:].astype(np.float64)) / x[1:]
    assert np.abs(got - slope).max() < 2e-4


@pytest.mark.parametrize(("orders", "match"), [([0.5], "whole orders"), (None, "secret order")])
def test_orders_without_a_form(orders: Any, match: str) -> None:
    x = np.float32([0.5])
    fn = (lambda v: js.expn(v, v)) if orders is None else (lambda v: js.expn(np.array(orders), v))
    with pytest.raises(CompileError, match=match):
        run(fn, x)


def sinc_slope(x: np.ndarray) -> np.ndarray:
    v = np.where(x == 0, 1.0, np.pi * x)
    small = np.pi * (-v / 3 + v**3 / 30 - v**5 / 840)
    exact = np.where(abs(v) < 0.01, small, np.pi * (np.cos(v) - np.sin(v) / v) / v)
    return np.where(x == 0, 0.0, exact)


SINC: dict[str, tuple[Any, Any]] = {  # beside what it is in float64
    "itself": (jnp.sinc, np.sinc),
    "gradient": (jax.grad(lambda x: jnp.sinc(x).sum()), sinc_slope),
    "backwards from weights": (
        jax.grad(lambda x: (jnp.cos(x) * jnp.sinc(x)).sum()),
        lambda x: np.cos(x) * sinc_slope(x) - np.sin(x) * np.sinc(x),
    ),
    "forwards": (
        lambda x: jax.jvp(jnp.sinc, (x,), (jnp.cos(x),))[1],
        lambda x: np.cos(x) * sinc_slope(x),
    ),
    "under vmap": (jax.vmap(jax.grad(jnp.sinc)), sinc_slope),
}


@cache
def simulated(name: str, ring: int, f: int) -> Any:
    return sf.simulate(SINC[name][0], config=sf.Config(ring=ring, frac_bits=f))


@pytest.mark.parametrize("ring", [32, 64, 128])
@pytest.mark.parametrize("name", SINC)
@given(seed=st.integers(0, 2**16))
def test_sinc_keeps_its_digits_near_0(name: str, ring: int, seed: int) -> None:
    """The contract; with 40 fraction bits what float32 has of results."""
    f = {32: 8, 64: 18, 128: 40}[ring]
    rng = np.random.default_rng(seed)
    x = rng.normal(size=64) * 2.0 ** rng.uniform(-f, 3, 64)
    x = np.float32(np.rint(np.concatenate([x, [0, 1, -2, 0.5]]) * 2**f) / 2**f)
    made = simulated(name, ring, f)(x)
    want = SINC[name][1](x.astype("f8"))
    assert np.abs(made - want).max() <= {32: 2.0**-4, 64: 2.0**-12, 128: 2.0**-20}[ring]


def test_second_derivatives_of_sinc_are_right_or_warned_of() -> None:
    x = np.float32([-1.5, 0, 0.01, 0.75])
    fn = jax.vmap(jax.grad(jax.grad(jnp.sinc)))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        made = sf.simulate(fn)(x)
    if not any("second derivatives of sinc" in str(w.message) for w in heard):
        np.testing.assert_allclose(made, fn(x), atol=2.0**-11)
