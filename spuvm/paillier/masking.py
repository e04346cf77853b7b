"""Statistical masks: exact integers from the operating system that cover every bit and more."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from spuvm.paillier.arrays import objects
from spuvm.paillier.encoding import Plain

STATISTICAL_BITS = 40


def mask_for(bound: int, shape: tuple[int, ...], scale: int) -> Plain:
    """A mask r for values v with |v| <= bound: uniform below 2^(bits of bound + 1 + 40).

    The distributions of v + r for any two values v have a statistical distance of at most
    2 bound / 2^(bits + 41) <= 2^-40. Every bit of v is covered: r is no multiple of anything.
    """
    bits = bound.bit_length() + 1 + STATISTICAL_BITS
    size = 1
    for n in shape:
        size *= n
    flat: Sequence[int] = [secrets.randbits(bits) for _ in range(size)]
    return Plain(objects(flat, shape), scale, (1 << bits) - 1)
