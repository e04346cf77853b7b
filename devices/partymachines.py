"""The three virtual machines of an SPU as one party sees them: its own, and the others' names.

Owners push pieces to the machines, machines push parts to receivers; rounds go over a channel of
the three parties' links.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from spuvm.devices import travel
from spuvm.devices.agreement import Operation
from spuvm.devices.backend import MachinePlan, Machines, Ref
from spuvm.devices.calls import Call, Slot, perform
from spuvm.devices.checkpoints import LoadOrder, SaveOrder
from spuvm.devices.compiling import split_origins
from spuvm.devices.crossings import deal_parts
from spuvm.devices.failure import Failure
from spuvm.devices.host import Host, OpenOrder, Outcome, RunOrder
from spuvm.devices.local import Item, Worker
from spuvm.devices.post import handle
from spuvm.devices.structure import ArraySpec, leaves_of
from spuvm.errors import UsageError
from spuvm.kernels.arith import small_dtype
from spuvm.net.memory import keep_large_blocks
from spuvm.protocol.aby3.io import Dealt, Form, form_of
from spuvm.protocol.aby3.packing import packed_size
from spuvm.ring import Ring

if TYPE_CHECKING:
    from spuvm.devices.party import PartyBackend


class PartyMachines(Machines):
    """Carries out what concerns this party's machine, and follows the rest by name."""

    def __init__(self, plan: MachinePlan, backend: PartyBackend) -> None:
        self.plan, self._backend = plan, backend
        self.ring = Ring(plan.ring_bits)
        self.rank = plan.parties.index(backend.name) if backend.name in plan.parties else None
        operation = backend.agreement.begin(
            f"{plan.name} of {', '.join(plan.parties)}: {plan.config}"
        )
        self._origins: dict[str, tuple[str, ...]] = {}  # of all results of a program, by its digest
        self._close: Any = None
        if self.rank is None:
            return
        keep_large_blocks()
        self._host = Host(backend.name, backend.cluster.checkpoint_key)
        self._worker = Worker(backend.name, plan.name)
        self._close = weakref.finalize(self, _end, self._host, self._worker)
        backend.machines.append((self._worker, self._close))
        rank = self.rank

        def meet() -> tuple[None]:
            backend.agreement.wait(operation, plan.parties)
            channel = backend.endpoint.channel(plan.name, plan.parties)
            self._host.attach(rank, channel, plan.ring_bits, plan.parties)
            return (None,)

        met = backend.post.settled(backend.post.run(self._worker, f"connecting {plan.name}", meet))
        if isinstance(met, Failure):
            met.throw()

    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        backend, plan = self._backend, self.plan
        refusal = self._refuses_sharing(ref.origins, plan)
        operation = backend.agreement.begin(
            f"share {ref.handle.id} ({ref.what}) of {owner} with {plan.name} as {name}",
            refusal=refusal,
        )
        pieces: list[Any] = []  # at the owner: what its own machine gets

        def tell() -> tuple[Any]:
            value = backend.value(ref)
            made = perform(backend.name, what, deal, Call((Slot(0),), {}, 2), [value])
            tree = backend.post.tell_structure(operation, ref, made[0])
            pieces.append(tree if isinstance(tree, Failure) else made[1])
            if not isinstance(tree, Failure):
                self._deal_out(operation, ref, made[1], plan, "pieces")
            return (tree,)

        fact = backend.fact(operation, ref, what, tell)
        if self.rank is None:
            return fact
        owner_rank = plan.parties.index(owner) if owner in plan.parties else None
        rank, item = self.rank, fact.handle.item

        def take() -> None:
            tree = item.result()
            if isinstance(tree, Failure):
                self._host.put(name, tree)
            elif owner == backend.name:
                self._host.put(name, pieces[0][rank])
            else:
                forms = [self._form(spec, owner_rank) for spec in leaves_of(tree)[0]]
                self._host.put(name, self._take_pieces(operation, ref, owner, "pieces", forms))

        backend.post.run(self._worker, what, take)
        return fact

    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        backend, plan = self._backend, self.plan
        operation = backend.agreement.begin(
            f"run {order.what} on {plan.name}({', '.join(order.inputs)}) as {order.output}, "
            f"run {order.run_id}, program {order.digest}"
        )
        if order.program is not None:
            outputs = order.program.outputs
            self._origins[order.digest] = split_origins([o for out in outputs for o in out.origins])
        origins = self._origins[order.digest]
        item = None

        def work() -> tuple[Outcome | Failure]:
            backend.agreement.wait(operation, plan.parties)
            outcome = self._host.run(order)
            if isinstance(outcome, Outcome):
                backend.post.record(
                    operation, "out", "masked", Ref(backend.name, order.what, None, origins),
                    [party for party in plan.parties if party != backend.name],
                    shape=f"{outcome.rounds} rounds", nbytes=outcome.bytes_sent,
                    digest=order.digest,
                )  # fmt: skip
            return (outcome,)

        if self.rank is not None:
            item = backend.post.run(self._worker, order.what, work)
        return self._refs(operation, order.what, item)

    def open_here(self, order: OpenOrder) -> NoReturn:
        raise UsageError(
            "there is no driver that all parties trust",
            next="open to parties: x.to(device), or sf.reveal(x, to=[...])",
        )

    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        backend, plan = self._backend, self.plan
        made = Ref(party, what, None, order.origins)
        operation = backend.agreement.begin(
            f"open {', '.join(order.names)} ({what}) of {plan.name} to {party}, "
            f"run {order.run_id}, bits {order.bits}",
            refusal=backend.refuses_opening(made, party),
        )
        backend.consents(operation, made, [party])
        senders, forms = self._openers(order), _parts_of(order)
        own: Item | None = None

        def part() -> tuple[Any]:
            parts = self._host.open(order)
            backend.agreement.wait(operation, {party, *order.origins})
            if party != backend.name and (self.rank in senders or isinstance(parts, Failure)):
                backend.post.give(
                    operation, party, "part", parts, "masked", made,
                    lambda part: f"part of {len(part)} arrays", travel.parts_to_wire,
                )  # fmt: skip
            return (parts,)

        def receive() -> tuple[Any]:
            backend.agreement.wait(operation, {*plan.parties, *order.origins})
            parts: list[Any] = [[None] * len(order.names)] * 3
            for rank in senders:
                peer = plan.parties[rank]
                if peer == backend.name:
                    assert own is not None
                    parts[rank] = own.result()
                else:
                    said = backend.post.take(operation, peer, "part", travel.parts_expected(forms))
                    failed = isinstance(said, Failure)
                    parts[rank] = said if failed else travel.parts_from_wire(said, forms)
            call = Call(tuple(Slot(i) for i in range(3)), {})
            value = perform(backend.name, what, join, call, parts)[0]
            if isinstance(value, Failure):
                return (value,)
            peers = [plan.parties[r] for r in senders if plan.parties[r] != party]
            return (backend.keep(operation, made, peers, value),)

        if self.rank is not None:
            own = backend.post.run(self._worker, what, part)
        item = backend.post.run(backend.receiver, what, receive) if party == backend.name else None
        return replace(made, handle=handle(operation, 0, item))

    def pass_on(self, order: OpenOrder, target: Machines, names: Sequence[str]) -> tuple[Ref, ...]:
        assert isinstance(target, PartyMachines)
        backend, plan = self._backend, self.plan
        operation = backend.agreement.begin(
            f"pass {', '.join(order.names)} of {plan.name} on to {target.plan.name} "
            f"as {', '.join(names)}, run {order.run_id}",
            refusal=self._refuses_sharing(order.origins, target.plan),
        )
        ref = Ref(backend.name, "shares", None, order.origins)
        own: Item | None = None

        def deal() -> tuple[Any]:
            parts = self._host.open(order)
            call = Call((Slot(0), order, self.ring), {}, 3)
            dealt = perform(backend.name, "passing on", deal_parts, call, [parts])
            failed = isinstance(dealt[0], Failure)
            pieces = dealt[0] if failed else dealt
            self._deal_out(operation, ref, pieces, target.plan, f"pieces {self.rank}")
            return (pieces,)

        if self.rank is not None:
            own = backend.post.run(self._worker, "passing on", deal)
        if target.rank is not None:
            mine = own

            def take() -> None:
                forms = [
                    form_of(target.rank or 0, shape, self.ring, width=width)
                    for shape, width in zip(order.shapes, order.widths, strict=True)
                ]
                for i, (peer, name) in enumerate(zip(plan.parties, names, strict=True)):
                    if peer == backend.name:
                        assert mine is not None
                        got = mine.result()
                        got = got if isinstance(got, Failure) else got[target.rank]
                    else:
                        got = self._take_pieces(operation, ref, peer, f"pieces {i}", forms)
                    target._host.put(name, got)

            backend.post.run(target._worker, "passing on", take)
        return self._refs(operation, "passing on", own)

    def save(self, order: SaveOrder) -> tuple[Ref, ...]:
        return self._store(f"save {', '.join(order.names)}", "saving", lambda h: h.save(order))

    def load(self, order: LoadOrder) -> tuple[Ref, ...]:
        return self._store(f"load {order.name}", "loading", lambda h: h.load(order))

    def _store(self, text: str, what: str, step: Callable[[Host], Any]) -> tuple[Ref, ...]:
        """A step of each machine with its own storage; paths are each party's own business."""
        operation = self._backend.agreement.begin(f"{text} of {self.plan.name}")
        item = None
        if self.rank is not None:
            item = self._backend.post.run(self._worker, what, lambda: (step(self._host),))
        return self._refs(operation, what, item)

    def free(self, names: Sequence[str]) -> None:
        if self.rank is not None and self._close.alive:
            self._worker.submit(lambda: self._host.free(names))

    def names(self) -> list[str]:
        """What this party's machine holds, after everything that was asked for before."""
        return self._worker.submit(self._host.names).result() if self.rank is not None else []

    def close(self) -> None:
        if self._close is not None:
            self._close()

    def _refs(self, operation: Operation, what: str, item: Item | None) -> tuple[Ref, ...]:
        handles = [
            handle(operation, i, item if i == self.rank else None, "outcome") for i in range(3)
        ]
        return tuple(
            Ref(party, what, handle)
            for party, handle in zip(self.plan.parties, handles, strict=True)
        )

    def _refuses_sharing(self, origins: Sequence[str], plan: MachinePlan) -> str:
        if self._backend.name not in origins:
            return ""
        return self._backend.policy.refuses_sharing(plan.parties) or ""

    def _deal_out(
        self, operation: Operation, ref: Ref, pieces: Any, plan: MachinePlan, edge: str
    ) -> None:
        backend = self._backend
        backend.agreement.wait(operation, {*plan.parties, *ref.origins})
        for rank, party in enumerate(plan.parties):
            if party == backend.name:
                continue
            mine: Any = pieces if isinstance(pieces, Failure) else pieces[rank]
            backend.post.give(
                operation, party, edge, mine, "masked", ref,
                lambda shares: f"shares of {len(shares)} arrays", travel.pieces_to_wire,
            )  # fmt: skip

    def _take_pieces(
        self, operation: Operation, ref: Ref, peer: str, edge: str, forms: Sequence[Form]
    ) -> Sequence[Dealt] | Failure:
        backend = self._backend
        backend.agreement.wait(operation, [peer])
        got = backend.post.take(operation, peer, edge, travel.pieces_expected(forms))
        if isinstance(got, Failure):
            return got
        digest, nbytes = travel.digest(got)
        backend.post.record(
            operation, "in", "masked", ref, [peer],
            shape=f"shares of {len(forms)} arrays", nbytes=nbytes, digest=digest,
        )  # fmt: skip
        return backend.post.understood(peer, lambda v: travel.pieces_from_wire(v, forms), got)

    def _form(self, spec: ArraySpec, owner: int | None) -> Form:
        assert self.rank is not None
        width = 1 if spec.dtype == "bool" else 0
        return form_of(self.rank, spec.shape, self.ring, width=width, owner=owner)

    def _openers(self, order: OpenOrder) -> tuple[int, ...]:
        """Ranks whose parts make the value: all, or for a rank itself and the next one."""
        return (0, 1, 2) if order.to is None else (order.to, (order.to + 1) % 3)


def _parts_of(order: OpenOrder) -> list[tuple[np.dtype[Any], int]]:
    """Dtype and size of a machine's additive parts of each array."""
    found = []
    for bits, width, shape in zip(order.bits, order.widths, order.shapes, strict=True):
        size = int(np.prod(shape, dtype=np.int64))
        if width == 1:
            found.append((np.dtype(np.uint8), packed_size(size)))
        else:
            found.append((small_dtype(width or bits), size))
    return found


def _end(host: Host, worker: Worker) -> None:
    worker.submit(host.close)
    worker.stop()
