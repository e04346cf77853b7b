"""Links over TCP: one connection per pair of parties, one thread, no copies of large arrays.

Plaintext on the wire: for loopback and networks where nobody else listens.

An exchange tries to send directly and polls only when nothing can be done at once. While it
waits, for whatever reason, it takes in what arrives from all peers, so that two parties that send
to each other never block each other.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net import frame
from spuvm.net.channel import Array, Spec, party
from spuvm.net.guard import PATIENCE, GuardedChannel
from spuvm.net.handshake import Address, Meeting, check_addresses, listen
from spuvm.net.inbox import BLOCK_MICROSECONDS, Inbox
from spuvm.net.outbox import Outbox
from spuvm.net.tuning import tune

__all__ = ["TcpChannel", "connect", "listen"]

_log = logging.getLogger(__name__)

_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
_SLICE: Final = 0.1
"""Seconds after which a waiting exchange looks whether another thread has aborted the channel."""

_DRAIN: Final = 64 << 20

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
    for peer, sock in sockets.items():
        tune(sock)
        host = sock.getpeername()[0]
        level = logging.INFO if ipaddress.ip_address(host).is_loopback else logging.WARNING
        _log.log(level, "the link to %s at %s is not encrypted", party(peer, names), host)
    return TcpChannel(rank, sockets, timeout=timeout, names=names, read_ahead=read_ahead)


class _Link:
    """A socket with its two halves, and what the poll watches it for."""

    __slots__ = ("armed", "inbox", "name", "outbox", "peer", "sock")

    def __init__(self, sock: socket.socket, peer: int, name: str, read_ahead: int) -> None:
        sock.setblocking(True)  # only `Inbox.wait` makes use of it, and not for long
        limit = struct.pack("@ll", 0, BLOCK_MICROSECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock, self.peer, self.name = sock, peer, name
        self.inbox = Inbox(sock, name, read_ahead=read_ahead)
        self.outbox = Outbox(sock)
        self.armed = 0


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
            peer: _Link(sockets[peer], peer, self._names[peer], read_ahead) for peer in self.peers
        }
        self._inboxes = {peer: link.inbox for peer, link in self._links.items()}
        self._outboxes = {peer: link.outbox for peer, link in self._links.items()}
        self._by_fd = {link.sock.fileno(): link for link in self._links.values()}
        self._poll = select.poll()

    def _exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        inboxes, outboxes, stats = self._inboxes, self._outboxes, self.stats
        out: dict[int, list[Array]] = {}
        peer, unsent, missing = -1, False, False
        try:
            for peer, arrays in sends.items():
                outbox = outboxes[peer]
                stats.bytes_sent += outbox.send(arrays)
                stats.frames_sent += 1
                if outbox.left:
                    unsent = True
            for peer, specs in receives.items():
                inbox = inboxes[peer]
                arrived = inbox.expect(specs)
                stats.bytes_received += inbox.length
                if arrived is None:
                    missing = True
                else:
                    out[peer] = arrived
            if missing and not unsent:  # usual: block on one socket after the other, no poll
                missing = False
                for peer in receives:
                    if peer not in out:
                        arrived = inboxes[peer].wait()
                        if arrived is None:
                            missing = True
                            break
                        out[peer] = arrived
        except KeyError:
            raise self._unknown(peer) from None
        except OSError as error:
            raise self._broken(self._links[peer], error) from error
        if unsent or missing:
            links = self._links
            self._move({links[p] for p in sends}, {links[p] for p in receives if p not in out}, out)
        return out

    def _move(self, sending: set[_Link], missing: set[_Link], out: dict[int, list[Array]]) -> None:
        """Move bytes until everything is sent and received; also takes in what is not awaited."""
        sending = {link for link in sending if link.outbox.left}
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
                        moved += link.outbox.flush()
                        if not link.outbox.left:
                            sending.discard(link)
                    if events != _OUT:  # an error or a hang-up too is found by reading
                        count = link.inbox.read()
                        if link in missing:
                            moved += count
                            if link.inbox.received is not None:
                                out[link.peer] = link.inbox.received
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

    def _arm(self, link: _Link) -> None:
        """Have the poll report what is useful for this link, and nothing else."""
        events = 0 if link.inbox.ended or link.inbox.full else _IN
        if link.outbox.left:
            events |= _OUT
        if events == link.armed:
            return
        if events:
            self._poll.register(link.sock, events)
        else:
            self._poll.unregister(link.sock)
        link.armed = events

    # ---- failures

    def _broken(self, link: _Link, error: OSError) -> ChannelError:
        """What to say when a system call failed: the peer's last words if there are any."""
        if self._stop is not None:  # another thread closed the socket
            return self._stopped()
        try:
            while link.inbox.read():
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

    def _stuck(self, sending: set[_Link], missing: set[_Link]) -> ChannelError:
        link = min(missing or sending, key=lambda link: link.peer)
        if missing:
            return self._late(link.peer, f"a frame of {link.inbox.length} bytes from {link.name}")
        left = sum(map(len, link.outbox.left))
        return self._late(link.peer, f"{link.name} to take the last {left} bytes of a frame")

    # ---- ends

    def abort(self, message: str) -> None:
        if self._stop is not None:
            return
        self._stop = f"aborted with: {message}"
        if not self._busy.acquire(timeout=PATIENCE):
            return
        try:
            last_words = frame.abort_frame(message)
            until = time.monotonic() + _GOODBYE
            talking = []
            for link in self._links.values():
                with contextlib.suppress(OSError):
                    link.outbox.add(last_words)
                    talking.append(link)
            while talking := [link for link in talking if link.outbox.left]:
                left = until - time.monotonic()
                if left <= 0 or not select.select([], [t.sock for t in talking], [], left)[1]:
                    break
                for link in talking:
                    try:
                        link.outbox.flush()
                    except OSError:
                        link.outbox.left.clear()
        finally:
            self._busy.release()

    def close(self) -> None:
        if self._stop is None:
            self._stop = "it was closed"
        with contextlib.ExitStack() as stack:
            if self._busy.acquire(timeout=PATIENCE):
                stack.callback(self._busy.release)
            for link in self._links.values():
                # Closing over unread bytes would reset the connection: what is under way is lost.
                with contextlib.suppress(OSError):
                    link.sock.shutdown(socket.SHUT_WR)
                    link.inbox.discard(_DRAIN)
                link.sock.close()
            self._failure = self._failure or self._stopped()
