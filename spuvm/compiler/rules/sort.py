"""Sorting by a network of compare-exchanges on whole rows; no order is ever opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Value, kind_of, lift, wrap_int
from spuvm.errors import CompileError

Pairs = list[tuple[int, int]]


def network(n: int) -> list[Pairs]:
    """Batcher's odd-even merge sort for any n: stages of disjoint (low, high) pairs.

    Ref: Batcher 1968; the loop is Knuth's algorithm M (TAOCP 3, 5.2.2).
    """
    stages = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            pairs = [
                (i + j, i + j + k)
                for j in range(k % p, n - k, 2 * k)
                for i in range(min(k, n - j - k))
                if (i + j) // (2 * p) == (i + j + k) // (2 * p)
            ]
            stages.append(pairs)
            k //= 2
        p *= 2
    return stages


def rows(low: Lowering, sources: Sequence[int], picks: Sequence[tuple[int, int]]) -> int:
    """Rows (source number, row) joined along axis 0; arithmetic progressions are one slice."""
    parts = []
    start = 0
    while start < len(picks):
        source, first = picks[start]
        stop, step = start + 1, 1
        if stop < len(picks) and picks[stop][0] == source and picks[stop][1] > first:
            step = picks[stop][1] - first
        while stop < len(picks) and picks[stop] == (source, first + (stop - start) * step):
            stop += 1
        last = first + (stop - start - 1) * step
        parts.append(low.cut(sources[source], 0, first, last + 1, step))
        start = stop
    return low.concat(parts, 0)


@rule("sort")
def sort(
    low: Lowering, out: list[Out], *xs: Value, dimension: int, num_keys: int, **_: Any
) -> Sequence[Secret]:
    """Sort along one axis by the first `num_keys` operands; several operands keep ties in order."""
    shape = out[0].shape
    columns = [_column(low, x, o, dimension) for x, o in zip(xs, out, strict=True)]
    dtypes = [o.dtype for o in out]
    keys = num_keys
    if len(columns) > 1:  # the place where a row came from decides ties: the sort is stable
        columns.insert(keys, _places(low, columns[0]))
        dtypes.insert(keys, np.dtype(np.int32))
        keys += 1
    for pairs in network(shape[dimension] if shape else 1):
        columns = _stage(low, columns, dtypes, keys, pairs)
    if len(xs) > 1:
        del columns[num_keys], dtypes[num_keys]
    back = list(np.argsort([dimension, *(i for i in range(len(shape)) if i != dimension)]))
    return [
        Secret(low.transpose(c, [int(i) for i in back]), o.dtype)
        for c, o in zip(columns, out, strict=True)
    ]


def _column(low: Lowering, x: Value, o: Out, dimension: int) -> int:
    """An operand as shares with the sorted axis first."""
    kind = kind_of(o.dtype)
    if kind == "bool":
        raise CompileError("sorting secret Booleans is not supported", next="convert to int32")
    value = lift(low, x, o.dtype).id
    if kind == "int":
        value = wrap_int(low, value, o.dtype)
    rest = [i for i in range(len(o.shape)) if i != dimension]
    return low.transpose(value, [dimension, *rest])


def _places(low: Lowering, column: int) -> int:
    shape = low.shape(column)
    index = np.broadcast_to(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape)
    return lift(low, np.ascontiguousarray(index, np.int32), np.dtype(np.int32)).id


def _stage(
    low: Lowering, columns: list[int], dtypes: list[np.dtype[Any]], keys: int, pairs: Pairs
) -> list[int]:
    n = low.shape(columns[0])[0]
    lows = [rows(low, [c], [(0, i) for i, _ in pairs]) for c in columns]
    highs = [rows(low, [c], [(0, j) for _, j in pairs]) for c in columns]
    if len(columns) == 1:
        ends = [_exchange(low, lows[0], highs[0], dtypes[0])]
    else:
        swap = _precedes(low, highs[:keys], lows[:keys], dtypes[:keys])
        ends = [_swap(low, swap, a, b) for a, b in zip(lows, highs, strict=True)]
    where = {i: (1, at) for at, (i, _) in enumerate(pairs)}
    where |= {j: (2, at) for at, (_, j) in enumerate(pairs)}
    picks = [where.get(i, (0, i)) for i in range(n)]
    made = []
    for column, (small, large) in zip(columns, ends, strict=True):
        joined = rows(low, [column, small, large], picks)
        bounds = low.type(column).bounds
        made.append(low.narrowed(joined, *bounds) if bounds else joined)
    return made


def _exchange(low: Lowering, a: int, b: int, dtype: np.dtype[Any]) -> tuple[int, int]:
    """(min, max): both from one product of the sign with the difference."""
    delta = order.difference(low, a, b, dtype)
    if delta is None:
        swap = order.less(low, b, a, dtype)
        return _swap(low, swap, a, b)
    surplus = order.times(low, order.negate(low, order.negative(low, delta)), delta)
    with low.unchecked():
        return low.emit("sub_aa", a, surplus), low.emit("add_aa", b, surplus)


def _swap(low: Lowering, swap: order.Bit, a: int, b: int) -> tuple[int, int]:
    """(b, a) where `swap`, else (a, b)."""
    with low.unchecked():
        step = order.times(low, swap, low.emit("sub_aa", b, a))
        return low.emit("add_aa", a, step), low.emit("sub_aa", b, step)


def _precedes(
    low: Lowering, xs: list[int], ys: list[int], dtypes: list[np.dtype[Any]]
) -> order.Bit:
    """xs before ys, key by key."""
    *early, (x, y, dtype) = zip(xs, ys, dtypes, strict=True)
    before = order.less(low, x, y, dtype)
    for x, y, dtype in reversed(early):
        first = order.less(low, x, y, dtype)
        if isinstance(first, bool):  # the ranges are apart or one value: a tie only if both are
            bounds = low.type(x).bounds
            before = before if not first and bounds == low.type(y).bounds else first
            continue
        with low.unchecked():
            delta = arith.sub(low, x, y)
        equal = low.emit("eqz_a", delta, bits=_equal_bits(low, delta))
        if isinstance(before, bool):
            before = low.emit("xor_bb", first, equal) if before else first
        else:
            before = low.emit("xor_bb", first, low.emit("and_bb", equal, before))
    return before


def _equal_bits(low: Lowering, delta: int) -> int:
    bounds = low.type(delta).bounds
    if bounds is None:
        return low.bits
    return min(low.bits, max(1, low.type(delta).magnitude(0).bit_length()))
