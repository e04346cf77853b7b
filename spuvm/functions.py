"""Plain JAX functions of the main jobs: the same ones run on a PYU, on an SPU and in benchmarks.

The aggregations take a list with one pytree per client, all of one structure, and work leaf by
leaf. They keep the leaves' shapes. Nothing here knows of parties or shares.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


def total(trees: Sequence[Tree]) -> Tree:
    """Sum over clients."""
    return jax.tree.map(lambda *xs: functools.reduce(operator.add, xs), *trees)


def average(trees: Sequence[Tree]) -> Tree:
    """Mean over clients; float leaves."""
    return jax.tree.map(lambda x: x / len(trees), total(trees))


def weighted_average(trees: Sequence[Tree], weights: Sequence[Any]) -> Tree:
    """Mean over clients in which client i counts `weights[i]` times, for example its samples.

    `weights` is a list of scalars or an array of shape (clients,). Their sum must not be 0. All
    float leaves go through one product of the normalised weights with a matrix of all values.
    """
    shares = jnp.stack([jnp.asarray(w, jnp.float32) for w in weights])
    shares = shares / jnp.sum(shares)
    leaves, treedef = jax.tree.flatten(trees[0])
    rows = [jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)]) for tree in trees]
    flat = shares @ jnp.stack(rows)
    out, first = [], 0
    for leaf in leaves:
        out.append(flat[first : first + leaf.size].reshape(leaf.shape))
        first += leaf.size
    return jax.tree.unflatten(treedef, out)


def trimmed_mean(trees: Sequence[Tree], trim: int) -> Tree:
    """Mean over clients of each element without its `trim` smallest and `trim` largest values."""
    if not 0 <= 2 * trim < len(trees):
        raise ValueError(f"trim={trim} leaves nothing of {len(trees)} clients")
    kept = slice(trim, len(trees) - trim)
    return jax.tree.map(lambda *xs: sum(_sorted(xs)[kept]) / (len(xs) - 2 * trim), *trees)


def median(trees: Sequence[Tree]) -> Tree:
    """Median over clients of each element; of an even number the mean of the middle two."""
    low, high = (len(trees) - 1) // 2, len(trees) // 2

    def middle(*xs: Any) -> Any:
        ordered = _sorted(xs)
        return ordered[low] if low == high else (ordered[low] + ordered[high]) / 2

    return jax.tree.map(middle, *trees)


def _sorted(xs: Sequence[Any]) -> list[Any]:
    """Values of each element in ascending order, by Batcher's odd-even merge sorting network.

    Comparisons of one layer are independent of each other and share their rounds.
    """
    out, n = list(xs), len(xs)
    for i, j in _network(n):
        swap = out[j] < out[i]
        out[i], out[j] = jnp.where(swap, out[j], out[i]), jnp.where(swap, out[i], out[j])
    return out


def _network(n: int) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, to compare and exchange, in order (Knuth 5.2.2, algorithm M)."""
    pairs = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


@jax.custom_jvp
def softplus(z: Any) -> Any:
    """log(1 + exp(z)) without overflow; its derivative is the logistic function itself."""
    return jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


@softplus.defjvp
def _softplus_jvp(primals: Any, tangents: Any) -> Any:
    (z,), (dz,) = primals, tangents
    return softplus(z), jax.nn.sigmoid(z) * dz


def logistic_loss(w: Any, x: Any, y: Any) -> Any:
    """Mean negative log-likelihood of labels y in {0, 1}: w [d], x [n, d], y [n]; a scalar."""
    z = x @ w
    return jnp.mean(softplus(z) - y * z)


def logistic_gradient(w: Any, x: Any, y: Any) -> Any:
    """Gradient of `logistic_loss` by w in closed form: x^T (sigmoid(x w) - y) / n; shape [d]."""
    return (jax.nn.sigmoid(x @ w) - y) @ x / x.shape[0]


def real_fft(x: Any) -> tuple[Any, Any]:
    """Real and imaginary part of `jnp.fft.rfft(x)` along the last axis, by one matrix product.

    x [..., n]; both parts [..., n // 2 + 1]. For secrets: public factors, nothing is sent but the
    rounding. `jnp.fft` itself does as well; this needs no complex numbers.
    """
    n = x.shape[-1]
    angle = 2 * np.pi * np.outer(np.arange(n), np.arange(n // 2 + 1)) / n
    both = x @ jnp.asarray(np.concatenate([np.cos(angle), -np.sin(angle)], 1), x.dtype)
    return both[..., : n // 2 + 1], both[..., n // 2 + 1 :]


def inverse_real_fft(re: Any, im: Any, n: int | None = None) -> Any:
    """`jnp.fft.irfft(re + 1j * im, n)` along the last axis; n is even unless it is given."""
    m = re.shape[-1]
    n = 2 * (m - 1) if n is None else n
    if not 0 < n <= 2 * m - 1:
        raise ValueError(f"n={n} does not go with {m} frequencies")
    m = n // 2 + 1
    angle = 2 * np.pi * np.outer(np.arange(m), np.arange(n)) / n
    twice = np.where((np.arange(m) == 0) | (2 * np.arange(m) == n), 1.0, 2.0)[:, None]
    matrix = np.concatenate([twice * np.cos(angle), -twice * np.sin(angle)], 0)
    both = jnp.concatenate([re[..., :m], im[..., :m]], -1)
    return both @ jnp.asarray(matrix, re.dtype) / n  # of sums: entries / n would have few digits
