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
from spuvm.compiler.rules.reduce import tree
from spuvm.compiler.values import Value, kind_of, lift, wrap_int
from spuvm.errors import CompileError

INDEX = np.dtype(np.int32)


@rule("sort")
def sort(
    low: Lowering, out: list[Out], *xs: Value, dimension: int, num_keys: int, **_: Any
) -> Sequence[Secret]:
    """Sort along one axis by the first `num_keys` operands, stably."""
    shape = out[0].shape
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
    size = _block(groups, n, k)
    if size < n:
        column, index = _best_blocks(low, column, x.dtype, size, k)
    if n > 1:
        pair, kinds = (column, index), (x.dtype, INDEX)
        column, index = sorted_columns(low, pair, kinds, ("down", "up"))
    best, where = (low.cut(c, 1, 0, k) for c in (column, index))
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


def _best_blocks(low: Lowering, x: int, dtype: np.dtype[Any], size: int, k: int) -> tuple[int, int]:
    """Elements [B, m] and their places: all of the k best blocks, and what fills no block."""
    groups, n = low.shape(x)
    count = n // size
    table = low.reshape(low.cut(x, 1, 0, count * size), (groups, count, size))
    kind = np.dtype(np.uint8) if kind_of(dtype) == "bool" else dtype
    pick = lambda a, b: order.maximum(low, a, b, kind)  # noqa: E731
    best = tree(low, low.transpose(table, (2, 0, 1)), pick)
    numbers = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None], (groups, count, 1))
    block = lift(low, numbers, INDEX).id
    table, block = sorted_rows(low, [(best, kind, "down")], [table, block])
    kept = low.reshape(low.cut(table, 1, 0, k), (groups, k * size))
    first = low.emit("mul_ap", low.cut(block, 1, 0, k), low.constant(low.ring.array(size)))
    inside = np.broadcast_to(np.arange(size), (groups, k, size))
    places = low.emit("add_ap", low.spread(first, (groups, k, size)),
                      low.constant(low.ring.array(inside)))  # fmt: skip
    places = low.reshape(low.narrowed(places, 0, n - 1), (groups, k * size))
    rest = np.broadcast_to(np.arange(count * size, n, dtype=np.int32), (groups, n - count * size))
    if not rest.size:
        return kept, places
    joined = low.concat(arith.align(low, [kept, low.cut(x, 1, count * size, n)]), 1)
    return joined, low.concat([places, lift(low, rest, INDEX).id], 1)


@cache
def _block(groups: int, n: int, k: int) -> int:
    """Elements per block, so that all together is cheap; n: no blocks."""
    costs = {n: sortplan.cost(groups, n)}
    size = 4
    while size < n:
        count = n // size
        if count > k:
            cost = sortplan.cost(groups, count) + sortplan.cost(groups, k * size + n % size)
            costs[size] = cost + 3 * groups * n + sortplan.STEP * size.bit_length()
        size *= 2
    return min(costs, key=lambda size: (costs[size], size))
