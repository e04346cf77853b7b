"""From addresses to one connected socket per pair: the higher rank connects to the lower one."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net import frame
from spuvm.net.channel import party

Address = tuple[str, int]

_RETRY: Final = 0.02
_STRANGERS: Final = 64
"""Most accepted connections that have not said who they are; the oldest makes room."""


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; with port 0 the system picks one: ``listen().getsockname()[1]``.

    Made first and given to `connect`, it lets parties agree on ports without a race. Both versions
    of IP will do; a name that has addresses of both listens on version 4, and "::" on both.

    Raises:
        ChannelError: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        raise ChannelError(
            f"cannot listen on {host}:{port}", got=str(error), next="choose another address"
        ) from error


class Meeting:
    """Connecting one party with all others before a common deadline."""

    def __init__(
        self, rank: int, addresses: Sequence[Address], names: Sequence[str], patience: float
    ) -> None:
        self.rank, self.addresses, self.names = rank, addresses, names
        self.patience = patience
        self.deadline = time.monotonic() + patience

    def meet(self, listener: socket.socket | None) -> dict[int, socket.socket]:
        """One blocking socket per peer, by rank; closes the listener."""
        found: dict[int, socket.socket] = {}
        try:
            with contextlib.ExitStack() as stack:
                if listener is not None:
                    stack.enter_context(listener)
                elif self.rank < len(self.addresses) - 1:
                    listener = stack.enter_context(listen(*self.addresses[self.rank]))
                for peer in range(self.rank):
                    found[peer] = self._call(peer)
                if listener is not None:
                    self._answer(listener, found)
        except BaseException:
            for sock in found.values():
                sock.close()
            raise
        return found

    # ---- towards lower ranks

    def _call(self, peer: int) -> socket.socket:
        host, port = self.addresses[peer]
        problem = "no attempt was made in time"
        while (left := self.deadline - time.monotonic()) > 0:
            sock = None
            try:
                sock = socket.create_connection((host, port), timeout=left)
                if sock.getsockname() == sock.getpeername():
                    raise ConnectionRefusedError("nobody listens")  # connected to itself
                sock.sendall(frame.hello(self.rank, peer, len(self.addresses)))
                self._check(peer, _read_hello(sock))
                return sock
            except (OSError, EOFError) as error:  # not yet there, or gone while it started
                problem = str(error) or type(error).__name__
                if sock is not None:
                    sock.close()
                time.sleep(min(_RETRY, left))
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
        raise ChannelError(
            f"cannot connect to {party(peer, self.names)} at {host}:{port}",
            got=problem,
            expected=f"an answer within {self.patience:g} s",
            next="start that party, or correct its address",
        )

    def _check(self, peer: int, heard: bytes) -> None:
        parties = len(self.addresses)
        if heard != frame.hello(peer, self.rank, parties):
            word, number, other = frame.HEADER.unpack(heard)
            spuvm = word == frame.HELLO
            host, port = self.addresses[peer]
            raise ChannelError(
                f"somebody else than {party(peer, self.names)} answers at {host}:{port}",
                got=f"rank {number & 0xFFFF} of {other}"
                if spuvm
                else "something that is not spuvm",
                expected=f"rank {peer} of {parties}",
                next="compare the parties' address lists and versions",
            )

    # ---- from higher ranks

    def _answer(self, listener: socket.socket, found: dict[int, socket.socket]) -> None:
        """Accept until all higher ranks are here; whoever says anything else is dropped."""
        listener.setblocking(False)
        strangers: dict[int, tuple[socket.socket, bytearray]] = {}
        poll = select.poll()
        poll.register(listener.fileno(), select.POLLIN)
        try:
            while missing := sorted(set(range(self.rank + 1, len(self.addresses))) - set(found)):
                left = self.deadline - time.monotonic()
                if left <= 0:
                    raise ChannelError(
                        f"{party(missing[0], self.names)} did not connect",
                        expected=f"a connection within {self.patience:g} s",
                        next="start that party, or correct the address that it has for this one",
                    )
                for fd, _ in poll.poll(1 + left * 1000):
                    if fd == listener.fileno():
                        self._accept(listener, strangers, poll)
                    elif fd in strangers:
                        self._hear(fd, strangers, poll, found)
        finally:
            for sock, _ in strangers.values():
                sock.close()

    def _accept(
        self,
        listener: socket.socket,
        strangers: dict[int, tuple[socket.socket, bytearray]],
        poll: select.poll,
    ) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # it gave up in between
            return
        if len(strangers) >= _STRANGERS:
            oldest = next(iter(strangers))
            poll.unregister(oldest)
            strangers.pop(oldest)[0].close()
        sock.setblocking(False)
        strangers[sock.fileno()] = (sock, bytearray())
        poll.register(sock.fileno(), select.POLLIN)

    def _hear(
        self,
        fd: int,
        strangers: dict[int, tuple[socket.socket, bytearray]],
        poll: select.poll,
        found: dict[int, socket.socket],
    ) -> None:
        sock, heard = strangers[fd]
        try:
            data = sock.recv(frame.HEADER_BYTES - len(heard))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        heard += data
        if data and len(heard) < frame.HEADER_BYTES:
            return
        poll.unregister(fd)
        del strangers[fd]
        rank = self._welcome(sock, bytes(heard))
        if rank is None or rank in found:
            sock.close()
        else:
            found[rank] = sock

    def _welcome(self, sock: socket.socket, heard: bytes) -> int | None:
        """Answer a hello; the rank of the caller, or None if it does not belong here."""
        if len(heard) != frame.HEADER_BYTES:
            return None
        word, number, _ = frame.HEADER.unpack(heard)
        rank, parties = number & 0xFFFF, len(self.addresses)
        if word != frame.HELLO:
            return None
        try:
            sock.send(frame.hello(self.rank, rank, parties))  # who is wrong here can tell why
        except OSError:
            return None
        expected = self.rank < rank < parties and heard == frame.hello(rank, self.rank, parties)
        return rank if expected else None


def check_addresses(rank: int, addresses: Sequence[Address], names: Sequence[str]) -> None:
    """Raise UsageError unless the arguments of `connect` make sense."""
    if len(addresses) < 2 or not 0 <= rank < len(addresses):
        raise UsageError(
            "no such party", got=f"rank {rank} of {len(addresses)} addresses", expected="0 <= rank"
        )
    if len(set(addresses)) != len(addresses):
        raise UsageError("two parties have the same address", got=str(list(addresses)))
    if names and len(names) != len(addresses):
        raise UsageError(
            "names and addresses differ in number",
            got=f"{len(names)} names",
            expected=f"{len(addresses)}",
        )


def _read_hello(sock: socket.socket) -> bytes:
    data = b""
    while len(data) < frame.HEADER_BYTES:
        part = sock.recv(frame.HEADER_BYTES - len(data))
        if not part:
            raise EOFError("it hung up")
        data += part
    return data
