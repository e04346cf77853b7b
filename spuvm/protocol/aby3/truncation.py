"""Truncation without large errors: of a fresh product (fused), of a shared value, with a factor.

All use that a sum of two 64-bit numbers c = x' + r with 0 <= x' < 2^(k-1) reveals its carry by the
top bits alone. Rounding is stochastic: x/2^m is rounded up with probability equal to its fraction,
so multiples of 2^m are exact. The coin lies in the low m bits of two numbers: x = c - r (fused; P0
and P1 know c, P2 knows r) or x = u + v (shared value; P0 knows u, P1 and P2 know v). Each of them
alone is uniform, so the functionality that is realised is: a party is given a uniform threshold,
and the result is rounded by it. See SECURITY.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import arith, scaling
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3.combine import public_factors, weighted_sum
from spuvm.protocol.aby3.open import open_
from spuvm.protocol.aby3.packing import pack_bits, packed_size, unpack_bits
from spuvm.protocol.aby3.share import PIECE, Array, AShare, Reader, in_a_row, pieces, reader
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast, empty

BYTE = np.dtype(np.uint8)

Accumulate = Callable[[Array, slice], None]


def truncated_product_cost(ring: Ring, size: int, bits: int) -> OpCost:
    """Three words and three m-bit numbers per element in two rounds (k = 64, m = 18: 36 bytes)."""
    word, small = ring.nbytes * size, small_dtype(bits).itemsize * size
    return OpCost(2, (word + small, word + small, word + small))


def truncate_product(p: Party, accumulate: Accumulate, size: int, bits: int) -> Steps:
    """Additive parts z_0 + z_1 + z_2 = x of an unmasked product -> [x / 2^m], flat.

    `accumulate(out, where)` adds a piece of this party's part z_i to `out`: products land on masks.

    Local:    P2 takes r = f02 + f12 - z_2; P0 and P1 learn c = x + 2^(k-2) + r from their parts,
              masked by f02 and f12. With hat(v) = (v mod 2^(k-1)) >> m the result is
              hat(c) - hat(r) + (msb c xor msb r) 2^(k-1-m) - 2^(k-2-m).
              P2 deals a = -hat(r) + msb(r) 2^(k-1-m) as a0 + a2, and msb(r) as b0 + b2 mod 2^m;
              msb(c) msb(r) 2^(k-m) is computed on the parts b0, b2 and re-shared mod 2^m.
    Sends:    round 1: P0 -> P1 z_0 + f02; P1 -> P0 z_1 + f12; P2 -> P1 a2, b2.
              round 2: P0 -> P1 msb(c) b0 - t0; P1 -> P0 msb(c) b2 - t2.
    Requires: |x| < 2^(k-2).
    Error:    less than 1 unit: floor or ceiling of x / 2^m, exact for multiples of 2^m.
    Opens:    c to P0 and P1 only: uniform to P0 because f12 is fresh, to P1 because f02 is.
    Security: semi-honest, one of three corrupt; computational (PRF). P2 receives nothing.
    Ref:      carry from top bits: Dalskov, Escudero, Keller 2020, section 3, arXiv 1910.12435;
              dealer's mask taken from its own additive part: this file.
    """
    ring, n = p.ring, size
    small = small_dtype(bits)
    if p.rank == 2:
        a2, b2 = ring.empty(n), empty(n, small)
        z2, z0 = ring.empty(n), ring.empty(n)
        for s in pieces(n):
            word, part = (ring.dtype, s.stop - s.start), (small, s.stop - s.start)
            (f02,), (f12,) = p.draw(0, word), p.draw(1, word)
            a0, b0, t0 = p.draw(0, word, part, part, lane=1)
            (t2,) = p.draw(1, part, lane=1)
            z = ring.empty(s.stop - s.start)
            arith.minus_sum(f02, f12, z)
            accumulate(z, s)
            arith.truncation_deal(z, a0, b0, t0, t2, bits, a2[s], b2[s], z0[s], z2[s])
        del accumulate  # and what it was made from
        yield from open_(p, a2[:0], Exchange(send={1: [a2, b2]}))
        del a2, b2
        yield Exchange()
        return AShare(z2, z0)
    mine = ring.empty(n)
    for s in pieces(n):
        p.fill(2, mine[s])
        accumulate(mine[s], s)
    del accumulate
    if p.rank == 0:
        got = yield from open_(p, mine, Exchange())
        (theirs,), other = got.pop(1), 1
        c, d, z = ring.empty(n), empty(n, small), ring.empty(n)
        for s in pieces(n):
            word, part = (ring.dtype, s.stop - s.start), (small, s.stop - s.start)
            a0, b0, t0 = p.draw(2, word, part, part, lane=1)
            arith.truncation_correct(mine[s], theirs[s], a0, b0, t0, bits, c[s], d[s], z[s])
    else:
        dealt = Exchange(receive={2: [spec(ring.dtype, n), spec(small, n)]})
        got = yield from open_(p, mine, dealt)
        (theirs,), (a2, b2), other = got.pop(0), got.pop(2), 0
        c, d, z = ring.empty(n), empty(n, small), ring.empty(n)
        for s in pieces(n):
            (t2,) = p.draw(2, (small, s.stop - s.start), lane=1)
            arith.truncation_correct(mine[s], theirs[s], a2[s], b2[s], t2, bits, c[s], d[s], z[s])
        del a2, b2
    del mine, theirs
    got = yield Exchange(send={other: [d]}, receive={other: [spec(small, n)]})
    (theirs,), z1 = got.pop(other), c
    for s in pieces(n):
        # From a copy: kernels that write what they read are several times slower.
        arith.truncation_finish(c[s].copy(), d[s], theirs[s], bits, z1[s])
    return AShare(z, z1) if p.rank == 0 else AShare(z1, z)


def shift_cost(ring: Ring, size: int, bits: int) -> OpCost:
    """A word, two m-bit numbers and a bit per element, two rounds (k = 64, m = 18: 16.1 bytes)."""
    small = small_dtype(bits).itemsize * size
    return OpCost(2, (ring.nbytes * size + packed_size(size), small, small))


def _trunc_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return shift_cost(ring, args[0].size, attrs["bits"])


@TABLE.kernel("trunc_a", _trunc_cost)
def trunc_a(p: Party, x: AShare, *, bits: int) -> Steps:
    """[x] -> [x / 2^m], the sum split between P0 (u = x_0 + x_1) and P1, P2 (v = x_2).

    Local:    x' = x + 2^(k-2) - 1 = u + v - w 2^k with the wrap w = a or b, a = msb(u), b = msb(v),
              because x' < 2^(k-1). So x >> m = asr(u) + asr(v) + a b 2^(k-m) - (2^(k-2-m) - 1).
              a b mod 2^m: P0 masks a as e = a xor c (c drawn with P1), P1 deals c b as s0 + s1,
              a b = e b + (1 - 2e)(s0 + s1). With r drawn by P0 and P2, t2 by P1 and P2:
              z0 = r + y 2^(k-m), z1 = asr(u) + (1 - 2e) s0 2^(k-m) - offset - r,
              z2 = asr(v) + t2 2^(k-m).
    Sends:    round 1: P0 -> P2 e; P0 -> P1 z1; P1 -> P2 s1, m bits.
              round 2: P2 -> P0 y = e b + (1 - 2e) s1 - t2, m bits.
    Requires: |x| < 2^(k-2); for rounding without bias also a uniform x_2, as dealing and every
              interactive instruction leave it.
    Error:    less than 1 unit, exact for multiples of 2^m.
    Opens:    e to P2, uniform because c is fresh and unknown to it; z1 is masked by r, which P1
              does not know, y by t2, which P0 does not know, s1 by s0, which P2 does not know.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      ABY3 trunc1 (Mohassel, Rindal 2018, section 5.1, eprint 2018/403) corrected by the
              wrap bit; wrap from top bits as in arXiv 1910.12435, section 3.
    """
    return (yield from _shift(p, split(p, x), x.shape, bits))


def trunc_both(p: Party, x: AShare, y: AShare, *, bits: int) -> Steps:
    """trunc_a of two operands at once, flat, one after the other; what they lose is independent.

    A truncation rounds by the fraction of component 2, up as often as the value asks for. Of x and
    y = x, as in sums of squares, both would be rounded alike, and products of what they lose would
    all be positive. So y is shared as (y_0 - r, y_1, y_2 + r), for public r that go round evenly.
    """
    read, around = split(p, y), _around(p.ring, bits)

    def moved(s: slice) -> Array:
        # The table begins elsewhere in every piece, for columns that are whole pieces apart.
        part, begin = read(s), (s.start + s.start // PIECE * _STRIDE) % PIECE
        r = around[begin : begin + part.size]
        return np.asanyarray(part - r if p.rank == 0 else part + r)

    parts = in_a_row([(x.size, split(p, x)), (y.size, moved)])
    return (yield from _shift(p, parts, (x.size + y.size,), bits))


_STRIDE = 10007  # prime, so that it meets every place of the table


@lru_cache(32)
def _around(ring: Ring, bits: int) -> Array:
    """Multiples of the golden ratio modulo 1, with so many bits: every stretch of them is even."""
    places = np.arange(PIECE, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return cast(np.tile(places >> np.uint64(64 - bits), 2), ring.dtype)


def split(p: Party, x: AShare) -> Reader:
    """Pieces of what trunc_a starts from: u at P0, v at P1 and P2."""
    return x.sum_reader() if p.rank == 0 else x.readers()[1 if p.rank == 1 else 0]


def _trunc_sum_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return shift_cost(ring, args[0].size, attrs["bits"])


@TABLE.kernel("trunc_sum_a", _trunc_sum_cost)
def trunc_sum_a(p: Party, *xs: AShare, coefficients: tuple[int, ...], bits: int) -> Steps:
    """[x_1], ..., [x_n], public c -> [sum c_i x_i / 2^m].

    Local:    as trunc_a of the sum; each party adds up only what it needs there: P0 the sum of both
              components, P1 and P2 component 2, piece by piece, so that no sum is ever stored.
    Sends:    as trunc_a.
    Requires: |sum| < 2^(k-2).
    Error:    as trunc_a.
    Opens:    as trunc_a.
    Security: as trunc_a.
    Ref:      as trunc_a.
    """
    return (yield from _shift(p, _sum_split(p, xs, coefficients), xs[0].shape, bits))


def _sum_split(p: Party, xs: Sequence[AShare], coefficients: tuple[int, ...]) -> Reader:
    """Pieces of what trunc_a starts from, of a public combination."""
    if p.rank == 0:
        parts = [x.summands() for x in xs]
        readers = [read for part in parts for read in part]
        if len(readers) != len(coefficients):
            each = zip(coefficients, parts, strict=True)
            coefficients = tuple(c for c, part in each for _ in part)
    else:
        readers = [x.readers()[1 if p.rank == 1 else 0] for x in xs]
    table = public_factors(p.ring, coefficients)
    return lambda s: weighted_sum([read(s) for read in readers], table)


def _scale_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return shift_cost(ring, args[0].size, attrs["bits"])


@TABLE.kernel("scale_ap", _scale_cost)
def scale_ap(p: Party, x: AShare, factors: Array, *, bits: int) -> Steps:
    """[x], public f -> [f x / 2^m] for every representable x, however large f x is.

    Local:    x' = x + 2^(k-2) = u + v - (a + b - a b) 2^k as in trunc_a; u - a 2^k, v - b 2^k are
              u and v read as signed. So f x / 2^m is, of integers and not in the ring,
              floor(f u / 2^m) + ceiling(f v / 2^m) - f 2^(k-2-m) + f a b 2^(k-m), and
              f a b mod 2^m is made as a b in trunc_a, both of its parts times f.
    Sends:    as trunc_a.
    Requires: |x| < 2^(k-2), |f| 2^m < 2^(k-2), |f x / 2^m| < 2^(k-2); a uniform x_2 as trunc_a.
    Error:    less than 1 unit, exact for multiples of 2^m.
    Opens:    as trunc_a.
    Security: as trunc_a.
    Ref:      as trunc_a; scaling before the shift: this file.
    """
    read = reader(np.broadcast_to(factors, x.shape))
    return (yield from _shift(p, split(p, x), x.shape, bits, _Scaled(read)))


@TABLE.kernel("scale_sum_a", _trunc_sum_cost)
def scale_sum_a(
    p: Party, *xs: AShare, coefficients: tuple[int, ...], factor: int, bits: int
) -> Steps:
    """[x_1], ..., [x_n], public integers c, f -> [f (sum c_i x_i) / 2^m].

    Local:    as trunc_sum_a and scale_ap.
    Sends:    as trunc_a.
    Requires: |sum| < 2^(k-2), and as scale_ap.
    Error:    as trunc_a.
    Opens:    as trunc_a.
    Security: as trunc_a.
    Ref:      as scale_ap.
    """
    read = reader(np.broadcast_to(public_factors(p.ring, (factor,)).reshape(()), xs[0].shape))
    gather = _sum_split(p, xs, coefficients)
    return (yield from _shift(p, gather, xs[0].shape, bits, _Scaled(read)))


class _Shifted:
    """The local steps of trunc_a on a piece."""

    def shift_first(self, s: slice, *arrays: Any) -> None:
        arith.shift_first(*arrays)

    def shift_deal(self, s: slice, *arrays: Any) -> None:
        arith.shift_deal(*arrays)

    def shift_keep(self, s: slice, *arrays: Any) -> None:
        arith.shift_keep(*arrays)

    def shift_second(self, s: slice, *arrays: Any) -> None:
        arith.shift_second(*arrays)


@dataclass(frozen=True)
class _Scaled(_Shifted):
    """Those of scale_ap, with pieces of the factors."""

    read: Reader

    def shift_first(self, s: slice, *arrays: Any) -> None:
        scaling.scaled_first(self.read(s), *arrays)

    def shift_deal(self, s: slice, *arrays: Any) -> None:
        x2, c, s0, t2, bits, s1, z2 = arrays
        b = np.empty(x2.size, np.uint8)
        scaling.scaled_keep(self.read(s), x2, t2, bits, b, z2)
        masked_wraps(b, c, s0, s1)

    def shift_keep(self, s: slice, *arrays: Any) -> None:
        scaling.scaled_keep(self.read(s), *arrays)

    def shift_second(self, s: slice, *arrays: Any) -> None:
        scaling.scaled_second(self.read(s), *arrays)


def masked_wraps(b: Array, c: Array, s0: Array, s1: Array) -> None:
    """Party 1: s1 = c b - s0, for c of which the lowest bits count."""
    np.subtract(cast(b & c & np.uint8(1), s0.dtype), s0, out=s1)


def _shift(
    p: Party, gather: Reader, shape: tuple[int, ...], bits: int, local: _Shifted | None = None
) -> Steps:
    """trunc_a with gather(where): a piece of u at P0, of v at P1 and P2; `local` may scale.

    The words from P0 to P1 are final: while they travel, P2 and P0 already make the second round.
    """
    ring, n, local = p.ring, math.prod(shape), local or _Shifted()
    small = small_dtype(bits)
    if p.rank == 1:
        s1, z2 = empty(n, small), ring.empty(n)
        for s in pieces(n):
            c, s0 = p.draw(0, (BYTE, s.stop - s.start), (small, s.stop - s.start))
            (t2,) = p.draw(2, (small, s.stop - s.start))
            local.shift_deal(s, gather(s), c, s0, t2, bits, s1[s], z2[s])
        del gather
        got = yield Exchange(send={2: [s1]}, receive={0: [spec(ring.dtype, n)]})
        del s1
        z1 = got.pop(0)[0]
        yield Exchange()
        return AShare(z1.reshape(shape), z2.reshape(shape))
    z0 = ring.empty(n)
    if p.rank == 0:
        e, z1 = np.empty(n, np.uint8), ring.empty(n)
        for s in pieces(n):
            c, s0 = p.draw(1, (BYTE, s.stop - s.start), (small, s.stop - s.start))
            p.fill(2, z0[s])
            local.shift_first(s, gather(s), c, s0, z0[s], bits, e[s], z1[s])
        del gather
        # The bits go first: the second round waits for them, and nothing for the words.
        yield Exchange(send={2: [pack_bits(e)], 1: [z1]})
        del e
        got = yield Exchange(receive={2: [spec(small, n)]})
        y = got.pop(2)[0]
        for s in pieces(n):
            # From a copy: kernels that write what they read are several times slower.
            arith.shift_finish(z0[s].copy(), y[s], bits, z0[s])
        return AShare(z0.reshape(shape), z1.reshape(shape))
    b, t2, z2 = np.empty(n, np.uint8), empty(n, small), ring.empty(n)
    for s in pieces(n):
        p.fill(0, z0[s])
        p.fill(1, t2[s])
        local.shift_keep(s, gather(s), t2[s], bits, b[s], z2[s])
    del gather
    expected = {0: [spec(BYTE, packed_size(n))], 1: [spec(small, n)]}
    got = yield Exchange(receive=expected)
    e, s1, y = unpack_bits(got.pop(0)[0], n), got.pop(1)[0], empty(n, small)
    for s in pieces(n):
        local.shift_second(s, b[s], e[s], s1[s], t2[s], z0[s].copy(), bits, y[s], z0[s])
    del b, t2, e, s1
    yield Exchange(send={0: [y]})
    return AShare(z2.reshape(shape), z0.reshape(shape))
