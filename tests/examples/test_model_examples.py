"""The examples of models: computed on shares by the real protocol, beside plaintext JAX."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTRACT = 2.0**-12  # of one function; what is added to it is for errors that add up


def load(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


def close(got, want, tolerance):
    """Integers equal, floats within a tolerance relative to max(1, |want|)."""
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        w = np.asarray(w)
        assert g.shape == w.shape
        if w.dtype.kind in "iub":
            np.testing.assert_array_equal(g, w)
        else:
            assert (np.abs(g - w) <= tolerance * np.maximum(1, np.abs(w))).all(), np.abs(
                g - w
            ).max()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_of_a_network_with_optax(optimizer):
    got, want = load("mlp_training")["run"](optimizer)
    start = load("mlp_training")["run"](optimizer, steps=0, secure=lambda fn: fn)[1]
    close(got, want, 2 * CONTRACT)
    moved = [np.abs(w - s).max() for w, s in zip(want, start, strict=True)]
    assert max(moved) > 100 * CONTRACT  # there is something to agree on


def test_convolutional_network():
    (logits, layers), (want_logits, want_layers) = load("lenet")["run"](
        size=16, channels=(2, 3), hidden=(8, 6), batch=2
    )
    close(logits, want_logits, CONTRACT)
    close(layers, want_layers, CONTRACT)


@pytest.mark.parametrize("position", [0, 3, 5])
def test_transformer_block_at_a_secret_position(position):
    got, want = load("transformer_block")["run"](position=position)
    close(got, want, 2 * CONTRACT)


def test_statistics_of_tables():
    (groups, order, components), want = load("statistics_of_tables")["run"]()
    close(groups, want[0], CONTRACT)
    close(order, want[1], CONTRACT)
    close(components, want[2], 4 * CONTRACT)


def test_classic_learning():
    (clusters, weights, answers), want = load("classic_learning")["run"]()
    close(clusters, want[0], CONTRACT)
    close(weights, want[1], CONTRACT)
    close(answers, want[2], CONTRACT)
