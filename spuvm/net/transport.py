"""A connection as two byte streams, plain or within TLS, that never block for sending.

TLS is OpenSSL through the standard library, apart from the socket: one lock guards it for an
instant while bytes are encrypted or decrypted, so that one thread may wait for bytes to come while
another one sends.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from spuvm.net.buffers import IOV, drop

NOW: Final = socket.MSG_DONTWAIT
_DRAIN: Final = 64 << 20
"""Bytes that are read and forgotten at the end, from a peer that goes on sending."""
BLOCK_MICROSECONDS: Final = 20_000
"""How long `receive` blocks without any byte."""

_CIPHER: Final = 1 << 18
_ENCRYPT: Final = 1 << 20
_RECORD: Final = 1 << 15
"""Small parts are put together up to so many bytes; larger ones are not worth the copy."""


class Transport(ABC):
    """One connection. One thread receives, one sends; `cut` may be called by any."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)  # `receive` makes use of it, and not for long
        limit = struct.pack("@ll", 0, BLOCK_MICROSECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock = sock

    @abstractmethod
    def receive(self, into: memoryview, flags: int) -> int:
        """Bytes that came, at least 1; 0 at the end of the stream.

        Raises:
            BlockingIOError: nothing came: at once with `NOW`, otherwise after a while.
            OSError: the connection is broken.
        """

    @property
    @abstractmethod
    def held(self) -> bool:
        """Whether there may be bytes that have left the socket and were not received yet."""

    @abstractmethod
    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        """How many bytes were accepted, from the first on; raises OSError."""

    @property
    @abstractmethod
    def owed(self) -> bool:
        """Whether accepted bytes are still to be passed on: `send` again, with nothing."""

    def cut(self) -> None:
        """End both directions; whoever receives sees the end."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """End the sending direction."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the sending direction, forget what came, and close."""
        self.finish()
        with contextlib.suppress(OSError):
            left, buffer = _DRAIN, bytearray(1 << 16)  # unread bytes would reset the connection
            while left > 0 and (count := self.sock.recv_into(buffer, 0, NOW)):
                left -= count
        self.sock.close()


class PlainTransport(Transport):
    """The bytes as they are."""

    held = False
    owed = False

    def receive(self, into: memoryview, flags: int) -> int:
        return self.sock.recv_into(into, 0, flags)

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        if not parts:
            return 0
        try:
            return self.sock.sendmsg(parts if len(parts) < IOV else parts[:IOV], (), NOW)
        except BlockingIOError:
            return 0


class TlsTransport(Transport):
    """The bytes within TLS; the handshake is done."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        super().__init__(sock)
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._lock = threading.Lock()
        self._stage = memoryview(bytearray(_CIPHER))
        self._waiting: list[memoryview] = []  # encrypted, not yet sent
        self._partial = False  # what is left of the incoming bytes is less than a record

    @property
    def held(self) -> bool:
        return not self._partial

    def receive(self, into: memoryview, flags: int) -> int:
        while True:
            if self._partial:
                count = self.sock.recv_into(self._stage, 0, flags)
                if count:
                    self._incoming.write(self._stage[:count])
                else:
                    self._incoming.write_eof()
            try:
                with self._lock:
                    got = int(self._tls.read(len(into), into))
                    self._partial = not (self._incoming.pending or self._tls.pending())
                return got
            except ssl.SSLWantReadError:
                self._partial = True
            except ssl.SSLEOFError:
                return 0

    @property
    def owed(self) -> bool:
        return bool(self._waiting) or self._outgoing.pending > 0

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        accepted, waiting = 0, self._waiting
        if parts and not waiting:
            data = joined(parts, _RECORD) if len(parts) > 1 else parts[0]
            if len(data) > _ENCRYPT:
                data = memoryview(data)[:_ENCRYPT]
            with self._lock:
                accepted = self._tls.write(data)
        if self._outgoing.pending:
            waiting.append(memoryview(self._outgoing.read()))
        try:
            if len(waiting) == 1:  # usual; cheaper than a list
                drop(waiting, self.sock.send(waiting[0], NOW))
            elif waiting:
                drop(waiting, self.sock.sendmsg(waiting[:IOV], (), NOW))
        except BlockingIOError:
            pass
        return accepted


def joined(parts: Sequence[memoryview | bytes], most: int) -> bytes | memoryview:
    """As many of the first parts as fit into `most` bytes, in one piece; at least one."""
    if len(parts) == 2 and len(parts[0]) + len(parts[1]) <= most:  # usual: a header, a frame
        return b"".join(parts)
    total = count = 0
    for part in parts:
        if count and total + len(part) > most:
            break
        total += len(part)
        count += 1
    return parts[0] if count == 1 else b"".join(parts[:count])
