"""Matrix products modulo 2^k: every path, block borders, strides, read-only operands."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from spuvm.kernels import matmul as module
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.matmul import BLOCK_J, BLOCK_K, matmul
from spuvm.wide import elements, from_integers

SHAPES = [
    (1, 1, 1, 1), (1, 2, 3, 7), (1, 3, 5, 8), (2, 4, BLOCK_K - 1, 9), (1, 5, BLOCK_K, 16),
    (1, 2, BLOCK_K + 1, BLOCK_J - 1), (1, 3, BLOCK_K + 3, BLOCK_J + 1), (1, 1, 2 * BLOCK_K + 5, 8),
    (1, 7, 300, 1), (3, 0, 2, 9), (1, 2, 0, 9), (1, 2, 0, 3), (1, 2, 3, 0), (0, 2, 3, 4),
]  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("shape", SHAPES)
def test_matmul_adds_to_out(shape: tuple[int, ...], bits: int) -> None:
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
def test_large_products_are_shared_by_rows(
    rows: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_WORK", 1)
    monkeypatch.setattr(module, "processors", lambda: 4)
    rng = np.random.default_rng(rows)
    x, y = (rng.integers(0, 2**64, shape, np.uint64) for shape in ((2, rows, 30), (2, 30, columns)))
    out = rng.integers(0, 2**64, (2, rows, columns), np.uint64)
    want = out + x @ y
    matmul(x, y, out)
    assert np.array_equal(out, want)


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
