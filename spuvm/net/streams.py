"""The channels of a session at one party: what each peer opened, under which number and label.

Long sessions make and drop many channels. A stream is over when its peer has ended it and this
party has left the channel; old ones are forgotten, so that only what is in use counts as open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spuvm.errors import ChannelError
from spuvm.net.channel import party
from spuvm.net.inflow import Budget, Inflow
from spuvm.net.link import Link
from spuvm.net.link_channel import LinkChannel

OPEN: Final = 1024
"""Streams per link that may be open, by either side."""


@dataclass(slots=True, eq=False)
class Stream:
    """A channel's stream from one peer.

    Attributes:
        members: of the channel.
        inflow: its frames.
        channel: this party's, once it has opened it too.
        number: the peer's, once the peer has opened it.
        end: None before the peer ended it; then why, if it aborted.
    """

    members: tuple[str, ...]
    inflow: Inflow
    channel: LinkChannel | None = None
    number: int | None = None
    end: tuple[str | None] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more can come of it, and nobody here waits."""
        return self.end is not None and self.channel is not None and self.channel.left


class Streams:
    """All streams; every method is called with the endpoint's lock held.

    Args:
        links: by peer.
        window: bytes that a peer may be ahead on each.
    """

    def __init__(self, links: Mapping[str, Link], window: int) -> None:
        self._links, self._window = links, window
        self._labelled: dict[tuple[str, str], Stream] = {}  # by peer and label
        self._numbered: dict[tuple[str, int], Stream] = {}
        self._budgets = {peer: Budget() for peer in links}
        self._forgotten = dict.fromkeys(links, 0)  # the largest number of each peer

    def of(self, peer: str) -> Iterator[Stream]:
        """Those of one peer."""
        return (s for (other, _), s in tuple(self._labelled.items()) if other == peer)

    def labelled(self, peer: str, label: str, members: tuple[str, ...]) -> Stream:
        """What the peer opened, or will open, under this label.

        Raises:
            ChannelError: it opened it with other members.
        """
        found = self._labelled.get((peer, label))
        if found is None:
            who = party(members.index(peer), members)
            found = Stream(members, Inflow(who, self._window, self._budgets[peer]))
            if self._links[peer].left:
                found.end = (None,)
            self._labelled[peer, label] = found
        if found.members != members:
            raise ChannelError(
                f"party '{peer}' opened channel {label!r} with other members",
                got=", ".join(found.members),
                expected=", ".join(members),
            )
        return found

    def opened(self, peer: str, number: int, label: str, members: tuple[str, ...]) -> None:
        """The peer opened a channel.

        Raises:
            ChannelError: too many are open, or it did so before.
        """
        if len(self._labelled) >= OPEN * len(self._links):
            self._forget()
        if len(self._labelled) >= OPEN * len(self._links):
            raise ChannelError(f"party '{peer}' opened too many channels")
        found = self.labelled(peer, label, members)
        if found.number is not None or (peer, number) in self._numbered:
            raise ChannelError(f"party '{peer}' opened channel {label!r} twice")
        found.number = number
        self._numbered[peer, number] = found
        self._links[peer].inflows[number] = found.inflow

    def numbered(self, peer: str, number: int) -> Stream | None:
        """What the peer opened under this number; None if that was long ago and is over.

        Raises:
            ChannelError: it never opened it.
        """
        found = self._numbered.get((peer, number))
        if found is None and not 0 < number <= self._forgotten[peer]:
            raise ChannelError(f"party '{peer}' speaks of a channel that it did not open")
        return found

    def _forget(self) -> None:
        """The older half of what is over: of the rest something may still be on its way."""
        over = [key for key, stream in self._labelled.items() if stream.over]
        for peer, label in over[: (len(over) + 1) // 2]:
            number = self._labelled.pop((peer, label)).number
            if number is not None:
                del self._numbered[peer, number]
                self._links[peer].inflows.pop(number, None)
                self._forgotten[peer] = max(self._forgotten[peer], number)
