"""A convolutional network in the manner of LeNet: inference and one training step on secret images.

    python examples/lenet.py

Images and weights are both secret: the images of one party, the model of another.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import spuvm as sf

LAYOUT = ("NHWC", "HWIO", "NHWC")


def weights(size=28, channels=(6, 16), hidden=(120, 84), classes=10, seed=0):
    """Kernels of two convolutions, and matrices of the layers after them, with their biases."""
    rng = np.random.default_rng(seed)
    first, second = channels
    left = ((size // 2) - 4) // 2  # what two poolings and one convolution without padding leave
    shapes = [(5, 5, 1, first), (5, 5, first, second)]
    widths = (left * left * second, *hidden, classes)
    shapes += list(itertools.pairwise(widths))
    return [
        (
            rng.normal(0, np.prod(s[:-1]) ** -0.5, s).astype(np.float32),
            np.zeros(s[-1], np.float32),
        )
        for s in shapes
    ]


def pool(x):
    """Maxima of 2 by 2 neighbours."""
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def network(layers, images):
    """Logits of images [batch, size, size, 1]."""
    x = images
    for (kernel, bias), padding in zip(layers[:2], ("SAME", "VALID"), strict=True):
        x = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)
        x = pool(jax.nn.relu(x + bias))
    x = x.reshape(x.shape[0], -1)
    for matrix, bias in layers[2:-1]:
        x = jax.nn.relu(x @ matrix + bias)
    matrix, bias = layers[-1]
    return x @ matrix + bias


def training_step(layers, images, labels, rate=0.05):
    """Weights after one step of gradient descent."""

    def loss(layers):
        logits = network(layers, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.tree.map(lambda w, g: w - rate * g, layers, jax.grad(loss)(layers))


def run(size=28, channels=(6, 16), hidden=(120, 84), batch=4, secure=sf.simulate):
    """(logits, new weights) computed on shares and in clear."""
    layers = weights(size, channels, hidden)
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 1, (batch, size, size, 1)).astype(np.float32)
    labels = rng.integers(0, 10, batch).astype(np.int32)

    def both(layers, images, labels):
        return network(layers, images), training_step(layers, images, labels)

    got = secure(both)(layers, images, labels)
    return got, jax.jit(both)(jax.tree.map(jnp.asarray, layers), images, labels)


if __name__ == "__main__":
    got, want = run()
    difference = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), got, want)
    print("logits: largest difference", difference[0])
    print("weights: largest difference", max(jax.tree.leaves(difference[1])))
