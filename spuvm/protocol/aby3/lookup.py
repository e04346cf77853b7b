"""Public tables at secret places: unit vectors dealt at a random place, turned by an opened offset.

The index x is opened as c = x + r mod 2^b, r fresh and known to party 2 alone, which deals a unit
vector of 2^b numbers at -r to parties 0 and 1. Turned by c it is one at x. Two rounds, whatever the
size of the table; the bytes grow with it. For large tables b bits are cut into two digits with a
unit vector each, which are multiplied: one round more, bytes as the root of the size.

With m low bits of x, c and r cut off, the vector is turned to x / 2^m rounded stochastically, as by
truncation: c / 2^m - r / 2^m is the floor, and one more if the low bits of x and r carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import tables
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.matmul import matmul
from spuvm.protocol.aby3.open import open_
from spuvm.protocol.aby3.product import matrix, reshare
from spuvm.protocol.aby3.share import PIECE, Array, AShare, flat
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast, zeros

UNITS = 1  # the lane of dealt vectors: P2 draws them before other masks, P0 piece by piece after

ROUND_BYTES = 1 << 17  # of all parties, that a round counts as

Digits = tuple[int, ...]
"""Bits of an index's digits, the highest digit first: of each there is a unit vector."""


def places(size: int) -> int:
    """2^b: the places of a unit vector for a table of `size` rows."""
    return 1 << index_bits(size)


def index_bits(size: int) -> int:
    """b: bits of the indices of a table of `size` >= 2 rows."""
    return (size - 1).bit_length()


@lru_cache(1024)
def digits(ring: Ring, indices: int, size: int, columns: int) -> Digits:
    """One digit of b bits; two where that saves more bytes than the third round counts as."""
    b, word = index_bits(size), ring.nbytes * indices

    def words(cut: Digits) -> int:
        dealt, shared = sum(1 << d for d in cut), (1 + columns) << cut[0]
        return dealt + 2 * columns if len(cut) == 1 else dealt + 2 * shared + 3 * columns

    best = min(((h, b - h) for h in range(1, b)), key=words, default=(b,))
    return best if word * (words((b,)) - words(best)) > ROUND_BYTES else (b,)


def _one_hot_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return _cost(ring, args[0].size, attrs["size"], attrs["size"], (index_bits(attrs["size"]),), 0)


def _lookup_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    (size, columns), n = args[0].shape, args[1].size
    return _cost(ring, n, size, columns, digits(ring, n, size, columns), attrs["bits"])


def _cost(ring: Ring, n: int, size: int, columns: int, parts: Digits, cut: int) -> OpCost:
    """Unit vectors, two masked indices and what is made of them, twice; for digits a product."""
    index = small_dtype(index_bits(size) + cut).itemsize * n
    dealt, made = (ring.nbytes * n * c for c in (sum(1 << d for d in parts), columns))
    if len(parts) == 1:
        return OpCost(2, (index + made, index + made, dealt))
    sent = index + (ring.nbytes * n * (1 + columns) << parts[0]) + made
    return OpCost(3, (sent, sent, dealt + made))


@TABLE.kernel("one_hot_a", _one_hot_cost)
def one_hot_a(p: Party, x: AShare, *, size: int) -> Steps:
    """[x] -> [e] with a new last axis of `size` places, e_j = 1 for j = x mod 2^b, else 0.

    Local:    c = x + r mod 2^b, r = f02 + f12. P2 deals the unit vector at -r as d0 + d1, d0 from
              the stream it shares with P0; e_j = d_{j-c} of both parts, c turning them. The parts
              of P0 and P1 become component 1 under z0 (P0, P2) and z2 (P1, P2).
    Sends:    round 1: P0 -> P1 x_0 + x_1 + f02; P1 -> P0 x_2 + f12, both in the smallest unsigned
              dtype of b bits, and uniform in all of it; P2 -> P1 d1.
              round 2: P0 -> P1 e0 - z0; P1 -> P0 e1 - z2.
    Requires: nothing: other x are reduced mod 2^b, 2^b the smallest power that is not below `size`.
    Error:    exact.
    Opens:    c to P0 and P1 only: uniform to P0 because f12 is fresh, to P1 because f02 is. d1 is
              masked by d0, the parts of round 2 by z0 and z2; P2 receives nothing.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      one-time truth tables: Ishai et al. 2013 (TCC), section 3; OP-LUT: Dessouky et al.
              2017 (NDSS), eprint 2018/486. Here a third party deals, a unit vector for a table.
    """
    digit = (index_bits(size),)
    if p.rank == 2:
        yield from _deal(p, x, digit, 0)
        return _masks(p, (*x.shape, size))
    (c,), (units,) = yield from _opened(p, x, digit, 0)
    (own,) = p.draw(2, (p.ring.dtype, x.size * size))
    mine = np.negative(own).reshape(x.size, size)
    for rows, unit in units:
        tables.turned(unit, c[rows], mine[rows])
        del unit
    del units  # and the dealt vectors
    return (yield from _result(p, own, mine.reshape(-1), (*x.shape, size)))


