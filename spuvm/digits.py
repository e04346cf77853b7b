"""The demo's data and model: scikit-learn's digits, split unequally, and a small JAX network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from spuvm import samples

Array = npt.NDArray[Any]
Weights = list[Any]

CLIENTS = 10
HIDDEN = 32
STEPS = 8  # of gradient descent per client and round
RATE = 0.5
TEST = 360  # of the 1797 digits


class Digits:
    """A client: its part of the data, its model. It lives at a party and its data stays there."""

    def __init__(self, number: int) -> None:
        x, y, _, _ = load_digits()
        mine = part_of(y, number)
        self._x, self._y = jnp.asarray(x[mine]), jnp.asarray(y[mine])
        self._weights: Weights = []

    def count(self) -> float:
        """How many samples this client has: its secret weight in the average."""
        return float(len(self._y))

    def set_weights(self, weights: Weights) -> None:
        """Take the model that everybody starts this round from."""
        self._weights = [jnp.asarray(w) for w in weights]

    def get_weights(self) -> Weights:
        """The model after local training."""
        return self._weights

    def local_train(self) -> None:
        """A few steps of gradient descent on the client's own data."""
        self._weights = train(self._weights, self._x, self._y)

    def predict_test(self) -> Array:
        """Classes of the public test digits under the client's model."""
        return predict(self._weights, load_digits()[2])


def load_digits() -> tuple[Array, Array, Array, Array]:
    """Features in [0, 1] and labels: training and public test part."""
    pixels, labels = samples.digits()
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (pixels / 16).astype(np.float32)[order], labels.astype(np.int32)[order]
    return x[TEST:], y[TEST:], x[:TEST], y[:TEST]


def part_of(labels: Array, client: int) -> Array:
    """Indices of a client's samples: every class is split by its own random proportions."""
    rng = np.random.default_rng(7)
    mine = []
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        cuts = np.cumsum(rng.dirichlet(np.full(CLIENTS, 0.6)))[:-1] * len(members)
        mine.append(np.split(members, cuts.astype(int))[client])
    return np.sort(np.concatenate(mine))


def init_weights() -> Weights:
    """The same small random model for everybody."""
    k1, k2 = jax.random.split(jax.random.key(3))
    return [
        jax.random.normal(k1, (64, HIDDEN)) / 8,
        jnp.zeros(HIDDEN),
        jax.random.normal(k2, (HIDDEN, 10)) / 6,
        jnp.zeros(10),
    ]


def scores(weights: Weights, x: Any) -> Any:
    """Log-odds of the ten classes."""
    return jnp.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]


@jax.jit
def train(weights: Weights, x: Any, y: Any) -> Weights:
    """STEPS steps of full-batch gradient descent on the cross-entropy."""

    def loss(w: Weights) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores(w, x)), y[:, None], axis=1)
        return -jnp.mean(chosen)

    def step(w: Weights, _: None) -> tuple[Weights, None]:
        return [a - RATE * g for a, g in zip(w, jax.grad(loss)(w), strict=True)], None

    return jax.lax.scan(step, weights, None, length=STEPS)[0]


def predict(weights: Weights, x: Array) -> Array:
    """The most likely class of every row."""
    return np.asarray(jnp.argmax(scores(weights, x), axis=1))
