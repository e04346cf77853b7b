"""One non-blocking socket to one peer, with framing; it never waits, the channel does."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from spuvm.errors import ChannelError, UsageError
from spuvm.net import frame
from spuvm.net.channel import Array, Spec
from spuvm.net.guard import wrong_length

STAGE: Final = 1 << 16
"""Small frames are read whole into a buffer of this size and copied out of it."""

IOV: Final = 512
"""Most buffers that one system call gets (the system's own limit is 1024)."""

_DRAIN: Final = 64 << 20

_HEADER: Final = frame.HEADER_BYTES
_LARGE: Final = STAGE - _HEADER
_unpack = frame.HEADER.unpack_from
_pack = frame.HEADER.pack_into


class Link:
    """The two directions of a connection.

    Sending: `send` starts a frame, `flush` continues it while `outgoing` is not empty.
    Receiving: `expect` says what the next frame is and returns it if it is already here; otherwise
    `read`, called whenever bytes have arrived, leaves it in `received` at last. `read` also takes
    frames that nobody expects yet, until `read_ahead` bytes wait: then `full` is true and bytes
    stay with the peer. A frame is allocated after its length was checked: against `expect`, or
    against a fixed limit where it is read ahead.
    """

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_arrays",
        "_begin",
        "_body",
        "_end",
        "_header",
        "_number_in",
        "_number_out",
        "_read_ahead",
        "_specs",
        "_stage",
        "armed",
        "ended",
        "full",
        "length",
        "name",
        "outgoing",
        "peer",
        "received",
        "sock",
    )

    def __init__(self, sock: socket.socket, peer: int, name: str, *, read_ahead: int) -> None:
        sock.setblocking(False)
        self.sock, self.peer, self.name = sock, peer, name
        self.armed = 0  # the poll mask that the channel has registered
        self.ended = self.full = False
        self.outgoing: list[memoryview] = []
        self.received: list[Array] | None = None
        self.length = 0  # payload bytes of what was expected last
        self._header = bytearray(_HEADER)
        self._number_out = self._number_in = 0
        self._read_ahead = read_ahead
        self._ahead: deque[Array] = deque()  # frames that nobody expected, the last may be partial
        self._ahead_bytes = 0
        self._specs: Sequence[Spec] | None = None  # what is expected and has not begun
        self._arrays: list[Array] | None = None  # the expected frame in progress
        self._body: list[memoryview] = []  # what is still to be filled of the frame in progress
        self._stage = memoryview(bytearray(STAGE))
        self._begin = self._end = 0  # the bytes of the stage that were read and not yet used

    # ---- sending

    def send(self, arrays: Sequence[Array]) -> int:
        """Start a frame and return its payload bytes; it is done unless `outgoing` is left."""
        length = 0
        for array in arrays:
            length += array.nbytes
        number = self._number_out
        _pack(self._header, 0, frame.DATA, number, length)
        self._number_out = (number + 1) % frame.NUMBERS
        sent = 0
        if len(arrays) < IOV:
            try:
                sent = self.sock.sendmsg((self._header, *arrays))
            except BlockingIOError:
                pass
            except ValueError as error:
                raise UsageError("an array to send is not C-contiguous") from error
        if sent != length + _HEADER:
            self.outgoing = [memoryview(self._header), *_views(arrays)]
            _drop(self.outgoing, sent)
            if not sent:
                self.flush()
        return length

    def flush(self) -> int:
        """Send what the socket takes of `outgoing`; returns the number of bytes."""
        total = 0
        while self.outgoing:
            part = self.outgoing[:IOV]
            try:
                sent = self.sock.sendmsg(part)
            except BlockingIOError:
                break
            total += sent
            offered = sum(map(len, part))
            _drop(self.outgoing, sent)
            if sent < offered:
                break
        return total

    # ---- receiving

    def expect(self, specs: Sequence[Spec]) -> list[Array] | None:
        """The next frame if it is here; otherwise None, and it will appear in `received`."""
        length = 0
        for spec in specs:
            length += spec.size * spec.dtype.itemsize
        self._specs, self.length, self.received = specs, length, None
        if self._ahead:
            self._serve()
        elif self._begin != self._end:
            self._parse()
        if self.ended and self.received is None:
            raise self._gone()
        return self.received

    def read(self) -> int:
        """Take what has arrived, in one or two system calls; returns the number of bytes."""
        try:
            if self._body:
                return self._read_body()
            if self._end - self._begin >= _HEADER:  # left over from when the link was full
                self._parse()
                if self.full or self._body:
                    return 0
            return self._read_stage()
        except BlockingIOError:
            return 0

    def _read_stage(self) -> int:
        stage, begin, end = self._stage, self._begin, self._end
        if begin:
            stage[: end - begin] = bytes(stage[begin:end])
            begin, end = 0, end - begin
        # A large frame goes from the socket straight to its arrays: only its header is staged.
        large = self._specs is not None and self.length > _LARGE and end < _HEADER
        count = self.sock.recv_into(stage[end:] if end else stage, _HEADER - end if large else 0)
        self._begin, self._end = begin, end + count
        if not count:
            self._end_of_stream()
        else:
            self._parse()
            if large and self._body:
                count += self._read_body()
        return count

    def _read_body(self) -> int:
        body = self._body
        if len(body) == 1:
            count = self.sock.recv_into(body[0])
        else:
            count = self.sock.recvmsg_into(body[:IOV])[0]
        if not count:
            self._end_of_stream()
        _drop(body, count)
        if not body:
            self._finish()
        return count

    def _parse(self) -> None:
        """Use the staged bytes: begin and finish frames, until more bytes are needed."""
        stage = self._stage
        while not self._body:
            begin, here = self._begin, self._end - self._begin - _HEADER
            if here < 0:
                return
            word, number, length = _unpack(stage, begin)
            if word != frame.DATA:
                self._special(word, length)
                return
            if number != self._number_in:
                raise ChannelError(
                    f"{self.name} sent a frame out of order",
                    got=f"frame {number}",
                    expected=f"frame {self._number_in}",
                )
            specs = self._specs
            if specs is None:
                if self._ahead_bytes >= self._read_ahead:
                    self.full = True
                    return
                self._begin_ahead(length)
            elif length != self.length:
                raise wrong_length(self.name, length, self.length)
            self._number_in = (number + 1) % frame.NUMBERS
            begin += _HEADER
            self._begin = begin
            if specs is not None:
                self._specs = None
                if here >= length:
                    self._begin = begin + length
                    self.received = _copies(stage, begin, specs)
                    continue
                self._arrays = [np.empty(spec.size, spec.dtype) for spec in specs]
                self._body = _views(self._arrays)
            self._fill()

    def _begin_ahead(self, length: int) -> None:
        if length > frame.FRAME_LIMIT:
            raise ChannelError(
                f"{self.name} announces a frame that is too long",
                got=f"{length} bytes",
                expected=f"at most {frame.FRAME_LIMIT} bytes",
            )
        array = np.empty(length, np.uint8)
        self._ahead.append(array)
        self._ahead_bytes += length
        self._body = _views([array])

    def _fill(self) -> None:
        """Move staged bytes into the frame in progress, and finish it if they were the last."""
        body = self._body
        while body and self._begin != self._end:
            view = body[0]
            count = min(len(view), self._end - self._begin)
            view[:count] = self._stage[self._begin : self._begin + count]
            self._begin += count
            _drop(body, count)
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
            raise wrong_length(self.name, buffer.size, self.length)
        self._ahead_bytes -= buffer.size
        self.full = False
        self._specs = None
        self.received = _cut(buffer, specs)

    # ---- ends

    def close(self) -> None:
        """Close the socket; what was sent still arrives."""
        if self.sock.fileno() < 0:
            return
        # Closing over unread bytes would reset the connection, and what is under way would be lost.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            for _ in range(_DRAIN // STAGE):
                if not self.sock.recv_into(self._stage):
                    break
        self.sock.close()

    def _special(self, word: int, length: int) -> None:
        """Anything but data: an abort raises its text, the rest is no frame at all."""
        if word != frame.ABORT or length > frame.ABORT_BYTES:
            raise ChannelError(
                f"{self.name} sent something that is not a frame",
                expected="a peer that runs the same version of spuvm",
            )
        begin = self._begin + _HEADER
        if self._end - begin < length and not self.ended:
            return
        text = frame.abort_text(bytes(self._stage[begin : min(begin + length, self._end)]))
        raise ChannelError(f"{self.name} aborted: {text}")

    def _end_of_stream(self) -> None:
        self.ended = True
        self._parse()  # an abort whose text was cut
        if self._specs is not None or self._body:
            raise self._gone()

    def _gone(self) -> ChannelError:
        middle = bool(self._body) or self._begin != self._end
        number = self._number_in - bool(self._body)
        return ChannelError(
            f"{self.name} closed the connection",
            got=f"the end of the stream {'within' if middle else 'before'} frame {number}",
            next=f"see what {self.name} says: its process ended or its channel was closed",
        )


