"""Connections between authenticated parties: made, accepted, and made again when they break.

Of each pair, the party that is later in the list connects; the other one waits, and only probes
whether somebody still listens at the peer's address.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net.greeting import Greeting, Later, Refused, hear, say
from spuvm.net.link import Link
from spuvm.net.settings import Links, is_loopback
from spuvm.net.tls import Contexts
from spuvm.net.transport import PlainTransport, Transport
from spuvm.net.tuning import tune

_log = logging.getLogger(__name__)

STRANGERS: Final = 32
"""Most connections at once whose other end has not said who it is."""

_PATIENCE: Final = 10.0
_RETRY: Final = 0.05
_REFUSED: Final = 5.0
"""Seconds of refused connections after which a party that was there is taken for dead; a third of
the deadline, if that is less."""


class House(ABC):
    """Whose door it is."""

    name: str
    parties: tuple[str, ...]

    @abstractmethod
    def greeting(self, peer: str, seen: int) -> Greeting:
        """What this party says to `peer`."""

    @abstractmethod
    def judge(self, link: Link, heard: Greeting) -> str | None:
        """Why a connection with an authenticated peer is refused, if it is; or Later."""

    @abstractmethod
    def opened(self, link: Link, heard: Greeting) -> None:
        """The link has a connection."""

    @abstractmethod
    def hopeless(self, link: Link, error: ChannelError) -> None:
        """There will be no connection with this peer any more."""

    @property
    @abstractmethod
    def meeting(self) -> bool:
        """Whether parties may still start."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether no connection is wanted any more."""


