"""Boolean shares: and, re-sharing of bits, and the fold of all bits of a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import bits as bit_kernels
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3.packing import pack, packed_size, unpack
from spuvm.protocol.aby3.share import Array, BShare, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast, empty

BYTE = np.dtype(np.uint8)


def wire_bits(width: int) -> int:
    """Bits that an element of `width` bits takes on the wire: 1, 2, 4 or whole words."""
    return next(w for w in (1, 2, 4, 8, 16, 32, 64, 128) if width <= w)


def _and_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return OpCost(1, (packed_size(args[0].size, wire_bits(args[0].width)),) * 3)


@TABLE.kernel("and_bb", _and_cost)
def and_bb(p: Party, x: BShare, y: BShare) -> Steps:
    """[x], [y] -> [x & y], bitwise.

    Local:    z_i = x_i y_i ^ x_i y_{i+1} ^ x_{i+1} y_i ^ alpha_i, alpha_0 ^ alpha_1 ^ alpha_2 = 0.
    Sends:    P_i -> P_{i-1}: z_i.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing; z_i is uniform to its receiver, who lacks one mask of alpha_i.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Araki et al. 2016, section 2.1, eprint 2016/768.
    """
    (x0, x1), (y0, y1) = x.flat(), y.flat()
    z = and_part(p, x0, x1, y0, y1, x.width)
    second = yield from reshare_bits(p, z, wire_bits(x.width))
    return BShare(z.reshape(x.shape), second.reshape(x.shape), x.width)


def zero_masks(p: Party, dtype: np.dtype[Any], size: int) -> tuple[Array, Array]:
    """Masks with the next and the previous party; their xor is this party's part of zero."""
    (nxt,) = p.draw((p.rank + 1) % 3, (dtype, size))
    (prv,) = p.draw((p.rank + 2) % 3, (dtype, size))
    return nxt, prv


def and_part(p: Party, x0: Array, x1: Array, y0: Array, y1: Array, width: int) -> Array:
    """This party's masked part of x & y, words of `width` bits."""
    z = empty(x0.size, x0.dtype)
    for s in pieces(z.size):
        mask0, mask1 = zero_masks(p, z.dtype, s.stop - s.start)
        bit_kernels.and_terms(x0[s], x1[s], y0[s], y1[s], mask0, mask1, z[s])
    if width < 8:
        z &= np.uint8((1 << width) - 1)
    return z


def reshare_bits(p: Party, z: Array, bits: int) -> Steps:
    """Send the masked additive part to the previous party; returns the next party's part.

    `bits` per element go over the wire (1, 2, 4 or whole words).
    """
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    sent = pack(z, bits)
    expected = spec(sent.dtype, sent.size)
    got = yield Exchange(send={prv: [sent]}, receive={nxt: [expected]})
    return unpack(got[nxt][0], bits, z.size)


def deal_known(p: Party, u: Array | None, dtype: np.dtype[Any], size: int) -> Steps:
    """Bits u known to P0 -> Boolean components (u_0, u_1, 0): P1's and P2's parts.

    Local:    u_0 drawn by P0 and P2, u_1 = u ^ u_0.
    Sends:    P0 -> P1: u_1 (uniform to P1, which does not know u_0).
    Returns:  P0: (u_0, u_1), P1: u_1, P2: u_0, flat arrays.
    """
    if p.rank == 0:
        assert u is not None, "party 0 knows the bits"
        (u0,) = p.draw(2, (dtype, size))
        u1 = u ^ u0
        yield Exchange(send={1: [u1]})
        return u0, u1
    if p.rank == 2:
        (u0,) = p.draw(0, (dtype, size))
        yield Exchange()
        return u0
    got = yield Exchange(receive={0: [spec(dtype, size)]})
    return got[0][0]


def word_dtype(bits: int) -> np.dtype[Any]:
    """Unsigned dtype of the words that carry `bits` bits."""
    return small_dtype(bits)


def fold_levels(word_bits: int) -> list[tuple[np.dtype[Any], int]]:
    """(dtype in memory, bits on the wire) of the halves 32, 16, ... 1 of a word, widest first."""
    levels = []
    half = word_bits // 2
    while half >= 1:
        levels.append((small_dtype(half), wire_bits(half)))
        half //= 2
    return levels


def and_all_bits(p: Party, x0: Array, x1: Array, word_bits: int) -> Steps:
    """Flat Boolean words -> (first, second) components of the and of all bits of each word.

    Local:    halves are and-ed with each other until one bit is left.
    Sends:    as and_bb, half a word, a quarter, ... per element.
    """
    half = word_bits // 2
    for dtype, wire in fold_levels(word_bits):
        mask = (1 << half) - 1
        z = empty(x0.size, dtype)
        for s in pieces(z.size):
            a, b = x0[s], x1[s]
            low0, low1 = cast(a & mask, dtype), cast(b & mask, dtype)
            high0, high1 = cast(a >> half, dtype), cast(b >> half, dtype)
            z[s] = and_part(p, low0, low1, high0, high1, half)
        del x0, x1
        x0, x1 = z, (yield from reshare_bits(p, z, wire))
        half //= 2
    return x0, x1
