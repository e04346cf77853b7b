"""Seconds and instructions of compiling a transformer's forward pass, by number of layers.

    python -m benchmarks.compiling [--layers 3 6 12 24] [--width 16] [--tokens 6]

Pre-norm attention with a causal mask and a perceptron with gelu per layer; weights and input are
secret. Seconds are those of tracing and compiling together, in a process that has compiled one
layer before.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import spuvm as sf


def _norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * gain + bias


def block(x: Any, p: dict[str, Any]) -> Any:
    """One layer on x [tokens, width], with two heads."""
    tokens, width = x.shape
    h = _norm(x, p["g1"], p["b1"])
    q, k, v = ((h @ p[n]).reshape(tokens, 2, width // 2).transpose(1, 0, 2) for n in "qkv")
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(width // 2)
    scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -100.0)
    mixed = (jax.nn.softmax(scores, -1) @ v).transpose(1, 0, 2).reshape(tokens, width)
    x = x + mixed @ p["o"]
    return x + jax.nn.gelu(_norm(x, p["g2"], p["b2"]) @ p["up"]) @ p["down"]


def forward(layers: list[dict[str, Any]], x: Any) -> Any:
    """All layers, one after the other: nothing is rolled into a loop."""
    for p in layers:
        x = block(x, p)
    return x


def measure(layers: int, width: int, tokens: int) -> tuple[int, float]:
    """(instructions, seconds) of a program of so many layers."""
    square, vector = (width, width), (width,)
    shapes = dict.fromkeys(("q", "k", "v", "o"), square)
    shapes |= dict.fromkeys(("g1", "b1", "g2", "b2"), vector)
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    struct = {n: jax.ShapeDtypeStruct(s, np.float32) for n, s in shapes.items()}
    x = jax.ShapeDtypeStruct((tokens, width), np.float32)
    secure = sf.simulate(forward, sf.Config(input_range=(-8.0, 8.0)))
    started = time.perf_counter()
    program = secure.lower([struct] * layers, x)
    return len(program.instructions), time.perf_counter() - started


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 6, 12, 24])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=6)
    asked = parser.parse_args()
    measure(1, asked.width, asked.tokens)
    print("layers  instructions  per layer  seconds  per layer")
    for n in asked.layers:
        size, seconds = measure(n, asked.width, asked.tokens)
        print(f"{n:6} {size:13} {size / n:10.1f} {seconds:8.2f} {seconds / n:10.3f}")


if __name__ == "__main__":
    main()
