"""Values on their way between two parties: offered by one, taken by the other, never fetched.

Every value that is sent is announced with an OFFER; a small one travels within it. The rest of a
large one follows when the receiver has asked for it, so that nothing is allocated for what nobody
expects, and a sender never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net import packet, wire
from spuvm.net.buffers import drop, views
from spuvm.net.channel import Array
from spuvm.net.endpoint import Envelope
from spuvm.net.link import UNSEEN, Link
from spuvm.net.wire import WireValue

SMALL: Final = 64 << 10
"""Largest value, in bytes, that travels within its offer."""

OFFERS: Final = 4096
"""Offers to one peer that it has not taken; further ones wait at the sender."""

SMALL_BYTES: Final = 16 << 20
"""Bytes of small values within those offers; beyond it small values are treated as large."""

_DESCRIPTION: Final = wire.Limits(nbytes=1 << 12, head=1 << 12, nodes=16, depth=1)
_SLICE: Final = 0.05

_Key = tuple[int | str, str]  # operation, edge


@dataclass(slots=True)
class _Outgoing:
    key: _Key
    number: int
    description: bytes
    head: bytes
    body: list[memoryview]
    small: bool
    nbytes: int


@dataclass(slots=True)
class _Incoming:
    number: int
    session: bytes
    head_bytes: int
    nbytes: int
    small: bytes | None
    envelope: Envelope | None = None  # of the receiver that asked for it
    where: list[memoryview] = field(default_factory=list)  # what is still to be filled
    head: bytearray = field(default_factory=bytearray)
    layout: wire.Layout | None = None
    arrays: list[Array] = field(default_factory=list)
    error: ChannelError | None = None
    left: int = 0
    progress: float = 0.0


class Transfers:
    """Both directions of one link. The link's reader calls `control`, `target` and `arrived`.

    Args:
        link: to the peer.
        names: of this party and the peer.
        check: raises if the session is over.
        wake: has the endpoint's thread call `push`.
    """

    def __init__(
        self, link: Link, own: str, check: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self._link, self._own, self._check, self._wake = link, own, check, wake
        self.session = b""
        self.changed = threading.Condition()
        self._number = 0
        self._queue: deque[_Outgoing] = deque()
        self._offered: dict[int, _Outgoing] = {}
        self._keys: set[_Key] = set()  # of all that were not taken
        self._small_out = 0
        self._active: deque[_Outgoing] = deque()
        self._offers: dict[_Key, _Incoming] = {}
        self._taking: dict[int, _Incoming] = {}
        self._last_number = -1
        self._small_in = 0
        self._scratch = memoryview(bytearray(0))
        self.left = False  # the peer takes nothing more
        self.waiting = 0  # receivers

    # ---- sending

    def send(self, envelope: Envelope, value: WireValue) -> None:
        """Queue a value, see `Endpoint.send`."""
        encoded = wire.encode(value, envelope.limits)
        if envelope.expected is not None:
            check_own(encoded, envelope)
        key = (envelope.operation, envelope.edge)
        description = wire.encode(
            {
                "session": self.session,
                "sender": self._own,
                "operation": envelope.operation,
                "edge": envelope.edge,
                "head": len(encoded.head),
                "bytes": encoded.nbytes,
            },
            _DESCRIPTION,
        ).head
        with self.changed:
            self._check()
            if self.left:
                raise ChannelError(f"party '{self._link.peer}' has left: it takes no {envelope}")
            if key in self._keys:
                raise UsageError("this was sent before", got=str(envelope))
            self._keys.add(key)
            small = encoded.nbytes <= SMALL and self._small_out + encoded.nbytes <= SMALL_BYTES
            if small:
                self._small_out += encoded.nbytes
            self._queue.append(
                _Outgoing(
                    key,
                    self._number,
                    description,
                    encoded.head,
                    list(encoded.body),
                    small,
                    encoded.nbytes,
                )
            )
            self._number += 1
            self._offer()

    def _offer(self) -> None:
        while self._queue and len(self._offered) < OFFERS:
            item = self._queue.popleft()
            self._offered[item.number] = item
            parts = [len(item.description).to_bytes(2, "little"), item.description]
            if item.small:
                parts += [item.head, *item.body]  # type: ignore[list-item]
            payload = b"".join(parts)
            self._link.send(packet.OFFER, 0, item.number, [memoryview(payload)], len(payload))

    def push(self) -> None:
        """Send on of what the peer wants, as far as the link takes it."""
        while True:
            with self.changed:
                if not self._active or self._link.unsent or self._link.unseen_bytes > UNSEEN:
                    return
                item = self._active[0]
                if item.head:
                    parts = [memoryview(item.head[: packet.SEGMENT])]
                    item.head = item.head[packet.SEGMENT :]
                else:
                    parts = cut_off(item.body, packet.SEGMENT)
                length = sum(map(len, parts))
                item.nbytes -= length
                if not item.nbytes:
                    self._active.popleft()
                self._link.send(packet.PART, 0, item.number, parts, length)

    @property
    def pushing(self) -> bool:
        """Whether there is something to `push`."""
        return bool(self._active)

    @property
    def finished(self) -> bool:
        """Whether everything was handed to the link, and the peer asked for all of it."""
        return not (self._queue or self._offered or self._active)

    def bye(self) -> None:
        """The peer takes nothing more: forget what it has not asked for."""
        with self.changed:
            self.left = True
            self._queue.clear()
            self._offered.clear()
            self._keys.clear()
            self.changed.notify_all()

    # ---- receiving

    def receive(self, envelope: Envelope, deadline: float) -> WireValue:
        """Wait for a value and take it, see `Endpoint.receive`."""
        key = (envelope.operation, envelope.edge)
        since = time.monotonic()
        with self.changed:
            self.waiting += 1
            try:
                while (item := self._offers.get(key)) is None or item.envelope is not None:
                    self._check()
                    if self.left:
                        raise ChannelError(
                            f"party '{self._link.peer}' left without sending {envelope}"
                        )
                    self._wait(since, deadline, envelope)
                return self._take(key, item, envelope, deadline)
            finally:
                self.waiting -= 1

    def _take(self, key: _Key, item: _Incoming, envelope: Envelope, deadline: float) -> WireValue:
        self._link.send(packet.TAKE, 0, item.number, (), 0)
        del self._offers[key]
        if item.session != self.session:
            raise self._strange("a value of another session")
        if item.small is not None:
            self._small_in -= item.nbytes
            head, body = item.small[: item.head_bytes], item.small[item.head_bytes :]
            try:
                return wire.decode(head, body, envelope.expected, envelope.limits)
            except ChannelError as error:
                raise from_peer(error, self._link.peer, envelope) from None
        item.envelope, item.left, item.progress = envelope, item.nbytes, time.monotonic()
        if max(item.head_bytes, 1) > envelope.limits.head:
            item.error = ChannelError("the structure of a value is too large")
        else:
            item.head = bytearray(item.head_bytes)
            item.where = [memoryview(item.head)]
        self._taking[item.number] = item
        while item.left and item.error is None:
            self._check()
            self._wait(item.progress, deadline, envelope)
        if item.error is not None:
            raise from_peer(item.error, self._link.peer, envelope)
        assert item.layout is not None
        try:
            return item.layout.value(item.arrays)
        except ChannelError as error:
            raise from_peer(error, self._link.peer, envelope) from None

    def _wait(self, since: float, deadline: float, envelope: Envelope) -> None:
        left = since + deadline - time.monotonic()
        if left <= 0:
            raise ChannelError(
                f"party '{self._link.peer}' did not send {envelope}",
                expected=f"progress within {deadline:g} s",
                next=f"see whether '{self._link.peer}' is alive and runs the same script",
            )
        self.changed.wait(min(left, _SLICE))

    # ---- the link's reader

    def control(self, kind: int, number: int, payload: bytes) -> None:
        """An OFFER or a TAKE arrived; ChannelError if it makes no sense."""
        with self.changed:
            if kind == packet.OFFER:
                self._offered_here(number, payload)
                self.changed.notify_all()
                return
            item = self._offered.pop(number, None)
            if payload or (item is None and not self.left):
                raise self._strange("it takes a value that was not offered")
            if item is None:
                return
            self._keys.discard(item.key)
            if item.small:
                self._small_out -= item.nbytes
            else:
                self._active.append(item)
                self._wake()
            self._offer()

    def _offered_here(self, number: int, payload: bytes) -> None:
        if number <= self._last_number or len(self._offers) >= OFFERS:
            raise self._strange("it offers a value twice, or too many")
        self._last_number = number
        length = int.from_bytes(payload[:2], "little")
        said = wire.decode(payload[2 : 2 + length], b"", None, _DESCRIPTION)
        key, session, head_bytes, nbytes = self._described(said)
        small = payload[2 + length :]
        if small:
            self._small_in += nbytes
            if len(small) != nbytes or self._small_in > SMALL_BYTES:
                raise self._strange("a small value of another length, or too many of them")
        if key in self._offers:
            raise self._strange(f"operation {key[0]}, {key[1]} twice")
        self._offers[key] = _Incoming(number, session, head_bytes, nbytes, small or None)

    def _described(self, said: WireValue) -> tuple[_Key, bytes, int, int]:
        match said:
            case {
                "session": bytes(session),
                "sender": str(sender),
                "operation": int() | str() as operation,
                "edge": str(edge),
                "head": int(head),
                "bytes": int(nbytes),
            } if isinstance(said, dict) and len(said) == 6 and 0 < head <= nbytes:
                if sender != self._link.peer:
                    raise self._strange("a value of another sender")
                return (operation, edge), session, head, nbytes
        raise self._strange("a value without a proper description")

    def target(self, number: int, length: int) -> list[memoryview]:
        """Where the next part of a value goes."""
        with self.changed:
            item = self._taking.get(number)
            if item is None or length > item.left:
                raise self._strange("a part of a value that was not asked for")
            if item.error is not None:
                if len(self._scratch) < length:
                    self._scratch = memoryview(bytearray(packet.SEGMENT))
                return [self._scratch[:length]]
            if length > sum(map(len, item.where)):
                raise self._strange("a part of a value across its end")
            where: list[memoryview] = []
            for part in item.where:
                where.append(part[:length])
                length -= len(where[-1])
                if not length:
                    break
            return where

    def arrived(self, number: int, length: int) -> None:
        """The part is where it belongs."""
        with self.changed:
            item = self._taking[number]
            item.left -= length
            item.progress = time.monotonic()
            if item.error is None:
                drop(item.where, length)
                if not item.where and item.layout is None:
                    self._read_head(item)
            if not item.left:
                del self._taking[number]
            self.changed.notify_all()

    def _read_head(self, item: _Incoming) -> None:
        assert item.envelope is not None
        try:
            layout = wire.read_head(item.head, item.envelope.expected, item.envelope.limits)
            if layout.nbytes != item.nbytes - item.head_bytes:
                raise ChannelError("a value has another length than its head says")
            item.arrays, item.layout = layout.allocate(), layout
            item.where = views([array.reshape(-1) for array in item.arrays])
        except ChannelError as error:
            item.error = error
        except MemoryError:
            item.error = ChannelError(
                "there is no memory for a value", got=f"{item.nbytes} bytes announced"
            )

    def _strange(self, got: str) -> ChannelError:
        return ChannelError(
            f"party '{self._link.peer}' sent something that is not part of this session", got=got
        )


def cut_off(parts: list[memoryview], most: int) -> list[memoryview]:
    """The first bytes of `parts`, at most `most`, which are removed there."""
    found: list[memoryview] = []
    room = most
    while parts and room:
        part = parts[0][:room]
        room -= len(part)
        found.append(part)
        drop(parts, len(part))
    return found


def check_own(encoded: wire.Encoded, envelope: Envelope) -> None:
    """Raise UsageError unless a value is what its own envelope says."""
    try:
        wire.read_head(encoded.head, envelope.expected, envelope.limits)
    except ChannelError as error:
        raise UsageError(
            f"a value to send is not what its envelope says: {error.message} ({envelope})",
            got=error.got,
            expected=error.expected,
        ) from None


def from_peer(error: ChannelError, peer: str, envelope: Envelope) -> ChannelError:
    """An error of the decoder, with the party and the operation."""
    return ChannelError(
        f"party '{peer}' sent what was not expected: {error.message} ({envelope})",
        got=error.got,
        expected=error.expected,
        next="make sure that all parties run the same script and version",
    )
