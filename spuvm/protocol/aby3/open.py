"""The sole opening inside protocols: of masked values only, by callers on a tested allow-list."""

from __future__ import annotations

from spuvm.protocol.aby3.share import Array
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
