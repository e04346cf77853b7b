"""Arrays of 128-bit integers against Python integers; what they refuse, they refuse loudly."""

from __future__ import annotations

import pickle
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.ring import Ring
from spuvm.wide import WIDE, Wide, array, cast, elements, from_integers, zeros

RING = Ring(128)
NUMBERS = st.integers(0, (1 << 128) - 1) | st.sampled_from([0, 1, (1 << 128) - 1, 1 << 127])
LISTS = st.lists(NUMBERS, min_size=6, max_size=6)


def wide(values: list[int]) -> Wide:
    return from_integers(np.array(values, object)).reshape(2, 3)


def ints(values: list[int]) -> Any:
    return np.array(values, object).reshape(2, 3)


def same(got: Any, want: Any) -> bool:
    want = np.asarray(want, object)
    return (
        isinstance(got, Wide)
        and got.shape == want.shape
        and got.astype(object).ravel().tolist() == [int(v) % (1 << 128) for v in want.ravel()]
    )


@given(LISTS, LISTS, st.integers(0, 127))
def test_operators(xs: list[int], ys: list[int], n: int) -> None:
    x, y, a, b = wide(xs), wide(ys), ints(xs), ints(ys)
    assert same(x + y, a + b)
    assert same(x - y, a - b)
    assert same(x * y, a * b)
    assert same(x & y, a & b)
    assert same(x | y, a | b)
    assert same(x ^ y, a ^ b)
    assert same(x << n, a << n)
    assert same(x >> n, a >> n)
    assert same(x << 128, a * 0)
    assert same(-x, -a)
    assert same(~x, -a - 1)
    assert (x == y).tolist() == (a == b).tolist()
    assert (x != y).tolist() == (a != b).tolist()
    assert same(x.T[:, ::-1] + y[:, :1].T, a.T[:, ::-1] + b[:, :1].T)
    assert same(x[:, 1:] * x[0, 0], a[:, 1:] * a[0, 0])
    assert same(x + n, a + n)
    assert same(n - x, n - a)
    assert same(np.arange(3, dtype=np.uint64) * x, np.arange(3).astype(object) * a)
    z = x.copy()
    z += y
    z ^= np.asarray(y)  # an array of the dtype without operators is an operand all the same
    assert same(z, (a + b) % (1 << 128) ^ b)


@given(LISTS)
def test_sums_and_conversions(xs: list[int]) -> None:
    x, a = wide(xs), ints(xs)
    for axis in (None, (), 0, 1, (0, 1)):
        assert same(x.sum(axis=axis), a.sum(axis=axis))
    assert RING.signed(x).ravel().tolist() == [v - (v >> 127 << 128) for v in xs]
    assert RING.signed_ends(x) == (RING.signed(x).min(), RING.signed(x).max())
    for dtype in (np.uint8, np.uint32, np.uint64, np.int64):
        low = x.astype(dtype)
        assert low.dtype == dtype
        width = 8 * low.dtype.itemsize
        assert [int(v) % (1 << width) for v in low.ravel()] == [v % (1 << width) for v in xs]
    narrow = x.astype(np.uint32)
    assert same(cast(narrow, WIDE), narrow.astype(object))
    assert same(pickle.loads(pickle.dumps(x)), a)


def test_movement_keeps_the_type() -> None:
    x = wide(list(range(6)))
    moved = [x[0], x[0, 0], x[::-1], x.T, x.reshape(6), np.concatenate([x, np.asarray(x)]),
             np.flip(x, 0), x[np.array(1)], x.take([0], axis=0)]  # fmt: skip
    assert all(isinstance(m, Wide) for m in moved)
    assert [int(v) for v in x.reshape(-1)] == list(range(6))
    assert isinstance(elements(np.asarray(x)), Wide)
    assert same(zeros((2, 3), WIDE), np.zeros((2, 3), object))
    assert array([1, 2], np.dtype(np.uint8)).dtype == np.uint8


def test_signed_numpy_integers() -> None:
    values = np.array([-1, -(1 << 63), (1 << 63) - 1])
    assert RING.signed(RING.array(values)).tolist() == values.tolist()
    assert RING.array(np.array([True, False])).astype(object).tolist() == [1, 0]


def test_what_is_not_given_raises() -> None:
    x = wide([1] * 6)
    plain = np.asarray(x)
    for wrong in (
        lambda: plain + plain,
        lambda: x / x,
        lambda: x < x,
        lambda: x + 0.5,
        lambda: x + np.int64([1, 2, 3]).astype(np.int32),
        lambda: np.maximum(x, x),
        lambda: np.multiply.reduce(x),
        lambda: x @ x.T,
    ):
        with pytest.raises(TypeError):
            wrong()


def test_other_kernels_are_typed_as_before() -> None:
    """The new number type changes no operation between others."""

    def result(*operands: Any) -> str:
        add = numba.njit(lambda x, y: x + y)
        add(*operands)
        (overload,) = add.overloads.values()
        return str(overload.signature.return_type)

    assert result(np.uint64(1), np.int64(1)) == "int64"
    assert result(np.uint8(1), np.uint64(1)) == "uint64"
    assert result(np.uint32(1), np.int64(1)) == "int64"