@TABLE.kernel("lookup_pa", _lookup_cost)
def lookup_pa(p: Party, table: Array, x: AShare, *, bits: int) -> Steps:
    """Public T of N rows, [x] -> [T_i], i = x / 2^m mod 2^b; rows from N on are 0.

    Local:    as one_hot_a with masks of b + m bits, whose upper b bits turn the vector; P0 and P1
              multiply their parts of e with T before they mask them. With two digits: _by_digits.
    Sends:    as one_hot_a; in round 2 a row of T instead of a unit vector. Two digits: _by_digits.
    Requires: nothing.
    Error:    exact for m = 0; else i is the floor or the ceiling of x / 2^m, also reduced mod 2^b.
    Opens:    as one_hot_a; x / 2^m is rounded by a threshold, c to P0 and P1 and r to P2.
    Security: as one_hot_a.
    Ref:      as one_hot_a; carry as in truncation.py.
    """
    size, columns = table.shape
    shape, parts = (*x.shape, columns), digits(p.ring, x.size, size, columns)
    if len(parts) == 2:
        return (yield from _by_digits(p, table, x, parts, bits)).reshaped(shape)
    if p.rank == 2:
        yield from _deal(p, x, parts, bits)
        return _masks(p, shape)
    (c,), (units,) = yield from _opened(p, x, parts, bits)
    (own,) = p.draw(2, (p.ring.dtype, x.size * columns))
    mine = np.negative(own).reshape(x.size, columns)
    for rows, unit in units:
        part = zeros((len(unit), size), p.ring.dtype)
        tables.turned(unit, c[rows], part)
        matmul(part[None], table[None], mine[None, rows])
        del unit, part
    del units  # and the dealt vectors
    return (yield from _result(p, own, mine.reshape(-1), shape))


def _by_digits(p: Party, table: Array, x: AShare, parts: Digits, cut: int) -> Steps:
    """lookup_pa with i = L i_1 + i_2 and a unit vector for each digit; flat.

    Local:    c - r = L (c_1 - r_1 - w) + (c_2 - r_2 + L w), borrowing w = (i_2 > c_2). So P0 and P1
              turn vectors dealt at -r_1, -r_2 by c_1, c_2 to j = i_1 + w and i_2, and multiply
              their parts of the second with T: f_j = T[L j - L w + i_2] for all j, linear in it
              because c_2 is public. Then T_i = sum e_j f_j.
    Sends:    round 1: as one_hot_a. round 2: both parts of e and f as of e there.
              round 3: as reshare.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing of its own.
    Security: as one_hot_a and reshare.
    Ref:      as one_hot_a; the digits' borrow: this file.
    """
    n, high, low = x.size, *(1 << d for d in parts)
    columns = table.shape[1]
    units_size, size = n * high, n * high * (1 + columns)
    if p.rank == 2:
        yield from _deal(p, x, parts, cut)
        both = _masks(p, (size,))
    else:
        (c1, c2), (upper, lower) = yield from _opened(p, x, parts, cut)
        (own,) = p.draw(2, (p.ring.dtype, size))
        mine = np.negative(own)
        e, f = mine[:units_size].reshape(n, high), mine[units_size:].reshape(n, high, columns)
        for rows, unit in upper:
            tables.turned(unit, c1[rows], e[rows])
        for rows, unit in lower:
            part = zeros((len(unit), low), p.ring.dtype)
            tables.turned(unit, c2[rows], part)
            tables.look_up(table, part, c2[rows], f[rows])
        del upper, lower, unit  # and the dealt vectors
        both = yield from _result(p, own, mine, (size,))
        del own, mine, e, f
    one, two = (
        AShare(*(part[where].reshape(n, *shape) for part in both.flat()))
        for where, shape in (
            (slice(units_size), (1, high)),
            (slice(units_size, size), (high, columns)),
        )
    )
    return (yield from reshare(p, matrix(p.rank, one, two), n * columns))


