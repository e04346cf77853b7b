"""Three classics on secret data: k-means, logistic regression, and a decision tree's answers.

python examples/classic_learning.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import spuvm as sf


def kmeans(points, centres, steps=4):
    """Lloyd's algorithm; returns the centres and the cluster of every point."""

    def nearest(centres):
        distances = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(-1)
        return jnp.argmin(distances, 1)

    def step(_, centres):
        member = jax.nn.one_hot(nearest(centres), centres.shape[0])
        sizes = jnp.maximum(member.sum(0), 1.0)
        return (member.T @ points) / sizes[:, None]

    centres = lax.fori_loop(0, steps, step, centres)
    return centres, nearest(centres)


def logistic_regression(x, y, steps=10, rate=0.5):
    """Weights after some steps of gradient descent."""

    def step(_, w):
        return w - rate * x.T @ (jax.nn.sigmoid(x @ w) - y) / x.shape[0]

    return lax.fori_loop(0, steps, step, jnp.zeros(x.shape[1]))


def tree_answers(feature, threshold, leaves, rows):
    """Answers of a complete binary tree, for every row; the tree is as secret as the rows.

    Node i asks whether the feature of that number is above the threshold, and goes to 2i + 2 or
    2i + 1. The path is a secret index: every level reads all nodes.
    """
    depth = leaves.shape[0].bit_length() - 1

    def answer(row):
        node = jnp.zeros((), jnp.int32)
        for _ in range(depth):
            above = row[feature[node]] > threshold[node]
            node = 2 * node + 1 + above.astype(jnp.int32)
        return leaves[node - (leaves.shape[0] - 1)]

    return jax.vmap(answer)(rows)


def data(seed=0):
    """Points in three clouds, a linear question, a tree of depth 3 and rows for it."""
    rng = np.random.default_rng(seed)
    middles = np.float32([[0, 0], [4, 0], [0, 5]])
    points = (middles[rng.integers(0, 3, 30)] + rng.normal(0, 0.5, (30, 2))).astype(np.float32)
    x = rng.normal(0, 1, (40, 5)).astype(np.float32)
    y = (x @ rng.normal(0, 1, 5) > 0).astype(np.float32)
    feature = rng.integers(0, 5, 7).astype(np.int32)
    threshold = rng.normal(0, 0.5, 7).astype(np.float32)
    leaves = rng.normal(0, 3, 8).astype(np.float32)
    return points, points[:3] + 0.5, x, y, feature, threshold, leaves


def everything(points, centres, x, y, feature, threshold, leaves):
    """All three, so that independent parts share rounds."""
    return (
        kmeans(points, centres),
        logistic_regression(x, y),
        tree_answers(feature, threshold, leaves, x[:6]),
    )


def run(secure=sf.simulate):
    """The results computed on shares and in clear."""
    arguments = data()
    return secure(everything)(*arguments), jax.jit(everything)(*arguments)


if __name__ == "__main__":
    got, want = run()
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        print(np.round(g, 3).tolist(), "largest difference", f"{np.abs(g - w).max():.2g}")
