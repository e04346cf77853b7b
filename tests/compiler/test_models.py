"""Whole models in plain jnp: compile time and size grow with what they are, training is a loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import Compiled, SecretSpec, compile_function
from spuvm.functions import logistic_loss
from spuvm.protocol.plain import run_plain

CONFIG = configuration(64)
WIDTH, HEADS, TOKENS = 16, 2, 6


# --- a transformer ----------------------------------------------------------------------------


def norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * gain + bias


def block(x: Any, p: dict[str, Any]) -> Any:
    """Pre-norm attention with a causal mask, then a perceptron with gelu."""
    h = norm(x, p["g1"], p["b1"])
    q, k, v = (
        (h @ p[name]).reshape(TOKENS, HEADS, WIDTH // HEADS).transpose(1, 0, 2) for name in "qkv"
    )
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS)
    scores = jnp.where(jnp.tril(jnp.ones((TOKENS, TOKENS), bool)), scores, -100.0)
    mixed = jax.nn.softmax(scores, -1) @ v
    x = x + mixed.transpose(1, 0, 2).reshape(TOKENS, WIDTH) @ p["o"]
    return x + jax.nn.gelu(norm(x, p["g2"], p["b2"]) @ p["up"]) @ p["down"]


def forward(blocks: list[dict[str, Any]], x: Any) -> Any:
    for p in blocks:
        x = block(x, p)
    return x


def scanned(blocks: dict[str, Any], x: Any) -> Any:
    return lax.scan(lambda x, p: (block(x, p), None), x, blocks)[0]


SHAPES = {
    "g1": (WIDTH,), "b1": (WIDTH,), "g2": (WIDTH,), "b2": (WIDTH,),
    "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "o": (WIDTH, WIDTH),
    "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH),
}  # fmt: skip


def weights(rng: np.random.Generator, layers: int) -> list[dict[str, np.ndarray]]:
    made = []
    for _ in range(layers):
        p = {n: rng.normal(size=s, scale=0.25).astype(np.float32) for n, s in SHAPES.items()}
        made.append(p | {n: np.ones(WIDTH, np.float32) for n in ("g1", "g2")})
    return made


def spec(shape: tuple[int, ...]) -> SecretSpec:
    return SecretSpec(shape, "float32", "alice", -8.0, 8.0)


def compiled(layers: int) -> Compiled:
    blocks = [{n: spec(s) for n, s in SHAPES.items()} for _ in range(layers)]
    return compile_function(forward, (blocks, spec((TOKENS, WIDTH))), config=CONFIG)


def test_a_transformer_grows_linearly() -> None:
    """In instructions and in text; seconds are measured by benchmarks/compiling.py."""
    programs = [compiled(layers).program for layers in (2, 4, 8)]
    for sizes in ([len(p.instructions) for p in programs], [len(str(p)) for p in programs]):
        per = (sizes[1] - sizes[0]) / 2
        assert abs(sizes[2] - sizes[0] - 6 * per) <= 0.02 * sizes[2]


def test_layers_in_a_scan_are_one_layer_long() -> None:
    rng = np.random.default_rng(0)
    blocks, x = weights(rng, 3), rng.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    stacked = {n: np.stack([p[n] for p in blocks]) for n in SHAPES}
    specs = ({n: spec(v.shape) for n, v in stacked.items()}, spec(x.shape))
    made = compile_function(scanned, specs, config=CONFIG)
    assert len(str(made.program)) < 1.3 * len(str(compiled(1).program))
    leaves = jax.tree.leaves((stacked, x))
    outs = run_plain(made.program, encode_all(made, leaves, CONFIG))
    (got,) = decode_all(made, outs, CONFIG)
    np.testing.assert_allclose(got, jax.jit(scanned)(stacked, x), atol=2e-2)


# --- logistic regression ----------------------------------------------------------------------


def test_training_is_one_loop_however_long() -> None:
    """Epochs of minibatches, gradients by JAX: the program of 1 epoch is that of 100."""
    rows, columns, batch = 60, 5, 12

    def train(x: Any, y: Any, epochs: int) -> Any:
        def step(i: Any, w: Any) -> Any:
            first = i % (rows // batch) * batch
            xb = lax.dynamic_slice_in_dim(x, first, batch)
            yb = lax.dynamic_slice_in_dim(y, first, batch)
            return w - 0.5 * jax.grad(logistic_loss)(w, xb, yb)

        return lax.fori_loop(0, epochs * (rows // batch), step, jnp.zeros(columns))

    unit = SecretSpec((rows, columns), "float32", "alice", -1.0, 1.0)
    labels = SecretSpec((rows,), "float32", "bob", 0.0, 1.0)
    short, long = (
        compile_function(train, (unit, labels, n), config=CONFIG).program for n in (2, 100)
    )
    assert abs(len(str(short)) - len(str(long))) < 100
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    y = (x @ rng.normal(size=columns) > 0).astype(np.float32)
    made = compile_function(train, (unit, labels, 10), config=CONFIG)
    outs = run_plain(made.program, encode_all(made, (x, y), CONFIG), np.random.default_rng(1))
    (got,) = decode_all(made, outs, CONFIG)
    np.testing.assert_allclose(got, jax.jit(train, static_argnums=2)(x, y, 10), atol=2e-3)
