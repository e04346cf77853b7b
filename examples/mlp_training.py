"""A neural network of Equinox, trained with optax on one party's features and another's labels.

    python examples/mlp_training.py [--optimizer sgd|adam]

Weights, activations and gradients stay secret; only the trained weights are opened. Adam's second
moments are squares of gradients, small numbers in fixed point, and keep more digits: a known range
of gradients (`optax.clip`) says that there is room for them. Adam divides small gradients by
themselves, so that their rounding shows: as in half precision, the loss is scaled up.
"""

import argparse

import equinox as eqx
import jax
import numpy as np
import optax
from jax import lax

import spuvm as sf

OPTIMIZERS = {
    "sgd": (optax.sgd(0.1, momentum=0.9), 1.0),
    "adam": (optax.chain(optax.clip(64.0), optax.adam(0.01)), 64.0),
}


def data(rows=32, width=4, classes=3):
    """Features, and labels that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, width)).astype(np.float32)
    y = np.argmax(x @ rng.normal(size=(width, classes)), axis=1).astype(np.int32)
    return x, y


def trainer(model, optimizer, scale, steps):
    """The function (leaves of the weights, x, y) -> leaves of the trained weights."""
    weights, rest = eqx.partition(model, eqx.is_inexact_array)
    treedef = jax.tree.structure(weights)

    def loss(weights, x, y):
        logits = jax.vmap(eqx.combine(weights, rest))(x)
        return scale * optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def train(leaves, x, y):
        weights = jax.tree.unflatten(treedef, leaves)

        def step(_, state):
            weights, memory = state
            updates, memory = optimizer.update(jax.grad(loss)(weights, x, y), memory, weights)
            return optax.apply_updates(weights, updates), memory

        weights, _ = lax.fori_loop(0, steps, step, (weights, optimizer.init(weights)))
        return jax.tree.leaves(weights)

    return train, jax.tree.leaves(weights)


def run(name="sgd", steps=3, secure=sf.simulate):
    """Trained weights, computed on shares and in clear."""
    optimizer, scale = OPTIMIZERS[name]
    x, y = data()
    model = eqx.nn.MLP(4, 3, width_size=8, depth=2, key=jax.random.key(0))
    train, leaves = trainer(model, optimizer, scale, steps)
    return secure(train)(leaves, x, y), jax.jit(train)(leaves, x, y)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", default="sgd", choices=sorted(OPTIMIZERS))
    got, want = run(parser.parse_args().optimizer)
    for g, w in zip(got, want, strict=True):
        print(f"weights {g.shape}: largest difference {np.abs(g - w).max():.2g}")
