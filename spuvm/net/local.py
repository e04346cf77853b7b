"""Links between threads of one process: frames are handed over by reference.

For tests and debugging: all parties share one memory, so it protects nobody.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from spuvm.errors import ChannelError, UsageError
from spuvm.net import frame
from spuvm.net.channel import Array, Spec
from spuvm.net.guard import GuardedChannel, wrong_length

_SLICE: Final = 0.1


@dataclass(frozen=True, slots=True)
class _End:
    """In the place of a frame: no frame will follow."""

    message: str
    got: str | None = None

    def error(self) -> ChannelError:
        return ChannelError(self.message, got=self.got)


@dataclass(slots=True)
class _Pipe:
    """One direction of one pair. `sent` has one writer, the sender; `taken` one, the receiver."""

    frames: queue.SimpleQueue[Sequence[Array] | _End] = field(default_factory=queue.SimpleQueue)
    sent: int = 0
    taken: int = 0
    room: threading.Event = field(default_factory=threading.Event)
    end: _End | None = None  # why nothing may be sent any more


class LocalNetwork:
    """Channels for `parties` threads: ``LocalNetwork().channels[rank]``.

    Args:
        parties: how many.
        timeout: seconds without progress after which an exchange fails.
        names: of all parties, for messages.
        read_ahead: bytes that a peer may run ahead of a party before its sends wait.
    """

    def __init__(
        self,
        parties: int = 3,
        timeout: float = 60.0,
        *,
        names: Sequence[str] = (),
        read_ahead: int = frame.READ_AHEAD,
    ) -> None:
        if parties < 2 or (names and len(names) != parties):
            raise UsageError(
                "no such network",
                got=f"{parties} parties, {len(names)} names",
                expected="2 or more parties, a name for each or no names",
            )
        ranks = range(parties)
        pipes = {(s, r): _Pipe() for s in ranks for r in ranks if s != r}
        self.channels = [
            LocalChannel(rank, pipes, timeout=timeout, names=names, read_ahead=read_ahead)
            for rank in ranks
        ]

    def close(self) -> None:
        for channel in self.channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class LocalChannel(GuardedChannel):
    """One party's end. Received arrays are views of the sender's memory: nobody writes to them.

    They are not marked read-only: that is another type to compiled kernels.
    """

    def __init__(
        self,
        rank: int,
        pipes: Mapping[tuple[int, int], _Pipe],
        *,
        timeout: float,
        names: Sequence[str],
        read_ahead: int,
    ) -> None:
        super().__init__(rank, [s for s, r in pipes if r == rank], timeout, names)
        self._pipes = pipes
        self._out = {peer: pipes[rank, peer] for peer in self.peers}
        self._in = {peer: pipes[peer, rank] for peer in self.peers}
        self._read_ahead = read_ahead

    def _exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        try:
            for peer, arrays in sends.items():
                self._send(peer, self._out[peer], arrays)
            return {
                peer: self._receive(peer, self._in[peer], specs) for peer, specs in receives.items()
            }
        except KeyError as error:
            raise self._unknown(error) from None

    def _send(self, peer: int, pipe: _Pipe, arrays: Sequence[Array]) -> None:
        length = 0
        for array in arrays:
            length += array.nbytes
            if not array.flags.c_contiguous:
                raise UsageError("an array to send is not C-contiguous")
        if pipe.sent - pipe.taken >= self._read_ahead:
            self._wait_for_room(peer, pipe, length)
        if pipe.end is not None:
            raise pipe.end.error()
        pipe.sent += length
        pipe.frames.put(tuple(arrays))
        self.stats.bytes_sent += length
        self.stats.frames_sent += 1

    def _wait_for_room(self, peer: int, pipe: _Pipe, length: int) -> None:
        taken, since = pipe.taken, time.monotonic()
        while pipe.sent - pipe.taken >= self._read_ahead and pipe.end is None:
            pipe.room.clear()
            pipe.room.wait(min(_SLICE, self.timeout))
            if self._stop is not None:
                raise self._stopped()
            now = time.monotonic()
            if pipe.taken != taken:
                taken, since = pipe.taken, now
            elif now - since > self.timeout:
                name = self._names[peer]
                raise self._late(peer, f"{name} to take a frame of {length} bytes")

    def _receive(self, peer: int, pipe: _Pipe, specs: Sequence[Spec]) -> list[Array]:
        expected = 0
        for spec in specs:
            expected += spec.size * spec.dtype.itemsize
        try:
            arrays = pipe.frames.get(timeout=self.timeout)
        except queue.Empty:
            name = self._names[peer]
            raise self._late(peer, f"a frame of {expected} bytes from {name}") from None
        if isinstance(arrays, _End):
            raise arrays.error()
        length = 0
        for array in arrays:
            length += array.nbytes
        pipe.taken += length
        pipe.room.set()
        if length != expected:
            raise wrong_length(self._names[peer], length, expected)
        if len(arrays) != len(specs):
            raise wrong_split(self._names[peer], arrays, specs)
        received = []
        for array, spec in zip(arrays, specs, strict=True):
            flat = array.reshape(-1)
            if flat.dtype != spec.dtype:
                flat = flat.view(spec.dtype)
            if flat.size != spec.size:
                raise wrong_split(self._names[peer], arrays, specs)
            received.append(flat)
        self.stats.bytes_received += length
        return received

    def abort(self, message: str) -> None:
        if self._stop is not None:
            return
        self._stop = f"aborted with: {message}"
        text = frame.abort_text(message.encode("utf-8", "replace")[: frame.ABORT_BYTES])
        end = _End(f"{self._names[self.rank]} aborted: {text}")
        for (sender, _), pipe in self._pipes.items():  # wakes whoever waits, wherever it waits
            if sender != self.rank:
                pipe.end = end
            pipe.frames.put(end)
            pipe.room.set()

    def close(self) -> None:
        if self._stop is None:
            self._stop = "it was closed"
        name = self._names[self.rank]
        end = _End(f"{name} closed the connection", f"the end of the stream from {name}")
        for pipe in self._out.values():
            pipe.frames.put(end)
        for pipe in self._in.values():
            pipe.end = pipe.end or end
            pipe.frames.put(end)
            pipe.room.set()


def wrong_split(name: str, arrays: Sequence[Array], specs: Sequence[Spec]) -> ChannelError:
    """The lengths agree in total but not array by array: TCP could not tell, threads can."""
    return ChannelError(
        f"{name} sent other arrays than expected",
        got=", ".join(f"{a.dtype}[{a.size}]" for a in arrays[:20]),
        expected=", ".join(f"{s.dtype}[{s.size}]" for s in specs[:20]),
        next="make sure that all parties run the same program with the same shapes",
    )
