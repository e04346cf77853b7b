"""Packets: what travels on a link. A 32-byte header, then at most `SEGMENT` bytes of payload.

    kind    uint8   see below
    zero    uint8   0
    stream  uint16  number that the sender gave to a channel; 0 for other kinds
    length  uint32  bytes of payload
    number  uint64  counts the packets of this direction of this link, from 0; 0 for PING
    seen    uint64  how many numbered packets of the other direction have arrived
    extra   uint64  see below

All little-endian. A link outlives its connections: what was not seen when one breaks is sent again
on the next one, with the same numbers, so that every packet arrives exactly once and in order.

    PING    a sign of life, and carries `seen`; the only kind without a number
    OPEN    stream is a new channel: payload is the encoded (label, members)
    DATA    first part of a frame of a channel; extra is the length of the whole frame
    MORE    next part of that frame
    WINDOW  extra bytes of the channel, over all frames, were taken by the receiver
    END     no frame follows on this channel; extra 0: closed, 1: aborted, payload is why
    OFFER   extra numbers a value: payload is its encoded description, then the value if it is small
    TAKE    the receiver wants the value with the number extra, or has taken it if it was small
    PART    next part of that value
    ABORT   the session failed: payload is why
    BYE     the sender will take nothing more and close when it has sent what it offered
"""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = struct.Struct("<BBHIQQQ")
HEADER_BYTES: Final = HEADER.size

PING: Final = 0
OPEN: Final = 1
DATA: Final = 2
MORE: Final = 3
WINDOW: Final = 4
END: Final = 5
OFFER: Final = 6
TAKE: Final = 7
PART: Final = 8
ABORT: Final = 9
BYE: Final = 10
KINDS: Final = 11

BULK: Final = frozenset((DATA, MORE, PART))
"""Kinds whose payload goes to where it is wanted; the payload of others is small."""

SEGMENT: Final = 1 << 20
CONTROL: Final = 1 << 17
"""Longest payload of the kinds that are not `BULK`."""

STAGE: Final = 1 << 18
"""Bytes that are read from the connection at once; holds any packet that is not `BULK`."""
