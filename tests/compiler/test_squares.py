"""Norms, deviations and what is divided by them, for every representable number.

Squares leave the ring where numbers are far inside of it, and have no digits left of small ones.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import cauchy
from reference import configuration
from test_far_out import assert_right, numbers, results

from spuvm import simulate
from spuvm.compiler import SecretSpec, compile_function
from spuvm.errors import SpuvmError
from spuvm.ring import WIDTHS
from spuvm.vm.cost import static_cost


def centred(x):
    return x - x.mean(1, keepdims=True)


def layer_norm(x):
    c = centred(x)
    return c * jax.lax.rsqrt(jnp.mean(c * c, 1, keepdims=True) + 1e-5)


def rms_norm(x):
    return x / jnp.sqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-3)


def fast_norm(x):
    """As the layers of networks in JAX have it."""
    mean, square = jnp.mean(x, -1, keepdims=True), jnp.mean(jax.lax.square(x), -1, keepdims=True)
    variance = jnp.maximum(0.0, square - jax.lax.square(mean))
    return (x - mean) * jax.lax.rsqrt(variance + 1e-6)


def joined_norm(x):
    """As the norm over all leaves of a tree."""
    parts = x[:, :2], x[:, 2:]
    return jnp.sqrt(sum(jnp.sum(part**2, 1) for part in parts))


ROWS = {
    "norm": lambda x: jnp.linalg.norm(x, axis=1),
    "std": lambda x: jnp.std(x, axis=1),
    "std of a sample": lambda x: jnp.std(x, axis=1, ddof=1),
    "unit rows": lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True),
    "unit rows, by a power": lambda x: x * jnp.sum(x**2, axis=1, keepdims=True) ** -0.5,
    "layer norm": layer_norm,
    "rms norm": rms_norm,
    "fast norm": fast_norm,
    "standardize": jax.nn.standardize,
    "distances": lambda x: jnp.sqrt(jnp.sum((x[:, None] - x[None, :4]) ** 2, -1)),
    "norm of leaves": joined_norm,
    "variance": lambda x: jnp.var(x, axis=1),
    "mean square, scaled": lambda x: jnp.mean(x**2, axis=1) / 1e3 / 1e6,
    "attraction": lambda x: x * (1000.0 / jnp.linalg.norm(x, axis=1))[:, None],
    "mean square": lambda x: jnp.mean(x**2, axis=1),
    "columns": lambda x: jnp.linalg.norm(x.T, axis=0),
    "rows with themselves": lambda x: jnp.sqrt(jnp.einsum("ij,ij->i", x, x)),
    "vectors with themselves": jax.vmap(lambda r: jnp.sqrt(jnp.vdot(r, r))),
    "unit rows, by products": jax.vmap(lambda r: r / jnp.sqrt(r @ r)),
}
QUOTIENTS = [
    "attraction",
    "unit rows",
    "unit rows, by a power",
    "unit rows, by products",
    "layer norm",
    "rms norm",
    "standardize",
    "fast norm",
]
SIZES = {  # what has to be representable
    "variance": lambda x: np.mean(x**2, 1),
    "mean square": lambda x: np.mean(x**2, 1),
    "mean square, scaled": lambda x: np.mean(x**2, 1) / 1e9,
    "attraction": lambda x: 1000 * np.abs(x).max(1),
}
ELEMENTS = {
    "size": lambda x: jnp.sqrt(x * x),
    "pair": lambda x: jnp.sqrt(x**2 + (x / 3) ** 2),
    "cauchy": cauchy.pdf,
    "log of cauchy": cauchy.logpdf,
    "slope of cauchy": jax.vmap(jax.grad(cauchy.logpdf)),
    "bell": lambda x: 1 / (1 + x**2),
}


def rows(config, n):
    """Rows of every magnitude, of equal sizes, of one alone, and of 0."""
    f, rng = config.fxp.frac_bits, np.random.default_rng(n)
    sizes = np.exp2(np.linspace(-f / 2, np.log2(config.fxp.max_float) - np.log2(n) / 2 - 2, 96))
    mixed = rng.uniform(-1, 1, (96, n)) * sizes[:, None]
    alone = np.zeros((16, n))
    alone[:, n // 2] = sizes[::6]
    steep = rng.uniform(-1, 1, (16, n)) * np.exp2(-np.arange(n)) * sizes[::6, None]
    equal = np.where(np.arange(n) % 2, 1, -1) * sizes[::24, None]
    return np.concatenate([mixed, -alone, steep, equal, np.zeros((1, n))])


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("n", [5, 200])
def test_rows(name, bits, n):
    """Quotients add up the errors of two parts: twice the tolerance, from rows of 1/4 on."""
    x = rows(configuration(bits), n)
    largest = SIZES[name](x) if name in SIZES else np.zeros(len(x))
    x = x[largest < 0.9 * configuration(bits).fxp.max_float]
    if name in QUOTIENTS:
        x = x[np.abs(x).max(1) >= 0.25]
    config, got, want = results(ROWS[name], x, bits, checks="ranges")
    assert_right(config, got, want, often=2.0 if name in QUOTIENTS else 1.0)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_elements(name, bits):
    config, got, want = results(ELEMENTS[name], numbers(configuration(bits)), bits)
    assert_right(config, got, want)


def slope(name, width):
    """The derivative of a weighted sum of the results of rows."""
    weights = np.random.default_rng(3).uniform(-1, 1, width)

    def total(x):
        return jnp.sum(jnp.dot(ROWS[name](x).reshape(len(x), -1), weights))

    return jax.grad(total)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    ("name", "width"), [("norm", 1), ("std", 1), ("unit rows", 5), ("layer norm", 5)]
)
def test_slopes(name, width, bits):
    """Four times the tolerance: derivatives are compositions, in which errors add up."""
    x = rows(configuration(bits), 5)
    x = x[np.abs(x).max(1) >= 0.25]
    config, got, want = results(slope(name, width), x, bits)
    assert_right(config, got, want, often=4.0)


def test_a_sum_of_products_is_sent_as_a_sum():
    """Rows of declared numbers: 3 ring elements for each result, whatever the rows are long."""
    spec = SecretSpec((50, 40), "float32", "a", -4.0, 4.0)
    made = compile_function(lambda x, y: jnp.sum(x * y, 1), [spec, spec], config=configuration(64))
    cost = static_cost(made.program)
    assert sum(cost.bytes_sent) <= 50 * 56
    x = np.random.default_rng(1).uniform(-4, 4, (50, 40))
    config, got, want = results(lambda x: jnp.sum(x * x[:, ::-1], 1), x, 64, -4.0, 4.0)
    assert_right(config, got, want)


def test_nothing_is_divided_by_a_norm_of_zero():
    """The inverse is the largest number then, whatever it is multiplied with."""
    x = np.array([[0.0, 0.0, 0.5], [3.0, 4.0, 0.5]])

    def clipped(x):
        return jnp.minimum(1.0, x[:, 2] * jax.lax.rsqrt(jnp.sum(x[:, :2] ** 2, 1)))

    config, got, _ = results(clipped, x, 64)
    assert_right(config, got, np.array([1.0, 0.1]))


def test_watching_knows_what_sums_of_squares_are_for():
    """Out of range they are no error where only their root is asked for."""
    x = (np.random.default_rng(0).normal(size=(4, 5)) * 1e7).astype(np.float32)
    norm = simulate(lambda x: jnp.linalg.norm(x, axis=1), check="shadow")
    assert np.allclose(norm(x), np.linalg.norm(x, axis=1), rtol=1e-3)
    with pytest.raises(SpuvmError, match="representable"):
        simulate(lambda x: jnp.sum(x * x, axis=1), check="shadow")(x)
