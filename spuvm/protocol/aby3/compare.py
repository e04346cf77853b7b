"""Sign and zero tests of arithmetic shares as Boolean shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import bits as bit_kernels
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3.boolean import (
    BYTE,
    and_all_bits,
    fold_levels,
    reshare_bits,
    zero_masks,
)
from spuvm.protocol.aby3.packing import packed_size
from spuvm.protocol.aby3.share import Array, AShare, BShare, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import array, cast, empty


@cache
def fold_tables(word_bits: int) -> tuple[Array, Array]:
    """(masks, shifts) of the exchanges that put bit i at the place of i's index reversed."""
    dtype = small_dtype(word_bits)
    index_bits = word_bits.bit_length() - 1
    masks, shifts = [], []
    for a in range(index_bits // 2):
        b = index_bits - 1 - a
        places = [i for i in range(word_bits) if i >> a & 1 and not i >> b & 1]
        masks.append(sum(1 << i for i in places))
        shifts.append((1 << b) - (1 << a))
    return array(masks, dtype), array(shifts, dtype)


def _fold(x: Array, bits: int, dtype: np.dtype[Any]) -> Array:
    masks, shifts = fold_tables(dtype.itemsize * 8)
    out = empty(x.size, dtype)
    up = dtype.itemsize * 8 - bits
    bit_kernels.fold_order(x, up, masks, shifts, out)
    return out


def _word(bits: int) -> np.dtype[Any]:
    return small_dtype(bits)


def _msb_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    """64 bits: 28 bytes for the first pairs, 3 * 7.6 for the tree: 51 bytes and 7 rounds."""
    n, word = args[0].size, _word(attrs["bits"])
    nbytes = word.itemsize
    half = small_dtype(nbytes * 4)
    tree = [2 * wire for _, wire in fold_levels(nbytes * 8)[1:-1]]
    each = sum(packed_size(n, bits) for bits in tree) + packed_size(n, 1)
    deal = n * (nbytes + half.itemsize)
    return OpCost(2 + len(tree) + 1, (deal + each, n * nbytes + each, n * nbytes + each))


@TABLE.kernel("msb_a", _msb_cost)
def msb_a(p: Party, x: AShare, *, bits: int) -> Steps:
    """[x] -> [bit number bits-1 of x], the sign of an x of that many bits.

    Local:    x = u + v, u = x_0 + x_1 at P0, v = x_2 at P1 and P2; the bit is u ^ v ^ carry there.
              For a pair of neighbouring bits (generate, propagate) are polynomials in v whose
              coefficients u_high, u_low, u_high u_low P0 deals, so P1 and P2 get their parts
              without talking; pairs are then combined in a tree that halves the word each level:
              g = g_high ^ p_high g_low, p = p_high p_low.
    Sends:    round 1: P0 -> P1 masked u and products of neighbours; P2 -> P1 its part of the pairs;
              round 2: P1 -> P2 its part; then each level P_i -> P_{i-1} half as much.
    Requires: nothing; bits above number bits-1 are ignored.
    Error:    exact.
    Opens:    nothing; every message is masked by a draw that its receiver cannot make.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      split in P0's sum and x_2: ABY3 section 5.3 (eprint 2018/403); carry tree: Kogge and
              Stone 1973 as a reduction; the first level by polynomials in v: this file.
    """
    word, n, shape = _word(bits), x.size, x.shape
    word_bits = word.itemsize * 8
    half, top = small_dtype(word_bits // 2), word_bits - 1
    # Words are made and masked piece by piece; of those that are dealt the top bits are kept.
    sign0, sign1 = np.empty(n, np.uint8), np.empty(n, np.uint8)
    if p.rank == 0:
        total, u1, m1 = x.sum_reader(), empty(n, word), empty(n, half)
        first, second = empty(n, word), empty(n, word)
        for s in pieces(n):
            u = _fold(total(s), bits, word)
            u0, m0 = p.draw(2, (word, u.size), (half, u.size))
            p.fill(2, first[s])
            p.fill(1, second[s])
            bit_kernels.carry_deal(u, u0, m0, u1[s], m1[s])
            sign0[s], sign1[s] = cast(u0 >> top, BYTE), cast(u1[s] >> top, BYTE)
        del x, total
        yield Exchange(send={1: [u1, m1]})
        del u1, m1
        yield Exchange()
    elif p.rank == 1:
        first, mine, v = empty(n, word), empty(n, word), x.readers()[1]
        for s in pieces(n):
            p.fill(0, first[s])
        got = yield Exchange(receive={0: [spec(word, n), spec(half, n)], 2: [spec(word, n)]})
        (u1, m1), (theirs,) = got.pop(0), got.pop(2)
        for s in pieces(n):
            folded = _fold(v(s), bits, word)
            bit_kernels.carry_first(u1[s], m1[s], folded, 1, first[s], mine[s])
            sign0[s], sign1[s] = cast(u1[s] >> top, BYTE), cast(folded >> top, BYTE)
        del x, v, u1, m1
        second = mine ^ theirs
        del theirs
        yield Exchange(send={2: [mine]})
        del mine
    else:
        second, mine, v = empty(n, word), empty(n, word), x.readers()[0]
        for s in pieces(n):
            folded = _fold(v(s), bits, word)
            u0, m0 = p.draw(0, (word, folded.size), (half, folded.size))
            p.fill(0, second[s])
            bit_kernels.carry_first(u0, m0, folded, 0, second[s], mine[s])
            sign0[s], sign1[s] = cast(folded >> top, BYTE), cast(u0 >> top, BYTE)
        del x, v
        yield Exchange(send={1: [mine]})
        got = yield Exchange(receive={1: [spec(word, n)]})
        (theirs,) = got.pop(1)
        first = mine ^ theirs
        del mine, theirs
    tree = _carry_tree(p, first, second, word_bits)
    del first, second
    carry0, carry1 = yield from tree
    out0, out1 = np.empty(n, np.uint8), np.empty(n, np.uint8)
    bit_kernels.sign_share(carry0, sign0, 0, out0)
    bit_kernels.sign_share(carry1, sign1, 0, out1)
    return BShare(out0.reshape(shape), out1.reshape(shape), 1)


def _carry_tree(p: Party, s0: Array, s1: Array, word_bits: int) -> Steps:
    """Words of word_bits/2 pairs (generate low, propagate high) -> components of the carry bit."""
    pairs = word_bits // 2
    while pairs > 1:
        last = pairs == 2
        out_bits = 1 if last else pairs
        z = empty(s0.size, small_dtype(out_bits))
        level = bit_kernels.carry_last if last else bit_kernels.carry_level
        for s in pieces(z.size):
            mask0, mask1 = zero_masks(p, z.dtype, s.stop - s.start)
            level(s0[s], s1[s], mask0, mask1, z[s])
        if out_bits < 8:
            z &= np.uint8((1 << out_bits) - 1)
        del s0, s1
        s0, s1 = z, (yield from reshare_bits(p, z, out_bits))
        pairs //= 2
    return s0, s1


def _eqz_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    n, word = args[0].size, _word(attrs["bits"])
    levels = fold_levels(word.itemsize * 8)
    each = sum(packed_size(n, wire) for _, wire in levels)
    return OpCost(1 + len(levels), (n * word.itemsize + each, each, each))


@TABLE.kernel("eqz_a", _eqz_cost)
def eqz_a(p: Party, x: AShare, *, bits: int) -> Steps:
    """[x] -> [1 where x = 0 mod 2^bits].

    Local:    x = u + v with u known to P0 and v to P1 and P2; x = 0 exactly where the bits of u and
              of -v agree: the and over all bits of not (u ^ -v), both 0 in places above `bits`.
    Sends:    round 1: P0 -> P1 masked u; then a tree of and_bb that halves the word each level.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      the split of ABY3 section 5.3, eprint 2018/403; and-tree as in and_bb.
    """
    word, n, shape = _word(bits), x.size, x.shape
    full = (1 << (word.itemsize * 8)) - 1
    used = (1 << bits) - 1
    if p.rank == 0:
        total, first, second = x.sum_reader(), empty(n, word), empty(n, word)
        for s in pieces(n):
            (u0,) = p.draw(2, (word, s.stop - s.start))
            first[s] = u0 ^ full
            second[s] = (cast(total(s), word) & used) ^ u0
        del x, total
        yield Exchange(send={1: [second]})
    else:
        v, negative = x.readers()[1 if p.rank == 1 else 0], empty(n, word)
        for s in pieces(n):
            negative[s] = cast(np.negative(v(s)), word) & used
        del x, v
        if p.rank == 1:
            got = yield Exchange(receive={0: [spec(word, n)]})
            (first,), second = got.pop(0), negative
        else:
            first, second = negative, empty(n, word)
            for s in pieces(n):
                (u0,) = p.draw(0, (word, s.stop - s.start))
                second[s] = u0 ^ full
            yield Exchange()
        del negative
    tree = and_all_bits(p, first, second, word.itemsize * 8)
    del first, second
    out0, out1 = yield from tree
    return BShare(out0.reshape(shape), out1.reshape(shape), 1)
