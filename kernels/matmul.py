"""Matrix products modulo 2^k, loops ordered for vector units and caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from spuvm.kernels.halves import TILE, matmul_halves
from spuvm.kernels.jit import compiled_for, kernel
from spuvm.kernels.threads import LEAST_WORK, processors, shared_out, together

BLOCK_K = 64
BLOCK_J = 512
SMALL = 1 << 16  # multiply-adds: many products up to this size are one call
GATHERED = 1 << 17  # elements of such products that are made contiguous at a time

HALVES = compiled_for("avx2") and not compiled_for("avx512dq")
"""Whether `matmul_halves` is faster: no vector instruction multiplies 64 bits (vpmullq)."""


@kernel
def matmul_rows(x: Any, y: Any, out: Any) -> None:
    """out += x @ y for x (M,K), y (K,N), N not tiny.

    Two rows of `out` take four scaled rows of y at a time, from a block of y that stays in cache.
    """
    rows, inner = x.shape
    columns = y.shape[1]
    for j0 in range(0, columns, BLOCK_J):
        j1 = min(columns, j0 + BLOCK_J)
        width = j1 - j0
        for k0 in range(0, inner, BLOCK_K):
            k1 = min(inner, k0 + BLOCK_K)
            fours = k0 + (k1 - k0) // 4 * 4
            for i in range(0, rows - 1, 2):
                o = out[i, j0:j1]
                p = out[i + 1, j0:j1]
                for k in range(k0, fours, 4):
                    a, b, c, d = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
                    e, f, g, h = x[i + 1, k], x[i + 1, k + 1], x[i + 1, k + 2], x[i + 1, k + 3]
                    y0, y1 = y[k, j0:j1], y[k + 1, j0:j1]
                    y2, y3 = y[k + 2, j0:j1], y[k + 3, j0:j1]
                    for j in range(width):
                        s, t, u, v = y0[j], y1[j], y2[j], y3[j]
                        o[j] += a * s + b * t + c * u + d * v
                        p[j] += e * s + f * t + g * u + h * v
                for k in range(fours, k1):
                    a, e = x[i, k], x[i + 1, k]
                    y0 = y[k, j0:j1]
                    for j in range(width):
                        o[j] += a * y0[j]
                        p[j] += e * y0[j]
            if rows % 2:
                o = out[rows - 1, j0:j1]
                for k in range(k0, k1):
                    a = x[rows - 1, k]
                    y0 = y[k, j0:j1]
                    for j in range(width):
                        o[j] += a * y0[j]


@kernel
def matmul_dots(x: Any, yt: Any, out: Any) -> None:
    """out += x @ yt.T for x (M,K), yt (N,K), N tiny: one dot product per entry."""
    rows, inner = x.shape
    columns = yt.shape[0]
    for i in range(rows):
        for j in range(columns):
            total = out[i, j]
            for k in range(inner):
                total += x[i, k] * yt[j, k]
            out[i, j] = total


@kernel
def row_dots(x: Any, y: Any, out: Any) -> None:
    """out += the dot products of the rows of x and y, both (B,K)."""
    for b in range(out.size):
        total = out[b]
        for k in range(x.shape[1]):
            total += x[b, k] * y[b, k]
        out[b] = total


@kernel
def matmul_small(x: Any, y: Any, out: Any) -> None:
    """out[b] += x[b] @ y[b] for x (B,M,K), y (B,K,N), many small ones."""
    batch, rows, inner = x.shape
    columns = y.shape[2]
    for b in range(batch):
        for i in range(rows):
            for k in range(inner):
                a = x[b, i, k]
                for j in range(columns):
                    out[b, i, j] += a * y[b, k, j]


def matmul(x: Any, y: Any, out: Any) -> None:
    """out[b] += x[b] @ y[b] for x (B,M,K), y (B,K,N) of one unsigned dtype, any strides.

    Large products are shared among the processors, by rows (threads.py), many small ones by batch.
    Operands may be read-only (constants, broadcasts), which would be a type of its own to compile.
    """
    batch, rows, inner = x.shape
    columns = y.shape[2]
    if rows == columns == 1 < batch:
        left = np.require(x.reshape(batch, inner), requirements=["C", "W"])
        right = np.require(y.reshape(batch, inner), requirements=["C", "W"])
        row_dots(left, right, out[:, 0, 0])
        return
    work = rows * inner * columns
    if batch > 1 and work <= SMALL:

        def some(s: slice) -> None:
            left, right = (np.require(a[s], requirements=["C", "W"]) for a in (x, y))
            matmul_small(left, right, out[s])

        step = GATHERED // max(1, rows * inner + inner * columns)
        shared_out(some, batch, step, batch * work)
        return
    function = _fastest(rows, inner, columns, x.dtype)
    group = TILE if function is matmul_halves else 2  # rows that go together
    ways = max(1, min(processors(), rows // group, work // LEAST_WORK))
    step = max(group, -(-rows // (group * ways)) * group)
    for b in range(batch):
        left = np.require(x[b], requirements=["C", "W"])
        right = y[b].T if function is matmul_dots else y[b]
        right = np.require(right, requirements=["C", "W"])
        together(
            [
                partial(function, left[i : i + step], right, out[b, i : i + step])
                for i in range(0, rows, step)
            ]
        )


def _fastest(rows: int, inner: int, columns: int, dtype: Any) -> Callable[..., None]:
    if HALVES and dtype == np.uint64 and min(rows, inner) >= 2 * TILE and columns >= TILE:
        return matmul_halves
    return matmul_dots if columns < 8 else matmul_rows
