"""An endpoint over TCP and TLS: one port, one link per peer, for everything."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net import packet, wire
from spuvm.net.channel import Channel
from spuvm.net.door import Door, House
from spuvm.net.endpoint import Endpoint, Envelope, check_members, check_peer
from spuvm.net.frame import ABORT_BYTES, READ_AHEAD, abort_text
from spuvm.net.greeting import NONCE, Greeting, Later
from spuvm.net.handshake import listen
from spuvm.net.keeper import Keeper
from spuvm.net.link import Link, Owner
from spuvm.net.link_channel import LinkChannel, Outflow
from spuvm.net.settings import Links
from spuvm.net.streams import Stream, Streams
from spuvm.net.transfers import Transfers
from spuvm.net.wire import WireValue

_log = logging.getLogger(__name__)

_LABEL: Final = b"spuvm links 1"
_OPEN: Final = wire.Limits(nbytes=1 << 14, head=1 << 14, nodes=256, depth=2)
_LAST_WORDS: Final = 1.0
"""Seconds that `close` waits after a failure until the peers know of it."""


class TcpEndpoint(Endpoint, Owner, House):
    """See `Endpoint`.

    Args:
        name: of this party.
        settings: addresses, certificates, deadlines.
        read_ahead: bytes that a peer may run ahead of this party on each channel.

    Raises:
        UsageError: settings that make no sense, certificate files that cannot be used, or a link
            without TLS to another machine.
        ChannelError: the port is taken.
    """

    def __init__(self, name: str, settings: Links, *, read_ahead: int = READ_AHEAD) -> None:
        settings.check(name)
        self.name, self.parties, self.session = name, tuple(settings.addresses), b""
        self._settings, self._window = settings, read_ahead
        self._nonce = os.urandom(NONCE)
        self._nonces: dict[str, bytes] = {}
        self._windows: dict[str, int] = {}
        self._changed = threading.Condition()
        self._failure: ChannelError | None = None
        self._state = "new"
        peers = [peer for peer in self.parties if peer != name]
        self._links = {peer: Link(peer, self) for peer in peers}
        self._transfers = {
            peer: Transfers(link, name, self._check, self._wake)
            for peer, link in self._links.items()
        }
        self._streams = Streams(self._links, read_ahead)
        self._labels: set[str] = set()
        self._channels: list[LinkChannel] = []  # those that this party may not have left
        self._door = Door(self, settings, self._links)
        self._keeper: Keeper | None = None

    # ---- the beginning

    def connect(self, agreement: Mapping[str, str] | None = None) -> None:
        with self._changed:
            if self._state != "new":
                raise UsageError("an endpoint connects once; make a new one")
            self._state = "meeting"
        try:
            self._meet()
            facts = {**(agreement or {}), "parties": ", ".join(self.parties)}
            facts["~session"] = self.session.hex()  # last: everything else is a better reason
            self.agree("connect", facts, deadline=self._settings.connect_deadline)
        except BaseException as error:
            self.abort(f"{error}" if isinstance(error, ChannelError) else type(error).__name__)
            self.close()
            raise
        with self._changed:
            if self._state == "meeting":
                self._state = "open"

    def _meet(self) -> None:
        settings = self._settings
        listener = listen(*(settings.listen or settings.addresses[self.name]))
        self._keeper = Keeper(
            self.name,
            {peer: (link, self._transfers[peer]) for peer, link in self._links.items()},
            listener,
            settings.deadline,
            self._door.accept,
            self.hopeless,
        )
        start = time.monotonic()
        for link in self._links.values():
            link.lost_since = start + settings.connect_deadline
        self._keeper.start()
        for peer, link in self._links.items():
            if self.parties.index(peer) < self.parties.index(self.name):
                self._door.mend(link)
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure is not None or not self._absent(), settings.connect_deadline
            )
            absent = self._absent()
        self._check()
        if absent:
            host, port = settings.addresses[absent[0]]
            raise ChannelError(
                f"party '{absent[0]}' at {host}:{port} did not come",
                got=self._door.excuses.get(absent[0], self._door.refused),
                expected=f"a connection within {settings.connect_deadline:g} s",
                next="start that party, or correct the addresses and certificates",
            )
        digest = sha256(_LABEL)
        for name in self.parties:
            digest.update(len(name).to_bytes(4, "little") + name.encode())
            digest.update(self._nonce if name == self.name else self._nonces[name])
        self.session = digest.digest()
        for transfers in self._transfers.values():
            transfers.session = self.session

    def _absent(self) -> list[str]:
        return [peer for peer in self._links if peer not in self._windows]

    # ---- what the door wants to know

    @property
    def meeting(self) -> bool:
        return self._state == "meeting"

    @property
    def closed(self) -> bool:
        return self._state == "closed"

    def greeting(self, peer: str, seen: int) -> Greeting:
        known = self._nonces.get(peer, b"")
        return Greeting(self.name, peer, self.parties, self._nonce, known, seen, self._window)

    def judge(self, link: Link, heard: Greeting) -> str | None:
        peer = link.peer
        known = self._nonces.get(peer)
        over = self._failure is not None or self._state in ("closing", "closed") or link.left
        if over and known != heard.nonce:  # it begins the next session before this one has ended
            raise Later(f"party '{self.name}' has not ended its previous session yet")
        if heard.parties != self.parties:
            problem = f"parties '{self.name}' and '{peer}' do not agree on 'parties'"
            self.hopeless(
                link,
                ChannelError(
                    problem,
                    got=f"{peer}: {', '.join(heard.parties)[:500]}",
                    expected=f"{self.name}: {', '.join(self.parties)}",
                ),
            )
            return problem
        if heard.yours not in (b"", self._nonce):
            return f"party '{self.name}' was restarted: the old session cannot go on"
        if known is not None and known != heard.nonce:
            if not (self.meeting and link.fresh):
                problem = f"party '{peer}' was restarted: the old session cannot go on"
                self.hopeless(link, ChannelError(problem, next="start all parties again"))
                return problem
        elif heard.seen not in link.resumable:
            return f"party '{peer}' asks for packets that are not there"
        self._nonces[peer] = heard.nonce
        return None

    def opened(self, link: Link, heard: Greeting) -> None:
        host, port = self._settings.addresses[link.peer]
        how = "TLS 1.3" if self._settings.tls is not None else "not encrypted"
        _log.info("the link to party '%s' (%s:%d) is up: %s", link.peer, host, port, how)
        with self._changed:
            self._windows[link.peer] = heard.window
            self._nonces[link.peer] = heard.nonce
            self._changed.notify_all()
        self._wake()

    def hopeless(self, link: Link, error: ChannelError) -> None:
        self._fail(error)

    # ---- what links tell

    def lost(self, link: Link, reason: str) -> None:
        if link.left or self._state == "closed":
            return
        _log.warning("the link to party '%s' broke: %s; connecting again", link.peer, reason)
        self._door.mend(link)

    def violated(self, link: Link, error: ChannelError) -> None:
        self._fail(error)

    def target(
        self, link: Link, kind: int, stream: int, extra: int, length: int
    ) -> list[memoryview]:
        return self._transfers[link.peer].target(extra, length)

    def arrived(self, link: Link, stream: int, extra: int, length: int) -> None:
        self._transfers[link.peer].arrived(extra, length)

    def control(self, link: Link, kind: int, stream: int, extra: int, payload: bytes) -> None:
        peer = link.peer
        if kind in (packet.OFFER, packet.TAKE):
            self._transfers[peer].control(kind, extra, payload)
        elif kind == packet.OPEN:
            self._opened_there(link, stream, payload)
        elif kind == packet.ABORT:
            self._fail(ChannelError(self._last_words(peer, abort_text(payload[:ABORT_BYTES]))))
        elif kind == packet.BYE:
            link.left = True
            link.ping()  # it waits to hear that this arrived
            self._transfers[peer].bye()
            with self._changed:
                for found in self._streams.of(peer):
                    self._ended(peer, found, None)
        else:
            self._flow(peer, kind, stream, extra, payload)

    def _last_words(self, peer: str, text: str) -> str:
        """Who aborted, according to `peer`, and why."""
        if text.startswith(f"party '{peer}' aborted: "):
            return text
        if any(text.startswith(f"party '{name}' aborted: ") for name in self.parties):
            return f"{text} (as '{peer}' says)"
        return f"party '{peer}' aborted: {text}"

    def _flow(self, peer: str, kind: int, stream: int, extra: int, payload: bytes) -> None:
        with self._changed:
            found = self._streams.numbered(peer, stream)
        if found is None:
            return
        if kind == packet.END:
            self._ended(peer, found, abort_text(payload[:ABORT_BYTES]) if extra else None)
        elif found.channel is None or not found.channel.grant(peer, extra):
            raise ChannelError(f"party '{peer}' has taken what was not sent to it")

    def _ended(self, peer: str, found: Stream, text: str | None) -> None:
        with self._changed:
            found.end = found.end or (text,)
            if found.channel is not None:
                found.channel.ended(found.members.index(peer), text)

    # ---- channels

    def channel(self, label: str, members: Sequence[str]) -> Channel:
        names = tuple(members)
        check_members(self, names)
        self._check()
        rank = names.index(self.name)
        with self._changed:
            if label in self._labels:
                raise UsageError("a channel with this label exists already", got=label)
            self._labels.add(label)
            number = len(self._labels)
            streams = {p: self._streams.labelled(p, label, names) for p in names if p != self.name}
            flows = {
                names.index(peer): (
                    stream.inflow,
                    Outflow(self._links[peer], number, self._windows[peer]),
                )
                for peer, stream in streams.items()
            }
            channel = LinkChannel(
                rank,
                names,
                flows,
                number,
                timeout=self._settings.deadline,
                failure=self._again,
                unwatch=self._unwatch,
            )
            self._channels = [*(c for c in self._channels if not c.left), channel]
            for peer, stream in streams.items():
                stream.channel = channel
                stream.inflow.claim()
                if stream.end is not None:
                    channel.ended(names.index(peer), *stream.end)
        payload = memoryview(wire.encode([label, list(names)], _OPEN).head)
        for peer in streams:
            self._links[peer].send(packet.OPEN, number, 0, [payload], len(payload))
        return channel

    def _opened_there(self, link: Link, number: int, payload: bytes) -> None:
        peer = link.peer
        said = wire.decode(payload, b"", None, _OPEN)
        match said:
            case [str(label), [*names]] if {peer, self.name} <= set(map(str, names)):
                members = tuple(map(str, names))
            case _:
                raise ChannelError(f"party '{peer}' opened a channel that makes no sense")
        with self._changed:
            if len(set(members)) != len(members) or not set(members) <= set(self.parties):
                raise ChannelError(f"party '{peer}' opened a channel that makes no sense")
            self._streams.opened(peer, number, label, members)

    def _unwatch(self, link: Link) -> None:
        if self._keeper is not None:
            self._keeper.unwatch(link)

    # ---- values

    def send(self, peer: str, envelope: Envelope, value: WireValue) -> None:
        check_peer(self, peer)
        self._check()
        self._transfers[peer].send(envelope, value)

    def receive(self, peer: str, envelope: Envelope, *, deadline: float) -> WireValue:
        check_peer(self, peer)
        self._check()
        if self._keeper is not None:
            self._keeper.watch(self._links[peer])
        return self._transfers[peer].receive(envelope, deadline)

    def _wake(self) -> None:
        if self._keeper is not None:
            self._keeper.wake()

    # ---- the end

    def _again(self) -> ChannelError | None:
        e = self._failure
        if e is None:
            return None
        return ChannelError(e.message, at=e.at, got=e.got, expected=e.expected, next=e.next)

    def _check(self) -> None:
        error = self._again()
        if error is not None:
            raise error
        if self._state in ("new", "closing", "closed"):
            left = self._state != "new"
            raise ChannelError(
                "this party has left the session: it was closed" if left else "not connected yet"
            )

    def _fail(self, error: ChannelError) -> None:
        """End the session; tell the peers, once."""
        text = str(error)
        if not text.startswith("party '") or " aborted: " not in error.message:
            text = f"party '{self.name}' aborted: {text}"
        payload = memoryview(text.encode("utf-8", "replace")[:ABORT_BYTES])
        with self._changed:
            if self._failure is not None or self._state == "closed":
                return
            self._failure = error.with_traceback(None)
            # Whoever leaves because of it says goodbye later: peers would take that for the reason.
            for link in self._links.values():
                link.send(packet.ABORT, 0, 0, [payload], len(payload))
            self._changed.notify_all()
        _log.error("party '%s': the session failed: %s", self.name, error)
        for transfers in self._transfers.values():
            with transfers.changed:
                transfers.changed.notify_all()

    def abort(self, message: str) -> None:
        if self._state not in ("closing", "closed"):
            self._fail(ChannelError(f"party '{self.name}' aborted: {message}"))

    def close(self) -> None:
        with self._changed:
            if self._state in ("closing", "closed"):
                return
            self._state = "closing"
        if self._keeper is not None:
            for link in self._links.values():
                link.send(packet.BYE, 0, 0, (), 0)
            self._wait_until_all_is_said()
        with self._changed:
            self._state = "closed"
            self._changed.notify_all()
        for channel in self._channels:
            channel.close()
        if self._keeper is not None:
            self._keeper.stop()
        for link in self._links.values():
            link.close()
        for transfers in self._transfers.values():
            with transfers.changed:
                transfers.changed.notify_all()

    def _wait_until_all_is_said(self) -> None:
        start = time.monotonic()
        while not all(self._said_all(peer) for peer in self._links):
            patience = self._settings.deadline if self._failure is None else _LAST_WORDS
            if time.monotonic() - start > patience:
                break
            for link in self._links.values():
                if not link.watched and self._keeper is not None:
                    self._keeper.watch(link)
            time.sleep(0.005)

    def _said_all(self, peer: str) -> bool:
        link = self._links[peer]
        if link.poisoned or (link.left and link.transport is None):
            return True
        if self._failure is not None and peer not in self._nonces:
            return True
        return link.settled and (self._failure is not None or self._transfers[peer].finished)
