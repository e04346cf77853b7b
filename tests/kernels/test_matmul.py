"""Matrix products modulo 2^k: every path, block borders, strides, read-only operands."""

import math

import numpy as np
import pytest

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


def test_broadcast_operands() -> None:
    x = np.broadcast_to(np.arange(6, dtype=np.uint64).reshape(1, 2, 3), (4, 2, 3))
    y = np.broadcast_to(np.uint64(5), (4, 3, 9))
    out = np.zeros((4, 2, 9), np.uint64)
    matmul(x, y, out)
    assert np.array_equal(out, x @ y)
