"""1F1 and 2F1 of public parameters: over all of them, their digits, their derivatives, refusals."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as js
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as exact
from sweep import FRACS, Setting, errors

import spuvm as sf
from spuvm.compiler.gauss import FAR, at_one, gauss, kummer, kummer_far
from spuvm.errors import CompileError
from spuvm.ring import WIDTHS


def between(lo: float, hi: float) -> st.SearchStrategy[float]:
    """Halves are where terms vanish or logarithms appear."""
    halves = st.integers(int(2 * lo + 0.5), int(2 * hi)).map(lambda n: n / 2)
    return st.one_of(halves, st.floats(lo, hi))


KUMMER, FIRST, LAST = between(0.75, 4.0), between(0.5, 2.0), between(1.0, 4.0)


def run(fn: Any, x: np.ndarray, setting: Setting) -> np.ndarray:
    config = sf.Config(ring=setting.ring, frac_bits=setting.frac)
    with jax.enable_x64(True):
        return np.asarray(sf.simulate(fn, config=config)(x))


def points(setting: Setting, seed: int, below: float, above: float) -> np.ndarray:
    """Multiples of a unit, of all sizes, from a 64th of the least number to `above`."""
    rng, f = np.random.default_rng(seed), setting.frac
    far = -np.exp2(rng.uniform(-f, np.log2(setting.fxp.max_float / 65), 100))
    near = rng.uniform(below, above, 200)
    close = above - np.exp2(rng.uniform(-f, 0, 100))
    made = np.concatenate([far, near, close, [0, 2.0**-f, -(2.0**-f)]])
    return np.minimum(np.rint(made * 2**f) / 2**f, above)


def worst(setting: Setting, got: np.ndarray, want: list[float]) -> float:
    top = setting.fxp.max_float * (1 - 2.0**-12)
    return float(errors(setting, got, np.clip(want, -top, top)).max()) / setting.tolerance


def setting_of(seed: int) -> Setting:
    ring = WIDTHS[seed % 3]
    return Setting(ring, FRACS[ring][seed // 3 % len(FRACS[ring])])


@given(a=KUMMER, b=KUMMER, seed=st.integers(0, 2**32 - 1))
def test_kummers_function_of_all_parameters(a: float, b: float, seed: int) -> None:
    setting = setting_of(seed)
    x = points(setting, seed, -60.0, 60.0)

    def true(v: float) -> float:
        if v < -FAR:
            return float(kummer_far(Decimal(a), Decimal(b), Decimal(-v))) * (-v) ** -a
        return float(kummer(Decimal(a), Decimal(b), Decimal(v)))

    got = run(lambda v: js.hyp1f1(a, b, v), x, setting)
    assert worst(setting, got, [true(float(v)) for v in x]) <= 1


@given(a=FIRST, b=FIRST, c=LAST, seed=st.integers(0, 2**32 - 1))
def test_gausss_function_of_all_parameters(a: float, b: float, c: float, seed: int) -> None:
    setting = setting_of(seed)
    x = points(setting, seed, -1.0, 1.0)
    p, q, r = map(Decimal, (a, b, c))

    def true(v: float) -> float:
        if v < 1:
            return float(gauss(p, q, r, 1 - Decimal(v)))
        return float(at_one(p, q, r)) if c > a + b else np.inf

    got = run(lambda v: js.hyp2f1(a, b, c, v), x, setting)
    assert worst(setting, got, [true(float(v)) for v in x]) <= 1


@given(a=KUMMER, b=KUMMER, x=st.floats(-60.0, 60.0))
def test_digits_of_kummers_function(a: float, b: float, x: float) -> None:
    want = exact.hyp1f1(a, b, x)
    got = float(kummer(Decimal(a), Decimal(b), Decimal(x)))
    assert abs(got - want) <= 1e-9 * max(1, abs(want))


def test_digits_far_from_0() -> None:
    near = kummer(Decimal("2.5"), Decimal("4.25"), Decimal(-FAR)) * Decimal(FAR) ** Decimal("2.5")
    assert abs(kummer_far(Decimal("2.5"), Decimal("4.25"), Decimal(FAR)) / near - 1) < 1e-14
    assert kummer_far(Decimal(3), Decimal(2), Decimal(FAR)) == 0  # nothing but the exponential


CLOSED = {
    "logarithm": ((1.0, 1.0, 2.0), lambda x: -np.log1p(-x) / x),
    "power": ((2.5, 1.5, 1.5), lambda x: (1 - x) ** -2.5),
    "K": ((0.5, 0.5, 1.0), lambda x: exact.ellipkm1(1 - x) * 2 / np.pi),
    "E": ((-0.5, 0.5, 1.0), lambda x: exact.ellipe(x) * 2 / np.pi),
    "sine": ((0.5, 0.5, 1.5), lambda x: np.arcsin(np.sqrt(x)) / np.sqrt(x)),
    "Legendre": ((-2.0, 3.0, 1.0), lambda x: exact.eval_legendre(2, 1 - 2 * x)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name: str) -> None:
    """From near 0 to a unit from 1; the digits, and the function itself."""
    parameters, true = CLOSED[name]
    setting = Setting(64, 18)
    x = np.concatenate([np.linspace(0.0625, 0.9375, 15), 1 - np.exp2(np.arange(-18.0, -4.0))])
    want = true(x)
    digits = [float(gauss(*map(Decimal, parameters), 1 - Decimal(v))) for v in x]
    np.testing.assert_allclose(digits, want, rtol=1e-12, atol=1e-12)
    assert worst(setting, run(lambda v: js.hyp2f1(*parameters, v), x, setting), list(want)) <= 1


def test_derivatives_by_x() -> None:
    x = np.float32([0.25, -1.5, 3.0])
    want = 0.75 * exact.hyp1f1(2.5, 3.0, x.astype(np.float64))
    for fn in (
        jax.vmap(jax.grad(lambda v: js.hyp1f1(1.5, 2.0, v))),
        lambda x: jax.jvp(lambda v: js.hyp1f1(1.5, 2.0, v), (x,), (jnp.ones_like(x),))[1],
        lambda x: jnp.diagonal(jax.jacfwd(lambda v: js.hyp1f1(1.5, 2.0, v))(x)),
    ):
        got = sf.simulate(fn)(x)
        assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, want)).all()


def test_several_parameters_in_one_call() -> None:
    b, y = np.float32([1, 2, 3]), np.float32([0.25, 0.5, 0.75])
    got = sf.simulate(jax.grad(lambda v: js.hyp2f1(1.5, b, 2.0, v).sum()))(y)
    want = 1.5 * b / 2 * exact.hyp2f1(2.5, b + 1, 3.0, y.astype(np.float64))
    assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, want)).all()


REFUSED = {
    "hyp1f1 of secret parameters": lambda x: js.hyp1f1(x, 2.0, x),
    "hyp2f1 of secret parameters": lambda x: js.hyp2f1(0.5, x, 3.0, x),
    "by a parameter": lambda x: jax.grad(lambda a: js.hyp1f1(a, 2.0, x).sum())(2.0),
    "no short series": lambda x: js.hyp1f1(-1.0, 2.0, x),
    "of 20 sets of parameters": lambda x: js.hyp2f1(np.arange(1.0, 21)[:, None], 1.0, 2.0, x),
}


@pytest.mark.parametrize("match", REFUSED)
def test_what_has_no_form(match: str) -> None:
    with pytest.raises(CompileError, match=match) as caught:
        sf.simulate(REFUSED[match])(np.float32([0.5, 0.25]))
    assert "test_hypergeometric.py" in str(caught.value)
    assert caught.value.next


def test_products_with_0_are_not_computed() -> None:
    """As derivatives have them: the tangent of a parameter."""
    x = np.ones(3, np.float32)
    assert sf.simulate(lambda x: jnp.exp(x) * 0.0 + x).cost(x).rounds == 1  # to open
    assert sf.simulate(lambda x: jnp.exp(x) * jnp.zeros(3) + x).cost(x).rounds == 1  # to open
    loop = lambda x: jax.lax.fori_loop(0, 3, lambda i, v: jnp.exp(v) * 0.0 + i, x)  # noqa: E731
    np.testing.assert_array_equal(sf.simulate(loop)(x), np.full(3, 2.0))
