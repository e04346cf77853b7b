"""What an error says to write instead is executed here as it stands there."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as sl
import jax.scipy.special as js
import numpy as np
import optax
import pytest
import scipy.linalg as exact
from jax.experimental.ode import odeint
from jax.scipy.optimize import minimize
from scipy import special

import spuvm as sf
from spuvm.errors import CompileError

RNG = np.random.default_rng(3)
ROOT = RNG.normal(size=(3, 3))
POSITIVE = np.float32(ROOT @ ROOT.T + np.eye(3))
OTHER = np.float32(ROOT + 4 * np.eye(3))


def instead(fn: Any, *args: Any) -> str:
    """What the refusal of `fn` says; it names the line of this file."""
    with pytest.raises(CompileError) as caught:
        sf.simulate(fn)(*args)
    assert (caught.value.at or "").startswith("test_instead.py:"), caught.value
    return str(caught.value.next)


def executed(code: str, result: str, **known: Any) -> Any:
    """The value of `result` after these statements."""
    names: dict[str, Any] = {"jax": jax, "jnp": jnp, "sf": sf, **known}
    exec(code, names)
    return eval(result, names)


def close(got: Any, want: Any) -> bool:
    return bool((np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all())


def test_square_root_of_a_matrix() -> None:
    code = instead(lambda x: sl.sqrtm(x), POSITIVE).split(": ", 1)[1]
    got = sf.simulate(lambda x: executed(code, "root", x=x))(POSITIVE)
    assert close(got, exact.sqrtm(POSITIVE.astype(np.float64)))


@pytest.mark.parametrize(
    "fn", [lambda x: sl.funm(x, jnp.exp), lambda x: sl.schur(x)], ids=["funm", "schur"]
)
def test_functions_of_a_symmetric_matrix(fn: Any) -> None:
    code, forms = instead(fn, POSITIVE).split(": ", 1)[1].split("; then ")
    schur, funm = re.fullmatch(r"schur\(x\) is (.*), and funm\(x, f\) is (.*)", forms).groups()  # type: ignore[union-attr]
    part = POSITIVE / 16  # exp makes errors of eigenvalues above 1 larger
    got = sf.simulate(lambda x: executed(code, funm, x=x, f=jnp.exp))(part)
    assert close(got, exact.expm(part.astype(np.float64)))
    t, z = sf.simulate(lambda x: executed(code, schur, x=x))(POSITIVE)
    assert close(z @ t @ z.T, POSITIVE)
    assert close(z @ z.T, np.eye(3))


def test_eigenvalues() -> None:
    for fn in (lambda x: jnp.linalg.eigvals(x), lambda x: jnp.linalg.eig(x)):
        code = instead(fn, POSITIVE).split("symmetric")[1].split(": ", 1)[1]
        got = sf.simulate(lambda x, code=code: executed(code, "w", x=x))(POSITIVE)
        assert close(got, exact.eigvalsh(POSITIVE.astype(np.float64)))


def test_sylvesters_equation() -> None:
    a, b, q = OTHER, POSITIVE[:2, :2], OTHER[:, :2]
    code = instead(lambda a, b, q: sl.solve_sylvester(a, b, q), a, b, q).split(": ", 1)[1]
    got = sf.simulate(lambda a, b, q: executed(code, "x", a=a, b=b, q=q))(a, b, q)
    assert close(got, exact.solve_sylvester(*(v.astype(np.float64) for v in (a, b, q))))


def test_roots_of_a_polynomial() -> None:
    p = np.float32([1.0, -3.0, 1.0, 0.5])
    text = instead(lambda p: jnp.roots(p, strip_zeros=False), p)
    code = text.split("of your own: ")[1]
    got = sf.simulate(lambda p: executed(code, "x", p=p, x0=jnp.float32(4.0)))(p)
    assert close(got, max(np.roots(p.astype(np.float64)).real))


def test_minimisation() -> None:
    """Rosenbrock's function."""

    def f(x: Any) -> Any:
        return (1 - x[0]) ** 2 + 5 * (x[1] - x[0] ** 2) ** 2

    x0 = np.float32([-0.5, 1.5])
    text = instead(lambda x: minimize(f, x, method="BFGS").x, x0)
    newton, slope = re.search(
        r"few variables: x = (.*), or along the gradient: (.*);", text
    ).groups()  # type: ignore[union-attr]
    got = sf.simulate(lambda x0: executed("", newton, f=f, x0=x0))(x0)
    np.testing.assert_allclose(got, 1, atol=1e-3)
    got = sf.simulate(lambda x0: executed("", slope, f=f, x0=x0, rate=0.04))(x0)
    np.testing.assert_allclose(got, 1, atol=0.05)


