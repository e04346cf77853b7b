"""Primitives that some supported versions of JAX have and others do not, by their names."""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import spuvm as sf


def named(name, fn):
    """A primitive of that name which does what `fn` does, as JAX would bind it."""
    primitive = core.Primitive(name)
    primitive.def_impl(lambda *xs, **_: fn(*xs))
    primitive.def_abstract_eval(lambda *xs, **_: jax.typeof(jax.eval_shape(fn, *xs)))
    return primitive.bind


X = np.array([-3.0, -0.5, 0.0, 0.25, 1.0, 7.0], "float32")


def horner(x, *factors):
    return sum(c * x**k for k, c in enumerate(factors))


@pytest.mark.parametrize(
    ("name", "fn", "x"),
    [
        ("one_minus_square", lambda x: 1 - x * x, X),
        ("one_minus_square", lambda x: 1 - x * x, np.arange(-3, 3, dtype="int32")),
        ("log2", jnp.log2, np.array([2.0**-16, 0.3125, 1, 2, 1e6], "float32")),
        ("relayout", lambda x: x + 0, X),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_of_one_operand(name, fn, x):
    made = sf.simulate(named(name, fn))(x)
    want = fn(x)
    assert made.dtype == want.dtype
    assert (np.abs(made - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("secret", [(0,), (0, 1, 2, 3), (2,)])
def test_polynomial(secret):
    operands = [X, np.float32(0.5), X[::-1].copy(), np.float32(-0.25)]

    def fn(*given):
        rest = iter(given)
        return named("polynomial", horner)(
            *(next(rest) if i in secret else jnp.asarray(v) for i, v in enumerate(operands))
        )

    made = sf.simulate(fn)(*(operands[i] for i in secret))
    np.testing.assert_allclose(made, horner(*operands), rtol=2.0**-12, atol=2.0**-12)


@pytest.mark.parametrize(("c", "said"), [((0.5, 2.0, 2.0**-20), False), ((2.0**-20, 2.0), True)])
def test_coefficients_that_nobody_misses_are_not_warned_of(c, said):
    """The square of what rounding cuts off is at most a quarter; the first one is an epsilon."""

    def fn(x):
        rest = x - jnp.round(x)
        return named("polynomial", horner)(rest * rest, *map(jnp.float32, c))

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        made = sf.simulate(fn)(X)
    assert ["is 0 with 18 fraction bits" in str(w.message) for w in heard] == [True] * said
    np.testing.assert_allclose(made, horner((X - np.round(X)) ** 2, *c), atol=2.0**-15)


class Whole:
    """A function of JAX's own that stays whole while it is traced: two results of a list."""

    def __init__(self, *avals):
        self.in_avals_flat = list(avals)
        self.in_tree = jax.tree.structure(tuple(avals))

    def expand(self, x, n):
        return {"sorted": jnp.sort(x), "places": (jnp.searchsorted(jnp.sort(x), x) + n,)}

    def __hash__(self):
        return hash("Whole")

    def __eq__(self, other):
        return isinstance(other, Whole)


@pytest.mark.parametrize("size", [4, 6])
def test_functions_that_stay_whole(size):
    primitive = core.Primitive("call_hi_primitive")
    primitive.multiple_results = True

    def flat(*xs, _prim):
        return jax.tree.leaves(_prim.expand(*xs))

    primitive.def_impl(flat)
    primitive.def_abstract_eval(
        lambda *xs, _prim: [jax.typeof(v) for v in jax.eval_shape(partial(flat, _prim=_prim), *xs)]
    )

    def fn(x, n):
        places, ordered = primitive.bind(x, n, _prim=Whole(jax.typeof(x), jax.typeof(n)))
        return places, ordered * 2

    x, n = X[:size][::-1].copy(), np.int32(3)
    places, doubled = sf.simulate(fn)(x, n)
    np.testing.assert_array_equal(places, np.argsort(np.argsort(x)) + 3)
    np.testing.assert_allclose(doubled, 2 * np.sort(x))


def test_derivative_of_frexp():
    """There JAX 0.12 has the function itself, without the call around it."""
    x = np.array([0.75, 3.0, 20.0], "float32")
    made = sf.simulate(jax.grad(lambda v: jnp.frexp(v)[0].sum()))(x)
    np.testing.assert_allclose(made, 2.0 ** -np.frexp(x)[1], atol=2.0**-12)


def test_log2_of_zero_is_that_of_log():
    made = sf.simulate(named("log2", jnp.log2))(np.zeros(1, "float32"))
    np.testing.assert_allclose(made, -(2.0**22) / math.log(2), rtol=1e-6)


def test_a_function_of_complex_numbers_that_stays_whole():
    """As einsum of JAX 0.12 may be."""
    primitive = core.Primitive("call_hi_primitive")
    primitive.multiple_results = True

    class Product:
        def __init__(self, *avals):
            self.in_avals_flat, self.in_tree = list(avals), jax.tree.structure(tuple(avals))

        __hash__ = None  # as where a parameter is a list

        def expand(self, x, y):
            return x * y

    primitive.def_impl(lambda x, y, _prim: [x * y])
    primitive.def_abstract_eval(lambda x, y, _prim: [x])

    def fn(x):
        z = x + 1j
        return primitive.bind(z, z, _prim=Product(jax.typeof(z), jax.typeof(z)))[0]

    np.testing.assert_allclose(sf.simulate(fn)(X), (X + 1j) ** 2, atol=2.0**-12)
