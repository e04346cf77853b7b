"""Links over TCP: one connection per pair of parties, one thread, no copies of large arrays.

Plaintext on the wire: for loopback and networks where nobody else listens.

An exchange tries to send directly and polls only when nothing can be done at once. While it
waits, for whatever reason, it takes in what arrives from all peers, so that two parties that send
to each other never block each other.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

from spuvm.errors import ChannelError
from spuvm.net import frame
from spuvm.net.channel import Array, Spec
from spuvm.net.guard import PATIENCE, GuardedChannel
from spuvm.net.handshake import Address, Meeting, check_addresses, listen
from spuvm.net.link import Link

__all__ = ["TcpChannel", "connect", "listen"]

BUFFER: Final = 4 << 20
"""Bytes asked for each socket's send and receive buffer; the system may grant fewer."""

_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
_SLICE: Final = 0.1
"""Seconds after which a waiting exchange looks whether another thread has aborted the channel."""

_GOODBYE: Final = 0.5
"""Seconds that an abort tries to finish frames that are under way."""


def connect(
    rank: int,
    addresses: Sequence[Address],
    *,
    timeout: float = 60.0,
    connect_timeout: float = 60.0,
    listener: socket.socket | None = None,
    names: Sequence[str] = (),
    read_ahead: int = frame.READ_AHEAD,
) -> TcpChannel:
    """Connect one party with all others; blocks until all are there, in whatever order they start.

    Args:
        rank: this party's place in `addresses`.
        addresses: (host, port) of every party, the same list at all of them.
        timeout: seconds without progress after which an exchange fails.
        connect_timeout: seconds to wait for the other parties to start.
        listener: from `listen`, already bound to this party's address; is closed here. Without it
            the address is bound now. The last rank needs none.
        names: of all parties, for messages.
        read_ahead: bytes that a peer may run ahead of this party before its sends wait.

    Raises:
        ChannelError: a party did not come in time, or somebody else is at its address.
    """
    addresses = [(host, port) for host, port in addresses]
    check_addresses(rank, addresses, names)
    sockets = Meeting(rank, addresses, names, connect_timeout).meet(listener)
    for sock in sockets.values():
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return TcpChannel(rank, sockets, timeout=timeout, names=names, read_ahead=read_ahead)


class TcpChannel(GuardedChannel):
    """A channel over connected stream sockets, which it owns."""

    def __init__(
        self,
        rank: int,
        sockets: Mapping[int, socket.socket],
        *,
        timeout: float = 60.0,
        names: Sequence[str] = (),
        read_ahead: int = frame.READ_AHEAD,
    ) -> None:
        super().__init__(rank, tuple(sockets), timeout, names)
        self._links = {
            peer: Link(sockets[peer], peer, self._names[peer], read_ahead=read_ahead)
            for peer in self.peers
        }
        self._by_fd = {link.sock.fileno(): link for link in self._links.values()}
        self._poll = select.poll()

    def _exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        links, stats = self._links, self.stats
        out: dict[int, list[Array] | None] = {}
        waiting = False
        try:
            for peer, arrays in sends.items():
                link = links[peer]
                try:
                    stats.bytes_sent += link.send(arrays)
                except OSError as error:
                    raise self._broken(link, error) from error
                stats.frames_sent += 1
                if link.outgoing:
                    waiting = True
            for peer, specs in receives.items():
                link = links[peer]
                arrived = out[peer] = link.expect(specs)
                stats.bytes_received += link.length
                if arrived is None:
                    waiting = True
        except KeyError as error:
            raise self._unknown(error) from None
        if waiting:
            self._wait([links[p] for p in sends], [links[p] for p in receives], out)
        return cast("dict[int, list[Array]]", out)

    def _wait(
        self, senders: list[Link], receivers: list[Link], out: dict[int, list[Array] | None]
    ) -> None:
        """Move bytes until everything is sent and received; also takes in what is not awaited."""
        sending = {link for link in senders if link.outgoing}
        missing = {link for link in receivers if out[link.peer] is None}
        since = time.monotonic()
        for link in self._links.values():
            self._arm(link)
        milliseconds = 1000 * min(_SLICE, self.timeout)
        while sending or missing:
            moved = 0
            for fd, events in self._poll.poll(milliseconds):
                link = self._by_fd[fd]
                try:
                    if events & _OUT:
                        moved += link.flush()
                        if not link.outgoing:
                            sending.discard(link)
                    if events != _OUT:  # an error or a hang-up too is found by reading
                        count = link.read()
                        if link in missing:
                            moved += count
                            if link.received is not None:
                                out[link.peer] = link.received
                                missing.discard(link)
                except OSError as error:
                    raise self._broken(link, error) from error
                self._arm(link)
            if self._stop is not None:
                raise self._stopped()
            now = time.monotonic()
            if moved:
                since = now
            elif now - since > self.timeout:
                raise self._stuck(sending, missing)

    def _arm(self, link: Link) -> None:
        """Have the poll report what is useful for this link, and nothing else."""
        events = 0 if link.ended or link.full else _IN
        if link.outgoing:
            events |= _OUT
        if events == link.armed:
            return
        if events:
            self._poll.register(link.sock, events)
        else:
            self._poll.unregister(link.sock)
        link.armed = events

    # ---- failures

    def _broken(self, link: Link, error: OSError) -> ChannelError:
        """What to say when a system call failed: the peer's last words if there are any."""
        try:
            while link.read():
                pass
        except ChannelError as last_words:
            return last_words
        except OSError:
            pass
        return ChannelError(
            f"{link.name} closed the connection",
            got=str(error),
            next=f"see what {link.name} says: its process ended or its channel was closed",
        )

    def _stuck(self, sending: set[Link], missing: set[Link]) -> ChannelError:
        if missing:
            link = min(missing, key=lambda link: link.peer)
            return self._late(link.peer, f"a frame of {link.length} bytes from {link.name}")
        link = min(sending, key=lambda link: link.peer)
        left = sum(map(len, link.outgoing))
        return self._late(link.peer, f"{link.name} to take the last {left} bytes of a frame")

    # ---- ends

    def abort(self, message: str) -> None:
        if self._stop is not None:
            return
        self._stop = f"aborted with: {message}"
        if not self._busy.acquire(timeout=PATIENCE):
            return
        try:
            last_words = memoryview(frame.abort_frame(message))
            until = time.monotonic() + _GOODBYE
            for link in self._links.values():
                link.outgoing.append(last_words)
                with contextlib.suppress(OSError):
                    link.flush()
            while (left := until - time.monotonic()) > 0:
                open_ends = [link for link in self._links.values() if link.outgoing]
                if not open_ends:
                    break
                select.select([], [link.sock for link in open_ends], [], left)
                for link in open_ends:
                    try:
                        link.flush()
                    except OSError:
                        link.outgoing.clear()
        finally:
            self._busy.release()

    def close(self) -> None:
        if self._stop is None:
            self._stop = "it was closed"
        with contextlib.ExitStack() as stack:
            if self._busy.acquire(timeout=PATIENCE):
                stack.callback(self._busy.release)
            for link in self._links.values():
                link.close()
            self._failure = self._failure or self._stopped()
