"""What functions are called in messages, policies and reports."""

import functools

import jax
import jax.numpy as jnp
import pytest

from spuvm.devices.calls import name_of


def loss(x):
    return x * 2.0


class Model:
    def fit(self): ...


class Stranger:
    """Calls itself after a function that it does not call."""

    func = staticmethod(loss)

    def __call__(self, x):
        return x


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
        (jax.jit(functools.partial(jax.grad(loss), 1.0)), "grad(loss)"),
        (jax.vmap(functools.partial(jax.jit(jax.grad(loss)))), "vmap(grad(loss))"),
        (jnp.vectorize(loss), "vectorize(loss)"),
        (jax.pmap(loss), "pmap(loss)"),
        (jax.named_call(loss, name="mean"), "loss"),
        (Stranger(), "Stranger"),
        (jax.lax.scan, "scan"),
        (jnp.mean, "mean"),
        (lambda x: x, "<lambda>"),
    ],
)
def test_a_gradient_does_not_pass_for_what_it_is_the_gradient_of(fn, name):
    assert name_of(fn) == name
