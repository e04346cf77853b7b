"""What pooling costs: comparisons are shared with the gradient, and rectified numbers come last."""

import jax
import numpy as np
from jax import lax
from reference import configuration

from spuvm.compiler import SecretSpec, compile_function

SPEC = SecretSpec((1, 8, 8, 1), "float32", "a", -4.0, 4.0)


def pool(x):
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def comparisons(fn):
    """Numbers compared in the program of fn."""
    program = compile_function(fn, [SPEC], config=configuration(64)).program
    return sum(i.types[0].size for i in program.instructions if i.op == "msb_a")


def test_a_pooling_compares_each_window_once_less_than_it_has_elements():
    assert comparisons(pool) == 3 * 16


def test_the_gradient_takes_the_comparisons_of_the_pooling():
    assert comparisons(jax.value_and_grad(lambda x: (pool(x) ** 2).sum())) == 3 * 16


def test_relu_before_a_pooling_is_done_after_it():
    assert comparisons(lambda x: pool(jax.nn.relu(x))) == 3 * 16 + 16


def test_unless_the_rectified_numbers_are_needed_anyway():
    def both(x):
        y = jax.nn.relu(x)
        return pool(y), y.sum()

    assert comparisons(both) == 64 + 3 * 16
