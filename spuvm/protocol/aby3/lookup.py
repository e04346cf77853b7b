"""Public tables at secret places: unit vectors dealt at a random place, turned by an opened offset.

The index x is opened as c = x + r mod 2^b, r fresh and known to party 2 alone, which deals a unit
vector of 2^b numbers at -r to parties 0 and 1. Turned by c it is one at x. Two rounds, whatever the
size of the table; the bytes grow with it, so this is for small tables or few indices.

With m low bits of x, c and r cut off, the vector is turned to x / 2^m rounded stochastically, as by
truncation: c / 2^m - r / 2^m is the floor, and one more if the low bits of x and r carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.matmul import matmul
from spuvm.kernels.tables import turned, unit_deal
from spuvm.protocol.aby3.open import open_
from spuvm.protocol.aby3.share import PIECE, Array, AShare, flat
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast, zeros

UNITS = 1  # the lane of dealt vectors: P2 draws them before other masks, P0 piece by piece after


def places(size: int) -> int:
    """2^b: the places of a unit vector for a table of `size` rows."""
    return 1 << index_bits(size)


def index_bits(size: int) -> int:
    """b: bits of the indices of a table of `size` >= 2 rows."""
    return (size - 1).bit_length()


def lookup_cost(ring: Ring, indices: int, size: int, columns: int, cut: int = 0) -> OpCost:
    """A unit vector, two masked indices and two words per result, in two rounds."""
    index = small_dtype(index_bits(size) + cut).itemsize * indices
    word = ring.nbytes * indices * columns
    return OpCost(2, (index + word, index + word, ring.nbytes * indices * places(size)))


def _one_hot_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return lookup_cost(ring, args[0].size, attrs["size"], attrs["size"])


def _lookup_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    size, columns = args[0].shape
    return lookup_cost(ring, args[1].size, size, columns, attrs["bits"])


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
    if p.rank == 2:
        yield from _deal(p, x, size, 0)
        return _masks(p, (*x.shape, size))
    c, units = yield from _opened(p, x, size, 0)
    (own,) = p.draw(2, (p.ring.dtype, x.size * size))
    mine = np.negative(own).reshape(x.size, size)
    for rows, unit in units:
        turned(unit, c[rows], mine[rows])
        del unit
    del units  # and the dealt vectors
    return (yield from _result(p, own, mine.reshape(-1), (*x.shape, size)))


@TABLE.kernel("lookup_pa", _lookup_cost)
def lookup_pa(p: Party, table: Array, x: AShare, *, bits: int) -> Steps:
    """Public T of N rows, [x] -> [T_i], i = x / 2^m mod 2^b; rows from N on are 0.

    Local:    as one_hot_a with masks of b + m bits, whose upper b bits turn the vector; P0 and P1
              multiply their parts of e with T before they mask them.
    Sends:    as one_hot_a; in round 2 a row of T instead of a unit vector.
    Requires: nothing.
    Error:    exact for m = 0; else i is the floor or the ceiling of x / 2^m, also reduced mod 2^b.
    Opens:    as one_hot_a; x / 2^m is rounded by a threshold, c to P0 and P1 and r to P2.
    Security: as one_hot_a.
    Ref:      as one_hot_a; carry as in truncation.py.
    """
    size, columns = table.shape
    shape = (*x.shape, columns)
    if p.rank == 2:
        yield from _deal(p, x, size, bits)
        return _masks(p, shape)
    c, units = yield from _opened(p, x, size, bits)
    (own,) = p.draw(2, (p.ring.dtype, x.size * columns))
    mine = np.negative(own).reshape(x.size, columns)
    for rows, unit in units:
        part = zeros((len(unit), size), p.ring.dtype)
        turned(unit, c[rows], part)
        matmul(part[None], table[None], mine[None, rows])
        del unit, part
    del units  # and the dealt vectors
    return (yield from _result(p, own, mine.reshape(-1), shape))


def _rows(indices: int, size: int) -> Iterator[slice]:
    """Indices whose unit vectors are worked on at a time."""
    step = max(1, PIECE // places(size))
    return (slice(i, min(i + step, indices)) for i in range(0, indices, step))


def _deal(p: Party, x: AShare, size: int, cut: int) -> Steps:
    """Party 2: unit vectors at -r; the other parts of them come from the stream with party 0."""
    count, n, small = places(size), x.size, small_dtype(index_bits(size) + cut)
    (f02,), (f12,) = p.draw(0, (small, n)), p.draw(1, (small, n))
    r = _offsets(f02 + f12, cut, count)
    d1 = p.ring.empty(n * count)
    for rows in _rows(n, size):
        mask = _unit(p, 0, rows, count)
        unit_deal(mask, r[rows], d1[rows.start * count : rows.stop * count].reshape(-1, count))
    yield from open_(p, f02[:0], Exchange(send={1: [d1]}))
    del d1
    yield Exchange()


def _opened(p: Party, x: AShare, size: int, cut: int) -> Steps:
    """Parties 0 and 1: c, and pieces of the unit vectors' part."""
    count, n, small = places(size), x.size, small_dtype(index_bits(size) + cut)
    (mask,) = p.draw(2, (small, n))
    part = x.total() if p.rank == 0 else x.x1
    mine = cast(flat(part), small) + mask
    beside = Exchange() if p.rank == 0 else Exchange(receive={2: [spec(p.ring.dtype, n * count)]})
    got = yield from open_(p, mine, beside)
    c = _offsets(mine + got[1 - p.rank][0], cut, count)
    if p.rank == 0:
        return c, ((rows, _unit(p, 2, rows, count)) for rows in _rows(n, size))
    d1 = got[2][0].reshape(n, count)
    return c, ((rows, d1[rows]) for rows in _rows(n, size))


def _unit(p: Party, other: int, rows: slice, count: int) -> Array:
    shape = (rows.stop - rows.start, count)
    (mask,) = p.draw(other, (p.ring.dtype, math.prod(shape)), lane=UNITS)
    return mask.reshape(shape)


def _offsets(masked: Array, cut: int, count: int) -> Array:
    return np.asarray((masked >> cut).astype(np.int64) & (count - 1))


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
