"""Products with reciprocals and inverse roots far below 1: as exact as everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from reference import configuration, decode_all, encode_all, tolerance

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.protocol.plain import run_plain
from spuvm.vm.cost import static_cost

RNG = np.random.default_rng(5)
X = np.float32(1000 * RNG.normal(size=(3, 20)))
LARGE = np.float32(RNG.uniform(300, 3000, 20))
T = np.float32(RNG.normal(size=20))

PROGRAMS: dict[str, tuple[Any, ...]] = {
    "layer norm": (jax.nn.standardize, X),
    "by the root of a mean of squares": (
        lambda x: x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6),
        X,
    ),
    "batch norm": (lambda x: (x - x.mean(0)) * lax.rsqrt(x.var(0) + 1e-3) * 1.5 + 0.1, X),
    "derivative of a norm": (jax.grad(jnp.linalg.norm), X[0]),
    "derivative of norms": (jax.grad(lambda x: jnp.linalg.norm(x, axis=1).sum()), X),
    "derivative of a standard deviation": (jax.grad(jnp.std), X[0]),
    "derivative of a root": (jax.grad(lambda x: jnp.sqrt(1 + x * x).sum()), X[0]),
    "derivative of a quotient": (jax.grad(lambda x, y: (x / y).sum(), (0, 1)), X[0], LARGE),
    "of a loss of a quotient": (
        jax.grad(lambda x, y, t: jnp.mean((x / y - t) ** 2), (0, 1)), X[0], LARGE, T
    ),
    "of quotients by one": (jax.grad(lambda x, y: (x / y).sum(), (0, 1)), X, LARGE[:1, None]),
    "second derivatives": (jax.hessian(lambda y: (X[0, :4] / y).sum()), LARGE[:4]),
    "forwards": (lambda x, y, t: jax.jvp(jnp.divide, (x, y), (t, 100 * t)), X[0], LARGE, T),
    "derivative of a weighted mean": (
        jax.grad(lambda x, w: (x * w).sum() / w.sum(), (0, 1)), X[0], LARGE
    ),
    "derivative of x / (1 + x^2)": (jax.vmap(jax.grad(lambda x: x / (1 + x * x))), X[0]),
    "derivative of softsign": (jax.vmap(jax.grad(jax.nn.soft_sign)), X[0]),
    "a reciprocal twice": (lambda x, y: (x * (1 / y), (0.3 / y) * x), X[0], LARGE),
    "a share of one": (lambda x, y: x * jnp.broadcast_to(-0.25 / y / 7, x.shape), X, LARGE),
}  # fmt: skip


def ran(
    fn: Callable[..., Any], arrays: Any, config: CompileConfig, declared: bool = False
) -> tuple[Any, Any]:
    """Results of a program and those of JAX in float64, as lists of arrays."""
    specs = []
    for a in arrays:
        bounds = (float(a.min()) - 1, float(a.max()) + 1) if declared else ()
        specs.append(SecretSpec(a.shape, "float32", "owner", *bounds))
    compiled = compile_function(fn, specs, config=config)
    encoded = encode_all(compiled, arrays, config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(0), "ranges")
    clear = [config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded]
    with jax.enable_x64(True):
        want = jax.tree.leaves(jax.jit(fn)(*map(jnp.asarray, clear)))
    return decode_all(compiled, outs, config), [np.asarray(w) for w in want]


@pytest.mark.parametrize("bits", [64, 128])
@pytest.mark.parametrize("declared", [False, True], ids=["open", "declared"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_with_large_numbers(name: str, declared: bool, bits: int) -> None:
    fn, *arrays = PROGRAMS[name]
    config = configuration(bits)
    for got, want in zip(*ran(fn, arrays, config, declared), strict=True):
        assert (np.abs(got - want) <= tolerance(config) * np.maximum(1, np.abs(want))).all()


@given(st.data())
def test_inverse_roots_in_products(data: st.DataObject) -> None:
    """Of any size, times what a product with f fraction bits of 1 / sqrt(v) would spoil."""
    config = configuration(data.draw(st.sampled_from([32, 64, 128])))
    f, most = config.fxp.frac_bits, np.log2(config.fxp.max_float)
    large = {32: 8, 64: 16, 128: 24}[config.ring.bits]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    v = np.exp2(rng.uniform(-f / 2, most - 1, 30)).astype(np.float32)
    x = (rng.choice([-1, 1], 30) * np.exp2(rng.uniform(0, large, 30))).astype(np.float32)
    shape = data.draw(st.sampled_from([(30,), (6, 5)]))
    arrays = x.reshape(shape), (v if len(shape) == 1 else v[:5])
    declared = data.draw(st.booleans())
    (got,), (want,) = ran(lambda x, v: x * lax.rsqrt(v), arrays, config, declared)
    assert (np.abs(got - want) <= tolerance(config) * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("bits", [64, 128])
def test_roots_of_what_is_known_to_be_small(bits: int) -> None:
    """Sums of squares of a declared small range have more bits than the program."""
    x = np.float32(0.002 * RNG.normal(size=(4, 5)))
    config = configuration(bits)
    specs = [SecretSpec(x.shape, "float32", "owner", -0.01, 0.01)]
    compiled = compile_function(lambda x: jnp.linalg.norm(x, axis=1), specs, config=config)
    encoded = encode_all(compiled, [x], config)
    (got,) = decode_all(compiled, run_plain(compiled.program, encoded, None, "ranges"), config)
    clear = config.fxp.decode(encoded[0], "float64", config.fxp.frac_bits)
    want = np.linalg.norm(clear, axis=1)
    assert (np.abs(got - want) <= 4 * 2.0**-config.fxp.frac_bits).all()


def test_of_zero_they_are_the_largest_numbers() -> None:
    zero = np.zeros(3, np.float32)
    config = configuration(64)
    for fn in (lax.rsqrt, lambda v: 1 / v, lambda v: 0.5 / v):
        (got,), _ = ran(fn, [zero], config)
        assert (got > 0.99 * config.fxp.max_float).all()
    (got,), _ = ran(lambda v: v * lax.rsqrt(v), [zero], config)
    assert not got.any()


def test_small_factors_take_them_as_they_are() -> None:
    """A factor of a declared range below 16 costs what it did."""
    spec = SecretSpec((40,), "float32", "owner")
    small = SecretSpec((40,), "float32", "owner", -15, 15)
    config = configuration(64)
    of = [
        static_cost(compile_function(fn, [small, spec], config=config).program).rounds
        for fn in (lambda x, v: x * lax.rsqrt(v), lambda x, v: x * (lax.rsqrt(v) + 0 * v))
    ]
    assert of[0] == of[1]
