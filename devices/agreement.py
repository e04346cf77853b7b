"""The parties' scripts side by side: every operation is announced, compared, and then carried out.

Each party numbers what its script asks of devices and tells all others: what it is, on which line,
and whether its own policy refuses it. Nothing that belongs to an operation leaves a party before
the receiver and everybody whose data it is have announced the same operation and not refused it. So
a script that differs in a branch stops everybody at the first operation that differs, with both
source lines, instead of hanging or delivering a value to the wrong place.

No deadlock: an announcement is sent before the script waits for anything, and whatever waits for
announcements of operation n only needs results of operations up to n.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from spuvm import errors
from spuvm.devices.failure import source_line
from spuvm.errors import (
    AgreementError,
    ChannelError,
    PartyError,
    PolicyError,
    SpuvmError,
    UsageError,
)
from spuvm.net.endpoint import Endpoint, Envelope, Limits

log = logging.getLogger("spuvm")

END: Final = "the end of the script"
FAILED: Final = "the script ended with"
_SMALL: Final = Limits(nbytes=1 << 20, head=1 << 20, nodes=10_000, depth=4)
_FOREVER: Final = 1e8  # seconds: an announcement comes when the peer's script gets there
_EDGE: Final = "operation"
_SLICE: Final = 0.2
_AFTERMATH: Final = 1.0  # seconds that a broken link waits for what the peer said last
_KEPT: Final = 64  # operations that are kept after everybody has announced them
_TELL: Final = 30.0  # seconds after which a party that waits says for whom
AHEAD: Final = 64 << 20  # bytes of a peer's operations that this party has not reached
_EACH: Final = 512  # what an operation counts beyond its texts


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of the script, as a party announces it.

    text     what it is; the same at all parties.
    source   the user's line, without its folder; may differ.
    refusal  "" or why this party's policy does not let it happen.
    notes    facts that others need to know and that may differ.
    chain    hash over the texts of all operations up to this one.
    """

    number: int
    text: str
    source: str
    refusal: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    chain: str = ""

    @property
    def nbytes(self) -> int:
        """About what it takes to keep."""
        notes = sum(len(key) + len(value) for key, value in self.notes.items())
        return _EACH + len(self.text) + len(self.source) + len(self.chain) + notes

    def where(self) -> str:
        return f"operation {self.number}: {self.text}, at {self.source or 'an unknown line'}"


