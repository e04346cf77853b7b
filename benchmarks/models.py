"""Functions of the model cases, and their inputs: plain JAX that both systems trace."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.functions import logistic_gradient, logistic_loss

Rng = np.random.Generator
LAYOUT = ("NHWC", "HWIO", "NHWC")


def softmax(x: Any) -> Any:
    """Over the last axis."""
    return jax.nn.softmax(x, axis=-1)


def layer_norm(x: Any) -> Any:
    """Over the last axis, without parameters."""
    x = x - jnp.mean(x, -1, keepdims=True)
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)


def network(layers: Any, x: Any) -> Any:
    """Dense layers with relu between them; logits."""
    for matrix, bias in layers[:-1]:
        x = jax.nn.relu(x @ matrix + bias)
    matrix, bias = layers[-1]
    return x @ matrix + bias


def training_step(layers: Any, x: Any, y: Any) -> Any:
    """One step of gradient descent on the cross entropy with one-hot labels y."""

    def loss(layers: Any) -> Any:
        logits = network(layers, x)
        shifted = logits - lax.stop_gradient(jnp.max(logits, -1, keepdims=True))
        total = jnp.log(jnp.sum(jnp.exp(shifted), -1))
        return jnp.mean(total - jnp.sum(shifted * y, -1))

    return jax.tree.map(lambda w, g: w - 0.1 * g, layers, jax.grad(loss)(layers))


def lenet(kernels: Any, layers: Any, images: Any) -> Any:
    """Two convolutions with relu and pooling of maxima, then three dense layers."""
    x = images
    for (kernel, bias), padding in zip(kernels, ("SAME", "VALID"), strict=True):
        x = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)
        x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return network(layers, x.reshape(x.shape[0], -1))


def training_by(gradient: Any, known: Any = lambda w: w, rate: float = 0.5) -> Any:
    """Weights after 10 epochs of gradient descent of a logistic regression.

    `known` says what is known of the weights at the beginning of every epoch.
    """

    def epoch(w: Any, x: Any, y: Any) -> Any:
        w = known(w)
        return w - rate * gradient(w, x, y)

    def train(w: Any, x: Any, y: Any) -> Any:
        return lax.fori_loop(0, 10, lambda _, w: epoch(w, x, y), w)

    return train


def small(w: Any) -> Any:
    """The promise that weights stay in [-8, 8]; ours alone can take it."""
    from spuvm.compiler.assume import assume_range

    return assume_range(w, -8, 8)


autodiff = jax.grad(logistic_loss)
regression_by_autodiff = training_by(autodiff)
regression_in_closed_form = training_by(logistic_gradient)
small_regression_by_autodiff = training_by(autodiff, small)
small_regression_in_closed_form = training_by(logistic_gradient, small)


# --- inputs --------------------------------------------------------------------------------------


def rows(rng: Rng) -> tuple[Any, ...]:
    """1000 rows of 100 numbers in [-8, 8]."""
    return (np.clip(rng.normal(0, 2, (1000, 100)), -8, 8),)


def many_rows(rng: Rng) -> tuple[Any, ...]:
    """10,000 rows of 100 numbers in [-8, 8]."""
    return (np.clip(rng.normal(0, 2, (10_000, 100)), -8, 8),)


def _dense(rng: Rng, *widths: int) -> list[Any]:
    shapes = list(itertools.pairwise(widths))
    return [(rng.normal(0, n**-0.5, (n, m)), rng.normal(0, 0.1, m)) for n, m in shapes]


def digits(rng: Rng) -> tuple[Any, ...]:
    """Layers 784-128-128-10 and 64 images."""
    return _dense(rng, 784, 128, 128, 10), rng.uniform(0, 1, (64, 784))


def labelled_digits(rng: Rng) -> tuple[Any, ...]:
    """The same with one-hot labels."""
    return *digits(rng), np.eye(10)[rng.integers(0, 10, 64)]


def images(rng: Rng) -> tuple[Any, ...]:
    """Kernels, dense layers and 16 images for `lenet`."""
    kernels = [
        (rng.normal(0, n**-0.5, (5, 5, n // 25, m)), rng.normal(0, 0.1, m))
        for n, m in ((25, 6), (150, 16))
    ]
    return kernels, _dense(rng, 400, 120, 84, 10), rng.uniform(0, 1, (16, 28, 28, 1))


def patients(rng: Rng) -> tuple[Any, ...]:
    """Weights, 569 rows of 30 features and labels."""
    x = rng.uniform(-1, 1, (569, 30))
    return np.zeros(30), x, x @ rng.normal(0, 1, 30) > 0