class Door:
    """The connections of one party."""

    def __init__(self, house: House, settings: Links, links: Mapping[str, Link]) -> None:
        self._house, self._settings, self._links = house, settings, links
        self._contexts = (
            None if settings.tls is None else Contexts(settings.tls, settings.addresses)
        )
        self._strangers = threading.Semaphore(STRANGERS)
        self._admitting = {peer: threading.Lock() for peer in links}
        self._mending: set[str] = set()
        self._guard = threading.Lock()
        self.excuses: dict[str, str] = {}
        """By peer: what went wrong last."""
        self.refused = "no attempt to connect"
        """What went wrong last with somebody who did not get as far as to be a peer."""

    # ---- who comes

    def accept(self, sock: socket.socket) -> None:
        """A new connection: find out who it is, in a thread of its own."""
        if not self._strangers.acquire(False):
            _log.warning("a connection was refused: too many have not said who they are")
            sock.close()
            return
        threading.Thread(target=self._accept, args=(sock,), daemon=True).start()

    def _accept(self, sock: socket.socket) -> None:
        where = "?"
        try:
            where = _address(sock)
            if not self._welcome(sock, where):
                sock.close()
        except (OSError, ChannelError) as error:
            _log.warning("a connection from %s was refused: %s", where, _said(error))
            self.refused = f"a connection from {where} was refused: {_said(error)}"
            sock.close()
        finally:
            self._strangers.release()

    def _welcome(self, sock: socket.socket, where: str) -> bool:
        """Whether the connection became the link of a party."""
        until = time.monotonic() + _PATIENCE
        tune(sock)
        transport: Transport
        name = None
        if self._contexts is None:
            if not is_loopback(sock.getpeername()[0]):
                raise Refused("an unencrypted connection from another machine")
            transport = PlainTransport(sock)
        else:
            transport, name = self._contexts.secure(sock, server=True, until=until)
        heard = hear(transport, until)
        problem: str | Later | None = self._stranger(heard, name)
        link = self._links.get(heard.name)
        if problem is None and link is not None:
            with self._admitting[link.peer]:
                try:
                    problem = self._house.judge(link, heard)
                except Later as later:
                    problem = later
                if problem is None:
                    seen = link.pause()
                    say(transport, self._house.greeting(link.peer, seen), until)
                    link.install(transport, heard.seen)
                    self._house.opened(link, heard)
                    return True
            self.excuses[link.peer] = str(problem)
        level = logging.INFO if isinstance(problem, Later) else logging.WARNING
        _log.log(level, "a connection from %s was refused: %s", where, problem)
        with contextlib.suppress(OSError):
            say(transport, problem or "unknown party", until)
            transport.finish()
        return False

    def _stranger(self, heard: Greeting, name: str | None) -> str | None:
        """Why this greeting does not come from the party that it names, if so."""
        house = self._house
        if name is not None and name != heard.name:
            return f"the certificate is that of {name!r}, the greeting that of {heard.name!r}"
        if heard.name not in self._links:
            return f"{heard.name!r} is not one of the other parties of {house.name!r}"
        if heard.to != house.name:
            return f"here is {house.name!r}, not {heard.to!r}"
        order = house.parties.index
        if heard.parties == house.parties and order(heard.name) < order(house.name):
            return f"{heard.name!r} does not connect to {house.name!r}, but the reverse"
        return None

    # ---- who is missing

    def mend(self, link: Link) -> None:
        """Have a connection made for a link that has none, unless that is under way."""
        with self._guard:
            if link.peer in self._mending:
                return
            self._mending.add(link.peer)
        threading.Thread(target=self._mend, args=(link,), daemon=True).start()

    def _mend(self, link: Link) -> None:
        house = self._house
        calls = house.parties.index(link.peer) < house.parties.index(house.name)
        refused_since: float | None = None
        try:
            while not house.closed and link.transport is None and not link.left:
                try:
                    if calls:
                        self._call(link)
                        return
                    if not house.meeting:
                        self._probe(link)
                    refused_since = None
                except ConnectionRefusedError as error:
                    self.excuses[link.peer] = _said(error)
                    now = time.monotonic()
                    refused_since = refused_since or now
                    grace = min(_REFUSED, self._settings.deadline / 3)
                    if not house.meeting and now - refused_since > grace:
                        house.hopeless(link, self._gone(link))
                        return
                except (Refused, ssl.SSLError) as error:
                    self.excuses[link.peer] = _said(error)
                    _log.warning("no link to party '%s': %s", link.peer, _said(error))
                    if house.meeting or isinstance(error, Refused):
                        house.hopeless(link, self._wrong(link, error))
                        return
                except (OSError, ChannelError) as error:
                    self.excuses[link.peer] = _said(error)
                time.sleep(_RETRY)
        finally:
            with self._guard:
                self._mending.discard(link.peer)
            if link.transport is None and not (house.closed or link.left) and not house.meeting:
                self.mend(link)  # it was lost again in between

    def _call(self, link: Link) -> None:
        until = time.monotonic() + _PATIENCE
        sock = self._connect(link.peer)
        try:
            transport: Transport
            if self._contexts is None:
                transport = PlainTransport(sock)
            else:
                transport, name = self._contexts.secure(sock, server=False, until=until)
                if name != link.peer:
                    raise Refused(f"the certificate there is that of {name!r}")
            seen = link.pause()
            say(transport, self._house.greeting(link.peer, seen), until)
            heard = hear(transport, until)
            if heard.name != link.peer or heard.to != self._house.name:
                raise Refused(
                    f"{heard.name!r} answers there, and takes this party for {heard.to!r}"
                )
            problem = self._house.judge(link, heard)
            if problem is not None:
                raise Refused(problem)
            link.install(transport, heard.seen)
        except BaseException:
            sock.close()
            raise
        self._house.opened(link, heard)

    def _probe(self, link: Link) -> None:
        """Whether somebody listens at the peer's address; raises OSError if not."""
        self._connect(link.peer).close()

    def _connect(self, peer: str) -> socket.socket:
        sock = socket.create_connection(self._settings.addresses[peer], timeout=5)
        try:
            if sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError("nobody listens")  # connected to itself
            tune(sock)
        except OSError:  # one that was reset at once has no peer any more
            sock.close()
            raise
        return sock

    def _gone(self, link: Link) -> ChannelError:
        return ChannelError(
            f"party '{link.peer}' is gone",
            got="its address refuses connections",
            next=f"see what the log of '{link.peer}' says; then start a new session",
        )

    def _wrong(self, link: Link, error: Exception) -> ChannelError:
        host, port = self._settings.addresses[link.peer]
        return ChannelError(
            f"no link to party '{link.peer}' at {host}:{port}",
            got=_said(error),
            next="compare the parties' addresses, names, certificates and versions",
        )


def _address(sock: socket.socket) -> str:
    host, port = sock.getpeername()[:2]
    return f"{host}:{port}"


def _said(error: Exception) -> str:
    if isinstance(error, ChannelError):
        return error.message if error.got is None else f"{error.message} ({error.got})"
    return str(error) or type(error).__name__
