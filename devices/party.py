"""backend of one party: every party runs the same script, each carries out its own part of it.

Calls of this party run here (in `inner`: threads, or this party's own Ray); values of others are
names without data. A move is a send at the owner and a receive at the target, and nothing else
makes a value leave. No party is asked for anything: what is sent is decided by the sender's own
script, see agreement.py.

Three threads carry out operations, each in the order of the script: one starts calls, one sends,
one receives; every virtual machine has one more.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

from spuvm.compiler.config import Compiled
from spuvm.devices import travel
from spuvm.devices.agreement import END, FAILED, Agreement, Operation
from spuvm.devices.backend import Backend, MachinePlan, Ref
from spuvm.devices.calls import Call, Slot, as_it_is, perform
from spuvm.devices.checkpoints import Loaded
from spuvm.devices.cluster import Cluster
from spuvm.devices.crossings import Describer
from spuvm.devices.failure import Failure, Told, line_of
from spuvm.devices.ledger import Direction, Entry, Form, Ledger
from spuvm.devices.local import Item, Worker, nothing
from spuvm.devices.partymachines import PartyMachines
from spuvm.devices.post import Post, handle
from spuvm.devices.sameprogram import SamePrograms
from spuvm.errors import SpuvmError, UsageError
from spuvm.net.endpoint import Endpoint, Envelope

log = logging.getLogger("spuvm")

_LAST_ENTRIES = 2.0  # seconds that what was under way may take until it is in the ledger


class PartyBackend(Backend):
    """One party's part of a session without a driver."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint, inner: Backend, ledger: Ledger):
        self.parties, self.me = endpoint.parties, endpoint.name
        self.cluster, self.endpoint, self.inner = cluster, endpoint, inner
        self.name: str = endpoint.name
        self.policy, patience = cluster.policy, cluster.timing.patience
        self.peers = tuple(party for party in self.parties if party != self.name)
        self.agreement = Agreement(endpoint, patience)
        self.post = Post(endpoint, self.agreement, ledger, patience, cluster.largest_value)
        self.sender = Worker(self.name, "send")
        self.receiver = Worker(self.name, "receive")
        self._starter = Worker(self.name, "start")
        self._ledger = ledger
        # Machines end with their last handle; what was asked of them is carried out all the same.
        self.machines: list[tuple[Worker, Callable[[], object]]] = []  # and how each ends
        self._programs = SamePrograms(self.post)
        self.closed = threading.Lock()  # held once this party leaves
        self._left = False
        self.agreement.start()

    # ---- functions of parties

    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        text, sent = f"call {what} at {party}({_names(refs)})", as_it_is(call)
        return self._start(
            text, party, what, call, refs, lambda own: self.inner.call(party, what, fn, sent, own)
        )

    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        sent = as_it_is(call)

        def make(own: list[Ref]) -> tuple[Ref, ...]:
            return (self.inner.create(party, what, cls, sent, own),)

        return self._start(
            f"make {what} at {party}({_names(refs)})", party, what, call, refs, make
        )[0]

    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        sent = as_it_is(call)

        def start(own: list[Ref]) -> tuple[Ref, ...]:
            return self.inner.invoke(own[0], what, method, sent, own[1:])

        text = f"call {what} of {resident.handle.id} at {resident.party}({_names(refs)})"
        return self._start(text, resident.party, what, call, [resident, *refs], start)

    def describe(self, ref: Ref, what: str, look: Callable[[Any], Any]) -> Ref:
        """Shapes and dtypes are public; other facts are opened to everybody, and need consent."""
        shapes = isinstance(look, Describer)
        refusals = [] if shapes else [self.refuses_opening(ref, peer) for peer in self.parties]
        operation = self.agreement.begin(
            f"describe {_names([ref])} ({ref.what}) of {ref.party}",
            refusal=next(filter(None, refusals), ""),
        )
        if not shapes:
            self.consents(operation, ref, self.parties)
        form: Form = "public" if shapes else _form(ref)

        def tell() -> tuple[Any, ...]:
            value = self.value(ref)
            found = perform(self.name, what, look, Call((Slot(0),), {}), [value])[0]
            return (self.post.tell_structure(operation, ref, found, form),)

        return self.fact(operation, ref, what, tell, form)

    def move(self, ref: Ref, target: str) -> Ref:
        refusal = self.refuses_opening(ref, target)
        operation = self.agreement.begin(
            f"move {_names([ref])} ({ref.what}) from {ref.party} to {target}", refusal=refusal
        )
        self.consents(operation, ref, [target])
        item = None
        if ref.party == self.name:
            self.post.run(self.sender, ref.what, lambda: self._send(operation, ref, target))
        if target == self.name:
            item = self.post.run(self.receiver, ref.what, lambda: self._receive(operation, ref))
        return Ref(target, ref.what, handle(operation, 0, item))

    # ---- what the script sees

    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        if any(ref.handle.kind == "outcome" for ref in refs):
            return self._exchange_outcomes(refs)
        return [self._seen(ref) for ref in refs]

    def wait(self, refs: Sequence[Ref]) -> list[Failure]:
        """A step that all parties make together: all hear what failed anywhere."""
        operation = self.agreement.begin(f"wait for {_names(refs)}")
        holders = [p for p in self.parties if any(ref.party == p for ref in refs)]
        mine = self.post.run(self.sender, "waiting", lambda: self._tell_failures(operation, refs))
        found: list[Failure] = []
        self.agreement.wait(operation, self.peers)  # names who is late, whoever waits for whom
        for holder in holders:
            if holder == self.name:
                found += self.post.settled(mine)
                continue
            said = self.post.hear(holder, operation, "failures")
            for told in self.post.understood(holder, travel.failures_from_wire, said):
                self.post.record_failure(operation, "in", told, [holder])
                found.append(told)
        return found

    def start_machines(self, plan: MachinePlan) -> PartyMachines:
        self.machines = [one for one in self.machines if not one[0].ended]
        return PartyMachines(plan, self)

    def agree(
        self, what: str, compiled: Compiled, again: Callable[[Sequence[Any]], Compiled]
    ) -> Compiled:
        return self._programs.agree(what, compiled, again)

    def close(self) -> None:
        """Leave together with the others; after an error, or inside one, tell them and leave.

        A session that failed without the script having heard of it raises its error here.
        """
        if not self.closed.acquire(blocking=False):
            return
        error, finished = sys.exc_info()[1], False
        try:
            if error is not None:
                self.leave(error)
            elif not (self._left or self.agreement.heard):
                self._finish()
                finished = True
        finally:
            for _, end in self.machines:
                end()
            self.endpoint.close()
            # What was under way is written down; nobody waits for a party's own function.
            wait([worker.submit(nothing) for worker in self._workers], _LAST_ENTRIES)
            for worker in (self.sender, self.receiver, self._starter):
                worker.stop()
            try:
                if finished:
                    self.inner.settle()  # calls whose results nobody asked for
            finally:
                self.inner.close()
                self._ledger.close()

    def leave(self, error: BaseException) -> None:
        """The script ended with an error, here or at all parties: a last operation says so.

        Its text stays here. What was asked for before is still carried out, so that the others hear
        of what they may be waiting for.
        """
        self._left = True
        at = travel.without_folder(line_of(error))
        with contextlib.suppress(SpuvmError):
            self.agreement.begin(f"{FAILED} {type(error).__name__}", at=at)
            self._drain(self.cluster.timing.deadline)

    # ---- for machines, and steps of the above

    def value(self, ref: Ref) -> Any:
        """A value of this party, or a Failure that may be told to others."""
        found = ref.handle.item.result()
        if isinstance(found, Ref):
            found = self.inner.fetch([found])[0]
        return self.post.tellable(found) if isinstance(found, Failure) else found

    def keep(self, operation: Operation, ref: Ref, peers: Sequence[str], value: Any) -> Ref:
        """A value that this party has learned, as one of its own."""
        digest, nbytes = travel.digest(value)
        self.post.record(
            operation, "in", _form(ref), ref, peers,
            shape=travel.shape(value), nbytes=nbytes, digest=digest,
        )  # fmt: skip
        return self.inner.call(self.name, ref.what, _identity, Call((value,), {}), [])[0]

    def fact(
        self,
        operation: Operation,
        ref: Ref,
        what: str,
        tell: Callable[[], tuple[Any, ...]],
        form: Form = "public",
    ) -> Ref:
        """A public fact about a value: `tell` runs at its owner, the others hear of it."""
        if ref.party == self.name:
            item = self.post.run(self.sender, what, tell)
        else:
            item = self.post.run(
                self.receiver, what, lambda: (self.post.hear_structure(operation, ref, form),)
            )
        return Ref(ref.party, what, handle(operation, 0, item, "fact"))

    def refuses_opening(self, ref: Ref, target: str) -> str:
        """ "" unless this party's data would go where its policy forbids, and then what to add."""
        if self.name not in ref.origins:
            return ""
        return self.policy.refuses_opening(ref.what, target) or ""

    def consents(self, operation: Operation, ref: Ref, targets: Sequence[str]) -> None:
        """Write down that others will see a value that depends on this party's data.

        Not where this party sends it itself in clear: that is an entry of its own.
        """
        peers = [party for party in targets if party != self.name]
        if self.name in ref.origins and ref.party != self.name and peers:
            self.post.record(operation, "consent", "clear", ref, peers)

    # ---- private

    def _start(
        self,
        text: str,
        party: str,
        what: str,
        call: Call,
        refs: Sequence[Ref],
        start: Callable[[list[Ref]], tuple[Ref, ...]],
    ) -> tuple[Ref, ...]:
        count = call.results or 1
        operation = self.agreement.begin(text + (f" gives {count}" if count > 1 else ""))
        future: Future[Any] | None = None
        if party == self.name:

            def work() -> Any:
                own = [ref.handle.item.result() for ref in refs]
                failure = next((one for one in own if isinstance(one, Failure)), None)
                return failure or self._watched(start(own))

            future = self.post.run(self._starter, what, work).future
        items = [Item(future, i) if future else None for i in range(count)]
        return tuple(Ref(party, what, handle(operation, i, item)) for i, item in enumerate(items))

    def _watched(self, refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
        for ref in refs:
            if isinstance(ref.handle, Item):  # a thread's, not Ray's
                ref.handle.future.add_done_callback(self.post.look_at)
        return refs

    def _send(self, operation: Operation, ref: Ref, target: str) -> None:
        value = self.value(ref)
        if not isinstance(value, Failure):
            try:
                value = travel.packed(value, ref.what)
            except UsageError as error:
                value = Told(self.name, ref.what, error)
        self.agreement.wait(operation, {target, *ref.origins})
        self.post.give(operation, target, "value", value, _form(ref), ref, travel.shape)

    def _receive(self, operation: Operation, ref: Ref) -> tuple[Any, ...]:
        self.agreement.wait(operation, [ref.party])
        value = self.post.take(operation, ref.party, "value")
        if isinstance(value, Failure):
            return (value,)
        return (self.keep(operation, ref, [ref.party], value),)

    def _tell_failures(self, operation: Operation, refs: Sequence[Ref]) -> tuple[Any, ...]:
        mine = [ref for ref in refs if ref.party == self.name]
        if not mine:
            return ([],)
        found = [
            (one, self.post.tellable(one) if ref.handle.kind == "value" else one)
            for ref in mine
            if (one := self._failure_of(ref)) is not None
        ]
        self.agreement.wait(operation, self.peers)
        said = [travel.failure_to_wire(told) for _, told in found]
        for _, told in found:
            self.post.record_failure(operation, "out", told, self.peers)
        for peer in self.peers:
            self.endpoint.send(peer, Envelope(operation.number, "failures"), said)
        return ([one for one, _ in found],)

    def _failure_of(self, ref: Ref) -> Failure | None:
        found = ref.handle.item.result()
        if isinstance(found, Ref):
            return next(iter(self.inner.wait([found])), None)
        return found if isinstance(found, Failure) else None

    def _exchange_outcomes(self, refs: Sequence[Ref]) -> list[Any]:
        operation = self.agreement.begin(f"costs of {_names(refs)}")
        self.agreement.wait(operation, self.peers)
        known: dict[str, Any] = {}
        for ref in refs:
            if ref.party == self.name:
                outcome = self.post.settled(ref.handle.item)
                said = None if isinstance(outcome, Failure) else travel.public_to_wire(outcome)
                self._record_costs(operation, "out", ref, outcome, self.peers)
                for peer in self.peers:
                    head = {**travel.head(outcome), "outcome": said}
                    self.endpoint.send(peer, Envelope(operation.number, ref.handle.id), head)
                known[ref.party] = outcome
        for ref in refs:
            if ref.party != self.name:
                said = self.post.hear(ref.party, operation, ref.handle.id)
                outcome = self.post.understood(ref.party, travel.outcome_from_wire, said)
                self._record_costs(operation, "in", ref, outcome, [ref.party])
                known[ref.party] = outcome
        return [known[ref.party] for ref in refs]

    def _record_costs(
        self, operation: Operation, direction: Direction, ref: Ref, found: Any, peers: Sequence[str]
    ) -> None:
        if isinstance(found, Failure):
            self.post.record_failure(operation, direction, found, peers)
        else:
            text = "what it loaded" if isinstance(found, Loaded) else "rounds, bytes, seconds"
            self.post.record(
                operation, direction, "public", replace(ref, origins=()), peers, shape=text
            )

    def _seen(self, ref: Ref) -> Any:
        if ref.handle.item is None:
            raise UsageError(
                f"a value of party {ref.party!r} is not here",
                got=f"{_names([ref])} from {ref.what}",
                next="move it with .to(device), or sf.reveal it to this party",
            )
        found = self.post.settled(ref.handle.item)
        return self.inner.fetch([found])[0] if isinstance(found, Ref) else found

    def _finish(self) -> None:
        operation = self.agreement.begin(END)
        self._drain(None)
        self.agreement.wait(operation, self.peers)
        head = self._ledger.head
        for peer in self.peers:
            self.endpoint.send(peer, Envelope(operation.number, "ledger"), head)
        heads = {peer: str(self.post.hear(peer, operation, "ledger"))[:64] for peer in self.peers}
        entry = Entry("note", "public", END, operation.number, operation.source, (), self.peers)
        self._ledger.write(entry, {"heads": heads})

    def _drain(self, limit: float | None) -> None:
        """Until everything that was asked for is done, or for so many seconds."""
        until = None if limit is None else time.monotonic() + limit
        for worker in self._workers:
            self.post.settle(worker.submit(nothing), until)

    @property
    def _workers(self) -> list[Worker]:
        return [self._starter, self.sender, self.receiver, *(one for one, _ in self.machines)]


def _names(refs: Iterable[Ref]) -> str:
    return ", ".join(ref.handle.id for ref in refs)


def _form(ref: Ref) -> Form:
    """Values without origins are public, masked or encrypted: they show nothing of anybody."""
    return "clear" if ref.origins else "masked"


def _identity(value: Any) -> Any:
    return value
