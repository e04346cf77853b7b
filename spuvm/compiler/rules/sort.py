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
from spuvm.compiler.rules import Out, missing, rule
from spuvm.compiler.rules.integer import flipped, width_of
from spuvm.compiler.rules.reduce import tree
from spuvm.compiler.values import Value, kind_of, lift, wrap_int
from spuvm.errors import CompileError

INDEX = np.dtype(np.int32)


@rule("sort")
def sort(
    low: Lowering, out: list[Out], *xs: Value, dimension: int, num_keys: int, **_: Any
) -> Sequence[Secret]:
    """Sort along one axis by the first `num_keys` operands, stably, what is missing last."""
    shape = out[0].shape
    if any(isinstance(x, Secret) and x.id in low.missing for x in xs):
        return missing.sorted_with(low, out, xs, dimension, num_keys)
    columns = [_column(low, x, o, dimension) for x, o in zip(xs, out, strict=True)]
    if shape[dimension] >= 2 and 0 not in shape:
        dtypes = [o.dtype for o in out]
        columns = sorted_columns(low, columns, dtypes, ("up",) * num_keys)
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
    directions: Sequence[str],
) -> list[int]:
    """Columns [B, n] with the rows of every b sorted by the first ones, stably; n is at least 2.

    `directions`: "up" or "down" per key.
    """
    groups, n = low.shape(columns[0])
    made = sorted_rows(
        low,
        list(zip(columns, dtypes, directions, strict=False)),
        [low.reshape(c, (groups, n, 1)) for c in columns],
    )
    return [low.reshape(c, (groups, n)) for c in made]


