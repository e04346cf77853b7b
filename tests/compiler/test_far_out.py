"""Functions of jax.nn and densities, and their derivatives, for every representable number.

Their parts leave the ring where x is large, or are nothing but rounding which x multiplies.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import nn
from jax.scipy.stats import norm
from reference import configuration, tolerance

from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain
from spuvm.ring import WIDTHS

FUNCTIONS = {
    "gelu": nn.gelu,
    "gelu-exact": lambda x: nn.gelu(x, approximate=False),
    "squareplus": nn.squareplus,
    "squareplus-wide": lambda x: nn.squareplus(x, 50.0),
    "mish": nn.mish,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "elu": nn.elu,
    "celu": lambda x: nn.celu(x, 2.0),
    "selu": nn.selu,
    "log_sigmoid": nn.log_sigmoid,
    "soft_sign": nn.soft_sign,
    "hard_swish": nn.hard_swish,
    "sparse_plus": nn.sparse_plus,
    "density": norm.pdf,
    "density-elsewhere": lambda x: norm.pdf(x, 3.0, 7.0),
    "hill": lambda x: x * jnp.exp(-(x**2) / 8),
    "hill-elsewhere": lambda x: 2 * (x - 4) * jnp.exp(-0.5 * (x - 4) ** 2 + 1.0),
    "tanh-of-cube": lambda x: jnp.tanh(0.1 * x**3 + x),
    "root": lambda x: jnp.sqrt(x * x + 2.0),
    "unit": lambda x: x / jnp.sqrt(1 + x**2),
}


def results(fn, x, bits, lo=None, hi=None, checks="off"):
    """What the plaintext protocol makes of encoded numbers, and what JAX makes of them."""
    config = configuration(bits)
    spec = SecretSpec(x.shape, "float32", "a", lo, hi)
    made = compile_function(fn, [spec], config=config)
    encoded = np.asarray(config.fxp.encode(x))
    (out,) = run_plain(made.program, [encoded], np.random.default_rng(0), checks)
    output = made.program.outputs[0]
    got = config.fxp.decode(out, "float64", made.program.types[output.value].frac, output.divisor)
    with jax.enable_x64(True):
        want = jax.jit(fn)(config.fxp.decode(encoded, "float64", config.fxp.frac_bits))
    return config, got, np.asarray(want)


def assert_right(config, got, want, often=1.0):
    allowed = often * tolerance(config) * np.maximum(1, np.abs(want))
    assert (np.abs(got - want) <= allowed).all(), np.max(np.abs(got - want) / allowed)


def numbers(config, power=0.99):
    """Every magnitude and both signs."""
    f = config.fxp.frac_bits
    sizes = np.exp2(np.linspace(-f, np.log2(config.fxp.max_float**power), 160))
    return np.concatenate([sizes, -sizes, [0.0, 1.0, -1.0]])


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_whole_domain(name, bits):
    x = numbers(configuration(bits))
    config, got, want = results(FUNCTIONS[name], x, bits)
    assert_right(config, got, want)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_on_the_whole_domain(name, bits):
    """Four times the tolerance: derivatives are compositions, in which errors add up."""
    x = numbers(configuration(bits))
    slope = jax.grad(lambda x: jnp.sum(FUNCTIONS[name](x)))
    config, got, want = results(slope, x, bits)
    assert_right(config, got, want, often=4.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_declared_ranges(name):
    x = np.concatenate([np.linspace(-6, 6, 97), [8.0, -8.0]])
    slope = jax.grad(lambda x: jnp.sum(FUNCTIONS[name](x)))
    for fn, often in ((FUNCTIONS[name], 1.0), (slope, 2.0)):
        config, got, want = results(fn, x, 64, -8.0, 8.0)
        assert_right(config, got, want, often)
