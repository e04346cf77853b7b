"""Sorting and top_k: rows are shuffled, and only comparisons of shuffled rows are opened.

See sort_a (protocol/aby3/sort.py). A sort of n rows takes about log2(n) + 5 comparisons a row and
48 bytes a column and row for the shuffle; its rounds grow with log2(n)^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from spuvm.compiler import arith, order, sortplan
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.integer import flipped, width_of
from spuvm.compiler.values import Value, kind_of, lift, wrap_int
from spuvm.errors import CompileError


@rule("sort")
def sort(
    low: Lowering, out: list[Out], *xs: Value, dimension: int, num_keys: int, **_: Any
) -> Sequence[Secret]:
    """Sort along one axis by the first `num_keys` operands, stably."""
    shape = out[0].shape
    columns = [_column(low, x, o, dimension) for x, o in zip(xs, out, strict=True)]
    if shape[dimension] >= 2 and 0 not in shape:
        columns = sorted_columns(low, columns, [o.dtype for o in out], num_keys)
    return [_placed(low, c, o, dimension) for c, o in zip(columns, out, strict=True)]


def _column(low: Lowering, x: Value, o: Out, dimension: int) -> int:
    """An operand as numbers [B, n], the sorted axis last."""
    value = lift(low, x, o.dtype).id
    if kind_of(o.dtype) == "bool":
        value = low.emit("b2a", value)
    elif kind_of(o.dtype) == "int":
        value = wrap_int(low, value, o.dtype)
    rest = [i for i in range(len(o.shape)) if i != dimension]
    moved = low.transpose(value, [*rest, dimension])
    n = o.shape[dimension]
    return low.reshape(moved, (math.prod(o.shape[i] for i in rest), n))


def _placed(low: Lowering, column: int, o: Out, dimension: int) -> Secret:
    rest = [i for i in range(len(o.shape)) if i != dimension]
    shaped = low.reshape(column, [*(o.shape[i] for i in rest), low.shape(column)[1]])
    back = [int(i) for i in np.argsort([*rest, dimension])]
    made = low.transpose(shaped, back)
    return Secret(low.emit("a2b", made, bits=1) if kind_of(o.dtype) == "bool" else made, o.dtype)


def sorted_columns(
    low: Lowering,
    columns: Sequence[int],
    dtypes: Sequence[np.dtype[Any]],
    num_keys: int,
    direction: str = "up",
) -> list[int]:
    """Columns [B, n] with the rows of every b sorted by the first ones, stably; n is at least 2."""
    groups, n = low.shape(columns[0])
    keys: list[int] = []
    widths: list[int] = []
    for column, dtype in zip(columns[:num_keys], dtypes, strict=False):
        for key in _keys(low, column, dtype, direction):
            lo, hi = order.limits(low, key, dtype)
            keys.append(key)
            widths.append(max(1, (hi - lo).bit_length()))
    joined = list(dict.fromkeys([*keys, *columns]))
    with low.unchecked():
        rows = [low.reshape(arith.retype(low, c, 0), (groups, n, 1)) for c in joined]
        table = low.concat(rows, 2)
        steps = sortplan.plan(groups, n)
        made = low.emit("sort_a", table, keys=widths, sizes=steps.sizes, pairs=steps.pairs)
        results = []
        for column in columns:
            at, t = joined.index(column), low.type(column)
            one = low.reshape(low.cut(made, 2, at, at + 1), (groups, n))
            bounds = t.bounds or (None, None)
            results.append(arith.retype(low, one, t.frac, *bounds))
    return results


def _keys(low: Lowering, x: int, dtype: np.dtype[Any], direction: str) -> list[int]:
    """Columns that sort as x does (the other way round for "down"); wide integers are cut in two.

    Differences must fit in the ring: see the widths of sort_a.
    """
    kind = np.dtype(np.uint8) if kind_of(dtype) == "bool" else dtype
    lo, hi = order.limits(low, x, kind)
    if (hi - lo).bit_length() < low.bits:
        with low.unchecked():
            return [low.emit("neg_a", x) if direction == "down" else x]
    width, half = width_of(dtype), width_of(dtype) // 2
    word = low.emit("a2b", x, bits=width)
    if dtype.kind == "i":
        word = flipped(low, word, width - 1)
    if direction == "down":
        word = low.emit("not_b", word)
    return [low.emit("b2a", low.emit("bits_b", word, low=first, width=half)) for first in (half, 0)]


# --- the largest k ---------------------------------------------------------------------------


@rule("top_k")
def top_k(
    low: Lowering, out: list[Out], x: Secret, *, k: int, axis: int, **_: Any
) -> Sequence[Secret]:
    """The k largest along an axis, the largest first, and where they are; of equals the first.

    Blocks are sorted and only the first k of each are kept, until one block is left.
    """
    values, indices = out
    dimension = axis % len(values.shape)
    n = low.shape(x.id)[dimension]
    shape = tuple(n if i == dimension else m for i, m in enumerate(values.shape))
    column = _column(low, x, Out(shape, x.dtype), dimension)
    if not k or not math.prod(values.shape):
        raise CompileError("top_k of nothing", next="ask for at least one element")
    places = np.broadcast_to(np.arange(n, dtype=np.int32), low.shape(column))
    index = lift(low, places, np.dtype(np.int32)).id
    best, where = _largest(low, [column, index], x.dtype, k)
    return [_placed(low, best, values, dimension), _placed(low, where, indices, dimension)]


def _largest(low: Lowering, columns: list[int], dtype: np.dtype[Any], k: int) -> list[int]:
    groups, n = low.shape(columns[0])
    while n > 1:
        size = _block(groups, n, k)
        whole = n // size * size
        parts = []
        for start, stop, length in ((0, whole, size), (whole, n, n - whole)):
            if start == stop:
                continue
            cut = [low.reshape(low.cut(c, 1, start, stop), (groups * (stop - start) // length,
                                                            length)) for c in columns]  # fmt: skip
            if length > 1:
                cut = sorted_columns(low, cut, (dtype, np.dtype(np.int32)), 1, "down")
            kept = min(k, length)
            parts.append(
                [low.reshape(low.cut(c, 1, 0, kept), (groups, (stop - start) // length * kept))
                 for c in cut]
            )  # fmt: skip
        columns = [low.concat(list(p), 1) for p in zip(*parts, strict=True)]
        if size == n:
            break
        n = low.shape(columns[0])[1]
    return [low.cut(c, 1, 0, k) for c in columns]


def _block(groups: int, n: int, k: int) -> int:
    """Rows that are sorted together, so that all stages together are cheap."""
    return _stages(groups, n, k)[1]


@cache
def _stages(groups: int, n: int, k: int) -> tuple[int, int]:
    """(cost of the k largest of n rows, rows of a block in the first stage)."""
    best = sortplan.cost(groups, n), n
    size = 4
    while size < n:
        if size >= 2 * k:
            blocks = -(-n // size)
            cost = sortplan.cost(groups * blocks, size) + _stages(groups, blocks * k, k)[0]
            best = min(best, (cost, size))
        size *= 2
    return best
