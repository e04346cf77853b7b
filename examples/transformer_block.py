"""One step of a transformer with a cache of keys and values, at a position that nobody learns.

    python examples/transformer_block.py

Token, weights, cache and the position are secret: the update of the cache touches every row, and
the mask is a comparison with the position.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import spuvm as sf


def weights(width=16, seed=0):
    """Matrices of one block."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)

    return {
        "qkv": matrix(width, 3 * width),
        "out": matrix(width, width),
        "up": matrix(width, 4 * width),
        "down": matrix(4 * width, width),
    }


def norm(x):
    """Layer normalisation without parameters."""
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-3)


def block(w, cache, token, position, heads=2):
    """Output for one token, and the cache [2, length, width] with its key and value."""
    length, width = cache.shape[1:]
    q, k, v = jnp.split(norm(token) @ w["qkv"], 3)
    rows = jnp.stack([k, v])[:, None]
    zero = jnp.zeros_like(position)
    cache = lax.dynamic_update_slice(cache, rows, (zero, position, zero))
    q = q.reshape(heads, -1)
    keys, values = cache.reshape(2, length, heads, -1)
    scores = jnp.einsum("hd,lhd->hl", q, keys) * (width // heads) ** -0.5
    scores = jnp.where(jnp.arange(length) <= position, scores, -30.0)
    mixed = jnp.einsum("hl,lhd->hd", jax.nn.softmax(scores), values).reshape(-1)
    x = token + mixed @ w["out"]
    return x + jax.nn.gelu(norm(x) @ w["up"]) @ w["down"], cache


def run(length=6, width=16, position=3, secure=sf.simulate):
    """(output, cache) computed on shares and in clear."""
    rng = np.random.default_rng(1)
    cache = rng.normal(0, 1, (2, length, width)).astype(np.float32)
    token = rng.normal(0, 1, width).astype(np.float32)
    arguments = weights(width), cache, token, np.int32(position)
    return secure(block)(*arguments), jax.jit(block)(*arguments)


if __name__ == "__main__":
    got, want = run()
    for name, g, w in zip(("output", "cache"), got, want, strict=True):
        print(f"{name}: largest difference {np.abs(g - w).max():.2g}")
