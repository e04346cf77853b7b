"""The receiving half of a connection: frames into fresh arrays, in order, checked first."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from spuvm.errors import ChannelError
from spuvm.net import frame
from spuvm.net.buffers import IOV, copies, cut, drop, views
from spuvm.net.channel import Array, Spec
from spuvm.net.guard import wrong_length

STAGE: Final = 1 << 16
"""Small frames are read whole, several at once, into a buffer of this size and copied out."""

BLOCK_MICROSECONDS: Final = 20_000
"""How long `wait` blocks without any byte before it gives up."""

_COST: Final = 128
"""What a frame read ahead counts beyond its payload, so that empty ones are not free."""

_HEADER: Final = frame.HEADER_BYTES
_SMALL: Final = STAGE - _HEADER
_DATA: Final = frame.DATA
_NOW: Final = socket.MSG_DONTWAIT
_unpack = frame.HEADER.unpack_from


class Inbox:
    """What came from one peer.

    `expect` says what the next frame is and returns it if it is already here. Otherwise `wait`
    blocks for it a short while, and `read`, called whenever the socket is readable, leaves it in
    `received` at last. `read` also takes frames that nobody expects yet, until `read_ahead` bytes
    are kept: then `full` is true and bytes stay with the peer.

    A frame is allocated after its length was checked: against what is expected, or against
    `FRAME_LIMIT` where it is read ahead. All methods raise ChannelError for a frame that is wrong,
    for the peer's abort, and when the stream ends before what is expected.
    """

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_arrays",
        "_begin",
        "_body",
        "_end",
        "_name",
        "_number",
        "_read_ahead",
        "_sock",
        "_specs",
        "_stage",
        "_view",
        "ended",
        "full",
        "length",
        "received",
    )

    def __init__(self, sock: socket.socket, name: str, *, read_ahead: int) -> None:
        self._sock, self._name = sock, name
        self.ended = self.full = False
        self.received: list[Array] | None = None
        self.length = 0  # payload bytes of what was expected last
        self._number = 0  # of the next frame
        self._read_ahead = read_ahead
        self._ahead: deque[Array] = deque()  # frames that nobody expected; the last may be partial
        self._ahead_bytes = 0
        self._specs: Sequence[Spec] | None = None  # what is expected and has not begun
        self._arrays: list[Array] | None = None  # the expected frame in progress
        self._body: list[memoryview] = []  # what is still to be filled of the frame in progress
        self._stage = bytearray(STAGE)
        self._view = memoryview(self._stage)
        self._begin = self._end = 0  # the bytes of the stage that were read and not yet used

    def expect(self, specs: Sequence[Spec]) -> list[Array] | None:
        """The next frame if it is here; otherwise None, and it will appear in `received`."""
        length = 0
        for spec in specs:
            length += spec.size * spec.dtype.itemsize
        self.length, self.full = length, False
        begin = self._begin
        if (
            self._end - begin >= _HEADER + length
            and not self._ahead
            and _unpack(self._stage, begin) == (_DATA, self._number, length)
        ):
            return self._take(specs)
        self._specs, self.received = specs, None
        if self._ahead:
            self._serve()
        elif self._end - begin >= _HEADER:
            self._parse()
        if self.ended and self.received is None:
            raise self._gone()
        return self.received

    def wait(self) -> list[Array] | None:
        """Block until what is expected is here, or until nothing came for a while: None."""
        try:
            specs, length = self._specs, self.length
            empty = self._begin == self._end and not self._body
            if empty and specs is not None and length <= _SMALL:
                self._begin = self._end = 0
                count = self._end = self._sock.recv_into(self._stage)
                if count >= _HEADER + length and _unpack(self._stage, 0) == (
                    _DATA,
                    self._number,
                    length,
                ):
                    return self._take(specs)
                if count:
                    self._parse()
                else:
                    self._end_of_stream()
            while self.received is None:
                self._read(0)
        except BlockingIOError:
            return None
        return self.received

    def read(self) -> int:
        """Take what has arrived; returns the number of bytes."""
        try:
            return self._read(_NOW)
        except BlockingIOError:
            return 0

    def _take(self, specs: Sequence[Spec]) -> list[Array]:
        """The expected frame, which is whole and first in the stage."""
        begin = self._begin + _HEADER
        self._begin = begin + self.length
        self._number = (self._number + 1) % frame.NUMBERS
        self._specs = None
        self.received = arrays = copies(self._stage, begin, specs)
        return arrays

    def _read(self, flags: int) -> int:
        """One or two system calls, and what follows from the bytes they bring."""
        if self._body:
            return self._read_body(flags)
        if self._end - self._begin >= _HEADER:  # left over, because nobody expected it
            self._parse()
            if self.full or self._body or self.received is not None:
                return 0
        begin, end = self._begin, self._end
        if begin:
            self._stage[: end - begin] = self._stage[begin:end]
            self._begin, self._end = 0, end - begin
            end = self._end
        # A large frame goes from the socket straight to its arrays: only its header is staged.
        large = self._specs is not None and self.length > _SMALL and end < _HEADER
        count = self._sock.recv_into(self._view[end:], _HEADER - end if large else 0, flags)
        self._end = end + count
        if not count:
            self._end_of_stream()
            return 0
        self._parse()
        return count

    def _read_body(self, flags: int) -> int:
        body = self._body
        if len(body) == 1:
            count = self._sock.recv_into(body[0], 0, flags)
        else:
            count = self._sock.recvmsg_into(body[:IOV], 0, flags)[0]
        if not count:
            self._end_of_stream()
        drop(body, count)
        if not body:
            self._finish()
        return count

    def _parse(self) -> None:
        """Use the staged bytes: up to the frame that is expected, or as far as they go."""
        while not self._body:
            here = self._end - self._begin - _HEADER
            if here < 0:
                return
            word, number, length = _unpack(self._stage, self._begin)
            if word != _DATA:
                self._special(word, length)
                return
            if number != self._number:
                raise ChannelError(
                    f"{self._name} sent a frame out of order",
                    got=f"frame {number}",
                    expected=f"frame {self._number}",
                )
            specs = self._specs
            if specs is not None:
                if length != self.length:
                    raise wrong_length(self._name, length, self.length)
                if here >= length:
                    self._take(specs)
                    return
                self._specs = None
                self._arrays = [np.empty(spec.size, spec.dtype) for spec in specs]
                self._body = views(self._arrays)
            else:
                if self._ahead_bytes >= self._read_ahead:
                    self.full = True
                    return
                self._begin_ahead(length)
            self._number = (number + 1) % frame.NUMBERS
            self._begin += _HEADER
            self._fill()

    def _begin_ahead(self, length: int) -> None:
        if length > frame.FRAME_LIMIT:
            raise ChannelError(
                f"{self._name} announces a frame that is too long",
                got=f"{length} bytes",
                expected=f"at most {frame.FRAME_LIMIT} bytes",
            )
        array = np.empty(length, np.uint8)
        self._ahead.append(array)
        self._ahead_bytes += length + _COST
        self._body = views([array])

    def _fill(self) -> None:
        """Move staged bytes into the frame in progress, and finish it if they were the last."""
        body = self._body
        while body and self._begin != self._end:
            part = body[0]
            count = min(len(part), self._end - self._begin)
            part[:count] = self._view[self._begin : self._begin + count]
            self._begin += count
            drop(body, count)
        if not body:
            self._finish()

    def _finish(self) -> None:
        if self._arrays is not None:
            self.received, self._arrays = self._arrays, None
        elif self._specs is not None:
            self._serve()

    def _serve(self) -> None:
        """Give the oldest frame read ahead to the one who expects it, if it is whole."""
        if self._body and len(self._ahead) == 1:
            return
        specs = self._specs
        assert specs is not None
        buffer = self._ahead.popleft()
        if buffer.size != self.length:
            raise wrong_length(self._name, buffer.size, self.length)
        self._ahead_bytes -= buffer.size + _COST
        self._specs = None
        self.received = cut(buffer, specs)

    # ---- ends

    def discard(self, most: int) -> None:
        """Read and forget what is there, but not much more than `most` bytes."""
        while most > 0 and (count := self._sock.recv_into(self._stage, 0, _NOW)):
            most -= count

    def _special(self, word: int, length: int) -> None:
        """Anything but data: an abort raises its text, the rest is no frame at all."""
        if word != frame.ABORT or length > frame.ABORT_BYTES:
            raise ChannelError(
                f"{self._name} sent something that is not a frame",
                expected="a peer that runs the same version of spuvm",
            )
        begin = self._begin + _HEADER
        end = min(begin + length, self._end)
        if end - begin == length or self.ended:
            raise ChannelError(
                f"{self._name} aborted: {frame.abort_text(bytes(self._view[begin:end]))}"
            )

    def _end_of_stream(self) -> None:
        self.ended = True
        if self._end - self._begin >= _HEADER:
            self._parse()  # an abort whose text was cut
        if self._specs is not None or self._body:
            raise self._gone()

    def _gone(self) -> ChannelError:
        middle = bool(self._body) or self._begin != self._end
        number = self._number - bool(self._body)
        return ChannelError(
            f"{self._name} closed the connection",
            got=f"the end of the stream {'within' if middle else 'before'} frame {number}",
            next=f"see what {self._name} says: its process ended or its channel was closed",
        )
