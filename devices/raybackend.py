"""backend="ray": Ray places and supervises the parties; they talk to each other over own links."""

from __future__ import annotations

import logging
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import ray
from ray import cloudpickle

from spuvm.devices.actors import (
    UNPICKLABLE,
    Box,
    Resident,
    explain,
    join_at_party,
    reason,
    task_of,
    unboxed,
)
from spuvm.devices.backend import Backend, MachinePlan, Machines, Ref
from spuvm.devices.calls import Call, Slot
from spuvm.devices.checkpoints import LoadOrder, SaveOrder
from spuvm.devices.failure import Failure, checked
from spuvm.devices.host import OpenOrder, RunOrder
from spuvm.devices.machineactor import MachineProcess, deal_at_owner
from spuvm.devices.pending import Pending
from spuvm.devices.presence import ABSENT, WAY_OUT, Presence
from spuvm.devices.raystart import resource, start_ray
from spuvm.errors import PartyError, UsageError

log = logging.getLogger("spuvm")

SHARE = 0.0001  # of a party's resource that each task and actor takes: placement, not a limit
GRACE = 5.0  # seconds that others may take to answer once one party is known to be gone
GLANCE = 2.0  # seconds of waiting after which the nodes of the cluster are looked at
Places = dict[str, dict[str, float]]

EXPORTS = 256  # functions kept exported to Ray
EXPORTED_BYTES = 64 << 20  # what they may capture, all together


class RayBackend(Backend):
    """Parties as Ray tasks and actors, each on the nodes that bring its party's resource."""

    def __init__(self, parties: tuple[str, ...], address: str | None, logs: str = "driver") -> None:
        self.parties = parties
        self._owns_ray = not ray.is_initialized()
        self._local = self._owns_ray and address is None
        if self._owns_ray:
            start_ray(parties, address, logs)
        self._places = self._find_places()
        self._presence = Presence({p: next(iter(place)) for p, place in self._places.items()})
        self._fetcher = Fetcher(self._presence)
        self._pending = Pending()
        self._machines: list[weakref.ref[RayMachines]] = []
        self._tasks: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()  # latest last
        self._exporting = threading.Lock()

    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        self._presence.require(party)
        task = self._task(fn, what).options(
            resources=self._places[party], num_returns=call.results or 1
        )
        with _sending(what, party):
            out = task.remote(party, what, call, *_handles(refs))
        made = _refs(out, party, what, call)
        self._presence.asked(party, _handles(made))
        return self._watched(made)

    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        self._presence.require(party)
        options = Resident.options(resources=self._places[party])  # type: ignore[attr-defined]
        with _sending(what, party):
            actor = options.remote(party, what, cls, call, *_handles(refs))
        return Ref(party, what, self._fetcher.register(actor, party))

    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        remote = resident.handle.invoke.options(num_returns=call.results or 1)
        with _sending(what, resident.party):
            out = remote.remote(method, what, call, *_handles(refs))
        return self._watched(_refs(out, resident.party, what, call))

    def describe(self, ref: Ref, what: str, look: Callable[[Any], Any]) -> Ref:
        return self.call(ref.party, what, look, Call((Slot(0),), {}), [ref])[0]

    def move(self, ref: Ref, target: str) -> Ref:
        return Ref(target, ref.what, ref.handle)

    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        found = self._fetcher.get(refs)
        self._pending.heard(found)
        return found

    def wait(self, refs: Sequence[Ref]) -> list[Failure]:
        found = self._fetcher.failures(refs)
        self._pending.heard(found)
        return found

    def settle(self) -> list[Failure]:
        return self._pending.settle(self._presence.look) if ray.is_initialized() else []

    def start_machines(self, plan: MachinePlan) -> RayMachines:
        for party in plan.parties:
            self._presence.require(party)
        machines = RayMachines(
            plan, self._places, self._presence, self._fetcher, loopback=self._local
        )
        self._machines.append(weakref.ref(machines))
        return machines

    def close(self) -> None:
        for known in tuple(self._machines):
            if (machines := known()) is not None:
                machines.close()
        if self._owns_ray:
            ray.shutdown()

    def _watched(self, made: tuple[Ref, ...]) -> tuple[Ref, ...]:
        """Have the end of a call noted; its results are not held."""
        first = made[0]
        name = f"{first.what} at {first.party}"
        blank = replace(first, handle=None)
        given = partial(_given, self._fetcher, blank)
        self._pending.started(name, first.handle.future(), given)
        return made

    def _task(self, fn: Callable[..., Any], what: str) -> Any:
        """The exported task of a function; exported again when what it captures has changed.

        The latest are kept, few where they capture much: Ray and this process hold copies of it.
        """
        with _sending(what, "a party"):
            content = cloudpickle.dumps(fn)
        key = sha256(content).digest()
        with self._exporting:
            known = self._tasks.pop(key, None)
            task, size = known if known is not None else (task_of(fn, what), len(content))
            self._tasks[key] = task, size
            held = sum(size for _, size in self._tasks.values())
            while len(self._tasks) > 1 and (len(self._tasks) > EXPORTS or held > EXPORTED_BYTES):
                held -= self._tasks.popitem(last=False)[1][1]
        return task

    def _find_places(self) -> Places:
        """What to ask Ray for, for work of each party: a little of the resource of its nodes."""
        have = ray.cluster_resources()
        found = {}
        for party in self.parties:
            name = next((n for n in (resource(party), party) if n in have), None)
            if name is None:
                if self._owns_ray:
                    ray.shutdown()
                raise UsageError(
                    f"no node of this Ray cluster belongs to {party}",
                    expected=f"a node that brings the resource {resource(party)!r}",
                    next=f"""ray start --address=... --resources='{{"{resource(party)}": 1}}'""",
                )
            found[party] = {name: SHARE}
        return found


