"""backend="ray": Ray places and supervises the parties; they talk to each other over own links."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import cloudpickle

from spuvm.devices.actors import (
    Box,
    MachineProcess,
    Resident,
    deal_at_owner,
    gone,
    join_at_party,
    task_of,
    unboxed,
)
from spuvm.devices.backend import Backend, MachinePlan, Machines, Ref
from spuvm.devices.calls import Call
from spuvm.devices.failure import Failure
from spuvm.devices.host import OpenOrder, RunOrder
from spuvm.errors import UsageError

log = logging.getLogger("spuvm")

SHARE = 0.0001  # of a party's resource that each task and actor takes: placement, not a limit
GRACE = 5.0  # seconds that others may take to answer once one party is known to be gone
EXPORTS = 256  # functions kept exported to Ray


def resource(party: str) -> str:
    """Name of the Ray resource that the nodes of a party bring."""
    return f"party:{party}"


class RayBackend(Backend):
    """Parties as Ray tasks and actors, each on the nodes that bring its party's resource."""

    def __init__(self, parties: tuple[str, ...], address: str | None) -> None:
        self.parties = parties
        self._owns_ray = not ray.is_initialized()
        self._local = self._owns_ray and address is None
        if self._owns_ray:
            _start_ray(parties, address)
        self._check_resources()
        self._tasks: OrderedDict[bytes, Any] = OrderedDict()

    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        task = self._task(fn, what).options(**_options(party, call))
        return _refs(task.remote(party, what, call, *_handles(refs)), party, what, call)

    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        actor = Resident.options(resources={resource(party): SHARE})  # type: ignore[attr-defined]
        return Ref(party, what, actor.remote(party, what, cls, call, *_handles(refs)))

    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        remote = resident.handle.invoke.options(num_returns=call.results or 1)
        out = remote.remote(method, what, call, *_handles(refs))
        return _refs(out, resident.party, what, call)

    def move(self, ref: Ref, target: str) -> Ref:
        return Ref(target, ref.what, ref.handle)

    def fetch(self, refs: Sequence[Ref], deadline: float | None = None) -> list[Any]:
        return _fetch(refs, deadline, unboxed)

    def wait(self, refs: Sequence[Ref]) -> list[Any]:
        failures = _fetch(refs, None, lambda items: [_failure_of(i) for i in items])
        return [f for f in failures if f is not None]

    def start_machines(self, plan: MachinePlan) -> RayMachines:
        return RayMachines(plan, loopback=self._local)

    def close(self) -> None:
        if self._owns_ray:
            ray.shutdown()

    def _task(self, fn: Callable[..., Any], what: str) -> Any:
        """The exported task of a function; exported again when what it captures has changed."""
        payload = cloudpickle.dumps(fn)
        if payload in self._tasks:
            self._tasks.move_to_end(payload)
        else:
            self._tasks[payload] = task_of(fn, what)
            if len(self._tasks) > EXPORTS:
                self._tasks.popitem(last=False)
        return self._tasks[payload]

    def _check_resources(self) -> None:
        have = ray.cluster_resources()
        missing = [party for party in self.parties if resource(party) not in have]
        if missing:
            if self._owns_ray:
                ray.shutdown()
            flag = "{" + ", ".join(f'"{resource(p)}": 1' for p in missing) + "}"
            raise UsageError(
                f"no node of this Ray cluster belongs to {', '.join(missing)}",
                expected=f"nodes that bring the resource {resource(missing[0])!r}",
                next=f"ray start --address=... --resources='{flag}' on the party's node",
            )


