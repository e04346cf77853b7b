"""Products of public matrices with shares of any size, truncated: the matrix form of scale_ap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import scaling
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.matmul import matmul
from spuvm.protocol.aby3.packing import pack_bits, packed_size, unpack_bits
from spuvm.protocol.aby3.share import Array, AShare, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.aby3.truncation import masked_wraps, split
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast, empty, zeros

BYTE = np.dtype(np.uint8)


def _cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    """An m-bit number and a bit per element of x, a word and an m-bit number per result."""
    p, x = args
    small, made = small_dtype(attrs["bits"]).itemsize, p.shape[0] * p.shape[1] * x.shape[2]
    return OpCost(2, (ring.nbytes * made + packed_size(x.size), small * x.size, small * made))


@TABLE.kernel("scale_dot_pa", _cost)
def scale_dot_pa(p: Party, factors: Array, x: AShare, *, bits: int) -> Steps:
    """Public F [B,M,K], [x] [B,K,N] -> [F x / 2^m] for every representable x.

    Local:    sums over scale_ap's parts of every element, shifted once: with u = uh 2^m + ul,
              F u / 2^m = F uh + floor(F ul / 2^m), likewise the ceiling for v. The wrap bits a b
              stay shares of m bits per element; F times both parts is what a result lacks.
    Sends:    round 1: P0 -> P2 e, per element; P0 -> P1 z1, per result; P1 -> P2 s1, per element.
              round 2: P2 -> P0 y, per result.
    Requires: |x| < 2^(k-2), K max|F| 2^m < 2^(k-2), |F x / 2^m| < 2^(k-2); a uniform x_2.
    Error:    less than 1 unit, exact for multiples of 2^m.
    Opens:    as scale_ap: e under c, s1 under s0, z1 under r, y under t2, each of them fresh.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      as scale_ap.
    """
    ring, shape = p.ring, (*factors.shape[:2], x.shape[2])
    n, made = x.size, math.prod(shape)
    small, read = small_dtype(bits), split(p, x)
    high, low = ring.empty(n), ring.empty(n)
    bit = np.empty(n, np.uint8)
    if p.rank == 0:
        for s in pieces(n):
            c, s0 = p.draw(1, (BYTE, s.stop - s.start), (small, s.stop - s.start))
            scaling.parted_first(read(s), c, s0, bits, bit[s], high[s], low[s])
        (r,) = p.draw(2, (ring.dtype, made))
        z1 = _times(factors, high, x.shape)
        scaling.joined(_times(factors, low, x.shape), 0, bits, z1)
        column = (x.shape[0], x.shape[1], 1)
        ones = ring.array(np.ones(math.prod(column), np.int64)) << (ring.bits - 2 - bits)
        offset = _times(factors, ones, column).reshape(*shape[:2], 1)
        z1 = (z1.reshape(shape) - offset).reshape(-1) - r
        del high, low
        yield Exchange(send={2: [pack_bits(bit)], 1: [z1]})
        del bit
        got = yield Exchange(receive={2: [spec(small, made)]})
        y = cast(got[2][0], ring.dtype) << (ring.bits - bits)
        return AShare((r + y).reshape(shape), z1.reshape(shape))
    if p.rank == 1:
        s1 = empty(n, small)
        for s in pieces(n):
            c, s0 = p.draw(0, (BYTE, s.stop - s.start), (small, s.stop - s.start))
            scaling.parted(read(s), bits, bit[s], high[s], low[s])
            masked_wraps(bit[s], c, s0, s1[s])
        z2, _ = _shifted(p, factors, high, low, x.shape, bits, 2, made)
        del high, low, bit
        got = yield Exchange(send={2: [s1]}, receive={0: [spec(ring.dtype, made)]})
        del s1
        yield Exchange()
        return AShare(got[0][0].reshape(shape), z2.reshape(shape))
    for s in pieces(n):
        scaling.parted(read(s), bits, bit[s], high[s], low[s])
    z2, t2 = _shifted(p, factors, high, low, x.shape, bits, 1, made)
    (r,) = p.draw(0, (ring.dtype, made))
    del low
    expected = {0: [spec(BYTE, packed_size(n))], 1: [spec(small, n)]}
    got = yield Exchange(receive=expected)
    scaling.wraps(bit, unpack_bits(got[0][0], n), got[1][0], high)
    y = cast(_times(factors, high, x.shape), small) - t2
    del high, bit, got
    yield Exchange(send={0: [y]})
    z0 = r + (cast(y, ring.dtype) << (ring.bits - bits))
    return AShare(z2.reshape(shape), z0.reshape(shape))


def _times(factors: Array, x: Array, shape: tuple[int, ...]) -> Array:
    """factors @ x in the ring, flat."""
    made = zeros((*factors.shape[:2], shape[2]), x.dtype)
    matmul(factors, x.reshape(shape), made)
    return made.reshape(-1)


def _shifted(
    p: Party, factors: Array, high: Array, low: Array, shape: tuple[int, ...],
    bits: int, other: int, made: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Parties 1 and 2: z2 = ceiling(F v / 2^m) + t2 2^(k-m), and t2."""
    (t2,) = p.draw(other, (small_dtype(bits), made))
    z2 = _times(factors, high, shape)
    scaling.joined(_times(factors, low, shape), 1, bits, z2)
    return z2 + (cast(t2, p.ring.dtype) << (p.ring.bits - bits)), t2
