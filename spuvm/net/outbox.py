"""The sending half of a connection: frames straight from the arrays to the socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from spuvm.errors import UsageError
from spuvm.net import frame
from spuvm.net.buffers import IOV, drop, views
from spuvm.net.channel import Array

_HEADER: Final = frame.HEADER_BYTES
_DATA: Final = frame.DATA
_NOW: Final = socket.MSG_DONTWAIT
_pack = frame.HEADER.pack_into


class Outbox:
    """`send` starts a frame, `flush` continues it while `left` is not empty. Neither blocks."""

    __slots__ = ("_header", "_number", "_sock", "left")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._header = bytearray(_HEADER)
        self._number = 0
        self.left: list[memoryview] = []

    def send(self, arrays: Sequence[Array]) -> int:
        """Start a frame and return its payload bytes; it is done unless something is `left`.

        Raises:
            OSError: the connection is broken.
            UsageError: an array is not C-contiguous; nothing was sent.
        """
        length = 0
        for array in arrays:
            length += array.nbytes
        number = self._number
        _pack(self._header, 0, _DATA, number, length)
        sent = 0
        if len(arrays) < IOV:
            try:
                sent = self._sock.sendmsg((self._header, *arrays), (), _NOW)
            except BlockingIOError:
                pass
            except ValueError as error:
                raise UsageError("an array to send is not C-contiguous") from error
        self._number = (number + 1) % frame.NUMBERS
        if sent != length + _HEADER:
            self.left = [memoryview(self._header), *views(arrays)]
            drop(self.left, sent)
            if not sent:
                self.flush()
        return length

    def add(self, data: bytes) -> None:
        """Append bytes after what is left, and send what the socket takes."""
        self.left.append(memoryview(data))
        self.flush()

    def flush(self) -> int:
        """Send what the socket takes of what is left; returns the number of bytes."""
        total = 0
        while self.left:
            part = self.left[:IOV]
            try:
                sent = self._sock.sendmsg(part, (), _NOW)
            except BlockingIOError:
                break
            total += sent
            offered = sum(map(len, part))
            drop(self.left, sent)
            if sent < offered:
                break
        return total
