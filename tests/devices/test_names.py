"""What functions are called in messages, policies and reports."""

import functools

import jax
import pytest

from spuvm.devices.calls import name_of


def loss(x):
    return x * 2.0


class Model:
    def fit(self): ...


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (loss, "loss"),
        (Model().fit, "Model.fit"),
        (Model, "Model"),
        (jax.grad(loss), "grad(loss)"),
        (jax.value_and_grad(loss), "value_and_grad(loss)"),
        (jax.vmap(jax.grad(loss)), "vmap(grad(loss))"),
        (jax.hessian(loss), "jacfwd(jacrev(loss))"),
        (jax.jit(loss), "loss"),
        (jax.checkpoint(loss), "loss"),
        (jax.jit(jax.grad(loss)), "grad(loss)"),
        (functools.partial(jax.grad(loss), 1.0), "grad(loss)"),
        (lambda x: x, "<lambda>"),
    ],
)
def test_a_gradient_does_not_pass_for_what_it_is_the_gradient_of(fn, name):
    assert name_of(fn) == name
