"""Sorting: rows are shuffled, then compared, and the outcomes are opened.

After the shuffle all orders of the rows are equally likely, and no two rows are equal, because the
place where a row came from is its last key. What the comparisons say is a function of that uniform
order alone, so opening them tells nothing about the data. How many there are does not depend on the
data either: see `sort_a`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.errors import ProtocolError
from spuvm.protocol.aby3.boolean import and_bb
from spuvm.protocol.aby3.compare import eqz_a, msb_a
from spuvm.protocol.aby3.convert import b2a
from spuvm.protocol.aby3.local import add_public, xor_bb
from spuvm.protocol.aby3.open import open_bits
from spuvm.protocol.aby3.packing import packed_size
from spuvm.protocol.aby3.product import together
from spuvm.protocol.aby3.share import Array, AShare, flat
from spuvm.protocol.aby3.shuffle import shuffle_a, shuffle_cost
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import OpCost, Party, Steps
from spuvm.ring import Ring


@dataclass(frozen=True)
class Words:
    """Keys of all rows, the first ones decide; modulo 2^(width + 1) words are below 2^width."""

    columns: tuple[AShare, ...]
    widths: tuple[int, ...]


def word_widths(ring: Ring, keys: Sequence[int]) -> list[list[int]]:
    """Widths of neighbouring keys, grouped into as few words as the ring allows."""
    groups: list[list[int]] = []
    for width in keys:
        if groups and sum(groups[-1]) + width < ring.bits:
            groups[-1].append(width)
        else:
            groups.append([width])
    return groups


def index_width(rows: int) -> int:
    """Bits of a row number."""
    return max(1, (rows - 1).bit_length())


def batches(shape: tuple[int, ...], attrs: Mapping[str, Any]) -> list[int]:
    """How many comparisons each step makes, all batches together."""
    groups, sizes, pairs = shape[0], attrs["sizes"], attrs["pairs"]
    steps = [pairs[0]]
    for before, after, within in zip(sizes, sizes[1:], pairs[1:], strict=False):
        steps += [groups * (after - before)] * before.bit_length() + [within]
    return steps


def _compare_cost(ring: Ring, widths: Sequence[int], count: int) -> OpCost:
    """One batch of comparisons, opened."""
    t = Type("a", (count,))
    parts = [TABLE.costs["msb_a"](ring, (t,), {"bits": w + 1}) for w in widths]
    parts += [TABLE.costs["eqz_a"](ring, (t,), {"bits": w + 1}) for w in widths[:-1]]
    rounds = max(c.rounds for c in parts)
    bit = packed_size(count)
    b0, b1, b2 = (sum(c.bytes_sent[i] for c in parts) + len(widths) * bit for i in range(3))
    return OpCost(rounds + len(widths), (b0, b1, b2))


def _cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    shape = args[0].shape
    groups = word_widths(ring, (*attrs["keys"], index_width(shape[1])))
    widths = [sum(g) for g in groups]
    first = shuffle_cost(ring, shape[0] * shape[1] * (shape[2] + 1))
    tops = Type("b", (shape[0] * shape[1],), 0, 1)
    reducing = [TABLE.costs["msb_a"](ring, (tops,), {"bits": w + 1}) for w in widths]
    turning = TABLE.costs["b2a"](ring, (tops,), {})
    rounds = first.rounds + max(c.rounds for c in reducing) + turning.rounds
    sent = [
        first.bytes_sent[i] + sum(c.bytes_sent[i] + turning.bytes_sent[i] for c in reducing)
        for i in range(3)
    ]
    for count in batches(shape, attrs):
        one = _compare_cost(ring, widths, count)
        rounds += one.rounds
        sent = [a + b for a, b in zip(sent, one.bytes_sent, strict=True)]
    return OpCost(rounds, (sent[0], sent[1], sent[2]))


@TABLE.kernel("sort_a", _cost)
def sort_a(
    p: Party,
    x: AShare,
    *,
    keys: tuple[int, ...],
    lows: tuple[int, ...],
    sizes: tuple[int, ...],
    pairs: tuple[int, ...],
) -> Steps:
    """[x] of shape [B,N,C] -> the rows of every b sorted by their first len(keys) columns, stably.

    Local:    a column with the row's number is appended, then everything shuffled. Keys side by
              side are reduced modulo 2^(their bits), counted from lows[k]. Rows are placed
              in random order: the first sizes[0] are all compared with each other; then, for each
              next size, the new rows search their gap among those that are placed, halving, all at
              once, and the rows of one gap are compared with each other. There are sizes[t] =
              2^s - 1 rows before a search, so that every row takes s steps. Pairs in one gap are
              filled up to pairs[t] with a comparison that was made before.
    Sends:    as shuffle_a; msb_a and b2a of a bit per row and word; per step msb_a (beside eqz_a
              for keys of several words), and_bb per word, and the outcome.
    Requires: lows[k] <= x < lows[k] + 2^keys[k] in column k, or the order is another one.
    Error:    exact. More pairs in the gaps than pairs[t] raise ProtocolError; the compiler chooses
              pairs[t] so that this has probability below 2^-40 for any data.
    Opens:    which of two rows precedes. Reduced words have a total order whatever x is, also where
              values left their ranges; rows are distinct, as their numbers are, and in uniform
              order to every party, so the outcomes are those of a uniform order.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      shuffle, then compare and open: Hamada et al. 2012 (ICISC), section 4, eprint
              2014/121; ties broken before anything is opened: the same, section 5; the searches
              that make the number of comparisons fixed: this file.
    """
    groups, rows, width = x.shape
    place = np.broadcast_to(np.arange(rows)[None, :, None], (groups, rows, 1))
    number = p.ring.array(place)
    zero = p.ring.array(np.zeros_like(place))
    first, second = (number if p.rank == 0 else zero), (number if p.rank == 2 else zero)
    joined = AShare(np.concatenate([x.x0, first], 2), np.concatenate([x.x1, second], 2))
    mixed = yield from shuffle_a(p, joined, draw=0)
    words = _words(p, mixed, (*keys, index_width(rows)), (*lows, 0), (*range(len(keys)), width))
    words = yield from _reduced(p, words)
    order = yield from _order(p, words, groups, rows, sizes, pairs)
    where = (order + np.arange(groups)[:, None] * rows).reshape(-1)

    def sorted_rows(a: Array) -> Array:
        made = a.reshape(groups * rows, width + 1)[where][:, :width]
        return np.ascontiguousarray(made).reshape(x.shape)

    return AShare(sorted_rows(mixed.x0), sorted_rows(mixed.x1))


def _words(
    p: Party, x: AShare, widths: Sequence[int], lows: Sequence[int], columns: Sequence[int]
) -> Words:
    """Key columns, from their lows on, side by side in few ring elements: high 2^w + low."""
    made, left = [], iter(zip(columns, lows, strict=True))
    groups = word_widths(p.ring, widths)
    for group in groups:
        parts: list[Array] = []
        first = 0
        for width in group:
            c, least = next(left)
            low = [flat(a[..., c]) for a in (x.x0, x.x1)]
            parts = [(h << width) + v for h, v in zip(parts, low, strict=True)] if parts else low
            first = (first << width) + least
        made.append(add_public(p, AShare(*parts), p.ring.array(np.array(-first, object))))
    return Words(tuple(made), tuple(sum(g) for g in groups))


def _reduced(p: Party, words: Words) -> Steps:
    """Words modulo 2^width, as numbers modulo 2^(width + 1): bit number `width` is taken away.

    Without it values outside their range would be compared around the ring, where a may precede b,
    b precede c, and c precede a: opened outcomes would tell so.
    """
    tops = [msb_a(p, c, bits=w + 1) for c, w in zip(words.columns, words.widths, strict=True)]
    tops = yield from together(*tops)
    tops = yield from together(*(b2a(p, top) for top in tops))
    columns = [
        AShare(c.x0 - (t.x0 << w), c.x1 - (t.x1 << w))
        for c, t, w in zip(words.columns, tops, words.widths, strict=True)
    ]
    return Words(tuple(columns), words.widths)


def _precedes(p: Party, words: Words, i: Array, j: Array) -> Steps:
    """Public bits: row i before row j."""
    tests = []
    for k, (c, width) in enumerate(zip(words.columns, words.widths, strict=True)):
        delta = AShare(_differences(c.x0, i, j), _differences(c.x1, i, j))
        tests.append(msb_a(p, delta, bits=width + 1))
        if k < len(words.columns) - 1:
            tests.append(eqz_a(p, delta, bits=width + 1))
    del delta, i, j  # the tests let go of what they compare when they have started
    results = yield from together(*tests)
    signs, ties = results[::2], results[1::2]
    bit = signs[-1]
    for sign, tie in zip(signs[-2::-1], ties[::-1], strict=True):
        bit = xor_bb(p, sign, (yield from and_bb(p, tie, bit)))
    return (yield from open_bits(p, bit))


def _differences(x: Array, i: Array, j: Array) -> Array:
    made = x[i]
    made -= x[j]
    return made


def _order(
    p: Party, words: Words, groups: int, rows: int, sizes: Sequence[int], pairs: Sequence[int]
) -> Steps:
    """Row numbers [B, N] in order."""
    shift = np.arange(groups)[:, None] * rows
    ranked = np.zeros((groups, 0), np.int64)
    for size, most in zip(sizes, pairs, strict=True):
        placed = ranked.shape[1]
        fresh = np.broadcast_to(np.arange(placed, size), (groups, size - placed))
        gap = np.zeros(fresh.shape, np.int64)
        step = (placed + 1) // 2
        while step:
            pivot = np.take_along_axis(ranked, gap + step - 1, 1)
            before = yield from _precedes(
                p, words, (pivot + shift).reshape(-1), (fresh + shift).reshape(-1)
            )
            gap += step * before.reshape(gap.shape).astype(np.int64)
            step //= 2
        rank = yield from _within_gaps(p, words, fresh + shift, gap, placed, most)
        # A placed row has the odd number after its gap's even one.
        odd = np.broadcast_to(2 * np.arange(placed) + 1, (groups, placed))
        place = np.concatenate([odd * rows, 2 * gap * rows + rank], 1)
        order = np.argsort(place, axis=1, kind="stable")
        ranked = np.take_along_axis(np.concatenate([ranked, fresh], 1), order, 1)
    return ranked


def _within_gaps(p: Party, words: Words, rows: Array, gap: Array, placed: int, most: int) -> Steps:
    """How many rows of the same gap precede each row, from all their comparisons."""
    i, j = _pairs(gap, placed, most)
    filler = np.zeros(most - i.size, np.int32)
    flat_rows = rows.reshape(-1).astype(np.int32)
    bits = yield from _precedes(
        p, words, np.concatenate([flat_rows[i], filler]), np.concatenate([flat_rows[j], filler + 1])
    )
    later = np.where(bits[: i.size], j, i)  # of every pair
    return np.bincount(later, minlength=gap.size).reshape(gap.shape)


def _pairs(gap: Array, placed: int, most: int) -> tuple[Array, Array]:
    """Places (flat, of 32 bits) of all pairs of rows that are in one gap."""
    groups = len(gap)
    cell = (gap + np.arange(groups)[:, None] * (placed + 1)).reshape(-1)
    by_cell = np.argsort(cell, kind="stable")
    ends = np.searchsorted(cell[by_cell], cell[by_cell], side="right")
    after = ends - np.arange(cell.size) - 1
    first = np.repeat(np.arange(cell.size, dtype=np.int32), after)
    second = np.arange(1, first.size + 1, dtype=np.int32)
    second -= np.repeat((np.cumsum(after) - after).astype(np.int32), after)
    second += first
    if first.size > most:
        raise ProtocolError(
            "sorting: the random order was very uneven",
            got=f"{first.size} comparisons in one step",
            expected=f"at most {most}, but for a chance below 2^-40",
            next="make a new SPU and call the function again; a failed session is never continued",
        )
    by_cell = by_cell.astype(np.int32)
    return by_cell[first], by_cell[second]
