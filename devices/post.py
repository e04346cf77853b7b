"""What one party sends and hears for an operation, and the threads that do it.

A value goes after a head, which says whether there is one: a Failure travels in its place, without
the text of a user's exception.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from spuvm.devices import travel
from spuvm.devices.agreement import Agreement, Operation, relayed
from spuvm.devices.backend import Ref
from spuvm.devices.failure import Failure, Told, caught
from spuvm.devices.ledger import Direction, Entry, Form, Ledger
from spuvm.devices.local import Item, Worker
from spuvm.devices.structure import ArraySpec, describe, leaves_of
from spuvm.errors import ChannelError, ProtocolError, SpuvmError, UsageError
from spuvm.net.endpoint import Endpoint, Envelope, Limits
from spuvm.net.schema import DEFAULT

log = logging.getLogger("spuvm")

SMALL = Limits(nbytes=64 << 20, head=16 << 20, nodes=1_000_000, depth=32)
_SLICE = 0.2
_LEAST = (4, 1)  # bytes of an element in a share of the smallest ring, and of a bit
Kind = Literal["value", "fact", "outcome"]
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True)
class Handle:
    """What stands behind a Ref: its name, the same at all parties, and what of it is here.

    kind  "value": at one party, there an inner Ref; "fact": public and known everywhere;
          "outcome": public, known at its party.
    """

    id: str
    kind: Kind
    item: Item | None = None


def handle(operation: Operation, index: int, item: Item | None, kind: Kind = "value") -> Handle:
    """What stands behind result `index` of an operation."""
    return Handle(f"{operation.number}.{index}", kind, item)


def _facts(tree: Any, form: Form) -> str:
    """For the ledger: structures as they are, of other facts the types alone."""
    return describe(tree) if form == "public" else travel.shape(tree)


class Post:
    """Sends, hears and records for one party; errors of links are errors of the session."""

    def __init__(
        self,
        endpoint: Endpoint,
        agreement: Agreement,
        ledger: Ledger,
        patience: float,
        largest: int,
    ) -> None:
        self.name: str = endpoint.name
        self.endpoint, self.agreement = endpoint, agreement
        self.peers = agreement.peers
        # Twice: who waits for a script to get somewhere gives up first, and names who is late.
        self._ledger, self._patience = ledger, 2 * patience
        self._limits = replace(DEFAULT, nbytes=largest)
        self._told: set[tuple[str, str]] = set()

    def run(self, worker: Worker, what: str, task: Callable[[], Any]) -> Item:
        """Queue a task; an error in it is the session's."""

        def work() -> Any:
            try:
                return task()
            except SpuvmError as error:
                self.agreement.fail(relayed(error))
                return Failure(self.name, what, error)
            except BaseException as error:
                log.exception("party %s failed in %s", self.name, what)
                failure = caught(self.name, what, error)
                self.agreement.fail(
                    ProtocolError(f"party {self.name!r} failed in {what}: {type(error).__name__}")
                )
                return failure

        return Item(worker.submit(work), 0)

    def tellable(self, failure: Failure) -> Failure:
        """A failure without the text of a user's exception, which is logged here in full, once."""
        if isinstance(failure, Told):
            return failure
        key = (failure.what, failure.at)
        if key not in self._told:
            self._told.add(key)
            story = "\n".join([str(failure.error), *getattr(failure.error, "__notes__", ())])
            log.error("%s failed, at %s: %s", failure.what, failure.at, story)
        return travel.private(failure)

    def look_at(self, done: Future[Any]) -> None:
        """Have the failures of a call logged, also where nobody asks for its results."""
        found = done.result()
        for one in (found,) if isinstance(found, Failure) else found:
            if isinstance(one, Failure):
                self.tellable(one)

    def tell_structure(
        self, operation: Operation, ref: Ref, tree: Any, form: Form = "public"
    ) -> Any:
        """Send the public structure of a value, or the reason why there is none, to everybody."""
        said: Any = None
        if not isinstance(tree, Failure):
            try:
                said = travel.tree_to_wire(tree)
            except UsageError as error:
                tree = Told(self.name, ref.what, error)
        self.agreement.wait(operation, self.peers)
        if isinstance(tree, Failure):
            self.record_failure(operation, "out", tree, self.peers)
        else:
            self.record(operation, "out", form, ref, self.peers, shape=_facts(tree, form))
        for peer in self.peers:
            self.endpoint.send(
                peer,
                Envelope(operation.number, "structure"),
                {**travel.head(tree), "tree": said},
            )
        return tree

    def give(
        self, operation: Operation, peer: str, edge: str, value: Any, form: Form, ref: Ref,
        shape: Callable[[Any], str], pack: Callable[[Any], Any] = lambda value: value,
    ) -> None:  # fmt: skip
        """Send a value after its head, or only the head of a Failure.

        It is in the ledger before it leaves: whatever ends the session in between, the ledger does
        not say less than what left.
        """
        head = Envelope(operation.number, f"{edge} head")
        if isinstance(value, Failure):
            self.record_failure(operation, "out", value, [peer])
            self.endpoint.send(peer, head, travel.head(value))
            return
        payload = pack(value)
        digest, nbytes = travel.digest(payload)
        self.record(
            operation, "out", form, ref, [peer], shape=shape(value), nbytes=nbytes, digest=digest
        )
        self.endpoint.send(peer, head, travel.head(value))
        self.endpoint.send(peer, Envelope(operation.number, edge, limits=self._limits), payload)

    def take(self, operation: Operation, peer: str, edge: str, expected: Any = None) -> Any:
        """What a peer gives on an edge: a value or a Failure."""
        said = self.hear(peer, operation, f"{edge} head")
        failure = self.understood(peer, travel.failure_in, said)
        if failure is not None:
            self.record_failure(operation, "in", failure, [peer])
            return failure
        return self.receive(peer, Envelope(operation.number, edge, expected, self._limits))

    def receive(self, peer: str, envelope: Envelope) -> Any:
        """What a peer sends; an error of the link, or the peer's, is the session's."""
        try:
            return self.endpoint.receive(peer, envelope, deadline=self._patience)
        except ChannelError as error:
            self.agreement.fail(relayed(error))
            self.agreement.check()
            raise

    def hear(self, peer: str, operation: Operation, edge: str) -> Any:
        """A small message of a peer."""
        envelope = Envelope(operation.number, edge, limits=SMALL)
        return self.receive(peer, envelope)

    def understood(self, peer: str, decode: Callable[[Any], Decoded], said: Any) -> Decoded:
        """What a peer said, decoded; what makes no sense ends the session and names the peer."""
        try:
            return decode(said)
        except ChannelError as error:
            named = ChannelError(f"party {peer!r} {error.message}", got=error.got)
            self.agreement.fail(named, at_once=True)
            self.agreement.check()
            raise

    def hear_structure(self, operation: Operation, ref: Ref, form: Form = "public") -> Any:
        """The public structure of a value as its owner tells it, or a Failure."""
        self.agreement.wait(operation, [ref.party])
        said = self.hear(ref.party, operation, "structure")
        failure = self.understood(ref.party, travel.failure_in, said)
        if failure is not None:
            self.record_failure(operation, "in", failure, [ref.party])
            return failure
        tree = self.understood(ref.party, self._tree_of_a_size, said.get("tree"))
        self.record(operation, "in", form, ref, [ref.party], shape=_facts(tree, form))
        return tree

    def _tree_of_a_size(self, said: Any) -> Any:
        """A structure, before anything of its shapes is made: programs have constants of them.

        Raises:
            ChannelError: not one, or one whose shares would be too large for this party.
        """
        tree = travel.tree_from_wire(said)
        arrays = [one for one in leaves_of(tree)[0] if isinstance(one, ArraySpec)]
        nbytes = sum(math.prod(one.shape) * _LEAST[one.dtype == "bool"] for one in arrays)
        if nbytes > self._limits.nbytes:
            raise ChannelError(
                "told of a value that is too large for this party",
                got=f"shares of {nbytes} bytes or more; [local] largest_value is "
                f"{self._limits.nbytes}",
            )
        return tree

    def record(
        self,
        operation: Operation,
        direction: Direction,
        form: Form,
        ref: Ref,
        peers: Iterable[str],
        *,
        shape: str = "",
        nbytes: int = 0,
        digest: str = "",
    ) -> None:
        """Write to the ledger."""
        self._ledger.write(
            Entry(
                direction, form, ref.what, operation.number, operation.source, ref.origins,
                tuple(peers), shape, nbytes, digest,
            )
        )  # fmt: skip

    def record_failure(
        self, operation: Operation, direction: Direction, failure: Failure, peers: Iterable[str]
    ) -> None:
        """Write to the ledger what was told of an error, instead of a value."""
        said = travel.failure_to_wire(failure)
        ref = Ref(failure.party, failure.what, None)
        text = f"{said['kind']}: {said['message']}"
        self.record(operation, direction, "public", ref, peers, shape=text[:500])

    def settled(self, item: Item) -> Any:
        """The result of a task, for the script: raises when the session fails meanwhile."""
        self.settle(item.future)
        return item.result()

    def settle(self, future: Future[Any], until: float | None = None) -> None:
        """Wait for a task, until a point in time; raises when the session fails meanwhile."""
        while not wait([future], timeout=_SLICE).done:
            self.agreement.check()
            if until is not None and time.monotonic() > until:
                return
        if isinstance(future.result(), Failure):
            self.agreement.check()  # of a broken session, what broke it explains more