class Agreement:
    """What this party and every other one announced so far, and the first thing that went wrong."""

    def __init__(self, endpoint: Endpoint, patience: float) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self.me = endpoint.name
        self.peers = tuple(party for party in endpoint.parties if party != endpoint.name)
        self._changed = threading.Condition()
        self._own: dict[int, Operation] = {}  # of these two only what may still be needed
        self._heard: dict[str, dict[int, Operation]] = {peer: {} for peer in self.peers}
        self._counts = dict.fromkeys(endpoint.parties, 0)  # announced so far
        self._ahead = dict.fromkeys(self.peers, 0)  # bytes of what this party has not reached
        self._last: dict[str, Operation] = {}  # of peers that announced their last operation
        self._failure: SpuvmError | None = None
        self._failing = False  # the others are being told
        self._script = threading.get_ident()
        self._raised = False  # the failure, in the script: whoever fails there raises it too
        self._chain = sha256(b"spuvm operations").hexdigest()

    def start(self) -> None:
        """Begin to listen to the others."""
        for peer in self.peers:
            threading.Thread(
                target=self._listen, args=(peer,), name=f"spuvm-hear-{peer}", daemon=True
            ).start()

    def begin(
        self,
        text: str,
        *,
        refusal: str = "",
        notes: Mapping[str, str] | None = None,
        at: str | None = None,
    ) -> Operation:
        """Announce this party's next operation; `at` is its source line if not the present one.

        Raises:
            PolicyError: this party's own policy refuses it (the others are told).
            AgreementError: another party has announced something else under this number.
            SpuvmError: the session failed before.
        """
        if threading.get_ident() != self._script:
            raise UsageError(
                "a script that several parties run drives devices from one thread only",
                next="the order of operations must be the same at all parties",
            )
        self.check()
        self._chain = sha256(f"{self._chain}\n{text}".encode()).hexdigest()
        number = self._counts[self.me]
        source = source_line() if at is None else at
        made = Operation(number, text, source, refusal, notes or {}, self._chain)
        said: dict[str, Any] = {
            "text": text,
            "source": made.source,
            "refused": bool(refusal),
            "notes": dict(made.notes),
            "chain": made.chain,
        }
        for peer in self.peers:
            self._send(peer, number, said)
        with self._changed:
            self._own[number] = made
            self._counts[self.me] = number + 1
            for peer in self.peers:
                if (reached := self._heard[peer].get(number)) is not None:
                    self._ahead[peer] -= reached.nbytes
            self._forget()
            self._changed.notify_all()
        if refusal:
            self.fail(self._refused(self.me, made), next=refusal)
        for peer in self.peers:
            self._compare(peer, number)
        self.check()
        return made

    def wait(self, operation: Operation, parties: Iterable[str]) -> None:
        """Until these parties have announced this operation, the same as here.

        Raises:
            SpuvmError: the session failed, or a party did not get there in time.
        """
        number, waiting = operation.number, [party for party in parties if party != self.me]
        until, told = time.monotonic() + self._patience, time.monotonic() + _TELL
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready(number, waiting), _SLICE)
                self._check()
                if self._ready(number, waiting):
                    return
                late = [party for party in waiting if self._counts[party] <= number]
            if time.monotonic() > until:
                error = ChannelError(
                    f"{_names(late)} did not get to {operation.where()}",
                    expected=f"within {self._patience:g} s",
                    next="see what they are doing; [timing] patience is how long others wait",
                )
                self.fail(error)
                raise error
            if time.monotonic() > told:
                told += _TELL
                log.warning("waiting for %s to get to %s", _names(late), operation.where())

    def note(self, number: int, party: str, name: str) -> str:
        """What a party noted at this party's latest operation, which it has announced."""
        with self._changed:
            operations = self._own if party == self.me else self._heard[party]
            return operations[number].notes.get(name, "")

    def fail(self, error: SpuvmError, next: str | None = None, *, at_once: bool = False) -> None:
        """Remember the first failure and tell everybody; later ones are ignored.

        Args:
            error: must not contain anybody's data: its text is sent to all parties.
            next: advice for this party alone.
            at_once: do not look for a better explanation of a broken link: that a party's script
                failed, and the party left.
        """
        with self._changed:
            if isinstance(error, ChannelError) and not at_once:
                self._changed.wait_for(lambda: self._failure or self._failed_peers(), _AFTERMATH)
                error = self._why_gone() or error
            self._raised = self._raised or threading.get_ident() == self._script
            if self._failing:
                self._changed.wait_for(lambda: self._failure is not None)
                return
            self._failing = True
            mine = self._own.get(self._counts[self.me] - 1)
            if mine is not None and error.at is None:
                error = again(error, at=mine.where())
        try:  # before the script can know, and leave: the others would only hear that it left
            self._endpoint.abort(f"{type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._failure = again(error, next=next) if next else error
                self._changed.notify_all()

    def check(self) -> None:
        """Raise the failure of the session, if it failed."""
        with self._changed:
            self._check()

    @property
    def failed(self) -> bool:
        return self._failure is not None

    @property
    def heard(self) -> bool:
        """Whether the session failed and the script knows."""
        return self._failure is not None and self._raised

    def _check(self) -> None:
        if self._failure is not None:
            self._raised = self._raised or threading.get_ident() == self._script
            raise again(self._failure)

    def _ready(self, number: int, parties: Iterable[str]) -> bool:
        heard = all(self._counts[party] > number for party in parties)
        return self._failure is not None or heard

    def _forget(self) -> None:
        """Drop what has been compared with everybody."""
        oldest = min(self._counts.values()) - _KEPT
        for known in (self._own, *self._heard.values()):
            for number in [n for n in known if n < oldest]:
                del known[number]

    def _listen(self, peer: str) -> None:
        number = 0
        while True:
            envelope = Envelope(number, _EDGE, limits=_SMALL)
            try:
                heard = _operation(
                    number, peer, self._endpoint.receive(peer, envelope, deadline=_FOREVER)
                )
            except SpuvmError as error:
                if peer not in self._last:
                    self.fail(relayed(error), at_once=True)
                return
            with self._changed:
                self._heard[peer][number] = heard
                if number >= self._counts[self.me]:
                    self._ahead[peer] += heard.nbytes
                far = self._ahead[peer] > AHEAD
                if _is_last(heard):
                    self._last[peer] = heard
                    self._changed.notify_all()
            if far:
                self.fail(_too_far(peer, number), at_once=True)
                return
            self._compare(peer, number)  # before anybody who waits for it goes on
            with self._changed:
                self._counts[peer] = number + 1
                self._changed.notify_all()
            if _is_last(heard):
                return
            number += 1

    def _compare(self, peer: str, number: int) -> None:
        with self._changed:
            mine, other = self._own.get(number), self._heard[peer].get(number)
        if mine is None or other is None:
            return
        if mine.text != other.text and FAILED in (
            mine.text[: len(FAILED)],
            other.text[: len(FAILED)],
        ):
            here = mine.text.startswith(FAILED)
            self.fail(_script_failed(self.me, mine) if here else _script_failed(peer, other))
        elif mine.text != other.text or mine.chain != other.chain:
            self.fail(
                AgreementError(
                    f"the scripts of parties {self.me!r} and {peer!r} differ "
                    f"from operation {number} on",
                    at=mine.source or None,
                    got=f"at {peer}: {other.text}, at {other.source}",
                    expected=f"at {self.me}: {mine.text}, at {mine.source}",
                    next="all parties run the same script with the same arguments; "
                    "nothing of this operation was sent to anybody who did not ask for it",
                )
            )
        elif other.refusal:
            self.fail(self._refused(peer, mine))

    def _failed_peers(self) -> list[str]:
        return [peer for peer, last in self._last.items() if last.text.startswith(FAILED)]

    def _why_gone(self) -> SpuvmError | None:
        """With the lock held: the error of a peer whose script failed, if there is one."""
        failed = self._failed_peers()
        return _script_failed(failed[0], self._last[failed[0]]) if failed else None

    def _refused(self, party: str, operation: Operation) -> PolicyError:
        return PolicyError(
            f"the policy of party {party!r} does not allow {operation.where()}",
            at=operation.source or None,
            next=f"party {party!r} can change [policy.{party}] in its cluster file",
        )

    def _send(self, peer: str, number: int, said: dict[str, Any]) -> None:
        try:
            self._endpoint.send(peer, Envelope(number, _EDGE), said)
        except ChannelError as error:
            with self._changed:  # to a party that has ended there is nothing to announce
                self._changed.wait_for(lambda: self._failure or peer in self._last, _AFTERMATH)
                if self._failure is None and peer in self._last:
                    return
            self.fail(error)
            self.check()


def again(error: SpuvmError, *, at: str | None = None, next: str | None = None) -> SpuvmError:
    """The same error as a new exception."""
    return type(error)(
        error.message,
        at=at or error.at,
        got=error.got,
        expected=error.expected,
        next=next or error.next,
    )


def relayed(error: SpuvmError) -> SpuvmError:
    """The error that a peer aborted with, of its own class where its text names one."""
    found = re.search(r"aborted: (\w+Error): ", error.message)
    kind = getattr(errors, found[1], None) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, SpuvmError)):
        return error
    first, _, rest = error.message.replace(f"{found[1]}: ", "", 1).partition("\n")
    said = dict.fromkeys(("at", "got", "expected", "next"))
    for line in rest.splitlines():
        label, _, text = line.strip().partition(" ")
        if label in said and said[label] is None:
            said[label] = text.strip()
    return kind(first, **said)