def _rows(indices: int, count: int) -> Iterator[slice]:
    """Indices whose unit vectors of `count` places are worked on at a time."""
    step = max(1, PIECE // count)
    return (slice(i, min(i + step, indices)) for i in range(0, indices, step))


def _deal(p: Party, x: AShare, parts: Digits, cut: int) -> Steps:
    """Party 2: unit vectors at -r; the other parts of them come from the stream with party 0."""
    n, small = x.size, small_dtype(sum(parts) + cut)
    (f02,), (f12,) = p.draw(0, (small, n)), p.draw(1, (small, n))
    dealt = []
    for digit, r in zip(parts, _offsets(f02 + f12, parts, cut), strict=True):
        count = 1 << digit
        d1 = p.ring.empty(n * count)
        for rows in _rows(n, count):
            mask = _unit(p, 0, rows, count)
            tables.unit_deal(
                mask, r[rows], d1[rows.start * count : rows.stop * count].reshape(-1, count)
            )
        dealt.append(d1)
        del d1
    sends = Exchange(send={1: dealt})
    del dealt
    yield from open_(p, f02[:0], sends)
    del sends
    yield Exchange()


def _opened(p: Party, x: AShare, parts: Digits, cut: int) -> Steps:
    """Parties 0 and 1: c of each digit, and pieces of their parts of its unit vectors."""
    n, small = x.size, small_dtype(sum(parts) + cut)
    (mask,) = p.draw(2, (small, n))
    part = x.total() if p.rank == 0 else x.x1
    mine = cast(flat(part), small) + mask
    beside = Exchange()
    if p.rank == 1:
        beside.receive[2] = [spec(p.ring.dtype, n << digit) for digit in parts]
    got = yield from open_(p, mine, beside)
    c = _offsets(mine + got[1 - p.rank][0], parts, cut)
    if p.rank == 0:
        return c, [_drawn(p, n, 1 << digit) for digit in parts]
    return c, [_received(d1, n, 1 << digit) for d1, digit in zip(got[2], parts, strict=True)]


def _drawn(p: Party, n: int, count: int) -> Iterator[tuple[slice, Array]]:
    return ((rows, _unit(p, 2, rows, count)) for rows in _rows(n, count))


def _received(d1: Array, n: int, count: int) -> Iterator[tuple[slice, Array]]:
    vectors = d1.reshape(n, count)
    return ((rows, vectors[rows]) for rows in _rows(n, count))


def _unit(p: Party, other: int, rows: slice, count: int) -> Array:
    shape = (rows.stop - rows.start, count)
    (mask,) = p.draw(other, (p.ring.dtype, math.prod(shape)), lane=UNITS)
    return mask.reshape(shape)


def _offsets(masked: Array, parts: Digits, cut: int) -> list[Array]:
    """The digits of an index, without the bits that are cut off."""
    found, index = [], np.asarray((masked >> cut).astype(np.int64))
    for digit in reversed(parts):
        found.append(index & ((1 << digit) - 1))
        index = index >> digit
    return found[::-1]


def _masks(p: Party, shape: tuple[int, ...]) -> AShare:
    """Party 2's share of a result: the masks of the other two."""
    size = math.prod(shape)
    (z0,), (z2,) = p.draw(0, (p.ring.dtype, size)), p.draw(1, (p.ring.dtype, size))
    return AShare(z2.reshape(shape), z0.reshape(shape))


def _result(p: Party, own: Array, mine: Array, shape: tuple[int, ...]) -> Steps:
    """Parties 0 and 1: their masked parts, added up, are component 1."""
    other = 1 - p.rank
    got = yield Exchange(send={other: [mine]}, receive={other: [spec(own.dtype, own.size)]})
    z1, own = (mine + got.pop(other)[0]).reshape(shape), own.reshape(shape)
    return AShare(own, z1) if p.rank == 0 else AShare(z1, own)