def test_differential_equations() -> None:
    """A pendulum."""

    def f(y: Any, t: Any) -> Any:
        return jnp.stack([y[1], -jnp.sin(y[0])])

    y0 = np.float32([0.5, 0.25])
    text = instead(lambda y: odeint(f, y, jnp.linspace(0.0, 2.0, 3)), y0)
    code = text.split("h = t / n: ")[1]
    got = sf.simulate(lambda y0: executed(code, "y", f=f, y0=y0, n=40, h=0.05))(y0)
    want = odeint(f, jnp.asarray(y0), jnp.linspace(0.0, 2.0, 3))[-1]
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_bounded_while_ends_a_search() -> None:
    """Newton's steps until the slope is small, at most 12."""

    def f(x: Any) -> Any:
        return jnp.sum(jnp.cosh(x - jnp.arange(2.0)))

    def search(x0: Any) -> Any:
        slope = jax.grad(f)

        def step(x: Any) -> Any:
            return x - jnp.linalg.solve(jax.hessian(f)(x), slope(x))

        return sf.bounded_while(lambda x: jnp.sum(slope(x) ** 2) > 1e-4, step, x0, 12)

    np.testing.assert_allclose(sf.simulate(search)(np.float32([0.5, 0.5])), [0, 1], atol=0.02)


def test_slopes_of_bessel_functions() -> None:
    x = np.float32([0.5, 2.0, 7.5])
    text = instead(lambda x: jax.jacfwd(jax.jacfwd(lambda v: js.bessel_jn(v, v=2)))(x), x)
    code = text.split("with n > 0: ")[1]
    got = sf.simulate(lambda x: executed(code, "slope", x=x, n=2, bessel_jn=js.bessel_jn))(x)
    assert close(got, special.jvp(2, x.astype(np.float64)))


def test_samples_of_secret_parameters() -> None:
    """Their distributions: the means and variances of many."""
    key, rate, p = jax.random.key(5), np.float32([0.5, 4.0, 20.0]), np.float32([0.125, 0.5, 0.75])
    text = instead(lambda r: jax.random.poisson(key, r), rate)
    assert text == instead(lambda p: jax.random.binomial(key, 10, p), p)
    poisson, binomial = re.search(
        r"up to 30, (.*) is poisson, .* probability (.*) is", text
    ).groups()  # type: ignore[union-attr]
    keys = jax.random.split(key, 400)

    def samples(code: str, **known: Any) -> Any:
        return jax.vmap(lambda key: executed("", code, key=key, **known))(keys)

    for got, mean, variance in (
        (sf.simulate(lambda r: samples(poisson, rate=r))(rate), rate, rate),
        (sf.simulate(lambda p: samples(binomial, p=p, n=10))(p), 10 * p, 10 * p * (1 - p)),
    ):
        assert got.shape == (400, 3)
        assert (np.abs(got.mean(0) - mean) < 5 * np.sqrt(variance / 400)).all()
        assert (np.abs(got.var(0) / variance - 1) < 0.5).all()


def test_a_line_search_of_optax() -> None:
    """The line is the one that called optax; the place in optax is beside it."""
    x, y = np.float32(RNG.normal(size=(12, 2))), np.float32(RNG.normal(size=12))

    def trained(optimiser: Any) -> Any:
        def fit(x: Any, y: Any) -> Any:
            def loss(w: Any) -> Any:
                return ((x @ w - y) ** 2).mean()

            def step(_: Any, kept: Any) -> Any:
                w, state = kept
                value, slope = jax.value_and_grad(loss)(w)
                change, state = optimiser.update(
                    slope, state, w, value=value, grad=slope, value_fn=loss
                )
                return w + change, state

            start = jnp.zeros(2)
            return jax.lax.fori_loop(0, 4, step, (start, optimiser.init(start)))[0]

        return fit

    with pytest.raises(CompileError, match=r"test_instead.py:\d+ in .*, through linesearch.py:"):
        sf.simulate(trained(optax.lbfgs()))(x, y)
    text = instead(trained(optax.lbfgs()), x, y)
    fit = trained(executed("import optax", text.split(": ")[1]))
    assert close(sf.simulate(fit)(x, y), fit(x, y))


@pytest.mark.parametrize(
    ("fn", "found", "text"),
    [
        (lambda x: np.sort(x), "__array__", "jax.numpy and jax.scipy in the place of numpy"),
        (lambda x: np.arange(9)[x], "__array__", "jnp.asarray(table)[i]"),
        (lambda x: [4, 5, 6][x[0]], "__index__", "jnp.asarray(table)[i] in the place of a list"),
        (lambda x: jnp.unique(x), "jnp.unique()", "jnp.unique(x, size=n)"),
        (lambda x: jax.ops.segment_sum(x, x), "num_segments", "num_segments=n"),
        (lambda x: float(x[0]), "`float`", "int() and bool()"),
        (lambda x: x if x[0] > 0 else -x, "boolean conversion", "jnp.where"),
        (lambda x: jnp.zeros(x[0]), "Shapes must be", "static argument"),
        (lambda x: jnp.arange(9)[: x[0]], "static", "lax.dynamic_slice"),
    ],
)
def test_the_value_of_a_secret_while_tracing(fn: Any, found: str, text: str) -> None:
    with pytest.raises(CompileError, match="needs the value of a secret") as caught:
        sf.simulate(fn)(np.int32([1, 2, 1]))
    assert found in str(caught.value.got)
    assert text in str(caught.value.next)
    assert "test_instead.py:" in str(caught.value.at)
