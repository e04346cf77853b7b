"""A channel over links that carry other traffic too.

The thread that exchanges reads its links itself, so that a small frame costs no change of threads:
the endpoint's own thread looks after a link only while no exchange does. What it reads meanwhile
that is not for it (values, other channels) it hands to whom it concerns.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net import packet
from spuvm.net.buffers import views
from spuvm.net.channel import Array, Spec
from spuvm.net.frame import ABORT_BYTES
from spuvm.net.guard import PATIENCE, GuardedChannel
from spuvm.net.inflow import COST, Inflow
from spuvm.net.link import UNSEEN, Link
from spuvm.net.packet import DATA, MORE, SEGMENT
from spuvm.net.transfers import cut_off
from spuvm.net.transport import NOW

_SLICE: Final = 0.02
_GOODBYE: Final = 0.5


class Outflow:
    """The sending end of a channel's stream to one peer.

    Attributes:
        sent: bytes that count against the window, over all frames.
        granted: those that the peer has reported as taken.
        rest: what is still to be handed to the link of the frame in progress.
    """

    __slots__ = ("_begun", "_left", "_stream", "granted", "link", "rest", "sent", "window")

    def __init__(self, link: Link, stream: int, window: int) -> None:
        self.link, self._stream, self.window = link, stream, window
        self.granted = self.sent = self._left = 0
        self._begun = True
        self.rest: list[memoryview] = []

    def start(self, arrays: Sequence[Array], length: int) -> None:
        """A frame; it is with the link unless something is left in `rest`."""
        cost = length + COST
        link = self.link
        if (
            length <= SEGMENT
            and self.sent + cost - self.granted <= self.window
            and link.unseen_bytes < UNSEEN
        ):
            self.sent += cost
            link.send(DATA, self._stream, length, views(arrays), length)
            return
        self.rest, self._left, self._begun = views(arrays), length, False
        if not self.rest:
            self.rest = [memoryview(b"")]
        self.advance()

    def advance(self) -> bool:
        """Hand on what is allowed; whether it was anything."""
        moved = False
        link = self.link
        while self.rest and not link.unsent and link.unseen_bytes < UNSEEN:
            room = self.window - (self.sent - self.granted) - (0 if self._begun else COST)
            if room < min(self._left, self.window // 8):
                break
            parts = cut_off(self.rest, min(SEGMENT, room))
            if not self._left:
                self.rest = []
            length = sum(map(len, parts))
            kind, extra = (MORE, 0) if self._begun else (DATA, self._left)
            self.sent += length + (0 if self._begun else COST)
            self._begun, moved = True, True
            self._left -= length
            link.send(kind, self._stream, extra, parts, length)
        return moved


class LinkChannel(GuardedChannel):
    """See `Endpoint.channel`.

    Args:
        rank: of this party.
        names: of the members, by rank.
        flows: by rank of the peer.
        timeout: seconds without progress after which an exchange fails.
        failure: the session's, if it failed.
        unwatch: has the endpoint's thread leave a link to this one.
    """

    def __init__(
        self,
        rank: int,
        names: Sequence[str],
        flows: Mapping[int, tuple[Inflow, Outflow]],
        stream: int,
        *,
        timeout: float,
        failure: Callable[[], ChannelError | None],
        unwatch: Callable[[Link], None],
    ) -> None:
        super().__init__(rank, tuple(flows), timeout, names)
        self._stream, self._session_failure, self._unwatch = stream, failure, unwatch
        self._inflows = {peer: flow[0] for peer, flow in flows.items()}
        self._outflows = {peer: flow[1] for peer, flow in flows.items()}
        self._links = {peer: flow.link for peer, flow in self._outflows.items()}
        self._aborted: ChannelError | None = None
        # A little longer than the links: one that is down is the better reason, here or at a peer.
        self._patience = timeout + min(2.0, timeout / 2)

    @property
    def left(self) -> bool:
        """Whether this party has closed or aborted it."""
        return self._stop is not None

    def ended(self, peer: int, text: str | None) -> None:
        """The peer sends no more: `text` is why if it aborted."""
        name = self._names[peer]
        if text is None:
            error = ChannelError(
                f"{name} closed the connection",
                got=f"the end of the stream from {name}",
                next=f"see what {name} says: its channel was closed",
            )
        else:
            error = ChannelError(f"{name} aborted: {text}")
            self._aborted = self._aborted or error
        self._inflows[peer].finish(error)

    def grant(self, peer: str, taken: int) -> bool:
        """The peer has taken so many bytes in all; whether that can be."""
        for flow in self._outflows.values():
            if flow.link.peer == peer and flow.granted <= taken <= flow.sent:
                flow.granted = taken
                return True
        return False

    def _exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        self._check()
        stats = self.stats
        out: dict[int, list[Array]] = {}
        unsent: list[int] = []
        missing: list[int] = []
        try:
            for peer, arrays in sends.items():
                length = 0
                for array in arrays:
                    length += array.nbytes
                flow = self._outflows[peer]
                if (end := self._inflows[peer].end) is not None:
                    raise end
                stats.bytes_sent += length
                stats.frames_sent += 1
                flow.start(arrays, length)
                if flow.rest or flow.link.unsent:
                    unsent.append(peer)
            for peer, specs in receives.items():
                inflow = self._inflows[peer]
                arrived = inflow.expect(specs)
                stats.bytes_received += inflow.length
                if arrived is None:
                    missing.append(peer)
                else:
                    out[peer] = arrived
        except KeyError:
            raise self._unknown(peer) from None
        if missing and not unsent:  # usual: one small frame of each peer
            for peer in tuple(missing):
                inflow = self._inflows[peer]
                if inflow.received is None:
                    self._read(peer, inflow, 0)
                    if inflow.received is None:
                        break
                out[peer] = inflow.received
                missing.remove(peer)
        if unsent or missing:
            self._move(unsent, missing, out)
        for peer in receives:
            self._report(peer)
        return out

    def _check(self) -> None:
        if self._stop is not None:
            raise self._stopped()
        failure = self._session_failure()
        if failure is not None:
            raise failure

    def _report(self, peer: int) -> None:
        """Tell the peer what was taken, from time to time."""
        inflow = self._inflows[peer]
        if inflow.taken - inflow.reported > inflow.window >> 2:
            inflow.reported = inflow.taken
            self._links[peer].send(packet.WINDOW, self._stream, inflow.taken, (), 0)

    def _move(self, unsent: list[int], missing: list[int], out: dict[int, list[Array]]) -> None:
        """Send and receive until everything is done."""
        since = time.monotonic()
        before = self._progress(unsent, missing)
        while unsent or missing:
            for peer in tuple(missing):
                inflow = self._inflows[peer]
                if inflow.received is None:
                    if not unsent:
                        self._read(peer, inflow, 0)
                    if inflow.received is None:
                        break
                out[peer] = inflow.received
                missing.remove(peer)
            if unsent:
                self._push(unsent, missing)
                unsent = [p for p in unsent if self._outflows[p].rest or self._links[p].unsent]
            if not unsent and not missing:
                return
            self._check()
            for peer in missing:
                self._report(peer)
            for peer in (*unsent, *missing):
                inflow = self._inflows[peer]
                lacks = peer in missing and inflow.received is None
                # What the link has, and holds up for other traffic, the peer may have had.
                if inflow.end is not None and (lacks or self._outflows[peer].rest):
                    raise inflow.end
            if self._aborted is not None:
                raise self._aborted
            now, here = time.monotonic(), self._progress(unsent, missing)
            if here != before:
                since, before = now, here
            elif now - since > self._patience:
                raise self._stuck(unsent, missing)

    def _progress(self, unsent: list[int], missing: list[int]) -> list[int]:
        """Changes when something moves; signs of life do not count."""
        here = [len(unsent), len(missing)]
        for peer in missing:
            here += (self._inflows[peer].came, self._links[peer].bytes_in)
        for peer in unsent:
            here += (self._outflows[peer].granted, self._links[peer].bytes_out)
        return here

    def _read(self, peer: int, inflow: Inflow, flags: int) -> None:
        """Read the peer's link, or wait until who reads it now has something or steps back."""
        link = self._links[peer]
        link.uses += 1
        if link.reading.acquire(False):
            try:
                if link.watched:
                    self._unwatch(link)
                if flags or inflow.received is None:
                    count = link.read(flags)
                    while count and inflow.received is None and inflow.end is None:
                        count = link.read(NOW)
            finally:
                link.step_back()
            if link.transport is None and not flags:
                time.sleep(_SLICE)
        elif not flags:
            inflow.arrived.clear()
            inflow.followed = True
            link.waiting.add(inflow)
            try:
                if link.reading.locked() and inflow.received is None:
                    inflow.arrived.wait(_SLICE)
            finally:
                link.waiting.discard(inflow)
                inflow.followed = False

    def _push(self, unsent: list[int], missing: list[int]) -> None:
        """Send as far as possible, reading what comes from everybody in the meantime."""
        moved = False
        for peer in unsent:
            moved |= self._links[peer].flush() | self._outflows[peer].advance()
        if moved:
            return
        poll = select.poll()
        peers: dict[int, int] = {}
        for peer, link in self._links.items():
            transport = link.transport
            if transport is None:
                continue
            events = select.POLLIN
            if link.unsent:
                events |= select.POLLOUT
            fd = transport.sock.fileno()
            if fd >= 0:
                peers[fd] = peer
                poll.register(fd, events)
        if not peers:
            time.sleep(_SLICE)
        for fd, events in poll.poll(1000 * _SLICE):
            peer = peers[fd]
            if events & select.POLLOUT:
                self._links[peer].flush()
            if events & ~select.POLLOUT:
                self._read(peer, self._inflows[peer], NOW)

    def _stuck(self, unsent: list[int], missing: list[int]) -> ChannelError:
        peer = min(missing or unsent)
        name = self._names[peer]
        if missing:
            length = self._inflows[peer].length
            return self._late(peer, f"a frame of {length} bytes from {name}")
        return self._late(peer, f"{name} to take the rest of a frame")

    # ---- ends

    def abort(self, message: str) -> None:
        if self._stop is not None:
            return
        self._stop = f"aborted with: {message}"
        text = message.encode("utf-8", "replace")[:ABORT_BYTES]
        self._end(1, text)

    def close(self) -> None:
        if self._stop is None:
            self._stop = "it was closed"
            self._end(0, b"")
        if self._busy.acquire(timeout=PATIENCE):
            self._failure = self._failure or self._stopped()
            self._busy.release()

    def _end(self, how: int, text: bytes) -> None:
        for link in self._links.values():
            link.send(packet.END, self._stream, how, [memoryview(text)] if text else (), len(text))
