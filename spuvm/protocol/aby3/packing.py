"""Bits and half bytes packed for the wire; in memory every element has its own byte."""

from __future__ import annotations

import numpy as np

from spuvm.protocol.aby3.share import Array


def packed_size(size: int, bits: int = 1) -> int:
    """Bytes on the wire for `size` elements of `bits` bits (1, 2, 4, or whole bytes)."""
    return -(-size * bits // 8)


def pack_bits(x: Array) -> Array:
    """Eight elements of one bit per byte."""
    return np.packbits(x, bitorder="little")


def unpack_bits(packed: Array, size: int) -> Array:
    """The inverse of pack_bits."""
    return np.unpackbits(packed, count=size, bitorder="little")


def pack(x: Array, bits: int) -> Array:
    """Elements of 1, 2 or 4 bits packed into bytes; wider ones are returned as they are.

    A byte of pairs or half bytes has elements that are far apart: whole pieces are shifted.
    """
    if bits >= 8:
        return x
    if bits == 1:
        return pack_bits(x)
    count = packed_size(x.size, bits)
    out = x[:count].copy()
    for i in range(1, 8 // bits):
        piece = x[i * count : (i + 1) * count]
        out[: piece.size] |= piece << np.uint8(i * bits)
    return out


def unpack(packed: Array, bits: int, size: int) -> Array:
    """The inverse of pack."""
    if bits >= 8:
        return packed
    if bits == 1:
        return unpack_bits(packed, size)
    out = np.empty(size, np.uint8)
    mask = np.uint8((1 << bits) - 1)
    for i in range(8 // bits):
        piece = out[i * packed.size : (i + 1) * packed.size]
        np.right_shift(packed[: piece.size], np.uint8(i * bits), out=piece)
        piece &= mask
    return out
