"""Matrix products of 64-bit words for processors that multiply 32 bits at a time.

Without the vector instruction for 64 by 64 bits (AVX-512DQ has it) a product takes three
multiplications and as many shifts and additions. Here a sum of products a b, a = 2^32 a' + a'',
takes two and two: the sums of a'' b'' (64 bits) and of a' b'' and a'' b' modulo 2^32, which lie in
the upper and the lower half of a lane, are kept apart and put together at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from spuvm.kernels.jit import kernel

LANES, TILE = 4, 4
"""Columns, 256 bits of them, and rows of a tile: its sums, twice, are half of the 16 registers."""
DEPTH, ROWS, COLUMNS = 512, 32, 256
"""Of the blocks: LANES columns of y stay in the first cache, so many rows of x in the second."""

_INDEX, _HALF = ir.IntType(64), ir.IntType(32)
_WORDS, _HALVES = ir.VectorType(_INDEX, LANES), ir.VectorType(_HALF, 2 * LANES)
_LOW = ir.Constant(_WORDS, [2**32 - 1] * LANES)
_HIGH = ir.Constant(_WORDS, [2**64 - 2**32] * LANES)
_SWAPPED = ir.Constant(_HALVES, [i ^ 1 for i in range(2 * LANES)])


def _tile(
    typing: Any, x: Any, i: Any, k: Any, panels: Any, panel: Any, depth: Any,
    out: Any, row: Any, column: Any,
) -> Any:  # fmt: skip
    """out[row:row+TILE, column:column+LANES] += x[i:i+TILE, k:k+depth] @ panels[panel, :depth].

    Below the last row of x its last row is taken.
    """
    if any((a.dtype, a.layout) != (types.uint64, "C") for a in (x, panels, out)):
        return None  # numba reports that there is no such function
    index = types.intp
    sig = types.void(x, index, index, panels, index, index, out, index, index)

    def made(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def array(n: int) -> Any:
            return context.make_array(sig.args[n])(context, builder, args[n])

        def pointers(a: Any, first: Any, second: Any) -> list[Any]:
            height, width = (builder.extract_value(a.shape, n) for n in (0, 1))
            last, found = builder.sub(height, _INDEX(1)), []
            for r in range(TILE):
                row = builder.add(first, _INDEX(r))
                row = builder.select(builder.icmp_signed("<", row, height), row, last)
                found.append(builder.gep(a.data, [builder.add(builder.mul(row, width), second)]))
            return found

        def vector(pointer: Any) -> Any:
            return builder.bitcast(pointer, _WORDS.as_pointer())

        sources, panels = pointers(array(0), args[1], args[2]), array(3)
        size = builder.mul(builder.extract_value(panels.shape, 1), _INDEX(LANES))
        data = builder.gep(panels.data, [builder.mul(args[4], size)])
        lows = [cgutils.alloca_once_value(builder, _WORDS(None)) for _ in sources]
        crossed = [cgutils.alloca_once_value(builder, _HALVES(None)) for _ in sources]
        with cgutils.for_range(builder, args[5]) as loop:
            start = builder.mul(loop.index, _INDEX(LANES))
            right = builder.load(vector(builder.gep(data, [start])), align=8)
            low = builder.and_(right, _LOW)
            halves = builder.bitcast(right, _HALVES)
            swapped = builder.shuffle_vector(halves, halves, _SWAPPED)
            for source, total, cross in zip(sources, lows, crossed, strict=True):
                one = builder.load(builder.gep(source, [loop.index]))
                left = builder.insert_element(_WORDS(ir.Undefined), one, _HALF(0))
                left = builder.shuffle_vector(left, left, ir.VectorType(_HALF, LANES)(None))
                product = builder.mul(builder.and_(left, _LOW), low)
                builder.store(builder.add(builder.load(total), product), total)
                product = builder.mul(builder.bitcast(left, _HALVES), swapped)
                builder.store(builder.add(builder.load(cross), product), cross)
        targets = pointers(array(6), args[7], args[8])
        for target, total, cross in zip(targets, lows, crossed, strict=True):
            both = builder.bitcast(builder.load(cross), _WORDS)
            upper = builder.shl(both, _WORDS([32] * LANES))
            entry = builder.load(vector(target), align=8)
            for part in (upper, builder.and_(both, _HIGH), builder.load(total)):
                entry = builder.add(entry, part)
            builder.store(entry, vector(target), align=8)
        return context.get_dummy_value()

    return sig, made


_add_tile: Any = intrinsic(_tile)


@kernel
def matmul_halves(x: Any, y: Any, out: Any) -> None:
    """out += x @ y for x (M,K), y (K,N) of 64 bits, best where none of M, N, K is tiny.

    Tiles of `out` are summed up in registers, over blocks of y that are copied to lie in order.
    """
    rows, inner = x.shape
    columns = y.shape[1]
    breadth, depth = -(-min(columns, COLUMNS) // LANES), min(inner, DEPTH)
    panels = np.empty((breadth, depth + 2, LANES), x.dtype)  # not a power of 2 apart: caches
    spare = np.empty((TILE, LANES), x.dtype)
    for j0 in range(0, columns, COLUMNS):
        width = min(columns - j0, COLUMNS)
        whole = width // LANES
        for k0 in range(0, inner, DEPTH):
            depth = min(inner - k0, DEPTH)
            for k in range(depth):
                for j in range(whole):
                    for lane in range(LANES):
                        panels[j, k, lane] = y[k0 + k, j0 + LANES * j + lane]
                for lane in range(width - LANES * whole):
                    panels[whole, k, lane] = y[k0 + k, j0 + LANES * whole + lane]
            for i0 in range(0, rows, ROWS):
                for j in range(0, width, LANES):
                    for i in range(i0, min(rows, i0 + ROWS), TILE):
                        target, row, column = out, i, j0 + j
                        inside = i + TILE <= rows and j + LANES <= width
                        if not inside:
                            target, row, column = spare, 0, 0
                            spare[:] = 0
                        _add_tile(x, i, k0, panels, j // LANES, depth, target, row, column)
                        if not inside:
                            for r in range(min(TILE, rows - i)):
                                for lane in range(min(LANES, width - j)):
                                    out[i + r, j0 + j + lane] += spare[r, lane]