class RayMachines(Machines):
    """One actor per party; steps are submitted under a lock, so that all three see one order."""

    def __init__(
        self,
        plan: MachinePlan,
        places: Places,
        presence: Presence,
        fetcher: Fetcher,
        *,
        loopback: bool,
    ) -> None:
        self.plan = plan
        self._places = places
        self._presence = presence
        self._fetcher = fetcher
        self._lock = threading.Lock()
        self._coming: list[tuple[str, Any]] = []
        self._closed = False
        unique = uuid.uuid4().hex  # the owners' processes keep handles of actors by name
        self._who = [(party, f"spuvm-{plan.name}-{party}-{unique}") for party in plan.parties]
        self._actors = [
            MachineProcess.options(name=name, resources=self._places[party]).remote(party)  # type: ignore[attr-defined]
            for party, name in self._who
        ]
        for actor, party in zip(self._actors, plan.parties, strict=True):
            fetcher.register(actor, party)
        try:
            self._connect(loopback)
        except BaseException:
            self.close()
            raise

    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        self._presence.require(owner)
        task: Any = deal_at_owner.options(resources=self._places[owner])
        with self._lock:
            out, done = task.remote(owner, what, deal, name, self._who, ref.handle)
            self._coming.append((name, done))
        self._presence.asked(owner, [out])
        return Ref(owner, what, out)

    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        return self._all("run", order.what, order)

    def open_here(self, order: OpenOrder) -> tuple[Ref, ...]:
        return self._all("open_inline", "opening", order)

    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        self._presence.require(party)
        parts = self._all("open_boxed", "opening", order)
        task = join_at_party.options(resources=self._places[party])
        out = task.remote(party, what, join, *_handles(parts))
        self._presence.asked(party, [out])
        return Ref(party, what, out)

    def pass_on(self, order: OpenOrder, target: Machines, names: Sequence[str]) -> tuple[Ref, ...]:
        assert isinstance(target, RayMachines)
        dealt = self._each("pass_on", 3, order, self.plan.ring_bits)
        done = []
        for name, party, pieces in zip(names, self.plan.parties, dealt, strict=True):
            with target._lock:
                puts = [
                    actor.put.remote(name, piece)
                    for actor, piece in zip(target._actors, pieces, strict=True)
                ]
                target._coming.append((name, puts[0]))
            done += [Ref(party, "passing on", put) for put in puts]
        return tuple(done)

    def save(self, order: SaveOrder) -> tuple[Ref, ...]:
        return self._all("save", "saving", order)

    def load(self, order: LoadOrder) -> tuple[Ref, ...]:
        return self._all("load", "loading", order)

    def free(self, names: Sequence[str]) -> None:
        if not self._closed:
            self._each("free", 1, list(names))

    def names(self) -> list[list[str]]:
        """What each machine holds, after everything that was asked for before."""
        listed: list[list[str]] = ray.get(self._each("names", 1))
        return listed

    def pids(self) -> dict[str, int]:
        """Process id of each machine, for tests and doctors."""
        found = ray.get([actor.pid.remote() for actor in self._actors])
        return dict(zip(self.plan.parties, found, strict=True))

    def close(self) -> None:
        self._closed = True
        for actor in self._actors:
            ray.kill(actor)

    def _connect(self, loopback: bool) -> None:
        plan = self.plan
        wanted = plan.addresses or ((("127.0.0.1", 0) if loopback else None),) * 3
        listening = [
            Ref(party, "starting its virtual machine", actor.listen.remote(address))
            for party, actor, address in zip(plan.parties, self._actors, wanted, strict=True)
        ]
        addresses = checked(self._fetcher.get(listening))
        attached = [
            Ref(
                party,
                "connecting",
                actor.attach.remote(rank, addresses, plan.ring_bits, plan.parties, plan.deadline),
            )
            for rank, (party, actor) in enumerate(zip(plan.parties, self._actors, strict=True))
        ]
        checked(self._fetcher.get(attached))
        for actor in self._actors:
            actor.prepare.remote()  # not awaited

    def _all(self, method: str, what: str, order: object) -> tuple[Ref, ...]:
        out = self._each(method, 1, order)
        return tuple(Ref(p, what, ref) for p, ref in zip(self.plan.parties, out, strict=True))

    def _each(self, method: str, results: int, *args: object) -> list[Any]:
        if self._closed:
            raise UsageError(f"{self.plan.name} was closed", next="make a new SPU")
        with self._lock:
            names = [name for name, _ in self._coming]
            after = [done for _, done in self._coming]
            self._coming = []
            methods = [getattr(actor, method) for actor in self._actors]
            if results > 1:
                methods = [m.options(num_returns=results) for m in methods]
            return [m.remote(names, *args, *after) for m in methods]