def _views(arrays: Sequence[Array]) -> list[memoryview]:
    """The bytes of the arrays that have any, without copying."""
    try:
        return [memoryview(a).cast("B") for a in arrays if a.size]
    except TypeError as error:
        raise UsageError("an array to send is not C-contiguous") from error


def _drop(views: list[memoryview], count: int) -> None:
    """Remove the first `count` bytes from a list of views."""
    whole = 0
    for view in views:
        if count < len(view):
            break
        count -= len(view)
        whole += 1
    if whole:
        del views[:whole]
    if count:
        views[0] = views[0][count:]


def _copies(stage: memoryview, begin: int, specs: Sequence[Spec]) -> list[Array]:
    """Fresh arrays from staged bytes."""
    arrays: list[Array] = []
    for spec in specs:
        size, dtype = spec.size, spec.dtype
        arrays.append(np.frombuffer(stage, dtype, size, begin).copy())
        begin += size * dtype.itemsize
    return arrays


def _cut(buffer: Array, specs: Sequence[Spec]) -> list[Array]:
    """A byte buffer as arrays: views where they are aligned, copies elsewhere."""
    arrays, begin = [], 0
    for spec in specs:
        part = buffer[begin : begin + spec.nbytes]
        begin += spec.nbytes
        if part.ctypes.data % spec.dtype.itemsize:
            part = part.copy()
        arrays.append(part.view(spec.dtype))
    return arrays
