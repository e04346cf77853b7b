"""Matrix products modulo 2^k, loops ordered for vector units and caches."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.kernels.jit import kernel


@kernel
def matmul_rows(x: Any, y: Any, out: Any) -> None:
    """out += x @ y for x (M,K), y (K,N), N not tiny: rows of `out` accumulate scaled rows of y."""
    rows, inner = x.shape
    columns = y.shape[1]
    block_k = 64
    block_j = 512
    for j0 in range(0, columns, block_j):
        j1 = min(columns, j0 + block_j)
        for k0 in range(0, inner, block_k):
            k1 = min(inner, k0 + block_k)
            for i in range(rows):
                k = k0
                while k + 4 <= k1:
                    a, b, c, d = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
                    for j in range(j0, j1):
                        out[i, j] += (
                            a * y[k, j] + b * y[k + 1, j] + c * y[k + 2, j] + d * y[k + 3, j]
                        )
                    k += 4
                while k < k1:
                    a = x[i, k]
                    for j in range(j0, j1):
                        out[i, j] += a * y[k, j]
                    k += 1


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


def matmul(x: Any, y: Any, out: Any) -> None:
    """out[b] += x[b] @ y[b] for x (B,M,K), y (B,K,N) of one unsigned dtype, any strides."""
    for b in range(x.shape[0]):
        if y.shape[2] < 8:
            columns = np.ascontiguousarray(y[b].T)
            matmul_dots(np.ascontiguousarray(x[b]), columns, out[b])
        else:
            matmul_rows(np.ascontiguousarray(x[b]), np.ascontiguousarray(y[b]), out[b])
