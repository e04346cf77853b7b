"""The openings inside protocols: of what is uniform only, by callers on a tested allow-list."""

from __future__ import annotations

import numpy as np

from spuvm.protocol.aby3.packing import pack_bits, packed_size, unpack_bits
from spuvm.protocol.aby3.share import Array, BShare
from spuvm.protocol.base import Exchange, Party, Received, Steps, spec


def open_(p: Party, masked: Array, beside: Exchange) -> Steps:
    """Parties 0 and 1 learn the sum of their masked parts; party 2 learns nothing.

    `masked` is this party's part of a value under a mask that is fresh and known to party 2 alone;
    party 2 passes an empty array. `beside` holds what else travels in the same round.

    Returns: everything received; the other party's part is the first array from it.
    """
    if p.rank == 2:
        received: Received = yield beside
        return received
    other = 1 - p.rank
    expected = spec(masked.dtype, masked.size)
    send, receive = dict(beside.send), dict(beside.receive)
    send[other] = [masked, *send.get(other, [])]
    receive[other] = [expected, *receive.get(other, [])]
    received = yield Exchange(send, receive)
    return received


def open_bits(p: Party, x: BShare) -> Steps:
    """All parties learn single bits, flat. Only for bits that are uniform, or a function of what is
    uniform and public already: each party gets the component it lacks, which that fixes.
    """
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    (x0, x1), n = x.flat(), x.size
    expected = spec(np.dtype(np.uint8), packed_size(n))
    received: Received = yield Exchange({prv: [pack_bits(x1)]}, {nxt: [expected]})
    missing = unpack_bits(received[nxt][0], n)
    made: Array = (x0 ^ x1 ^ missing) & np.uint8(1)
    return made
