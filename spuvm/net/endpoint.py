"""One party's place among the others: a single port, one authenticated link to every other party.

Three kinds of traffic share a link: rounds of secure computation (`channel`), values that move
between devices (`send`, `receive`), and the end of a session (`abort`). Nothing is fetched: a value
leaves a party only because that party called `send`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Channel
from spuvm.net.wire import DEFAULT, Limits, Structure, WireValue

__all__ = ["Endpoint", "Envelope", "Limits", "WireValue"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What identifies a value on its way from one device to another.

    Attributes:
        operation: number or name of the operation that it belongs to, the same at both ends.
        edge: which of the values of this operation, for example "result 0 to bob". Operation and
            edge together are unique among the values that are on their way between two parties.
        expected: what the receiver accepts, see `wire.structure_of`; None where it only has limits.
            A sender that gives it has its own value checked too.
        limits: sizes that are accepted in any case.
    """

    operation: int | str
    edge: str
    expected: Structure | None = None
    limits: Limits = DEFAULT

    def __str__(self) -> str:
        return f"operation {self.operation}, {self.edge}"


class Endpoint(ABC):
    """One party's links. All methods but `connect` may be called from several threads.

    A session that failed stays failed: every later call raises the same error. As a context manager
    it aborts when the block raised, and closes.

    Attributes:
        name: of this party.
        parties: names of all parties, this one included, in the same order everywhere.
        session: 32 bytes, fresh and the same at all parties; empty before `connect`.
    """

    name: str
    parties: tuple[str, ...]
    session: bytes

    @abstractmethod
    def connect(self, agreement: Mapping[str, str] | None = None) -> None:
        """Wait for all other parties, authenticate them and compare what must be the same.

        Args:
            agreement: digests or short texts (version, configuration, ...) that must be equal at
                all parties; the list of parties is always compared.

        Raises:
            ChannelError: a party did not come in time, is not who it should be, or has another
                agreement: the error names the first key that differs, at every party.
        """

    @abstractmethod
    def channel(self, label: str, members: Sequence[str]) -> Channel:
        """A channel between `members` over these links; `members[rank]` is this party.

        Args:
            label: unique within the session; all members give the same one.
            members: two or more parties; the same order at all of them.

        Raises:
            UsageError: this party is not a member, a member is unknown, or the label was used.
        """

    @abstractmethod
    def send(self, peer: str, envelope: Envelope, value: WireValue) -> None:
        """Queue a value for another party; does not wait for the receiver.

        The value's arrays must not be written to afterwards.

        Raises:
            UsageError: an unknown peer, a value that cannot be sent or is not what the envelope
                says, or a value with the same operation and edge is still on its way.
            ChannelError: the session failed or was aborted.
        """

    @abstractmethod
    def receive(self, peer: str, envelope: Envelope, *, deadline: float) -> WireValue:
        """The value that `peer` sends with this operation and edge.

        Args:
            deadline: seconds without any progress of this value after which it fails.

        Raises:
            ChannelError: it did not come, its structure is not the expected one, or the session
                failed or was aborted.
            UsageError: an unknown peer.
        """

    @abstractmethod
    def abort(self, message: str) -> None:
        """Fail the session everywhere: pending and later calls of all peers raise `message`."""

    @abstractmethod
    def close(self) -> None:
        """Leave, after what is queued was sent; idempotent."""

    def agree(self, step: str, facts: Mapping[str, str], *, deadline: float) -> None:
        """Compare texts with all other parties; `step` is unique within the session.

        Raises:
            ChannelError: at every party, if a party has another text under some key: it names the
                first such key, the parties and both texts.
        """
        said: dict[str, str] = dict(sorted(facts.items()))
        others = [party for party in self.parties if party != self.name]
        for peer in others:
            self.send(peer, Envelope(step, "agreement"), said)
        accepted = Limits(nbytes=1 << 20, head=1 << 20, nodes=10_000, depth=1)
        heard = {self.name: said}
        for peer in others:
            got = self.receive(
                peer, Envelope(step, "agreement", limits=accepted), deadline=deadline
            )
            if not isinstance(got, dict) or not all(isinstance(v, str) for v in got.values()):
                raise ChannelError(f"party '{peer}' sent something that is not an agreement")
            heard[peer] = got
        differing(step, [(party, heard[party]) for party in self.parties])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.abort(f"{type(error).__name__}: {error}")
        finally:
            self.close()


def differing(step: str, heard: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Raise at the first key, in order, that is not the same at all parties."""
    first, reference = heard[0]
    for key in sorted(set().union(*(facts for _, facts in heard))):
        for party, facts in heard[1:]:
            if facts.get(key) != reference.get(key):
                raise ChannelError(
                    f"parties '{first}' and '{party}' do not agree on {key!r} ({step})",
                    got=f"{party}: {facts.get(key, 'nothing')[:500]}",
                    expected=f"{first}: {reference.get(key, 'nothing')[:500]}",
                    next="all parties must run the same script, version and configuration",
                )


def check_peer(endpoint: Endpoint, peer: str) -> None:
    """Raise UsageError unless `peer` is one of the other parties."""
    if peer == endpoint.name or peer not in endpoint.parties:
        others = [party for party in endpoint.parties if party != endpoint.name]
        raise UsageError("no such peer", got=repr(peer), expected=f"one of {others}")


def check_members(endpoint: Endpoint, members: tuple[str, ...]) -> None:
    """Raise UsageError unless a channel between `members` makes sense at this party."""
    known = set(members) <= set(endpoint.parties) and len(set(members)) == len(members) >= 2
    if not known or endpoint.name not in members:
        raise UsageError(
            "no channel between these parties",
            got=", ".join(members),
            expected=f"two or more different ones of {list(endpoint.parties)}, "
            f"'{endpoint.name}' among them",
        )
