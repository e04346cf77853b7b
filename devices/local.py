"""backend="inprocess": parties as threads of this process. It protects nobody from anybody.

Real protocol, real program, no cluster: one worker thread per party for PYU work and one per
virtual machine. Values are copied where they would travel, so that a party cannot see a change that
another makes to its own arrays. For tests, debugging and learning.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from spuvm.devices.backend import Backend, MachinePlan, Machines, Ref
from spuvm.devices.calls import Call, Slot, perform
from spuvm.devices.crossings import deal_parts
from spuvm.devices.failure import Failure, caught
from spuvm.devices.host import Host, OpenOrder, RunOrder
from spuvm.errors import UsageError
from spuvm.net.local import LocalNetwork
from spuvm.ring import Ring

log = logging.getLogger("spuvm")

_here = threading.local()


def at_party() -> str | None:
    """The party whose work this thread does, None in the driver's threads."""
    return getattr(_here, "party", None)


@dataclass(frozen=True, slots=True)
class Item:
    """One result of a task that has several."""

    future: Future[Any]
    index: int

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task; a Failure of the whole task is a Failure of each result."""
        out = self.future.result(timeout)
        return out if isinstance(out, Failure) else out[self.index]


def value(ref: Ref) -> Any:
    """What a Ref of this backend stands for, waiting for it if need be."""
    return ref.handle.result()


def _results(future: Future[Any], party: str, what: str, results: int | None) -> tuple[Ref, ...]:
    return tuple(Ref(party, what, Item(future, i)) for i in range(results or 1))


def _snapshot(value: Any) -> Any:
    """A copy of what travels; what cannot be copied (an open file, say) is passed as it is."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


class Worker:
    """A thread that does one thing after another; results are Futures that never raise."""

    def __init__(self, party: str, role: str) -> None:
        self.party = party
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"{role}-{party}", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Queue `task`; an exception that escapes it becomes a Failure."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(task())
            except Exception as error:
                future.set_result(caught(self.party, "internal work", error))

        self._tasks.put(work)
        return future

    def stop(self) -> None:
        """End after what is queued."""
        self._tasks.put(None)

    def _loop(self) -> None:
        _here.party = self.party
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            del task


class LocalBackend(Backend):
    """All parties in this process."""

    def __init__(self, parties: tuple[str, ...]) -> None:
        log.warning(
            'backend="inprocess": all parties share this process; it protects nobody, '
            "use it for tests and debugging"
        )
        self.parties = parties
        self._workers = {party: Worker(party, "pyu") for party in parties}
        self._machines: list[LocalMachines] = []

    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        def work() -> tuple[Any, ...]:
            return perform(party, what, fn, call, [_snapshot(value(r)) for r in refs])

        return _results(self._workers[party].submit(work), party, what, call.results)

    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        return self.call(party, what, cls, call, refs)[0]

    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        def work() -> tuple[Any, ...]:
            instance = value(resident)
            if isinstance(instance, Failure):
                return (instance,) * (call.results or 1)
            values = [_snapshot(value(r)) for r in refs]
            fn = getattr(instance, method)
            return tuple(map(_snapshot, perform(resident.party, what, fn, call, values)))

        worker = self._workers[resident.party]
        return _results(worker.submit(work), resident.party, what, call.results)

    def move(self, ref: Ref, target: str) -> Ref:
        source = self._workers[ref.party]
        return Ref(target, ref.what, source.submit(lambda: _snapshot(value(ref))))

    def fetch(self, refs: Sequence[Ref], deadline: float | None = None) -> list[Any]:
        return [_snapshot(r.handle.result(deadline)) for r in refs]

    def wait(self, refs: Sequence[Ref]) -> list[Any]:
        results = [value(r) for r in refs]
        return [r for r in results if isinstance(r, Failure)]

    def start_machines(self, plan: MachinePlan) -> LocalMachines:
        machines = LocalMachines(plan, self._workers)
        self._machines.append(machines)
        return machines

    def close(self) -> None:
        for machines in self._machines:
            machines.close()
        for worker in self._workers.values():
            worker.stop()


class LocalMachines(Machines):
    """Three machines on three threads, linked by queues."""

    def __init__(self, plan: MachinePlan, owners: dict[str, Worker]) -> None:
        self.plan = plan
        self._owners = owners
        self._closed = threading.Event()
        self._hosts = [Host(party) for party in plan.parties]
        self._workers = [Worker(party, plan.name) for party in plan.parties]
        network = LocalNetwork(3, timeout=plan.deadline, names=plan.parties)
        channels = network.channels
        met = [
            worker.submit(
                lambda h=host, r=rank: h.attach(r, channels[r], plan.ring_bits, plan.parties)
            )
            for rank, (worker, host) in enumerate(zip(self._workers, self._hosts, strict=True))
        ]
        for failure in filter(None, [m.result() for m in met]):
            failure.throw()

    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        call = Call(args=(Slot(0),), kwargs={}, results=2)
        dealt = self._owners[owner].submit(lambda: perform(owner, what, deal, call, [value(ref)]))

        def put(rank: int) -> None:
            pieces = dealt.result()[1]
            self._hosts[rank].put(name, pieces if isinstance(pieces, Failure) else pieces[rank])

        for rank, worker in enumerate(self._workers):
            worker.submit(lambda r=rank: put(r))
        return _results(dealt, owner, what, 2)[0]

    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        return self._all(order.what, lambda host: host.run(order))

    def open_here(self, order: OpenOrder) -> tuple[Ref, ...]:
        return self._all("opening", lambda host: host.open(order))

    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        parts = self.open_here(order)
        call = Call(tuple(Slot(i) for i in range(3)), {})

        def work() -> tuple[Any, ...]:
            return perform(party, what, join, call, [value(p) for p in parts])

        return _results(self._owners[party].submit(work), party, what, None)[0]

    def pass_on(self, order: OpenOrder, target: Machines, names: Sequence[str]) -> tuple[Ref, ...]:
        assert isinstance(target, LocalMachines)
        ring = Ring(self.plan.ring_bits)
        parts = self.open_here(order)
        done = []
        for name, part, worker in zip(names, parts, self._workers, strict=True):
            call = Call((Slot(0), order, ring), {}, 3)
            dealt = worker.submit(
                lambda p=part, w=worker, c=call: perform(w.party, "passing on", deal_parts, c, [value(p)])
            )
            for rank, receiver in enumerate(target._workers):
                receiver.submit(
                    lambda d=dealt, r=rank, n=name: target._hosts[r].put(n, d.result()[r])
                )
            done += _results(dealt, worker.party, "passing on", 3)
        return tuple(done)

    def free(self, names: Sequence[str]) -> None:
        if not self._closed.is_set():
            self._all("freeing", lambda host: host.free(names))

    def names(self) -> list[list[str]]:
        """What each machine holds, after everything that was asked for before."""
        return [value(r) for r in self._all("listing", lambda host: host.names())]

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            for host, worker in zip(self._hosts, self._workers, strict=True):
                worker.submit(host.close)
                worker.stop()

    def _all(self, what: str, step: Callable[[Host], Any]) -> tuple[Ref, ...]:
        if self._closed.is_set():
            raise UsageError(f"{self.plan.name} was closed", next="make a new SPU")
        return tuple(
            Ref(host.party, what, worker.submit(lambda h=host: step(h)))
            for host, worker in zip(self._hosts, self._workers, strict=True)
        )
