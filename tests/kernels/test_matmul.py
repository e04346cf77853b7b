"""Matrix products modulo 2^k: every path, block borders, strides, read-only operands."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spuvm.kernels import matmul as module
from spuvm.kernels import threads
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.halves import COLUMNS, DEPTH, LANES, ROWS, TILE, matmul_halves
from spuvm.kernels.jit import compiled_for
from spuvm.kernels.matmul import BLOCK_J, BLOCK_K, matmul
from spuvm.wide import elements, from_integers

SHAPES = [
    (1, 1, 1, 1), (1, 2, 3, 7), (1, 3, 5, 8), (2, 4, BLOCK_K - 1, 9), (1, 5, BLOCK_K, 16),
    (1, 2, BLOCK_K + 1, BLOCK_J - 1), (1, 3, BLOCK_K + 3, BLOCK_J + 1), (1, 1, 2 * BLOCK_K + 5, 8),
    (1, 7, 300, 1), (3, 0, 2, 9), (1, 2, 0, 9), (1, 2, 0, 3), (1, 2, 3, 0), (0, 2, 3, 4),
    (2, 2 * TILE, 2 * TILE, LANES), (1, ROWS + 1, DEPTH + 1, COLUMNS + 1), (1, 9, 8, 7),
    (5, 1, 40, 1), (300, 1, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "halves"), [(32, False), (64, False), (64, True), (128, False)])
@pytest.mark.parametrize("shape", SHAPES)
def test_matmul_adds_to_out(
    shape: tuple[int, ...], bits: int, halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HALVES", halves)
    batch, m, k, n = shape
    rng = np.random.default_rng(0)
    T = small_dtype(bits)

    def draw(*size: int) -> np.ndarray:
        return elements(np.frombuffer(rng.bytes(math.prod(size) * T.itemsize), T).reshape(size))

    x, y, before = draw(batch, m, k), draw(batch, k, n), draw(batch, m, n)
    if bits == 128:  # numpy multiplies matrices of Python integers
        product = np.array(x.astype(object) @ y.astype(object), object)
        want = before + from_integers(product).reshape(before.shape)
    else:
        want = before + (x @ y).astype(T)
    for a, b in (
        (x, y),
        (
            x.transpose(0, 2, 1).copy().transpose(0, 2, 1),
            y.transpose(0, 2, 1).copy().transpose(0, 2, 1),
        ),
        (np.repeat(x, 2, axis=2)[:, :, ::2], y[:, ::-1][:, ::-1]),
    ):
        out = before.copy()
        matmul(a, b, out)
        assert np.array_equal(out, want)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize("columns", [3, 40])
@pytest.mark.parametrize("halves", [False, True])
def test_large_products_are_shared_by_rows(
    rows: int, columns: int, halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HALVES", halves)
    monkeypatch.setattr(module, "LEAST_WORK", 1)
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "processors", lambda: 4)
    rng = np.random.default_rng(rows)
    x, y = (rng.integers(0, 2**64, shape, np.uint64) for shape in ((2, rows, 30), (2, 30, columns)))
    out = rng.integers(0, 2**64, (2, rows, columns), np.uint64)
    want = out + x @ y
    matmul(x, y, out)
    assert np.array_equal(out, want)


@pytest.mark.parametrize("gathered", [1, 100, 1 << 17])
@pytest.mark.parametrize("ways", [1, 3])
@pytest.mark.parametrize("shape", [(50, 2, 3, 4), (7, 1, 5, 9), (2, 4, 1, 1), (3, 0, 2, 2)])
def test_many_small_products_go_together(
    shape: tuple[int, ...], ways: int, gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces and by several threads; one operand the same for all."""
    monkeypatch.setattr(module, "GATHERED", gathered)
    monkeypatch.setattr(threads, "LEAST_WORK", 1)
    monkeypatch.setattr(threads, "processors", lambda: ways)
    batch, m, k, n = shape
    rng = np.random.default_rng(m)
    x, y, before = (
        rng.integers(0, 2**64, size, np.uint64) for size in ((batch, m, k), (k, n), (batch, m, n))
    )
    out = before.copy()
    matmul(x, np.broadcast_to(y, (batch, k, n)), out)
    assert np.array_equal(out, before + x @ y)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 0, 1), (1, 1, 1), (TILE - 1, 5, LANES - 1), (TILE, 1, LANES), (TILE + 1, 7, LANES + 1),
        (ROWS, DEPTH, 5), (ROWS + TILE + 1, DEPTH - 1, COLUMNS - 1), (3, 2 * DEPTH + 1, COLUMNS),
        (ROWS - 1, DEPTH + 1, COLUMNS + LANES + 2), (0, 5, 6), (5, 6, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", ["random", "ones", "low", "high", "borders"])
def test_halves(shape: tuple[int, int, int], words: str) -> None:
    """Where sums of products of halves carry most: into the upper half, and out of it."""
    m, k, n = shape
    rng = np.random.default_rng(m + k + n)
    ends = np.array([0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 2**32, 2**64 - 1], np.uint64)

    def draw(*size: int) -> np.ndarray:
        if words == "random":
            return rng.integers(0, 2**64, size, np.uint64)
        if words == "borders":
            return ends[rng.integers(0, len(ends), size)]
        word = {"ones": 2**64 - 1, "low": 2**32 - 1, "high": 2**64 - 2**32}[words]
        return np.full(size, word, np.uint64)

    x, y, out = draw(m, k), draw(k, n), draw(m, n)
    want = out + x @ y
    matmul_halves(x, y, out)
    assert np.array_equal(out, want)


WORDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**32 - 1, 2**32, 2**63, 2**64 - 1])


@settings(deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(0, 5), st.integers(1, 9))
def test_halves_against_python_integers(data: st.DataObject, m: int, k: int, n: int) -> None:
    def draw(*shape: int) -> np.ndarray:
        size = math.prod(shape)
        words = data.draw(st.lists(WORDS, min_size=size, max_size=size))
        return np.array(words, object).reshape(shape)

    x, y, out = draw(m, k), draw(k, n), draw(m, n)
    got = out.astype(np.uint64)
    matmul_halves(x.astype(np.uint64), y.astype(np.uint64), got)
    want = out + x @ y if k else out
    assert np.array_equal(got.astype(object), want % 2**64)


def test_halves_where_64_bits_are_no_instruction() -> None:
    assert not (module.HALVES and compiled_for("avx512dq"))
    assert not compiled_for("avx") or compiled_for("sse4.1")
    assert not compiled_for("no-such-feature")


def test_threads_follow_the_setting() -> None:
    code = "from spuvm.kernels.matmul import processors; print(processors())"
    env = {**os.environ, "NUMBA_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"3"]


def test_broadcast_operands() -> None:
    x = np.broadcast_to(np.arange(6, dtype=np.uint64).reshape(1, 2, 3), (4, 2, 3))
    y = np.broadcast_to(np.uint64(5), (4, 3, 9))
    out = np.zeros((4, 2, 9), np.uint64)
    matmul(x, y, out)
    assert np.array_equal(out, x @ y)