def sorted_rows(
    low: Lowering, keys: Sequence[tuple[int, np.dtype[Any], str]], tables: Sequence[int]
) -> list[int]:
    """Tables [B, n, C] with their rows sorted by key columns [B, n] (dtype, "up" or "down")."""
    groups, n = low.shape(keys[0][0])
    heads: list[int] = []
    widths: list[int] = []
    lows: list[int] = []
    for column, dtype, direction in keys:
        for key in _keys(low, column, dtype, direction):
            lo, hi = order.limits(low, key, dtype)
            heads.append(low.reshape(key, (groups, n, 1)))
            widths.append(max(1, (hi - lo).bit_length()))
            lows.append(lo)
    joined = list(dict.fromkeys([*heads, *tables]))
    starts = dict(zip(joined, np.cumsum([0, *(low.shape(j)[2] for j in joined)]), strict=False))
    with low.unchecked():
        table = low.concat([arith.retype(low, j, 0) for j in joined], 2)
        steps = sortplan.plan(groups, n)
        made = low.emit(
            "sort_a", table, keys=widths, lows=lows, sizes=steps.sizes, pairs=steps.pairs
        )
        results = []
        for one in tables:
            first, t = int(starts[one]), low.type(one)
            part = low.cut(made, 2, first, first + t.shape[2])
            results.append(arith.retype(low, part, t.frac, *(t.bounds or (None, None))))
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

    Of many, the rows are cut in blocks, of which the k with the largest maxima are kept: whatever
    precedes them has an element that precedes all of theirs.
    """
    values, indices = out
    dimension = axis % len(values.shape)
    n = low.shape(x.id)[dimension]
    shape = tuple(n if i == dimension else m for i, m in enumerate(values.shape))
    if not k or not math.prod(values.shape):
        raise CompileError("top_k of nothing", next="ask for at least one element")
    column = _column(low, x, Out(shape, x.dtype), dimension)
    groups = low.shape(column)[0]
    places = np.broadcast_to(np.arange(n, dtype=np.int32), (groups, n))
    index = lift(low, places, INDEX).id
    rows = [low.reshape(c, (groups, n, 1)) for c in (column, index)]
    made = _first_rows(low, x.dtype, rows, k, ordered=True)
    best, where = (low.reshape(c, (groups, k)) for c in made)
    return [_placed(low, best, values, dimension), _placed(low, where, indices, dimension)]


@rule("approx_top_k")
def approx_top_k(
    low: Lowering,
    out: list[Out],
    x: Secret,
    *,
    k: int,
    reduction_dimension: int,
    is_max_k: bool,
    aggregate_to_topk: bool,
    **_: Any,
) -> Sequence[Secret]:
    """lax.approx_max_k and approx_min_k of floats, exactly."""
    if not aggregate_to_topk:
        raise CompileError(
            "approx_max_k without aggregation has a result per device",
            next="leave out aggregate_to_topk=False, or use lax.top_k",
        )
    if is_max_k:
        return top_k(low, out, x, k=k, axis=reduction_dimension)
    turned = Secret(low.emit("neg_a", x.id), x.dtype)
    values, places = top_k(low, out, turned, k=k, axis=reduction_dimension)
    return Secret(low.emit("neg_a", values.id), values.dtype), places


def _first_rows(
    low: Lowering, dtype: np.dtype[Any], tables: Sequence[int], k: int, *, ordered: bool
) -> list[int]:
    """The k rows with the largest keys, the largest first; of equal keys that with the least place.

    Tables are [B, n, C]; the first holds the key, the second the place, one column each. Places are
    different integers, that rise along the rows if `ordered`, and along those of a block if not.

    Of many rows, blocks are made, of which the k whose largest keys come first are kept: whatever
    precedes another one has a row that precedes all of its rows.
    """
    groups, n, _ = low.shape(tables[0])
    size = _block(groups, n, k)
    if size < n:
        tables = _kept_blocks(low, dtype, tables, k, size, ordered=ordered)
        return _first_rows(low, dtype, tables, k, ordered=False)
    if n > 1:
        key, place = (low.reshape(t, (groups, n)) for t in tables[:2])
        keys = [(key, dtype, "down"), (place, INDEX, "up")]
        tables = sorted_rows(low, keys[: 1 if ordered else 2], tables)
    return [low.cut(t, 1, 0, k) for t in tables]


def _kept_blocks(
    low: Lowering, dtype: np.dtype[Any], tables: Sequence[int], k: int, size: int, *, ordered: bool
) -> list[int]:
    """All rows of the k best blocks, and those that fill no block."""
    groups, n, _ = low.shape(tables[0])
    count = n // size
    kind = np.dtype(np.uint8) if kind_of(dtype) == "bool" else dtype
    blocks = [
        low.reshape(low.cut(t, 1, 0, count * size), (groups, count, size * low.shape(t)[2]))
        for t in tables
    ]
    pick = lambda a, b: order.maximum(low, a, b, kind)  # noqa: E731
    best = tree(low, low.transpose(blocks[0], (2, 0, 1)), pick)
    heads = [low.reshape(best, (groups, count, 1)), low.cut(blocks[1], 2, 0, 1)]
    rows = []
    kept = _first_rows(low, kind, [*heads, *blocks], k, ordered=ordered)[2:]
    for made, old in zip(kept, tables, strict=True):
        shaped = low.reshape(made, (groups, k * size, low.shape(old)[2]))
        rest = [low.cut(old, 1, count * size, n)] if n % size else []
        rows.append(low.concat(arith.align(low, [shaped, *rest]), 1))
    return rows


def _block(groups: int, n: int, k: int) -> int:
    """Rows per block, so that all together is cheap; n: no blocks."""
    return _selection(groups, n, k)[1]


@cache
def _selection(groups: int, n: int, k: int) -> tuple[int, int]:
    """(cost, rows per block)."""
    found = [(sortplan.cost(groups, n), n)]
    size = 2
    while size * k < n:
        count = n // size
        if count > k and k * size + n % size < n:
            after = _selection(groups, count, k)[0] + _selection(groups, k * size + n % size, k)[0]
            levels = sortplan.STEP * (size - 1).bit_length()
            found.append((after + 3 * groups * count * (size - 1) // 2 + levels, size))
        size *= 2
    return min(found)
