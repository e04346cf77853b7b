"""A link to one peer: numbered packets, each exactly once and in order, over any connections.

A link starts without a connection and gets one by `install`. When it breaks, the link keeps what
the peer has not acknowledged and waits for the next one. It never raises for a broken connection
and never for what the peer sends: both are told to its owner.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net import packet
from spuvm.net.buffers import drop
from spuvm.net.inflow import Inflow
from spuvm.net.packet import BULK, DATA, HEADER_BYTES, PING
from spuvm.net.transport import NOW, Transport

UNSEEN: Final = 64 << 20
"""Bytes that the peer has not acknowledged, beyond which a sender should wait."""

_REPORT_PACKETS: Final = 64
_REPORT_BYTES: Final = 1 << 20
_pack = packet.HEADER.pack
_unpack = packet.HEADER.unpack_from


class Owner(ABC):
    """Whom a link tells what happens."""

    @abstractmethod
    def control(self, link: Link, kind: int, stream: int, extra: int, payload: bytes) -> None:
        """A packet of a kind that is not BULK arrived; ChannelError if it makes no sense."""

    @abstractmethod
    def target(
        self, link: Link, kind: int, stream: int, extra: int, length: int
    ) -> list[memoryview]:
        """Where the payload of a PART goes; ChannelError if it makes no sense."""

    @abstractmethod
    def arrived(self, link: Link, stream: int, extra: int, length: int) -> None:
        """The payload of a PART is where it belongs."""

    @abstractmethod
    def lost(self, link: Link, reason: str) -> None:
        """The connection broke."""

    @abstractmethod
    def violated(self, link: Link, error: ChannelError) -> None:
        """The peer sent what it must not send."""


class Link:
    """See the module.

    Locks: `reading` is held by the one thread that reads (and by `install`); `_sending` guards what
    is to be sent. Whoever holds `reading` may take `_sending`, not the reverse.

    Attributes:
        peer: name of the peer.
        inflows: by the number that the peer gave to a channel; filled by the owner.
        arrivals: bytes that came; `sent` packets that were numbered; `uses` by exchanges.
        heard, said: when the endpoint's thread saw last that bytes came or packets went.
        poisoned: the peer broke the rules, and nothing more is read.
        watched: whether the endpoint's thread looks for bytes; if not, somebody else does.
        left: the peer said that it takes nothing more.
        waiting: inflows whose expecting threads wait for another thread to read.
    """

    def __init__(self, peer: str, owner: Owner) -> None:
        self.peer, self._owner = peer, owner
        self.reading = threading.Lock()
        self.inflows: dict[int, Inflow] = {}
        self.waiting: set[Inflow] = set()
        self.watched = True
        self.heard = self.said = self.lost_since = time.monotonic()
        self.arrivals = self.uses = 0
        self.left = False
        self._closed = False
        self.transport: Transport | None = None
        self._sending = threading.Lock()
        self.sent = 0  # number of the next packet that is sent
        self._seen = 0  # packets of this direction that the peer has
        self._unseen: deque[tuple[bytes, Sequence[memoryview], int]] = deque()
        self.unseen_bytes = 0
        self.bytes_in = self.bytes_out = 0  # of large packets, to see whether anything moves
        self._outgoing: list[memoryview] = []
        self.received = 0  # packets of the other direction
        self._reported = 0
        self._unreported = 0  # bytes
        self._stage = bytearray(packet.STAGE)
        self._view = memoryview(self._stage)
        self._begin = self._end = 0
        self._body: list[memoryview] = []
        self._current = (0, 0, 0, 0)  # kind, stream, extra, length of the packet in progress
        self._begun = -1  # number of the DATA packet whose frame was begun last
        self._ahead_of_body = False  # the next packet too will be large: read its header only
        self.poisoned = False

    @property
    def resumable(self) -> range:
        """The numbers of packets that the peer may have, when it comes back."""
        return range(self._seen, self.sent + 1)

    @property
    def fresh(self) -> bool:
        """Whether no numbered packet went in either direction."""
        return not (self.sent or self.received)

    # ---- connections

    def install(self, transport: Transport, seen: int) -> None:
        """Go on with another connection; the peer says that it has `seen` packets."""
        with self.reading, self._sending:
            if self._closed:
                transport.cut()
                transport.sock.close()
                return
            old, self.transport = self.transport, transport
            if old is not None:
                old.cut()
                old.sock.close()
            self._acknowledge(seen)
            self._begin = self._end = 0
            self._body = []
            self._outgoing = []
            for header, buffers, _ in self._unseen:
                self._outgoing += [memoryview(header), *buffers]
            self.heard = self.said = time.monotonic()
            self._push(transport)

    def drop(self, transport: Transport | None, reason: str) -> None:
        """Give up a connection, unless it was replaced already."""
        if transport is None or transport is not self.transport:
            return
        with self._sending:
            if transport is not self.transport:
                return
            self._forget(transport)
        self._owner.lost(self, reason)

    def _forget(self, transport: Transport) -> None:
        """With `_sending` held. The socket is closed when nobody can be reading from it."""
        self.transport = None
        self.lost_since = self.heard
        self._outgoing = []
        transport.cut()
        threading.Thread(target=self._bury, args=(transport,), daemon=True).start()

    def _bury(self, transport: Transport) -> None:
        with self.reading:
            transport.sock.close()

    def pause(self) -> int:
        """Give up the connection, if there is one, for another; the number of packets received."""
        with self.reading, self._sending:
            transport, self.transport = self.transport, None
            self._outgoing = []
            if transport is not None:
                self.lost_since = self.heard
                transport.cut()
                transport.sock.close()
            return self.received

    def close(self) -> None:
        """Give up the connection for good."""
        with self.reading, self._sending:
            transport, self.transport = self.transport, None
            self._closed = True
            if transport is not None:
                transport.close()

    # ---- sending

    def send(
        self, kind: int, stream: int, extra: int, buffers: Sequence[memoryview], length: int
    ) -> None:
        """Number a packet and send it, now or when it is possible; `length` is that of `buffers`.

        The buffers must be C-contiguous and not change until the peer has acknowledged them.
        """
        transport = None
        with self._sending:
            header = _pack(kind, 0, stream, length, self.sent, self.received, extra)
            self.sent += 1
            self._unseen.append((header, buffers, length))
            self.unseen_bytes += length + HEADER_BYTES
            self._reported, self._unreported = self.received, 0
            transport = self.transport
            if transport is None:
                return
            error = None
            if self._outgoing:
                self._outgoing += (memoryview(header), *buffers)
                return
            parts: tuple[bytes | memoryview, ...] = (header, *buffers)
            try:
                count = 0 if transport.owed else transport.send(parts)
            except OSError as problem:
                error, count = problem, 0
            self.bytes_out += count
            if count != length + HEADER_BYTES and error is None:
                self._outgoing = [memoryview(header), *buffers]
                drop(self._outgoing, count)
                error = self._push(transport)
        if error is not None:
            self.drop(transport, str(error))

    def ping(self) -> None:
        """A sign of life, and the number of packets that have arrived."""
        with self._sending:
            transport = self.transport
            if transport is None:
                return
            self._reported, self._unreported = self.received, 0
            header = _pack(PING, 0, 0, 0, 0, self.received, 0)
            self._outgoing.append(memoryview(header))
            before = self.bytes_out
            error = self._push(transport)
            self.bytes_out = before
        if error is not None:
            self.drop(transport, str(error))

    def flush(self) -> bool:
        """Send what the connection takes; whether it took anything."""
        with self._sending:
            transport = self.transport
            if transport is None or not (self._outgoing or transport.owed):
                return False
            before = self.bytes_out
            error = self._push(transport)
            moved = self.bytes_out != before
        if error is not None:
            self.drop(transport, str(error))
        return moved

    def _push(self, transport: Transport) -> OSError | None:
        outgoing = self._outgoing
        try:
            while outgoing or transport.owed:
                count = transport.send(outgoing)
                if count:
                    drop(outgoing, count)
                    self.bytes_out += count
                elif transport.owed or outgoing:
                    break
        except OSError as error:
            return error
        return None

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the connection to take them."""
        transport = self.transport
        return transport is not None and (bool(self._outgoing) or transport.owed)

    @property
    def settled(self) -> bool:
        """Whether the peer has everything."""
        return not self._unseen

    @property
    def silent_about(self) -> bool:
        """Whether packets arrived that the peer was not told about."""
        return self._reported != self.received

    def _acknowledge(self, seen: int) -> None:
        """With `_sending` held."""
        while self._seen < seen and self._unseen:
            _, _, length = self._unseen.popleft()
            self.unseen_bytes -= length + HEADER_BYTES
            self._seen += 1

    # ---- receiving

    def step_back(self) -> None:
        """Release `reading`, and let others who wait have it."""
        self.reading.release()
        for inflow in tuple(self.waiting):
            inflow.arrived.set()

    def read(self, flags: int) -> int:
        """With `reading` held: take in what comes; returns the number of bytes.

        Without `NOW` among the flags it waits a short while for the first one.
        """
        transport = self.transport
        total = 0
        try:
            while transport is not None and transport is self.transport and not self.poisoned:
                count = self._read(transport, flags)
                if not count:
                    self.drop(transport, "the connection was closed")
                    break
                total += count
                if not transport.held:
                    break
                flags = NOW
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(transport, str(error) or type(error).__name__)
        except ChannelError as error:
            self.poisoned = True
            self._owner.violated(self, self._named(error))
        self.arrivals += total
        return total

    def _read(self, transport: Transport, flags: int) -> int:
        body = self._body
        if body:
            count = transport.receive(body[0], flags)
            drop(body, count)
            self.bytes_in += count
            if count and not body:
                self._arrived()
            return count
        begin, end = self._begin, self._end
        if begin:
            self._stage[: end - begin] = self._stage[begin:end]
            self._begin, self._end = 0, end - begin
            end = self._end
        room = self._view[end:]
        if self._ahead_of_body and end < HEADER_BYTES:
            room = room[: HEADER_BYTES - end]
        count = transport.receive(room, flags)
        self._end = end + count
        if count:
            self._parse()
        return count

    def _parse(self) -> None:
        """Use the staged bytes, as far as they go."""
        while not self._body:
            begin = self._begin
            here = self._end - begin - HEADER_BYTES
            if here < 0:
                return
            kind, zero, stream, length, number, seen, extra = _unpack(self._stage, begin)
            if kind == PING:
                if zero or stream or length or number or extra:
                    raise self._strange("a sign of life with contents")
                self._begin = begin + HEADER_BYTES
                self._heed(seen)
                continue
            if number != self.received:
                raise self._strange(
                    f"packet {number} where {self.received} is due: a replayed or lost packet"
                )
            if zero or kind >= packet.KINDS:
                raise self._strange(f"a packet of an unknown kind {kind}")
            if kind == DATA and length <= here and extra == length and self._begun != number:
                self._begin = begin + HEADER_BYTES + length
                inflow = self.inflows.get(stream)
                if inflow is None:
                    raise self._strange("a frame of a channel that was not opened")
                inflow.whole(self._stage, begin + HEADER_BYTES, length)
                self._ahead_of_body = False
                self._finish(length)
            elif kind in BULK:
                if not 0 < length <= packet.SEGMENT:
                    raise self._strange(f"a part of {length} bytes")
                self._body = self._place(kind, stream, extra, length)
                self._current = (kind, stream, extra, length)
                self._begin = begin + HEADER_BYTES
                self._ahead_of_body = length > packet.CONTROL
                self._take_staged()
            else:
                if length > packet.CONTROL:
                    raise self._strange(f"a packet of kind {kind} with {length} bytes")
                if here < length:
                    return
                self._begin = begin + HEADER_BYTES + length
                payload = bytes(self._view[begin + HEADER_BYTES : self._begin])
                self._ahead_of_body = False
                self._finish(length)
                self._owner.control(self, kind, stream, extra, payload)
            self._heed(seen)

    def _place(self, kind: int, stream: int, extra: int, length: int) -> list[memoryview]:
        if kind == packet.PART:
            return self._owner.target(self, kind, stream, extra, length)
        inflow = self.inflows.get(stream)
        if inflow is None:
            raise self._strange("a frame of a channel that was not opened")
        if kind == DATA and self._begun != self.received:  # else it began before a break
            if extra < length:
                raise self._strange(f"a part of {length} bytes of a frame of {extra}")
            inflow.begin(extra)
            self._begun = self.received
        return inflow.target(length)

    def _take_staged(self) -> None:
        body = self._body
        while body and self._begin != self._end:
            part = body[0]
            count = min(len(part), self._end - self._begin)
            part[:count] = self._view[self._begin : self._begin + count]
            self._begin += count
            drop(body, count)
        if not body:
            self._arrived()

    def _arrived(self) -> None:
        kind, stream, extra, length = self._current
        if kind == packet.PART:
            self._owner.arrived(self, stream, extra, length)
        else:
            self.inflows[stream].done(length)
        self._finish(length)

    def _finish(self, length: int) -> None:
        self.received += 1
        self._unreported += length
        if self.received - self._reported >= _REPORT_PACKETS or self._unreported >= _REPORT_BYTES:
            self.ping()

    def _heed(self, seen: int) -> None:
        if seen > self._seen:
            if seen > self.sent:
                raise self._strange(f"it has seen {seen} of {self.sent} packets")
            with self._sending:
                self._acknowledge(seen)

    def _named(self, error: ChannelError) -> ChannelError:
        if f"'{self.peer}'" in error.message:
            return error
        return ChannelError(
            f"party '{self.peer}' sent something that is not part of this session: {error.message}",
            got=error.got,
            expected=error.expected,
        )

    def _strange(self, got: str) -> ChannelError:
        return ChannelError(
            f"party '{self.peer}' sent something that is not part of this session",
            got=got,
            next="make sure that all parties run the same version; if they do, do not trust it",
        )
