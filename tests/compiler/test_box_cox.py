"""Derivatives of jax.scipy.special.boxcox and boxcox1p in lambda, and forwards in x."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import decode_all, encode_all, tolerance

import spuvm as sf
from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.compiler.rules.terms import UNSTEADY
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

N = 24
RINGS = ((32, 8), (64, 18), (128, 26), (128, 40))
WEIGHTS = np.linspace(0.5, 3, N, dtype=np.float32)
FORMS: dict[str, Any] = {
    "boxcox": lambda x, a: jax.grad(lambda a: js.boxcox(x, a).sum())(a),
    "boxcox1p": lambda x, a: jax.grad(lambda a: js.boxcox1p(x - 1, a).sum())(a),
    "under vmap": lambda x, a: jax.vmap(jax.grad(js.boxcox, 1))(x, a),
    "forwards": lambda x, a: jax.jvp(lambda a: js.boxcox(x, a), (a,), (jnp.ones_like(a),))[1],
    "compiled": jax.jit(lambda x, a: jax.grad(jax.jit(lambda a: js.boxcox(x, a).sum()))(a)),
    "weighted": lambda x, a: (
        jax.grad(lambda a: (WEIGHTS * js.boxcox(x, a)).sum())(a) / WEIGHTS
    ),
    "both": lambda x, a: jax.grad(lambda x, a: js.boxcox(x, a).sum(), (0, 1))(x, a)[1],
}  # fmt: skip
OF_ONE: dict[str, Any] = {
    "sum": lambda x, a: jax.grad(lambda a: js.boxcox(x, a).sum())(a),
    "boxcox1p": lambda x, a: jax.grad(lambda a: js.boxcox1p(x - 1, a).sum())(a),
    "value too": lambda x, a: jax.value_and_grad(lambda a: js.boxcox(x, a).sum())(a)[1],
    "forwards": lambda x, a: jax.jvp(lambda a: js.boxcox(x, a), (a,), (1.0,))[1].sum(),
    "row by row": lambda x, a: jax.vmap(jax.grad(js.boxcox, 1), (0, None))(x, a).sum(),
    "as a column": lambda x, a: jax.grad(lambda a: js.boxcox(x, a).sum())(a[None, None])[0, 0],
    "checkpoint": lambda x, a: jax.grad(jax.checkpoint(lambda a: js.boxcox(x, a).sum()))(a),
}


def configured(ring: int, f: int) -> CompileConfig:
    return CompileConfig(Ring(ring), Fxp(Ring(ring), f), "warn")


def computed(fn: Any, arrays: Any, config: CompileConfig) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first result on secrets, and what the operands are once encoded."""
    specs = [SecretSpec(v.shape, "float32", "a") for v in arrays]
    made = compile_function(fn, specs, config=config)
    encoded = encode_all(made, arrays, config)
    outs = run_plain(made.program, encoded, np.random.default_rng(1), "ranges")
    got = decode_all(made, outs, config)[0]
    f = config.fxp.frac_bits
    return got.astype(np.float64), [config.fxp.decode(e, "float64", f) for e in encoded]


