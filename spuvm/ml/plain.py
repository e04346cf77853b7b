"""The same algorithms on one table in clear, with the same batches: what the others are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.ml.worker import Array, batches, sigmoid


def epoch(
    weights: Array, x: Any, y: Any, size: int, rate: float, l2: float = 0.0, kind: str = "logistic"
) -> Array:
    """One pass over the rows; x [n, d], weights [d + 1] with the intercept last."""
    table = np.hstack([x, np.ones((len(x), 1))])
    penalty = np.append(np.full(x.shape[1], l2), 0.0)
    for low, high in batches(len(x), size):
        rows = table[low:high]
        score = rows @ weights
        residual = (sigmoid(score) if kind == "logistic" else score) - y[low:high]
        weights = weights - rate * (residual @ rows / len(rows) + penalty * weights)
    return weights


def fit(
    x: Any, y: Any, epochs: int = 3, size: int = 64, rate: float = 0.1, l2: float = 0.0,
    kind: str = "logistic",
) -> Array:  # fmt: skip
    """Weights after training from zero."""
    weights = np.zeros(x.shape[1] + 1)
    for _ in range(epochs):
        weights = epoch(weights, x, y, size, rate, l2, kind)
    return weights


def fit_blocks(
    blocks: Sequence[tuple[Any, Any]], epochs: int = 3, size: int = 64, rate: float = 0.1
) -> Array:
    """Weights of the mixed model: every epoch's are averaged by rows."""
    weights = np.zeros(blocks[0][0].shape[1] + 1)
    rows = [len(x) for x, _ in blocks]
    for _ in range(epochs):
        each = [epoch(weights, x, y, size, rate) for x, y in blocks]
        weights = np.average(each, axis=0, weights=rows)
    return weights


def probabilities(weights: Array, x: Any) -> Array:
    """[n, 2], of class 0 and of class 1."""
    p = sigmoid(x @ weights[:-1] + weights[-1])
    return np.stack([1 - p, p], axis=1)
