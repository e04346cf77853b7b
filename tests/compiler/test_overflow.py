"""Where values may leave the representable range: a warning or an error, and only there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import SecretSpec, assume_range, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain

X = SecretSpec((3,), "float32", "alice")
N = SecretSpec((3,), "int32", "bob")


def within(most: float, shape: tuple[int, ...] = (3,), dtype: str = "float32") -> SecretSpec:
    """An operand with a declared range."""
    return SecretSpec(shape, dtype, "alice", -most, most)


def warnings_of(fn: Any, *specs: Any, ring: int = 64) -> tuple[str, ...]:
    """What compiling says."""
    return compile_function(fn, specs, config=configuration(ring)).warnings


def strictly(fn: Any, *specs: Any, ring: int = 64) -> Any:
    """Compile with on_overflow="error"."""
    return compile_function(fn, specs, config=configuration(ring, "error"))


def loop(step: Any, trips: int) -> Any:
    """A loop with one carry that starts as the operand."""
    return lambda x: lax.fori_loop(0, trips, lambda i, v: step(v, x), x)


# Name: the function, its dtype, the range with which it may leave the representable numbers.
OVERFLOWING: dict[str, tuple[Any, str, float]] = {
    "add": (lambda x: x + x, "float32", 1.2e13),
    "subtract": (lambda x: x - jnp.flip(x), "float32", 1.2e13),
    "mul": (lambda x: x * x, "float32", 1e9),
    "mul by a public number": (lambda x: x * 1e6, "float32", 1e9),
    "power": (lambda x: x**4, "float32", 1e5),
    "sum": (lambda x: jnp.sum(x), "float32", 1e13),
    "product": (lambda x: jnp.prod(x), "float32", 1e6),
    "cumulative sum": (lambda x: jnp.cumsum(x), "float32", 1e13),
    "dot": (lambda x: x @ x, "float32", 1e9),
    "dot, in parts": (lambda x: x @ jnp.clip(x, -0.5, 0.5), "float32", 8e12),
    "convolution": (lambda x: jnp.convolve(x, x), "float32", 1e9),
    "scatter": (lambda x: x.at[jnp.array([0, 0])].add(x[0]), "float32", 1e13),
    "conversion": (lambda n: n.astype(jnp.float32), "int64", 1e14),
    "a carry that doubles": (loop(lambda v, x: v * 2, 50), "float32", 100.0),
    "a carry that is squared": (loop(lambda v, x: v * v, 9), "float32", 2000.0),
    "a carry that is added to": (loop(lambda v, x: v + x, 5000), "float32", 1e10),
    "a carry that grows with another": (
        lambda x: lax.fori_loop(0, 70, lambda i, c: (c[1], c[0] + c[1]), (x, x)),
        "float32",
        100.0,
    ),
    "after saturation": (lambda x: jnp.exp(x) * 2, "float32", 40.0),
    "after saturation, moved": (lambda x: jnp.cosh(x)[None, :2].T + 1.0, "float32", 40.0),
    "in a loop": (loop(lambda v, x: jnp.tanh(v + (x + x)), 4), "float32", 1.2e13),
}


@pytest.mark.parametrize("name", OVERFLOWING)
def test_every_overflow_is_seen(name: str) -> None:
    """A warning with the line, the range and the bound; an error if so configured."""
    fn, dtype, most = OVERFLOWING[name]
    with jax.enable_x64(True):
        spec = within(most, dtype=dtype)
        texts = warnings_of(fn, spec)
        assert texts
        assert all(t.startswith("test_overflow.py:") for t in texts)
        assert any("1.75922e+13" in t or "sum of |x| + |y|" in t for t in texts)
        with pytest.raises(CompileError) as caught:
            strictly(fn, spec)
        assert "test_overflow.py:" in (caught.value.at or "")
        assert caught.value.got
        assert caught.value.expected
        assert warnings_of(fn, within(1.0, dtype=dtype)) == () or "carry" in name


@pytest.mark.parametrize("name", [n for n in OVERFLOWING if "carry" not in n])
def test_small_ranges_are_proven(name: str) -> None:
    """The same functions: with 1,000 there is nothing to report, not even to who asks for proof."""
    fn, dtype, _ = OVERFLOWING[name]
    with jax.enable_x64(True):
        strictly(fn, within(20.0 if "saturation" in name else 1e3, dtype=dtype))


@pytest.mark.parametrize("most", [(), (-1.5e13, 1.5e13)])
@pytest.mark.parametrize("ring", [32, 64, 128])
def test_means_of_representable_numbers_do_not_overflow(ring: int, most: tuple[float, ...]) -> None:
    """The sum would leave the range; it is divided before it does."""
    config = configuration(ring)
    top = config.fxp.max_float * 0.9
    rng = np.random.default_rng(ring)
    for rows in (5000, 3 if most else 8192):
        spec = SecretSpec((rows, 2), "float32", "a", *((-top, top) if most else ()))
        made = compile_function(lambda x: jnp.mean(x, 0), [spec], config=config)
        assert made.warnings == ()
        x = np.rint(np.abs(rng.normal(0.5 * top, top / 9, (rows, 2)))) * [1, -1]
        encoded = encode_all(made, [x], config)
        (got,) = decode_all(made, run_plain(made.program, encoded, rng, "ranges"), config)
        np.testing.assert_allclose(got, x.mean(0), rtol=2.0**-12)


@pytest.mark.parametrize("most", [None, 1.0, 100.0])
def test_means_and_variances_of_very_long_columns(most: float | None) -> None:
    """In the ring of 32 bits: not even the low digits of all rows can be added up at once."""
    rows, config = 600_000, configuration(32)
    spec = SecretSpec((rows,), "float32", "a", *(() if most is None else (-most, most)))
    rng = np.random.default_rng(3)
    for function in (jnp.mean, jnp.var):
        made = compile_function(function, [spec], config=config)
        assert made.warnings == ()
        x = np.float32((most or 1.0) * rng.uniform(0.6, 1, rows))
        encoded = encode_all(made, [x], config)
        (got,) = decode_all(made, run_plain(made.program, encoded, rng, "ranges"), config)
        want = float(function(np.rint(x.astype(np.float64) * 256) / 256))
        assert abs(got - want) <= 2.0**-4 * max(1, want)


def test_only_sums_that_are_divided_are_split() -> None:
    big = within(1e12, (5000,))
    assert warnings_of(lambda x: (x.sum() / 7.0) * 2 + x.sum(), big)
    assert warnings_of(lambda x: x.sum() / (x[0] + 3e12), big)
    assert warnings_of(lambda x: x.sum()[None] / 5000.0, big) == ()
    assert warnings_of(lambda x: jnp.var(x / 1e9), big) == ()


def test_the_warning_has_line_range_and_bound() -> None:
    (text,) = warnings_of(lambda x: x * x, within(1e9))
    assert "test_overflow.py:" in text
    assert "1e+18" in text
    assert "1.75922e+13" in text


def test_a_carry_is_followed_to_the_last_iteration() -> None:
    doubled = loop(lambda v, x: v * 2, 12)
    assert warnings_of(doubled, within(100.0)) == ()
    (text,) = warnings_of(loop(lambda v, x: v * 2, 40), within(100.0))
    assert "1.1e+14 are possible after 40 iterations" in text
    nested = lambda x: lax.fori_loop(0, 20, lambda i, v: loop(lambda u, _: u * 2, 3)(v), x)  # noqa: E731
    with pytest.raises(CompileError, match="nothing proves"):
        strictly(nested, within(100.0))
    turned = lambda i, c: (0.8 * c[0] - 0.6 * c[1], 0.6 * c[0] + 0.8 * c[1])  # noqa: E731
    assert warnings_of(lambda x: lax.fori_loop(0, 500, turned, (x, x)), within(100.0)) == ()
    averaged = lambda x: lax.scan(lambda c, v: (c * 0.9 + v * 0.1,) * 2, x[0], x)[1]  # noqa: E731
    assert warnings_of(averaged, within(2e5, (120,)), ring=32) == ()
    counted = lambda i, c: (c[0] + 1.0, c[0] + c[1])  # noqa: E731
    assert warnings_of(lambda x: lax.fori_loop(0, 500, counted, (x, x)), within(100.0)) == ()
    (text,) = warnings_of(nested, within(100.0))  # each of the inner loops alone stays small
    assert "after 20 iterations" in text
    added = lambda x: lax.fori_loop(0, 20, lambda i, v: loop(lambda u, _: u + 5.0, 3)(v), x)  # noqa: E731
    assert warnings_of(added, within(100.0)) == ()


# --- where there is nothing to report --------------------------------------------------------


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * x + jax.nn.relu(x) - jnp.abs(x),
        lambda x: x.mean() + x.sum(),
        lambda x: jnp.linalg.norm(x) ** 2 / 4,
        lambda x: jnp.polyfit(x, x * x, 1),
        lambda x: jnp.where(x > 1, x, -x) @ x,
        lambda n: n * n * n + 7,
        lambda n: n.astype(jnp.float32) * 2.0,
        lambda x: lax.fori_loop(0, 5, lambda i, v: v * 2.0, x),
    ],
)
def test_no_warning_where_nothing_was_declared(fn: Any) -> None:
    assert warnings_of(fn, N if "n" in fn.__code__.co_varnames[:1] else X) == ()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * x,
        lambda x: x + x,
        lambda x: x.mean(),
        lambda x: x @ x,
        lambda x: jnp.exp(x) * 2,
        lambda x: lax.fori_loop(0, 5, lambda i, v: v * 2.0, x),
    ],
)
def test_a_proof_needs_ranges(fn: Any) -> None:
    """on_overflow="error" refuses what is not proven, so also where nothing was declared."""
    with pytest.raises(CompileError, match=r"range|may be wrong"):
        strictly(fn, X)


@pytest.mark.parametrize(
    ("fn", "spec"),
    [
        (lambda x: jnp.abs(x).max() / 127 * 1e6 * jnp.clip(jnp.round(x), -99, 99), X),
        (lambda x: jnp.std(jnp.diff(jnp.log(x))), X),
        (lambda x: jnp.cumsum(jnp.log1p(x))[-1] ** 2, X),
        (lambda n: jax.scipy.stats.poisson.logpmf(n, 2.0), N),
        (lambda n: ((jax.nn.sigmoid(n * 1.0) - n) ** 2).mean(), N),
        (lambda n: (n[0] * n[1] - n[1] * n[2]) / 2.0 * (n**2.0), N),
        (lambda x: lax.scan(lambda c, v: (c + 0.1 * v, v), 1.0, jnp.maximum(x, 0)), X),
        (lambda x: lax.scan(lambda c, v: (v + jnp.minimum(c, 9.0), c), 1.0, jnp.abs(x)), X),
        (lambda x: lax.fori_loop(0, 9, lambda i, c: c * 0.5 + jnp.abs(x) / 127 * 1e5, x * 0), X),
    ],
)
def test_bounds_that_nobody_declared_are_no_reason_for_warnings(fn: Any, spec: Any) -> None:
    """|x| / 127, logarithms that reach that of 0, floats of any int32, sums of such in loops."""
    assert warnings_of(fn, spec) == ()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * 0.3,
        lambda x: jnp.clip(x, -9, 9) ** 3,
        lambda x: assume_range(x, -2.0, 5.0) * 7,
        lambda x: (jax.nn.sigmoid(x) + jnp.tanh(x)) * 100,
        lambda x: lax.fori_loop(0, 99, lambda i, v: jnp.clip(v * v, -3, 3), jnp.clip(x, -3, 3)),
        lambda x: jnp.sort(jnp.maximum(-x, 0)),
        lambda x: jnp.where(x > 0, x, -x),
        lambda x: jnp.log(x) + jnp.sin(x),
    ],
)
def test_what_is_proven_without_declarations_passes(fn: Any) -> None:
    strictly(fn, X)


def test_lines_of_which_nothing_is_known_are_listed() -> None:
    """Once per line, also in loops; not what is proven, nor squares whose root is asked for."""

    def fn(x: Any) -> Any:
        centred = x - x.mean()
        size = jnp.sqrt(jnp.mean(centred**2))
        known = jnp.clip(x, -9, 9) ** 3
        product = centred * x - centred
        return size, known, product, lax.fori_loop(0, 3, lambda i, v: v * v, x)

    first = fn.__code__.co_firstlineno
    inside = "in test_lines_of_which_nothing_is_known_are_listed.<locals>.fn"
    assert compile_function(fn, [X], config=configuration(64)).unproven == (
        f"test_overflow.py:{first + 1} {inside}: reduce_sum, sub",
        f"test_overflow.py:{first + 4} {inside}: mul, sub",
        f"test_overflow.py:{first + 5} {inside}.<locals>.<lambda>: mul",
    )
    assert compile_function(fn, [within(1)], config=configuration(64)).unproven == ()


def test_a_sum_of_squares_that_is_a_result_too_is_listed() -> None:
    def both(x: Any) -> Any:
        total = jnp.sum(x**2)
        return total, jnp.sqrt(total)

    (line,) = compile_function(both, [X], config=configuration(64)).unproven
    assert line.endswith(": integer_pow, reduce_sum")


def dense(x: Any, layers: Any) -> Any:
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def training_step(layers: Any, x: Any, y: Any) -> Any:
    def loss(layers: Any) -> Any:
        scores = jax.nn.log_softmax(dense(x, layers))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1))

    return jax.tree.map(lambda a, g: a - 0.1 * g, layers, jax.grad(loss)(layers))


def logistic_regression(x: Any, y: Any, w: Any) -> Any:
    def loss(w: Any) -> Any:
        return jnp.mean(jnp.logaddexp(0.0, -(x @ w) * (2 * y - 1)))

    return lax.fori_loop(0, 10, lambda i, w: w - 0.5 * jax.grad(loss)(w), w)


def attention(x: Any, w: Any) -> Any:
    q, k, v = jnp.split(x @ w, 3, -1)
    mixed = jax.nn.softmax(q @ k.T / 4.0) @ v
    centred = mixed - mixed.mean(-1, keepdims=True)
    return centred * lax.rsqrt(centred.var(-1, keepdims=True) + 1e-3)


MODELS: dict[str, tuple[Any, ...]] = {
    "mlp training step": (
        training_step,
        [(within(8.0, s), within(8.0, s[1:])) for s in ((20, 32), (32, 32), (32, 10))],
        within(8.0, (16, 20)),
        SecretSpec((16,), "int32", "bob"),
    ),
    "logistic regression": (
        logistic_regression, within(8.0, (50, 6)), within(8.0, (50,)), within(8.0, (6,)),
    ),
    "attention": (attention, within(8.0, (6, 16)), within(8.0, (16, 48))),
    "standardise": (lambda x: (x - x.mean(0)) / x.std(0), within(1e3, (100, 4))),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_ordinary_models_with_declared_ranges_warn_of_nothing(name: str) -> None:
    fn, *specs = MODELS[name]
    assert warnings_of(fn, *specs) == ()
    assert warnings_of(fn, *specs, ring=128) == ()


# --- what the ranges say is true -------------------------------------------------------------


@pytest.mark.parametrize("most", [1e10, 8e12])
def test_a_matrix_product_is_right_where_its_parts_fit(most: float) -> None:
    """The full form adds up |x| + |y|: below the bound that is proven, above it is reported."""
    terms = 256
    config = configuration(64)
    specs = (within(most, (terms,)), within(0.5, (terms, 16)))
    made = compile_function(lambda x, y: x @ y, specs, config=config)
    x = np.full(terms, np.rint(most * (1 - 2.0**-20)))
    y = np.full((terms, 16), 257 * 2.0**-18)  # as far from what its high digits say as can be
    rng = np.random.default_rng(1)
    encoded = encode_all(made, [x, y], config)
    (got,) = decode_all(made, run_plain(made.program, encoded, rng, "off"), config)
    right = np.abs(got - x @ y) <= 2.0**-12 * np.maximum(1, np.abs(x @ y))
    assert right.all() == (made.warnings == ())


def test_a_distance_below_a_unit() -> None:
    """|a - b| < 1e-6, as in dirichlet.logpdf, asks for equal last bits; a guard of |x| does not."""
    (text,) = warnings_of(lambda x: jnp.abs(x.sum() - 1.0) < 1e-6, X)
    assert "a distance below 1e-06 is 0" in text
    (text,) = warnings_of(lambda x: jax.scipy.stats.dirichlet.logpdf(x, jnp.full(3, 2.0)), X)
    assert "a distance below 1e-06 is 0" in text
    assert warnings_of(lambda x: jnp.abs(x[1:] - x[:-1]) <= 1e-4, X) == ()
    assert warnings_of(lambda x: jnp.where(jnp.abs(x) < 1e-8, 1.0, x), X) == ()
    assert warnings_of(lambda x: jnp.interp(0.5, x, x), X) == ()


def test_nothing_is_printed() -> None:
    """jax.debug.print would show a secret: it is left out, and a warning says so."""

    def fn(x: Any) -> Any:
        jax.debug.print("{}", x)
        return lax.fori_loop(0, 3, lambda i, c: c + 1.0, x)

    (text,) = warnings_of(jax.jit(fn), X)
    assert text.startswith("test_overflow.py:")
    assert "nothing is printed" in text