def slope(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """log(x)^2 ((u - 1) e^u + 1) / u^2 for u = a log x, and what JAX has at 0."""
    b = np.log(x)
    u = a * b
    near = np.abs(u) < 1
    terms = [(k + 1) / math.factorial(k + 2) for k in range(25)]
    series = np.polynomial.polynomial.polyval(np.where(near, u, 0), terms)
    some = np.where(near, 1, u)
    made = b * b * np.where(near, series, ((some - 1) * np.exp(some) + 1) / some**2)
    return np.where(a == 0, 0, made)


def operands(seed: int, ring: int, f: int) -> tuple[np.ndarray, np.ndarray]:
    """x from a few units on and lambda from one unit to 4, log-spaced; all powers are moderate."""
    rng = np.random.default_rng(seed)
    x = 2.0 ** rng.uniform(4 - f, 8, N)
    x[:3] = 1, 0.5, 2.0 ** (4 - f)
    a = rng.choice([-1, 1], N) * 2.0 ** rng.uniform(-f, 2, N)
    a[3:5] = 0, 2.0**-f
    most = 6 if ring == 32 else 20
    for less in (0, 1):
        a = np.where(np.abs((a - less) * np.log2(x)) < most, a, 0.01 if less == 0 else 0.5)
    return x.astype(np.float32), a.astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
@given(seed=st.integers(0, 2**16), ring=st.sampled_from(RINGS))
def test_slopes_in_lambda(name: str, seed: int, ring: tuple[int, int]) -> None:
    config = configured(*ring)
    got, (x, a) = computed(FORMS[name], operands(seed, *ring), config)
    want = slope(x, a)
    error = np.abs(got - want) / np.maximum(1, np.abs(want))
    assert (error <= tolerance(config)).all(), error.max()


@pytest.mark.parametrize("name", OF_ONE)
@given(
    exponent=st.floats(0, 1),
    sign=st.sampled_from((-1, 0, 1)),
    seed=st.integers(0, 2**16),
    ring=st.sampled_from(RINGS),
)
def test_of_one_lambda_for_all(
    name: str, exponent: float, sign: int, seed: int, ring: tuple[int, int]
) -> None:
    config, f = configured(*ring), ring[1]
    x = 2.0 ** np.random.default_rng(seed).uniform(-3, 3, N)
    given = np.float32(sign * 2.0 ** (-f + exponent * f))
    got, (x, a) = computed(OF_ONE[name], (x.astype(np.float32), given), config)
    want = slope(x, a).sum()
    assert abs(got - want) <= tolerance(config) * max(1, slope(x, a).max()) * N


@pytest.mark.parametrize("a", [-1.5, -0.001, 0.0, 0.001, 0.5])
def test_of_public_operands(a: float) -> None:
    config = configured(64, 18)
    given = 2.0 ** np.linspace(-7, 7, N, dtype=np.float32)
    power = np.float32(a)
    got, (x,) = computed(
        lambda x: jax.grad(lambda a: js.boxcox(x, a).sum())(jnp.full(N, power)), (given,), config
    )
    want = slope(x, np.full(N, power, np.float64))
    assert (np.abs(got - want) <= tolerance(config) * np.maximum(1, want)).all()
    fn = lambda a: jax.jvp(lambda a: js.boxcox(given, a), (a,), (1.0,))[1]  # noqa: E731
    got, (b,) = computed(fn, (power,), config)
    want = slope(given.astype(np.float64), b)
    assert (np.abs(got - want) <= tolerance(config) * np.maximum(1, want)).all()


@pytest.mark.parametrize("changes", ["x", "both"])
@given(seed=st.integers(0, 2**16), ring=st.sampled_from(RINGS))
def test_forwards_in_x(changes: str, seed: int, ring: tuple[int, int]) -> None:
    def both(x: Any, a: Any) -> Any:
        return jax.jvp(js.boxcox, (x, a), (jnp.ones_like(x), jnp.ones_like(a)))[1]

    def one(x: Any, a: Any) -> Any:
        return jax.jvp(lambda x: js.boxcox(x, a), (x,), (jnp.ones_like(x),))[1]

    config = configured(*ring)
    got, (x, a) = computed(one if changes == "x" else both, operands(seed, *ring), config)
    want = x ** (a - 1) + (slope(x, a) if changes == "both" else 0)
    error = np.abs(got - want) / np.maximum(1, np.abs(want))
    assert (error <= tolerance(config)).all(), error.max()


def test_parts_that_are_not_a_derivative_stay_what_they_are() -> None:
    """Terms of other factors, signs or axes add up as they are."""

    def terms(x: Any, a: Any) -> Any:
        b = jnp.log(x)
        less, whole = jnp.expm1(a * b), jnp.expm1(a * b) + 1
        first, second = -(less * a**-2), whole / a * b
        return jnp.stack([first - second, 2 * first + second, first + second * x, first + second])

    x, a = np.float32([0.5, 2, 3, 8]), np.float32([0.5, 1, -1, 2])
    got, (x, a) = computed(terms, (x, a), configured(64, 18))
    b = np.log(x)
    first, second = -np.expm1(a * b) / a**2, np.exp(a * b) * b / a
    want = [first - second, 2 * first + second, first + second * x, first + second]
    np.testing.assert_allclose(got, want, rtol=2.0**-12, atol=2.0**-12)


def test_under_shadow() -> None:
    x, a = np.float32([0.125, 0.5, 3, 20]), np.float32(0.001)
    got = sf.simulate(OF_ONE["sum"], check="shadow")(x, a)
    want = slope(x.astype(np.float64), np.round(float(a) * 2**18) * 2.0**-18).sum()
    assert abs(got - want) <= 2.0**-12 * want


def by_scan(x: Any, a: Any) -> Any:
    def total(a: Any) -> Any:
        return jax.lax.scan(lambda c, v: (c + js.boxcox(v, a), None), 0.0, x)[0]

    return jax.grad(total)(a)


def curvature(x: Any, a: Any) -> Any:
    return jax.grad(jax.grad(lambda a: js.boxcox(x, a).sum()))(a)


@pytest.mark.parametrize("fn", [by_scan, curvature])
def test_what_has_no_form_is_said_with_its_line(fn: Any) -> None:
    config = configured(64, 18)
    specs = [SecretSpec((4,), "float32", "a"), SecretSpec((), "float32", "a")]
    (said,) = compile_function(fn, specs, config=config).warnings
    assert "test_box_cox.py" in said
    assert UNSTEADY in said

    def away(x: Any, a: Any) -> Any:
        return fn(x, sf.assume_range(a, 0.5, 2))

    said_away = compile_function(away, specs, config=config).warnings
    assert not any(UNSTEADY in text for text in said_away)
    assert not compile_function(OF_ONE["sum"], specs, config=config).warnings
