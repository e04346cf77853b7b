"""Endpoints of several parties in one process: for tests and debugging, it protects nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spuvm.errors import ChannelError, UsageError
from spuvm.net import wire
from spuvm.net.channel import Channel
from spuvm.net.endpoint import Endpoint, Envelope, check_members, check_peer
from spuvm.net.local import LocalNetwork
from spuvm.net.transfers import check_own, from_peer
from spuvm.net.wire import WireValue

_Key = tuple[str, str, int | str, str]  # sender, receiver, operation, edge


def local_endpoints(
    parties: Sequence[str], *, deadline: float = 60.0, connect_deadline: float = 60.0
) -> dict[str, Endpoint]:
    """An endpoint for each party, by name, joined in this process.

    Args:
        parties: their names.
        deadline: seconds without progress after which a channel's exchange fails.
        connect_deadline: seconds that `connect` waits for the others.
    """
    if len(parties) < 2 or len(set(parties)) != len(parties):
        raise UsageError("an endpoint needs other parties, with different names", got=str(parties))
    hub = _Hub(tuple(parties), deadline, connect_deadline)
    return {party: LocalEndpoint(party, hub) for party in parties}


@dataclass(eq=False)
class _Hub:
    """What the endpoints share; `changed` guards all of it."""

    parties: tuple[str, ...]
    deadline: float
    connect_deadline: float
    session: bytes = field(default_factory=lambda: os.urandom(32))
    changed: threading.Condition = field(default_factory=threading.Condition)
    values: dict[_Key, wire.Encoded] = field(default_factory=dict)
    networks: dict[str, tuple[tuple[str, ...], LocalNetwork, set[str]]] = field(
        default_factory=dict
    )
    failure: ChannelError | None = None
    closed: set[str] = field(default_factory=set)


class LocalEndpoint(Endpoint):
    """One party's end of a hub."""

    def __init__(self, name: str, hub: _Hub) -> None:
        self.name, self.parties, self.session = name, hub.parties, b""
        self._hub = hub

    def connect(self, agreement: Mapping[str, str] | None = None) -> None:
        facts = {**(agreement or {}), "parties": ", ".join(self.parties)}
        self.agree("connect", facts, deadline=self._hub.connect_deadline)
        self.session = self._hub.session

    def channel(self, label: str, members: Sequence[str]) -> Channel:
        names, hub = tuple(members), self._hub
        check_members(self, names)
        with hub.changed:
            self._check()
            if label not in hub.networks:
                network = LocalNetwork(len(names), hub.deadline, names=names)
                hub.networks[label] = (names, network, set())
            agreed, network, taken = hub.networks[label]
            if agreed != names or self.name in taken:
                raise UsageError("a channel with this label exists already", got=label)
            taken.add(self.name)
        return network.channels[names.index(self.name)]

    def send(self, peer: str, envelope: Envelope, value: WireValue) -> None:
        check_peer(self, peer)
        encoded = wire.encode(value, envelope.limits)
        if envelope.expected is not None:
            check_own(encoded, envelope)
        key = (self.name, peer, envelope.operation, envelope.edge)
        with self._hub.changed:
            self._check()
            if key in self._hub.values:
                raise UsageError("this was sent before", got=str(envelope))
            self._hub.values[key] = encoded
            self._hub.changed.notify_all()

    def receive(self, peer: str, envelope: Envelope, *, deadline: float) -> WireValue:
        check_peer(self, peer)
        key = (peer, self.name, envelope.operation, envelope.edge)
        with self._hub.changed:
            self._hub.changed.wait_for(lambda: self._ended(key, peer), deadline)
            self._check()
            encoded = self._hub.values.pop(key, None)
            gone = peer in self._hub.closed
        if encoded is None:
            if gone:
                raise ChannelError(f"party '{peer}' left without sending {envelope}")
            raise ChannelError(
                f"party '{peer}' did not send {envelope}",
                expected=f"progress within {deadline:g} s",
                next=f"see whether '{peer}' is alive and runs the same script",
            )
        try:
            return wire.decode(
                encoded.head, b"".join(encoded.body), envelope.expected, envelope.limits
            )
        except ChannelError as error:
            raise from_peer(error, peer, envelope) from None

    def _ended(self, key: _Key, peer: str) -> bool:
        hub = self._hub
        over = hub.failure is not None or not hub.closed.isdisjoint((peer, self.name))
        return over or key in hub.values

    def _check(self) -> None:
        """With `changed` held: raise if the session is over for this party."""
        failure = self._hub.failure
        if failure is not None:
            raise ChannelError(failure.message)
        if self.name in self._hub.closed:
            raise ChannelError("this party has left the session: it was closed")

    def abort(self, message: str) -> None:
        with self._hub.changed:
            if self._hub.failure is None and self.name not in self._hub.closed:
                self._hub.failure = ChannelError(f"party '{self.name}' aborted: {message}")
            networks = list(self._hub.networks.values())
            self._hub.changed.notify_all()
        for members, network, _ in networks:
            if self.name in members:
                network.channels[members.index(self.name)].abort(message)

    def close(self) -> None:
        with self._hub.changed:
            self._hub.closed.add(self.name)
            networks = list(self._hub.networks.values())
            self._hub.changed.notify_all()
        for members, network, _ in networks:
            if self.name in members:
                network.channels[members.index(self.name)].close()