def _too_far(peer: str, number: int) -> ChannelError:
    return ChannelError(
        f"party {peer!r} announced more operations than this party keeps before it gets there",
        got=f"operation {number}",
        expected=f"{AHEAD >> 20} MiB at most",
        next="have the script wait now and then: sf.wait(x)",
    )


def _script_failed(party: str, last: Operation) -> PartyError:
    return PartyError(
        f"party {party!r}: {last.text}",
        at=last.source or None,
        next=f"see the log of party {party!r}",
    )


def _is_last(operation: Operation) -> bool:
    return operation.text == END or operation.text.startswith(FAILED)


def _operation(number: int, peer: str, said: Any) -> Operation:
    fields = {"text": str, "source": str, "refused": bool, "notes": dict, "chain": str}
    if not isinstance(said, dict) or {k: type(v) for k, v in said.items()} != fields:
        raise ChannelError(f"party {peer!r} sent something that is not an operation")
    if not all(isinstance(value, str) for value in said["notes"].values()):
        raise ChannelError(f"party {peer!r} sent something that is not an operation")
    refusal = "refused" if said["refused"] else ""
    return Operation(number, said["text"], said["source"], refusal, said["notes"], said["chain"])


def _names(parties: Iterable[str]) -> str:
    return " and ".join(f"party {party!r}" for party in parties)
