"""What numpy computes at compile time is what JAX computes, to the last bit."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from spuvm.compiler.by_numpy import _RULES, by_numpy

FLOATS, INTEGERS = ("float32", "float64"), ("int8", "uint8", "int32", "int64", "uint64")
TWO = {
    "add": lax.add, "sub": lax.sub, "mul": lax.mul, "div": lax.div, "eq": lax.eq, "ne": lax.ne,
    "lt": lax.lt, "le": lax.le, "gt": lax.gt, "ge": lax.ge,
}  # fmt: skip
BITS = {"and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor}
ONE = {"neg": lax.neg, "abs": lax.abs}
MOVES = {
    "slice": lambda x: lax.slice(x, (1, 0, 0), (3, 5, 1), (1, 2, 1)),
    "squeeze": lambda x: lax.squeeze(x, (2,)),
    "reshape": lambda x: lax.reshape(x, (5, 3)),
    "transpose": lambda x: lax.transpose(x, (1, 0, 2)),
    "rev": lambda x: lax.rev(x, (1,)),
    "iota": lambda x: lax.broadcasted_iota(x.dtype, (2, 3, 2), 1),
}


def same_as_in_jax(function, name, *xs, found=True):
    """The one equation of this name, computed in both ways."""
    with jax.enable_x64(True):
        eqns = [e for e in jax.make_jaxpr(function)(*xs).eqns if e.primitive.name == name]
        operands = xs[: len(eqns[0].invars)]  # none of iota
        want = eqns[0].primitive.bind(*operands, **eqns[0].params)
        got = by_numpy(eqns[0], operands)
    if not found:
        assert got is None
        return
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    if got.dtype.kind == "f":
        numbers = ~np.isnan(got)
        assert np.array_equal(np.signbit(got)[numbers], np.signbit(want)[numbers])


def arrays(dtype):
    """Any bits: ends of the dtype, subnormal numbers, infinities and NaN; equal and zero ones."""

    def made(seed):
        rng, size = np.random.default_rng(seed), np.dtype(dtype).itemsize
        if dtype == "bool":
            return rng.integers(0, 2, (8, 5)).astype(bool)
        drawn = np.frombuffer(rng.bytes(40 * size), dtype).reshape(8, 5).copy()
        drawn[rng.random((8, 5)) < 0.2] = 0
        if dtype in FLOATS:
            info = np.finfo(dtype)
            special = [info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan, 1, 1.5, -0.0]
            drawn[:, 0] = special * rng.choice([-1, 1], 8)
            drawn[rng.permutation(8), 1] = special
        return drawn

    return st.integers(0, 2**32).map(made)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@given(data=st.data())
def test_two_operands(name, dtype, data):
    x, y = data.draw(arrays(dtype)), data.draw(arrays(dtype))
    found = name != "div" or dtype in FLOATS
    same_as_in_jax(TWO[name], name, x, y, found=found)


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@given(data=st.data())
def test_bits(name, dtype, data):
    x, y = data.draw(arrays(dtype)), data.draw(arrays(dtype))
    same_as_in_jax(BITS[name], name, x, y)
    same_as_in_jax(lax.bitwise_not, "not", x)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "int64"])
@given(data=st.data())
def test_one_operand(name, dtype, data):
    same_as_in_jax(ONE[name], name, data.draw(arrays(dtype)))


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_moved_elements(name, dtype):
    x = np.arange(15, dtype=dtype).reshape(3, 5, 1)
    same_as_in_jax(MOVES[name], name, x)
    same_as_in_jax(lambda x, y: lax.concatenate([x, y], 1), "concatenate", x, x[:, :2])


@pytest.mark.parametrize("old", [*FLOATS, *INTEGERS, "bool"])
@pytest.mark.parametrize("new", [*FLOATS, *INTEGERS, "bool"])
@given(data=st.data())
def test_conversions(old, new, data):
    if old == new:
        return
    found = old not in FLOATS or new not in INTEGERS
    x = data.draw(arrays(old))
    same_as_in_jax(
        lambda x: lax.convert_element_type_p.bind(
            x, new_dtype=np.dtype(new), weak_type=False, sharding=None
        ),
        "convert_element_type", x, found=found,
    )  # fmt: skip


@given(data=st.data())
def test_choices(data):
    which, x, y = (data.draw(arrays(dtype)) for dtype in ("bool", "float32", "float32"))
    same_as_in_jax(lambda w, x, y: lax.select_n(w, x, y), "select_n", which, x, y)
    same_as_in_jax(
        lambda w, x, y, z: lax.select_n(w, x, y, z), "select_n", which.astype("int32"), x, y, -x,
        found=False,
    )  # fmt: skip


def test_literals_have_the_dtype_of_the_equation():
    """As Python's floats they would bring digits that JAX does not have."""
    (eqn,) = jax.make_jaxpr(lambda x: x * 0.3)(np.float32(1)).eqns
    got = by_numpy(eqn, [np.float32(3), 0.3])
    assert got == np.float32(3) * np.float32(0.3)
    assert got != np.float32(3 * 0.3)


def test_other_dtypes_are_left_to_jax():
    for dtype in (jax.numpy.bfloat16, "float16"):
        x = np.ones((3, 5), dtype)
        same_as_in_jax(lax.add, "add", x, x, found=False)


def test_each_rule_is_compared():
    tested = {*TWO, *BITS, *ONE, *MOVES, "concatenate", "not", "convert_element_type", "select_n"}
    assert tested == set(_RULES)
