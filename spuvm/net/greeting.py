"""The first words on a connection: who speaks to whom, in which session, and from where to go on.

The one who connected speaks first. A greeting is the word `SPU` and a version byte, a uint32
length, and an encoded dict of at most `LARGEST` bytes; it is read before anything else is known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net import wire
from spuvm.net.transport import Transport

MAGIC: Final = b"SPU\x01"
LARGEST: Final = 1 << 16
NONCE: Final = 16
_LIMITS: Final = wire.Limits(nbytes=LARGEST, head=LARGEST, nodes=2048, depth=2)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What one party says first.

    Attributes:
        name, to: the speaker, and whom it wants to speak to.
        parties: all parties, in their order.
        nonce: fresh for every endpoint: a party that was restarted has another one.
        yours: the listener's nonce as the speaker knows it; empty at first.
        seen: packets of the listener that the speaker has.
        window: bytes that the listener may run ahead on each channel.
    """

    name: str
    to: str
    parties: tuple[str, ...]
    nonce: bytes
    yours: bytes
    seen: int
    window: int


class Refused(ChannelError):
    """The other end said why it does not want this connection, or it is not who it should be."""


class Later(ChannelError):
    """The other end is still busy with a session that is over: the same may be welcome soon."""


def say(transport: Transport, greeting: Greeting | Later | str, until: float) -> None:
    """Send a greeting, or a text that says why there is none, or none yet."""
    if isinstance(greeting, str):
        said: wire.WireValue = {"refused": greeting[:2000]}
    elif isinstance(greeting, Later):
        said = {"later": greeting.message[:2000]}
    else:
        said = {
            "name": greeting.name,
            "to": greeting.to,
            "parties": list(greeting.parties),
            "nonce": greeting.nonce,
            "yours": greeting.yours,
            "seen": greeting.seen,
            "window": greeting.window,
        }
    head = wire.encode(said).head
    left = [memoryview(MAGIC + len(head).to_bytes(4, "little") + head)]
    while left or transport.owed:
        count = transport.send(left)
        if left and count:
            left = [left[0][count:]] if count < len(left[0]) else []
        elif left or transport.owed:
            if time.monotonic() > until:
                raise TimeoutError("the greeting was not taken in time")
            time.sleep(0.001)


def hear(transport: Transport, until: float) -> Greeting:
    """Receive a greeting.

    Raises:
        Refused: the other end says why it refuses, or says something else than a greeting.
        Later: it does not want this connection yet.
        OSError: the connection broke, or nothing came in time.
    """
    start = _exactly(transport, 8, until)
    length = int.from_bytes(start[4:], "little")
    if start[:4] != MAGIC or length > LARGEST:
        raise Refused("something that is not spuvm, or not this version of it, answers")
    try:
        said = wire.decode(_exactly(transport, length, until), b"", None, _LIMITS)
    except ChannelError as error:
        raise Refused(f"a greeting that cannot be read: {error.message}") from error
    match said:
        case {"refused": str(reason)}:
            raise Refused(f"refused: {_printable(reason)}")
        case {"later": str(reason)}:
            raise Later(_printable(reason))
        case {
            "name": str(name),
            "to": str(to),
            "parties": list(parties),
            "nonce": bytes(nonce),
            "yours": bytes(yours),
            "seen": int(seen),
            "window": int(window),
        } if len(nonce) == NONCE and len(yours) in (0, NONCE) and seen >= 0 and window > 0:
            if all(isinstance(party, str) for party in parties):
                return Greeting(name, to, _strings(parties), nonce, yours, seen, window)
    raise Refused("a greeting with other contents than expected")


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == " ")


def _strings(items: Sequence[wire.WireValue]) -> tuple[str, ...]:
    return tuple(str(item) for item in items)


def _exactly(transport: Transport, count: int, until: float) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        try:
            got = transport.receive(view, 0)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError("nothing was said in time") from None
            continue
        if not got:
            raise ConnectionResetError("the connection was closed without a greeting")
        view = view[got:]
        if time.monotonic() > until:
            raise TimeoutError("the greeting took too long")
    return bytes(data)
