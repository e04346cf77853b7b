"""Kernels of table look-ups: dealt unit vectors, turned to the place that an index names.

Vectors are rows of `columns` places, a power of two; offsets are integers 0 .. columns - 1. Ring
elements of 128 bits have the dtype V16 (uint128.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.kernels.jit import kernel
from spuvm.kernels.threads import shared_out


@kernel
def unit_deal(mask: Any, offset: Any, out: Any) -> None:
    """out[i] = the unit vector at -offset[i], minus mask[i]."""
    T = out.dtype.type
    rows, columns = out.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] = T(T(0) - mask[i, j])
        out[i, (columns - offset[i]) % columns] += T(1)


@kernel
def turned(x: Any, offset: Any, out: Any) -> None:
    """out[i, j] += x[i, j - offset[i]], cyclic in the columns of x; out may have fewer of them."""
    rows, columns = x.shape
    wanted = out.shape[1]
    for i in range(rows):
        first = (columns - offset[i]) % columns
        head = min(wanted, columns - first)
        for j in range(head):
            out[i, j] += x[i, first + j]
        for j in range(head, wanted):
            out[i, j] += x[i, j - head]


def look_up(table: Any, low: Any, offset: Any, out: Any) -> None:
    """out[i, j, c] += sum over k of low[i, k] table[j' L + k, c], L columns of low.

    j' is j, but for k > offset[i] the row before, cyclic: places there have borrowed from it. Rows
    that the table lacks are 0. Many indices are shared among the processors.
    """
    public = np.ascontiguousarray(table).view()
    public.setflags(write=False)  # as constants are: one type to compile

    def some(s: slice) -> None:
        look_up_rows(public, low[s], offset[s], out[s])

    shared_out(some, len(low), len(low), len(low) * table.size)


@kernel
def look_up_rows(table: Any, low: Any, offset: Any, out: Any) -> None:
    """look_up, by one thread; a part of the table is read once for all indices."""
    rows, columns = low.shape
    width, high = table.shape[1], out.shape[1]
    flat = table.reshape(-1)
    for j in range(high):
        start = columns * j
        end = min(columns, len(table) - start)
        after = (j + 1) % high
        for i in range(rows):
            borrowed = min(offset[i] + 1, end)
            if width == 1:
                total = out[i, j, 0]
                for k in range(borrowed):
                    total += low[i, k] * flat[start + k]
                out[i, j, 0] = total
                total = out[i, after, 0]
                for k in range(offset[i] + 1, end):
                    total += low[i, k] * flat[start + k]
                out[i, after, 0] = total
                continue
            for k in range(end):
                place = j if k < borrowed else after
                for c in range(width):
                    out[i, place, c] += low[i, k] * table[start + k, c]