@contextmanager
def _sending(what: str, party: str) -> Iterator[None]:
    try:
        yield
    except UNPICKLABLE as error:
        raise UsageError(
            f"{what} with its arguments cannot be sent to {party}",
            got=reason(error),
            next="make it at the party: inside the function, or in an instance of a proxied class",
        ) from (error.__cause__ or error)


def _given(fetcher: Fetcher, ref: Ref, future: Future[Any]) -> Sequence[Any]:
    try:
        box = future.result()
    except ray.exceptions.RayError as error:
        return (fetcher.failure(ref, error),)
    return (box.failure if isinstance(box, Box) else box,)


def _handles(refs: Sequence[Ref]) -> list[Any]:
    return [ref.handle for ref in refs]


def _refs(out: Any, party: str, what: str, call: Call) -> tuple[Ref, ...]:
    items = [out] if (call.results or 1) == 1 else out
    return tuple(Ref(party, what, item) for item in items)


class Fetcher:
    """Gets what Ray has, and knows which party each actor belongs to."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._party_of: dict[str, str] = {}

    def register(self, actor: Any, party: str) -> Any:
        """Remember whose actor this is."""
        self._party_of[actor._actor_id.hex()] = party
        self._presence.hosts(party, actor)
        return actor

    def get(self, refs: Sequence[Ref]) -> list[Any]:
        """The values themselves; Failures in place of those that cannot be had."""
        return self._get(refs, unboxed)

    def failures(self, refs: Sequence[Ref]) -> list[Failure]:
        """Wait for the values without fetching them."""
        items = self._get(refs, list)
        found = [item.failure if isinstance(item, Box) else item for item in items]
        return [item for item in found if isinstance(item, Failure)]

    def _get(self, refs: Sequence[Ref], unpack: Callable[[list[Any]], list[Any]]) -> list[Any]:
        while True:
            try:
                return unpack(ray.get(_handles(refs), timeout=GLANCE))
            except ray.exceptions.GetTimeoutError:
                absent = self._presence.look()
                if any(ref.party in absent for ref in refs):
                    break
            except ray.exceptions.RayError:  # as soon as any of them is known to have failed
                break
        until = time.monotonic() + GRACE
        return [self._get_one(ref, unpack, until) for ref in refs]

    def _get_one(self, ref: Ref, unpack: Callable[[list[Any]], list[Any]], until: float) -> Any:
        left = max(0.0, until - time.monotonic())
        try:
            return unpack([ray.get(ref.handle, timeout=left)])[0]
        except ray.exceptions.RayError as error:
            return self.failure(ref, error)

    def failure(self, ref: Ref, error: Exception) -> Failure:
        """What Ray says of a value that cannot be had."""
        party, explained = ref.party, explain(error, ref.what)
        if isinstance(error, ray.exceptions.RayActorError):
            party = self._party_of.get(error.actor_id or "", party)
        if isinstance(error, ray.exceptions.TaskCancelledError):  # only Presence cancels
            party = min(self._presence.absent, default=party)
        if party in self._presence.absent:
            explained = PartyError(ABSENT, next=WAY_OUT)
        return Failure(party, ref.what, explained)
