"""JAX's transformations compose with everything: each against JAX in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain

RNG = np.random.default_rng(3)
VECTOR = np.float32(RNG.uniform(-1, 1, 4))
MATRIX = np.float32(RNG.uniform(-1, 1, (4, 3)))
IMAGE = np.float32(RNG.uniform(-1, 1, (2, 6, 6, 1)))
KERNEL = np.float32(RNG.uniform(-1, 1, (3, 3, 1, 2)))


@jax.custom_vjp
def clipped(x):
    return x * x


clipped.defvjp(lambda x: (x * x, x), lambda x, g: (jnp.clip(g, -1, 1) * x,))


@jax.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def _cube_jvp(primals, tangents):
    return cube(primals[0]), 3 * primals[0] ** 2 * tangents[0]


def smooth(x):
    return jnp.sum(jnp.tanh(x) ** 3) + jnp.prod(x + 2)


def network(w, x):
    return jnp.tanh(jnp.tanh(x @ w) @ w.T) @ w


def pooled(x, k):
    y = lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return lax.reduce_window(y, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def recurrent(w, x):
    def step(state, row):
        state = jnp.tanh(row @ w + state * 0.5)
        return state, state.sum()

    return lax.scan(step, jnp.zeros(w.shape[1]), x)[1].sum()


COMPOSED = {
    "jacfwd": (jax.jacfwd(lambda x: jnp.cumsum(x * x) / (1 + x[0] ** 2)), VECTOR),
    "jacrev": (jax.jacrev(lambda x: jnp.cumsum(x * x) / (1 + x[0] ** 2)), VECTOR),
    "hessian": (jax.hessian(smooth), VECTOR),
    "jacfwd of jacrev of a product": (jax.jacfwd(jax.jacrev(lambda x: jnp.dot(x, x) ** 2)), VECTOR),
    "jvp and vjp": (
        lambda x, t: (jax.jvp(smooth, (x,), (t,)), jax.vjp(smooth, x)[1](t[0])),
        VECTOR,
        VECTOR[::-1],
    ),
    "vmap of grad of jit": (jax.vmap(jax.grad(jax.jit(smooth))), np.stack([VECTOR, -VECTOR])),
    "grad of vmap": (
        jax.grad(lambda w, x: jax.vmap(network, (None, 0))(w, x).sum()),
        MATRIX.T[:, :3],
        MATRIX[:, :3],
    ),
    "vmap over two axes": (
        jax.vmap(jax.vmap(jnp.dot, (None, 0)), (0, None)),
        MATRIX,
        MATRIX[::-1],
    ),
    "custom_vjp": (jax.grad(lambda x: clipped(3 * x).sum()), VECTOR),
    "custom_jvp": (jax.jacfwd(lambda x: cube(x) * x[0]), VECTOR),
    "remat": (
        jax.grad(jax.checkpoint(lambda w, x: jnp.sum(network(w, x) ** 2))),
        MATRIX.T[:, :3],
        MATRIX[:, :3],
    ),
    "grad of scan": (jax.grad(recurrent), MATRIX, np.float32(RNG.uniform(-1, 1, (5, 4)))),
    "vmap of scan": (
        jax.vmap(recurrent, (None, 0)),
        MATRIX,
        np.stack([VECTOR[None], MATRIX.T[:1]]),
    ),
    "grad of secret cond": (
        jax.grad(lambda x: lax.cond(x[0] > x[1], lambda v: v @ v, lambda v: 2 * v.sum(), x)),
        VECTOR,
    ),
    "grad of solve": (
        jax.grad(lambda a, b: jnp.linalg.solve(a, b).sum(), (0, 1)),
        np.float32(np.eye(3) * 2 + MATRIX[:3]),
        VECTOR[:3],
    ),
    "grad of pooled convolution": (
        jax.grad(lambda x, k: (pooled(x, k) ** 2).sum(), (0, 1)),
        IMAGE,
        KERNEL,
    ),
    "jacfwd of pooled convolution": (
        jax.jacfwd(lambda k: pooled(jnp.asarray(IMAGE[:1, :4, :4], k.dtype), k).sum((0, 1, 2))),
        KERNEL,
    ),
    "linearize": (lambda x, t: jax.linearize(smooth, x)[1](t), VECTOR, VECTOR[::-1]),
    "extremes of an odd number of halves": (
        lambda x: (jnp.max(x / 2), jnp.prod(x / 2), jax.nn.softmax(x / 4)),
        VECTOR[:3] * 8,
    ),
    "linear_transpose": (
        lambda x: jax.linear_transpose(lambda v: jnp.asarray(MATRIX.T, v.dtype) @ v, x)(x[:3]),
        VECTOR,
    ),
}


def test_the_place_of_the_largest_of_an_odd_number_of_halves():
    config, x = configuration(64), np.float32([1, -2, 5])
    compiled = compile_function(
        lambda v: (jnp.argmax(v / 2), jnp.argmin(v * 0.25)), [SecretSpec((3,), "float32", "a")],
        config=config,
    )  # fmt: skip
    outs = run_plain(compiled.program, encode_all(compiled, (x,), config), RNG, "ranges")
    assert [int(v) for v in decode_all(compiled, outs, config)] == [2, 1]


@pytest.mark.parametrize("fn", [jax.nn.softplus, jax.nn.silu])
def test_a_maximum_with_what_is_bounded_beyond_the_representable(fn):
    """The bounds of such results lie a few units beyond: floats are compared all the same."""
    config, x = configuration(64), np.float32(RNG.uniform(-9, 9, 16))
    compiled = compile_function(
        lambda a, b: (jnp.maximum(fn(a), b), fn(a) < b), [SecretSpec((16,), "float32", "a")] * 2,
        config=config,
    )  # fmt: skip
    encoded = encode_all(compiled, (x, x[::-1]), config)
    top, less = decode_all(compiled, run_plain(compiled.program, encoded, RNG, "ranges"), config)
    want = np.asarray(fn(x))
    assert np.abs(top - np.maximum(want, x[::-1])).max() <= 2.0**-12
    assert (less == (want < x[::-1])).all()


@pytest.mark.parametrize("name", COMPOSED)
def test_against_jax(name):
    fn, *arrays = COMPOSED[name]
    config = configuration(64)
    specs = [SecretSpec(a.shape, str(a.dtype), "a") for a in arrays]
    compiled = compile_function(fn, specs, config=config)
    encoded = encode_all(compiled, arrays, config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(0), "ranges")
    with jax.enable_x64(True):
        plain = [config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded]
        want = [np.asarray(w) for w in jax.tree.leaves(jax.jit(fn)(*map(jnp.asarray, plain)))]
    for got, expected in zip(decode_all(compiled, outs, config), want, strict=True):
        assert got.shape == expected.shape
        limit = 2.0**-12 * np.maximum(1, np.abs(expected))
        assert (np.abs(got - expected) <= limit).all(), np.abs(got - expected).max()


def test_the_exponent_of_0_is_within_declared_bounds():
    """All other numbers of the range have smaller ones."""
    config, x = configuration(64), np.float32([0, 0.125, -0.2, 0.3])
    compiled = compile_function(
        jnp.frexp, [SecretSpec((4,), "float32", "a", lo=-0.3, hi=0.3125)], config=config
    )
    (encoded,) = encode_all(compiled, (x,), config)
    outs = run_plain(compiled.program, [encoded], np.random.default_rng(0), "ranges")
    mantissa, exponent = decode_all(compiled, outs, config)
    assert (exponent == np.frexp(x)[1]).all()
    assert np.abs(mantissa - np.frexp(x)[0]).max() < 2e-4
