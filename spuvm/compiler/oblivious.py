"""Secret positions: one-hot rows of an index, and what is taken or replaced by them.

Nothing about an index is opened: every place is touched. Costs, with n possible places: an index
that is known to lie inside becomes a one-hot row of numbers in two rounds and 24 n bytes; another
one takes its log2(n) bits, n / 4 bytes of ands in log2 log2 n rounds, and 24 n bytes as numbers.
What it selects is then one matrix product, 24 bytes per element of the result; of a public table
two rounds and 8 n bytes for all, or three and the root of n where that is less, and comparisons
where the index may lie outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.values import Array, lift, wrap_int

Table = int | Array  # shares, or a public array
BOOL = np.dtype(np.bool_)
NETWORK_BYTES = 40  # of a bit times an element
DOT_BYTES = 24  # of a converted bit, and of an element of a product
ROUND_BYTES = 1 << 17  # in all, that a round counts as
SAVED_ROUNDS = 6  # of an index that lies inside: no bits, no ands
FEW_PLACES = 10  # of an index that may lie outside: a one-hot row knows that it does
LOCAL_BYTES = 16  # of two components in memory, which are about as dear as sent ones


def beyond(low: Lowering, index: int, count: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """(index < 0, index >= count), for an integer reduced to its dtype."""
    bounds = low.type(index).bounds
    zero = np.zeros((), dtype)
    if dtype.kind == "u" or (bounds is not None and bounds[0] >= 0):
        below: order.Bit = False
    else:
        below = order.less(low, index, _like(low, zero, index), dtype)
    if count > np.iinfo(dtype).max or (bounds is not None and bounds[1] < count):
        return below, False
    edge = _like(low, np.asarray(count, dtype), index)
    return below, order.negate(low, order.less(low, index, edge, dtype))


def _beyond(low: Lowering, index: int, count: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """`beyond` as bits, or False."""
    shape = low.shape(index)
    below, above = (
        _bit(low, b, shape) if b is True else b for b in beyond(low, index, count, dtype)
    )
    return below, above


def _like(low: Lowering, c: Array, x: int) -> int:
    made = low.spread(lift(low, c, c.dtype).id, low.shape(x))
    return wrap_int(low, made, c.dtype)


def one_hot(low: Lowering, index: int, count: int, dtype: np.dtype[Any], mode: str) -> int:
    """Bits [..., count]: 1 where the place is the index.

    mode "clip": an index outside counts as the nearest place; "drop": its row is all 0.
    """
    shape = low.shape(index)
    below, above = _beyond(low, index, count, dtype)
    if count == 1:
        ones = lift(low, np.ones((*shape, 1), np.bool_), BOOL).id
        if mode == "clip":
            return ones
        outside = _any(low, below, above)
        return ones if outside is None else _last(low, low.emit("not_b", outside))
    bits = (count - 1).bit_length()
    word = low.emit("a2b", index, bits=bits)
    row = low.cut(_decoded(low, word, 0, bits), len(shape), 0, count)
    outside = _any(low, below, above)
    if outside is None:
        return row
    inside = low.spread(_last(low, low.emit("not_b", outside)), low.shape(row))
    row = low.emit("and_bb", row, inside)
    if mode == "drop":
        return row
    first, last = (_bit(low, b, shape) for b in (below, above))
    middle = low.cut(row, len(shape), 0, count - 2)
    middle = low.emit("xor_bb", middle, middle)
    ends = low.concat([_last(low, first), middle, _last(low, last)], len(shape))
    return low.emit("xor_bb", row, ends)


def row(low: Lowering, index: int, count: int, dtype: np.dtype[Any], mode: str) -> int:
    """one_hot as numbers."""
    if _direct(low, index, count):
        return low.emit("one_hot_a", index, size=count)
    return numbers(low, one_hot(low, index, count, dtype, mode))


def read(
    low: Lowering, index: int, table: Array, dtype: np.dtype[Any], places: np.dtype[Any], mode: str
) -> tuple[int, order.Bit] | None:
    """Rows of a public [n, m] at an index of a dtype: [..., m], and whether it lies inside.

    mode "clip": an index outside counts as the nearest place; "drop": its row is any. None where a
    one-hot row takes less.
    """
    count = len(table)
    if count < 2 or (count <= FEW_PLACES and not inside(low, index, count)):
        return None
    valid: order.Bit = True
    if mode == "clip":
        index = clipped(low, index, count, places)
    else:
        outside = _any(low, *_beyond(low, index, count, places))
        valid = True if outside is None else low.emit("not_b", outside)
    made = _encoded(low, table, dtype)
    bounds = low.type(made).bounds
    made = low.emit("lookup_pa", made, index, bits=0)
    return (made if bounds is None or mode != "clip" else low.narrowed(made, *bounds)), valid


def inside(low: Lowering, index: int, count: int) -> bool:
    """Whether an index is known to lie in 0 .. count - 1."""
    bounds = low.type(index).bounds
    return bounds is not None and bounds[0] >= 0 and bounds[1] < count


def _direct(low: Lowering, index: int, count: int) -> bool:
    """Whether an index lies inside, and unit vectors have not too many places for few rounds."""
    if count < 2 or not inside(low, index, count):
        return False
    unused = ((1 << (count - 1).bit_length()) - count) * low.type(index).size
    return low.ring.nbytes * unused <= SAVED_ROUNDS * ROUND_BYTES


def _any(low: Lowering, x: order.Bit, y: order.Bit) -> int | None:
    """x or y of two that exclude each other; None if neither can be."""
    if isinstance(x, bool):
        return None if isinstance(y, bool) else y
    return x if isinstance(y, bool) else low.emit("xor_bb", x, y)


def _bit(low: Lowering, bit: order.Bit, shape: tuple[int, ...]) -> int:
    return lift(low, np.full(shape, bit), BOOL).id if isinstance(bit, bool) else bit


def _last(low: Lowering, x: int) -> int:
    """A new last axis of size 1."""
    return low.reshape(x, (*low.shape(x), 1))


def _decoded(low: Lowering, word: int, first: int, bits: int) -> int:
    """[..., 2^bits]: which number the bits first .. first + bits - 1 are."""
    shape = low.shape(word)
    if bits == 1:
        bit = _last(low, low.emit("bits_b", word, low=first, width=1))
        return low.concat([low.emit("not_b", bit), bit], len(shape))
    half = bits // 2
    low_part = _decoded(low, word, first, half)
    high_part = _decoded(low, word, first + half, bits - half)
    return outer(low, [high_part, low_part], len(shape), 1)


def outer(low: Lowering, rows: Sequence[int], batch: int, axes: int) -> int:
    """The and of every element of one with every element of the next, `batch` axes in common.

    axes=1 gives one axis, otherwise an axis per factor.
    """
    made = rows[0]
    for row in rows[1:]:
        a, b = low.shape(made), low.shape(row)
        full = (*a, *b[batch:])
        left = low.spread(low.reshape(made, (*a, *[1] * (len(b) - batch))), full)
        right = low.spread(
            low.reshape(row, (*a[:batch], *[1] * (len(a) - batch), *b[batch:])), full
        )
        made = low.emit("and_bb", left, right)
    shape = low.shape(made)
    return low.reshape(made, (*shape[:batch], math.prod(shape[batch:]))) if axes == 1 else made


# --- tables: shares or public ----------------------------------------------------------------


def shape_of(low: Lowering, x: Table) -> tuple[int, ...]:
    """Shape of shares or of a public array."""
    return low.shape(x) if isinstance(x, int) else x.shape


def moved(low: Lowering, x: Table, permutation: Sequence[int]) -> Table:
    """numpy.transpose of either."""
    return low.transpose(x, permutation) if isinstance(x, int) else x.transpose(permutation)


def shaped(low: Lowering, x: Table, shape: Sequence[int]) -> Table:
    """numpy.reshape of either."""
    return low.reshape(x, shape) if isinstance(x, int) else x.reshape(shape)


def part(low: Lowering, x: Table, axis: int, start: int, stop: int) -> Table:
    """x[start:stop] along an axis, of either."""
    if isinstance(x, int):
        return low.cut(x, axis, start, stop)
    return x[(slice(None),) * axis + (slice(start, stop),)]


def windows(low: Lowering, x: Table, axis: int, size: int) -> Table:
    """All windows along an axis: [..., n, ...] -> [..., n - size + 1, ...] and a new last axis."""
    count = shape_of(low, x)[axis] - size + 1
    parts = [part(low, x, axis, j, j + count) for j in range(size)]
    rows = [shaped(low, p, (*shape_of(low, p), 1)) for p in parts]
    if isinstance(x, int):
        return low.concat([r for r in rows if isinstance(r, int)], len(low.shape(x)))
    return np.concatenate([np.asarray(r) for r in rows], -1)


def contracted(low: Lowering, rows: int, table: Table, dtype: np.dtype[Any], exact: bool) -> int:
    """[B,M,P] numbers 0 and 1, [B,P,R] -> [B,M,R]; exactly one 1 per row if `exact`."""
    if isinstance(table, int):
        bounds = low.type(table).bounds
        made = low.emit("dot_aa", rows, table, trunc=0, form="narrow")
    else:
        table = _encoded(low, table, dtype)
        bounds = low.type(table).bounds
        made = low.emit("dot_ap", rows, table)
    if bounds is None or not exact:
        return made
    return low.narrowed(made, *bounds)


def _encoded(low: Lowering, c: Array, dtype: np.dtype[Any]) -> int:
    if dtype.kind == "b":
        return low.constant(low.ring.array(c.astype(np.int64)))
    if dtype.kind in "iu":
        return low.constant(low.ring.array(c))
    wide = arith.finite(low, c)
    return arith.encode(low, wide, min(low.f, arith.fraction_bits(wide)))


def numbers(low: Lowering, bits: int) -> int:
    """Bits as integers 0 and 1."""
    return low.emit("b2a", bits)


# --- slices at a secret start ----------------------------------------------------------------


def window(low: Lowering, x: int, axis: int, size: int, index: int, dtype: np.dtype[Any]) -> int:
    """x[index : index + size] along an axis, index a scalar clipped so that it fits.

    One product with all windows, or a network of log2(n) shifts where that is cheaper.
    """
    shape = low.shape(x)
    count = shape[axis] - size + 1
    if count == 1:
        return x
    order_ = [axis, *(i for i in range(len(shape)) if i != axis)]
    rest = math.prod(shape) // shape[axis]
    flat = low.reshape(low.transpose(x, order_), (shape[axis], rest))
    levels = [1 << i for i in range((count - 1).bit_length())]
    network = sum(NETWORK_BYTES * rest * (size + step - 1) for step in levels)
    product = DOT_BYTES * (count + size * rest) + (LOCAL_BYTES * count * size * rest)
    if size == 1 or product <= network:
        place = row(low, index, count, dtype, "clip")
        table = low.reshape(_all_windows(low, flat, size, count), (1, count, size * rest))
        made = contracted(low, low.reshape(place, (1, 1, count)), table, BOOL, True)
    else:
        made = _shifted_down(low, flat, size, clipped(low, index, count, dtype), levels)
    made = low.reshape(made, (size, *(n for i, n in enumerate(shape) if i != axis)))
    return low.transpose(made, [int(i) for i in np.argsort(order_)])


def _all_windows(low: Lowering, x: int, size: int, count: int) -> int:
    """[n, r] -> [count, size, r]."""
    if count < size:
        rest = low.shape(x)[1]
        rows = [low.cut(x, 0, p, p + size) for p in range(count)]
        return low.concat([low.reshape(r, (1, size, rest)) for r in rows], 0)
    made = windows(low, x, 0, size)
    assert isinstance(made, int)
    return low.transpose(made, (0, 2, 1))


def clipped(low: Lowering, index: int, count: int, dtype: np.dtype[Any]) -> int:
    """The nearest of the places 0 .. count - 1."""
    if inside(low, index, count):
        return index
    made = index
    # Both at once, because they exclude each other.
    for bit, place in zip(_beyond(low, index, count, dtype), (0, count - 1), strict=True):
        if bit is False:
            continue
        with low.unchecked():
            change = low.emit("sub_aa", _like(low, np.asarray(place, dtype), index), index)
            made = low.emit("add_aa", made, low.emit("mul_ba", bit, change))
    return low.narrowed(made, 0, count - 1)


def _bits_of(low: Lowering, index: int, levels: Sequence[int]) -> list[int]:
    word = low.emit("a2b", index, bits=len(levels))
    return [low.emit("bits_b", word, low=i, width=1) for i in range(len(levels))]


def _shifted_down(low: Lowering, x: int, size: int, index: int, levels: Sequence[int]) -> int:
    bits = _bits_of(low, index, levels)
    for step, bit in reversed(list(zip(levels, bits, strict=True))):
        have, rest = low.shape(x)
        need = min(have, size + step - 1)
        missing = max(0, step + need - have)
        padded = low.emit("pad", x, low=(0, 0), high=(missing, 0), interior=(0, 0))
        later, here = low.cut(padded, 0, step, step + need), low.cut(x, 0, 0, need)
        x = order.choose(low, low.spread(low.reshape(bit, (1, 1)), (need, rest)), later, here)
    return low.cut(x, 0, 0, size)


def placed(low: Lowering, x: int, axis: int, size: int, row: int) -> int:
    """x moved along an axis into `size` places, to the one that a one-hot row (numbers) says."""
    shape = low.shape(x)
    width = shape[axis]
    count = size - width + 1
    order_ = [axis, *(i for i in range(len(shape)) if i != axis)]
    rest = math.prod(shape) // width
    flat = low.reshape(low.transpose(x, order_), (width, rest))
    table = low.emit("pad", flat, low=(count - 1, 0), high=(count - 1, 0), interior=(0, 0))
    rows = [low.cut(table, 0, count - 1 - p, count - 1 - p + size) for p in range(count)]
    joined = low.concat([low.reshape(r, (1, 1, size * rest)) for r in rows], 1)
    made = contracted(low, low.reshape(row, (1, 1, count)), joined, BOOL, False)
    bounds = low.type(x).bounds
    if bounds is not None:
        made = low.narrowed(made, min(bounds[0], 0), max(bounds[1], 0))
    made = low.reshape(made, (size, *(n for i, n in enumerate(shape) if i != axis)))
    return low.transpose(made, [int(i) for i in np.argsort(order_)])


def covered(low: Lowering, row: int, width: int) -> int:
    """Bits [n - width + 1] with a 1 at a start -> bits [n] with 1 from there on for `width`.

    Local: copies that do not overlap are joined by xor.
    """
    single = low.emit("pad", row, low=(0,), high=(width - 1,), interior=(0,))

    def run(length: int) -> int:
        if length == 1:
            return single
        half = run(length // 2)
        made = low.emit("xor_bb", half, _moved_up(low, half, length // 2))
        return low.emit("xor_bb", made, _moved_up(low, single, length - 1)) if length % 2 else made

    return run(width)


def _moved_up(low: Lowering, x: int, by: int) -> int:
    return low.emit("pad", x, low=(by,), high=(-by,), interior=(0,))
