"""What comes from one peer on one channel: frames in order, and a bounded number ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from spuvm.errors import ChannelError
from spuvm.net.buffers import copies, cut, drop, views
from spuvm.net.channel import Array, Spec
from spuvm.net.guard import wrong_length

COST: Final = 128
"""What a frame counts beyond its payload, so that empty ones are not free."""

_BYTE: Final = np.dtype(np.uint8)


class Budget:
    """Bytes that came from one peer on channels that this party has not opened, all together."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class Inflow:
    """The receiving end of a channel's stream.

    One thread, the link's reader, calls `whole`, `target` and `done`; another one `expect`s, which
    returns the next frame if it is here and otherwise leaves it in `received` at last.

    The window is a promise of both ends: the sender counts what it sends (payload, and `COST` per
    frame) and stays at most `window` bytes before what the receiver has reported as taken. A frame
    that somebody expects counts as taken while it comes in, so that it may be of any size; nothing
    is allocated for the rest of a frame that nobody expects.

    Attributes:
        name: of the peer, for messages.
        received: the expected frame, once it is whole.
        followed: whether a thread waits for `arrived`, which is set when `received` is, when the
            stream ends, and when the reader steps back.
        end: the error of whoever expects more than came before the stream ended.
        length: bytes of what was expected last.
        came, taken: bytes that count against the window, and those that count as taken.
        reported: for whoever tells the peer what was taken.

    Args:
        name: of the peer.
        window: bytes that may come before they are expected.
        budget: shared with other channels that this party has not opened, until `claim`.
    """

    __slots__ = (
        "_ahead",
        "_arrays",
        "_body",
        "_budget",
        "_chunk",
        "_chunks",
        "_left",
        "_lock",
        "_open",
        "_specs",
        "_total",
        "arrived",
        "came",
        "end",
        "followed",
        "length",
        "name",
        "received",
        "reported",
        "taken",
        "window",
    )

    def __init__(self, name: str, window: int, budget: Budget | None = None) -> None:
        self.name, self.window, self._budget = name, window, budget
        self.received: list[Array] | None = None
        self.arrived = threading.Event()
        self.followed = False
        self.end: ChannelError | None = None
        self.length = self.came = self.taken = self.reported = 0
        self._lock = threading.Lock()
        self._ahead: deque[list[Array]] = deque()  # whole frames that nobody expected, in pieces
        self._specs: Sequence[Spec] | None = None  # what is expected and has not begun
        # The frame in progress: `_open`; expected ones have arrays, others pieces.
        self._open = False
        self._total = self._left = 0
        self._arrays: list[Array] | None = None
        self._body: list[memoryview] = []
        self._chunks: list[Array] = []
        self._chunk: Array | None = None  # where the part in progress goes, if not to the arrays

    # ---- who expects

    def claim(self) -> None:
        """This party has opened the channel too."""
        with self._lock:
            if self._budget is not None:
                self._budget.held -= self.came - self.taken
                self._budget = None

    def expect(self, specs: Sequence[Spec]) -> list[Array] | None:
        """The next frame if it is here.

        Raises:
            ChannelError: it has another length, or the stream ended before it.
        """
        length = 0
        for spec in specs:
            length += spec.size * spec.dtype.itemsize
        with self._lock:
            self.length, self.received, self._specs = length, None, specs
            if self._ahead:
                self._serve(specs)
            elif self._open:
                self._adopt(specs)
            if self.received is None and self.end is not None:
                raise self.end
            return self.received

    def _serve(self, specs: Sequence[Spec]) -> None:
        pieces = self._ahead.popleft()
        size = sum(piece.size for piece in pieces)
        if size != self.length:
            raise wrong_length(self.name, size, self.length)
        self._specs = None
        self.taken += size + COST
        self.received = cut(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), specs)

    def _adopt(self, specs: Sequence[Spec]) -> None:
        """The expected frame is the one in progress: what came of it moves to its arrays."""
        if self._total != self.length:
            raise wrong_length(self.name, self._total, self.length)
        self._specs = None
        self._allocate(specs)
        self.taken += self._total - self._left + COST
        for chunk in self._chunks:
            self._fill(chunk)
        self._chunks = []

    def _allocate(self, specs: Sequence[Spec]) -> None:
        self._arrays = [np.empty(spec.size, spec.dtype) for spec in specs]
        self._body = views(self._arrays)

    def _fill(self, chunk: Array) -> None:
        data = memoryview(chunk)
        while len(data):
            part = self._body[0]
            count = min(len(part), len(data))
            part[:count] = data[:count]
            drop(self._body, count)
            data = data[count:]

    # ---- the link's reader

    def whole(self, stage: bytearray, begin: int, length: int) -> None:
        """A whole frame lies in a buffer that will be used again."""
        with self._lock:
            specs = self._specs
            self._count(length, length + COST, expected=specs is not None)
            if self._open:
                raise self._disorder()
            if specs is None:
                self._hold(length + COST)
                self._ahead.append([np.frombuffer(stage, _BYTE, length, begin).copy()])
                return
            self._specs = None
            self.received = copies(stage, begin, specs)
            if self.followed:
                self.arrived.set()

    def begin(self, total: int) -> None:
        """A frame of several parts, of which the first is to come."""
        with self._lock:
            if self._open:
                raise self._disorder()
            specs = self._specs
            self._count(total, COST, expected=specs is not None)
            self._open, self._total, self._left = True, total, total
            if specs is not None:
                self._specs = None
                self._allocate(specs)
            else:
                self._hold(COST)

    def target(self, length: int) -> list[memoryview]:
        """Where the next part of the frame in progress goes; the same again until `done`."""
        with self._lock:
            if not self._open or not 0 < length <= self._left:
                raise self._disorder()
            self._chunk = None
            if self._arrays is None:
                if self.came + length - self.taken > self.window:
                    raise self._flood()
                self._chunk = np.empty(length, _BYTE)
                return [memoryview(self._chunk)]
            where: list[memoryview] = []
            for part in self._body:
                where.append(part[:length])
                length -= len(where[-1])
                if not length:
                    break
            return where

    def done(self, length: int) -> None:
        """The part has arrived at its target."""
        with self._lock:
            self.came += length
            self._left -= length
            if self._arrays is None:
                assert self._chunk is not None
                self._chunks.append(self._chunk)
                self._hold(length)
            else:
                self.taken += length
                if self._chunk is None:
                    drop(self._body, length)
                else:  # the frame was asked for in between
                    self._fill(self._chunk)
            self._chunk = None
            if self._left:
                return
            self._open = False
            if self._arrays is not None:
                self.received, self._arrays = self._arrays, None
                if self.followed:
                    self.arrived.set()
                return
            self._ahead.append(self._chunks)
            self._chunks = []

    def finish(self, error: ChannelError) -> None:
        """No more frames will come: `error` says why."""
        with self._lock:
            if self.end is None:
                self.end = error
            self.arrived.set()

    def _count(self, length: int, cost: int, expected: bool) -> None:
        """Check a new frame against what is expected, or against the window."""
        self.came += cost
        if expected:
            if length != self.length:
                raise wrong_length(self.name, length, self.length)
            self.taken += cost
        elif self.came - self.taken > self.window:
            raise self._flood()

    def _hold(self, count: int) -> None:
        if self._budget is not None:
            self._budget.held += count
            if self._budget.held > self.window:
                raise self._flood()

    def _disorder(self) -> ChannelError:
        return ChannelError(f"{self.name} sent parts of a frame that do not belong together")

    def _flood(self) -> ChannelError:
        return ChannelError(
            f"{self.name} sent more than it may before this party asked for it",
            got=f"more than {self.came - self.taken} bytes ahead",
            expected=f"at most {self.window}",
        )