class RayMachines(Machines):
    """One actor per party; steps are submitted under a lock, so that all three see one order."""

    def __init__(self, plan: MachinePlan, *, loopback: bool) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        self._after: list[Any] = []
        self._closed = False
        self._actors = [
            MachineProcess.options(resources={resource(party): SHARE}).remote(party)  # type: ignore[attr-defined]
            for party in plan.parties
        ]
        try:
            self._connect(loopback)
        except BaseException:
            self.close()
            raise

    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        machines = list(zip(self.plan.parties, self._actors, strict=True))
        task = deal_at_owner.options(resources={resource(owner): SHARE})
        with self._lock:
            out = task.remote(owner, what, deal, name, machines, ref.handle)
            self._after.append(out)
        return Ref(owner, what, out)

    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        return self._all("run", order.what, order)

    def open_here(self, order: OpenOrder) -> tuple[Ref, ...]:
        return self._all("open_inline", "opening", order)

    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        parts = self._all("open_boxed", "opening", order)
        task = join_at_party.options(resources={resource(party): SHARE})
        return Ref(party, what, task.remote(party, what, join, *_handles(parts)))

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
            done += [Ref(party, "passing on", put) for put in puts]
        return tuple(done)

    def free(self, names: Sequence[str]) -> None:
        if not self._closed:
            self._each("free", 1, list(names))

    def names(self) -> list[list[str]]:
        """What each machine holds, after everything that was asked for before."""
        listed: list[list[str]] = ray.get(self._each("names", 1))
        return listed

    def pids(self) -> dict[str, int]:
        """Process id of each machine, for tests and doctors."""
        found = ray.get(self._each("pid", 1))
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
        addresses = _raise_first(_fetch(listening, None, list))
        attached = [
            Ref(
                party,
                "connecting",
                actor.attach.remote(rank, addresses, plan.ring_bits, plan.parties, plan.deadline),
            )
            for rank, (party, actor) in enumerate(zip(plan.parties, self._actors, strict=True))
        ]
        _raise_first(_fetch(attached, None, list))

    def _all(self, method: str, what: str, order: object) -> tuple[Ref, ...]:
        out = self._each(method, 1, order)
        return tuple(Ref(p, what, ref) for p, ref in zip(self.plan.parties, out, strict=True))

    def _each(self, method: str, results: int, *args: object) -> list[Any]:
        if self._closed:
            raise UsageError(f"{self.plan.name} was closed", next="make a new SPU")
        with self._lock:
            after, self._after = self._after, []
            return [
                getattr(actor, method).options(num_returns=results).remote(*args, *after)
                for actor in self._actors
            ]


def _start_ray(parties: tuple[str, ...], address: str | None) -> None:
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            resources={resource(party): 1.0 for party in parties},
            runtime_env={"env_vars": {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}},
            **quiet,
        )
        log.info("Ray started on this machine; links between the parties are plain, on loopback")
    else:
        ray.init(address=address, logging_level=logging.ERROR)
        log.warning("a Ray cluster is one trust domain; links between the parties are plain TCP")


def _options(party: str, call: Call) -> dict[str, Any]:
    return {"resources": {resource(party): SHARE}, "num_returns": call.results or 1}


def _handles(refs: Sequence[Ref]) -> list[Any]:
    return [ref.handle for ref in refs]


def _refs(out: Any, party: str, what: str, call: Call) -> tuple[Ref, ...]:
    items = [out] if (call.results or 1) == 1 else out
    return tuple(Ref(party, what, item) for item in items)


def _failure_of(item: Any) -> Failure | None:
    if isinstance(item, Box):
        return item.failure
    return item if isinstance(item, Failure) else None


def _raise_first(results: list[Any]) -> list[Any]:
    for result in results:
        if isinstance(result, Failure):
            result.throw()
    return results


def _fetch(
    refs: Sequence[Ref], deadline: float | None, unpack: Callable[[list[Any]], list[Any]]
) -> list[Any]:
    """What Ray has for the refs; a process that is gone is a Failure that names its party."""
    try:
        return unpack(ray.get(_handles(refs), timeout=deadline))
    except ray.exceptions.RayError:
        return _fetch_one_by_one(refs, unpack)


def _fetch_one_by_one(refs: Sequence[Ref], unpack: Callable[[list[Any]], list[Any]]) -> list[Any]:
    until = time.monotonic() + GRACE
    results = []
    for ref in refs:
        try:
            left = max(0.0, until - time.monotonic())
            results += unpack([ray.get(ref.handle, timeout=left)])
        except ray.exceptions.RayError as error:
            results.append(gone(ref.party, ref.what, error))
    return results
