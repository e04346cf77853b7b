"""The endpoint's own thread: looks after links while no exchange does, and keeps them alive."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net.link import Link
from spuvm.net.transfers import Transfers
from spuvm.net.transport import NOW

_log = logging.getLogger(__name__)

_TICK: Final = 0.05
"""Seconds between two looks at the clock, and after which a link that no exchange reads any more
is watched again."""


class Keeper(threading.Thread):
    """Reads watched links, sends what waits, accepts connections, and notices silence.

    Args:
        name: of the party.
        traffic: every link with its values on their way.
        listener: listening socket; closed at the end.
        deadline: seconds without a sign of life after which a peer is given up.
        accept: gets every new connection.
        give_up: called when a peer cannot be reached for so long.
    """

    def __init__(
        self,
        name: str,
        traffic: Mapping[str, tuple[Link, Transfers]],
        listener: socket.socket,
        deadline: float,
        accept: Callable[[socket.socket], None],
        give_up: Callable[[Link, ChannelError], None],
    ) -> None:
        super().__init__(name=f"spuvm links of {name}", daemon=True)
        self._traffic, self._listener = tuple(traffic.values()), listener
        self._deadline, self._accept, self._give_up = deadline, accept, give_up
        self._heartbeat = min(2.0, deadline / 10)
        self._stale = min(10.0, deadline / 3)
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._stopping = False
        self._looked = 0.0
        self._seen: dict[str, tuple[int, int, int]] = {}
        listener.setblocking(False)

    # ---- called by other threads

    def wake(self) -> None:
        """There is something to send, or a link to watch or not to watch."""
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: it has ended
            self._button.send(b"\0")

    def unwatch(self, link: Link) -> None:
        """The caller reads this link itself from now on."""
        link.watched = False
        self.wake()

    def watch(self, link: Link) -> None:
        """Nobody else may read this link for a while."""
        if not link.watched:
            link.watched = True
            self.wake()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self.wake()
        self.join()
        self._bell.close()
        self._button.close()

    # ---- the thread

    def run(self) -> None:
        with self._listener:
            while not self._stopping:
                try:
                    self._round()
                except Exception as error:  # without this thread all would wait for ever
                    _log.exception("%s failed", self.name)
                    link = self._traffic[0][0]
                    self._give_up(link, ChannelError(f"{self.name} failed", got=repr(error)))
                    time.sleep(_TICK)

    def _round(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        links: dict[int, Link] = {}
        for link, transfers in self._traffic:
            transport = link.transport
            fd = transport.sock.fileno() if transport is not None else -1
            if fd < 0 or link.poisoned:
                continue
            events = select.POLLIN if link.watched else 0
            if link.unsent and (link.watched or transfers.pushing):
                events |= select.POLLOUT
            if events:
                links[fd] = link
                poll.register(fd, events)
        for fd, events in poll.poll(1000 * _TICK):
            if fd in links:
                self._serve(links[fd], events)
            elif fd == self._bell.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._bell.recv(4096)
            else:
                with contextlib.suppress(OSError):  # it gave up in between
                    self._accept(self._listener.accept()[0])
        for _, transfers in self._traffic:
            if transfers.pushing:
                transfers.push()
        now = time.monotonic()
        if now - self._looked >= _TICK:
            self._look(now)

    def _serve(self, link: Link, events: int) -> None:
        if events & select.POLLOUT:
            link.flush()
        if events & ~select.POLLOUT and link.watched and link.reading.acquire(False):
            try:
                link.read(NOW)
            finally:
                link.step_back()

    def _look(self, now: float) -> None:
        """What is done now and then."""
        slept = now - self._looked > self._stale / 2  # this process stood still: nobody is to blame
        self._looked = now
        for link, transfers in self._traffic:
            transport = link.transport
            if transport is None:
                if not link.left and now - link.lost_since > self._deadline:
                    self._give_up(link, unreachable(link.peer, self._deadline))
                continue
            seen = (link.uses, link.arrivals, link.sent)
            uses, arrivals, sent = self._seen.get(link.peer, (0, 0, 0))
            self._seen[link.peer] = seen
            if slept or arrivals != link.arrivals:
                link.heard = now
            if sent != link.sent:
                link.said = now
            if not link.watched and (uses == link.uses or transfers.waiting):
                link.watched = True
            if now - link.said > self._heartbeat or link.silent_about:
                link.said = now
                link.ping()
            elif not link.watched:
                link.flush()
            if now - link.heard > self._stale:
                link.drop(transport, f"no sign of life for {self._stale:.1f} s")


def unreachable(peer: str, deadline: float) -> ChannelError:
    """The error for a link that is down for too long."""
    return ChannelError(
        f"party '{peer}' cannot be reached any more",
        got=f"no sign of life for {deadline:g} s",
        next=f"see whether '{peer}' is alive and the network works; then start a new session",
    )
