"""The frame format: a 16-byte header, then the payload of all arrays of one round.

    word    uint32  magic (16 bits), version (8), kind (8)
    number  uint32  counts the frames of this direction of this link, from 0, modulo 2^32
    length  uint64  bytes of payload

All little-endian. Kinds: DATA, ABORT (UTF-8 text), HELLO (first bytes of a connection in both
directions, without payload: its number is the sender's rank + 65536 * the rank that it wants to
talk to, its length the number of parties).
"""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = struct.Struct("<IIQ")
HEADER_BYTES: Final = HEADER.size

_VERSION: Final = 1
_WORD: Final = 0x5350_0000 | _VERSION << 8
DATA: Final = _WORD | 0
ABORT: Final = _WORD | 1
HELLO: Final = _WORD | 2

NUMBERS: Final = 1 << 32
ABORT_BYTES: Final = 4096
"""Longest abort text; what is beyond it is cut."""

READ_AHEAD: Final = 64 << 20
"""A party keeps at most this many bytes (and one frame) per peer that it did not ask for yet."""

FRAME_LIMIT: Final = 8 << 30
"""Longest payload that is accepted before its length is known from the schedule."""


def hello(rank: int, peer: int, parties: int) -> bytes:
    """The HELLO frame from `rank` to `peer`."""
    return HEADER.pack(HELLO, rank | peer << 16, parties)


def abort_frame(message: str) -> bytes:
    """The whole ABORT frame of a text, cut to `ABORT_BYTES`."""
    text = message.encode("utf-8", "replace")[:ABORT_BYTES]
    return HEADER.pack(ABORT, 0, len(text)) + text


def abort_text(payload: bytes) -> str:
    """The text of an ABORT frame, with control characters other than line ends removed."""
    text = payload.decode("utf-8", "replace")
    return "".join(c for c in text if c == "\n" or c.isprintable())
