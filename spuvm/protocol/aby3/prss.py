"""Pseudo-random masks that pairs of parties draw in step (pseudo-random secret sharing).

Every pair of parties has an AES-128 key. A mask's place in the pair's stream is its 128-bit
counter: run (48 bits), instruction of the run (40 bits, numbered so that every path of iterations
of loops has numbers of its own: vm/schedule.py), block (40 bits, from 2 on: keystream.py). A place
is used once: runs only count upwards, an instruction is started once per path, and its draws follow
each other.
Reference for the idea: Cramer, Damgård, Ishai 2005 (TCC).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.errors import ProtocolError
from spuvm.protocol.aby3.keystream import FIRST, LONG, Stream
from spuvm.wide import elements, empty

Array = npt.NDArray[Any]
Request = tuple[np.dtype[Any], int]

RUN_BITS, INSTRUCTION_BITS, BLOCK_BITS = 48, 40, 40
LANE_BITS = 4  # of the block bits: draws of one instruction that advance apart


def expand(seed: bytes, dtype: np.dtype[Any], size: int) -> Array:
    """`size` elements from a fresh one-time seed: how dealt shares are compressed."""
    out = empty(size, dtype)
    if size:
        stream = Stream(seed)
        stream.begin(FIRST, out.nbytes)
        stream.fill(memoryview(out).cast("B"), FIRST)
    return out


class Masks:
    """One party's pair streams for one instruction; draws are in step with the other holder."""

    __slots__ = ("_length", "_place", "_streams", "_used")

    def __init__(
        self, streams: Mapping[int, Stream], run: int, instruction: int, length: int = 0
    ) -> None:
        """`length`: bytes that the largest mask of the instruction may have; changes no mask."""
        if run >> RUN_BITS or instruction >> INSTRUCTION_BITS:
            raise ProtocolError(
                "the mask streams of this session are used up",
                got=f"run {run}, instruction {instruction}",
                expected=f"run below 2^{RUN_BITS}, instruction below 2^{INSTRUCTION_BITS}",
                next="make a new SPU: a new session has new keys",
            )
        self._streams, self._length = streams, length
        self._place = (run << (INSTRUCTION_BITS + BLOCK_BITS)) | (instruction << BLOCK_BITS)
        self._used: dict[tuple[int, int], int] = {}

    def draw(self, other: int, *requests: Request, lane: int = 0) -> list[Array]:
        """One flat array per (dtype, size), the same ones that party `other` draws.

        Both parties must make the same requests in the same order within a lane; each request takes
        whole blocks. Large arrays are drawn in pieces, so that they are used while in the cache;
        lanes let pieces of one mask and pieces of another alternate differently at the two parties.

        Raises:
            ProtocolError: the instruction would run into the places of the next one.
        """
        if len(requests) == 1:  # usual: the same blocks without a buffer around them
            dtype, size = requests[0]
            out = empty(size, dtype)
            if size:
                self._fill(other, memoryview(out).cast("B"), lane)
            return [out]
        offsets = []
        total = 0
        for dtype, size in requests:
            offsets.append(total)
            total += -(-size * dtype.itemsize // 16) * 16
        data = np.empty(total, np.uint8)
        self._fill(other, memoryview(data), lane)
        return [
            elements(data[o : o + size * dtype.itemsize].view(dtype))
            for o, (dtype, size) in zip(offsets, requests, strict=True)
        ]

    def fill(self, other: int, out: Array, lane: int = 0) -> None:
        """Draw into the flat array `out`: the same as one request of its dtype and size."""
        self._fill(other, memoryview(out).cast("B"), lane)

    def _fill(self, other: int, out: memoryview, lane: int) -> None:
        blocks = -(-len(out) // 16)
        if not blocks:
            return
        key = (other, lane)
        first = self._used.get(key, FIRST)
        if (first + blocks) >> (BLOCK_BITS - LANE_BITS) or lane >> LANE_BITS:
            raise ProtocolError(
                f"an instruction needs more than 2^{BLOCK_BITS - LANE_BITS} blocks of masks"
            )
        self._used[key] = first + blocks
        place = self._place + (lane << (BLOCK_BITS - LANE_BITS)) + first
        if first == FIRST and self._length >= LONG:
            self._streams[other].begin(place, self._length)
        self._streams[other].fill(out, place)
