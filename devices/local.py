"""backend="inprocess": parties as threads of this process. It protects nobody from anybody.

Real protocol, real program, no cluster: one worker thread per party for PYU work and one per
virtual machine. Values are copied where they would travel, so that a party cannot see a change that
another makes to its own arrays. For tests, debugging and learning.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from spuvm.devices.backend import Backend, MachinePlan, Machines, Ref
from spuvm.devices.calls import Call, Slot, as_it_is, perform, working_for
from spuvm.devices.checkpoints import LoadOrder, SaveOrder
from spuvm.devices.containers import snapshot
from spuvm.devices.crossings import deal_parts
from spuvm.devices.failure import Failure, caught, checked
from spuvm.devices.host import Host, OpenOrder, RunOrder
from spuvm.devices.pending import Pending
from spuvm.errors import UsageError
from spuvm.net.local import LocalNetwork
from spuvm.ring import Ring

_Task = tuple[Future[Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Item:
    """One result of a task that has several."""

    future: Future[Any]
    index: int

    def result(self) -> Any:
        """Wait for the task; a Failure of the whole task is a Failure of each result."""
        out = self.future.result()
        return out if isinstance(out, Failure) else out[self.index]


def value(ref: Ref) -> Any:
    """What a Ref of this backend stands for, waiting for it if need be."""
    return ref.handle.result()


def _results(future: Future[Any], party: str, what: str, results: int | None) -> tuple[Ref, ...]:
    return tuple(Ref(party, what, Item(future, i)) for i in range(results or 1))


class Worker:
    """A thread that does one thing after another; results are Futures that never raise."""

    def __init__(self, party: str, role: str) -> None:
        self.party, self._role = party, role
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._loop, name=f"{role}-{party}", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Queue `task`; an exception that escapes it becomes a Failure, and so does coming late."""
        future: Future[Any] = Future()
        self._tasks.put((future, task))
        if self._ended:  # else the thread itself sees it, before or after it ends
            self._refuse_the_rest()
        return future

    def stop(self) -> None:
        """End after what is queued."""
        self._tasks.put(None)

    @property
    def ended(self) -> bool:
        """Whether it was stopped and has done all that was queued before."""
        return self._ended

    def _loop(self) -> None:
        with working_for(self.party):
            while (queued := self._tasks.get()) is not None:
                future, task = queued
                try:
                    future.set_result(task())
                except BaseException as error:  # nothing may end this thread but `stop`
                    future.set_result(caught(self.party, "internal work", error))
                del queued, future, task
        self._ended = True
        self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                queued = self._tasks.get_nowait()
                if queued is not None:
                    late = UsageError(f"{self._role} of party {self.party!r} has ended")
                    queued[0].set_result(caught(self.party, "internal work", late))


class LocalBackend(Backend):
    """All parties in this process."""

    def __init__(self, parties: tuple[str, ...]) -> None:
        self.parties = parties
        self._workers = {party: Worker(party, "pyu") for party in parties}
        self._pending = Pending()
        self._machines: list[weakref.finalize[Any, LocalMachines]] = []  # how each ends

    def call(
        self, party: str, what: str, fn: Callable[..., Any], call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        sent = as_it_is(call)

        def work() -> tuple[Any, ...]:
            values = [snapshot(value(r)) for r in refs]
            return tuple(map(snapshot, perform(party, what, fn, sent, values)))

        return self._start(party, what, work, call)

    def create(self, party: str, what: str, cls: type, call: Call, refs: Sequence[Ref]) -> Ref:
        sent = as_it_is(call)

        def work() -> tuple[Any, ...]:
            return perform(party, what, cls, sent, [snapshot(value(r)) for r in refs])

        return self._start(party, what, work, call)[0]

    def invoke(
        self, resident: Ref, what: str, method: str, call: Call, refs: Sequence[Ref]
    ) -> tuple[Ref, ...]:
        sent = as_it_is(call)

        def work() -> tuple[Any, ...]:
            instance = value(resident)
            if isinstance(instance, Failure):
                return (instance,) * (call.results or 1)
            values = [snapshot(value(r)) for r in refs]
            fn = getattr(instance, method)
            return tuple(map(snapshot, perform(resident.party, what, fn, sent, values)))

        return self._start(resident.party, what, work, call)

    def describe(self, ref: Ref, what: str, look: Callable[[Any], Any]) -> Ref:
        return self.call(ref.party, what, look, Call((Slot(0),), {}), [ref])[0]

    def move(self, ref: Ref, target: str) -> Ref:
        source = self._workers[ref.party]
        return Ref(target, ref.what, source.submit(lambda: snapshot(value(ref))))

    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        found = [snapshot(value(r)) for r in refs]
        self._pending.heard(found)
        return found

    def wait(self, refs: Sequence[Ref]) -> list[Failure]:
        results = [value(r) for r in refs]
        self._pending.heard(results)
        return [r for r in results if isinstance(r, Failure)]

    def start_machines(self, plan: MachinePlan) -> LocalMachines:
        machines = LocalMachines(plan, self._workers)
        self._machines.append(machines.end)
        return machines

    def settle(self) -> list[Failure]:
        return self._pending.settle()

    def close(self) -> None:
        for end in tuple(self._machines):
            end()
        for worker in self._workers.values():
            worker.stop()

    def _start(
        self, party: str, what: str, work: Callable[[], tuple[Any, ...]], call: Call
    ) -> tuple[Ref, ...]:
        future = self._workers[party].submit(work)
        self._pending.started(f"{what} at {party}", future, _given)
        return _results(future, party, what, call.results)


def _given(future: Future[Any]) -> Sequence[Any]:
    out = future.result()
    return (out,) if isinstance(out, Failure) else out


class LocalMachines(Machines):
    """Three machines on three threads, linked by queues."""

    def __init__(self, plan: MachinePlan, owners: dict[str, Worker]) -> None:
        self.plan = plan
        self._owners = owners
        self._hosts = [Host(party) for party in plan.parties]
        self._workers = [Worker(party, plan.name) for party in plan.parties]
        self.end = weakref.finalize(self, _end, self._hosts, self._workers)
        channels = LocalNetwork(3, timeout=plan.deadline, names=plan.parties).channels
        met = [
            worker.submit(partial(host.attach, rank, channel, plan.ring_bits, plan.parties))
            for rank, (worker, host, channel) in enumerate(
                zip(self._workers, self._hosts, channels, strict=True)
            )
        ]
        checked([m.result() for m in met])

    def feed(self, name: str, owner: str, what: str, deal: Callable[[Any], Any], ref: Ref) -> Ref:
        dealt = self._owners[owner].submit(partial(_perform, owner, what, deal, 2, (), [ref]))
        for rank, worker in enumerate(self._workers):
            worker.submit(partial(_put, self._hosts[rank], name, Item(dealt, 1), rank))
        return _results(dealt, owner, what, 2)[0]

    def run(self, order: RunOrder) -> tuple[Ref, ...]:
        return self._all(order.what, [partial(host.run, order) for host in self._hosts])

    def open_here(self, order: OpenOrder) -> tuple[Ref, ...]:
        return self._all("opening", [partial(host.open, order) for host in self._hosts])

    def open_at(self, order: OpenOrder, party: str, what: str, join: Callable[..., Any]) -> Ref:
        work = partial(_perform, party, what, join, None, (), self.open_here(order))
        return _results(self._owners[party].submit(work), party, what, None)[0]

    def pass_on(self, order: OpenOrder, target: Machines, names: Sequence[str]) -> tuple[Ref, ...]:
        assert isinstance(target, LocalMachines)
        done: list[Ref] = []
        extra = (order, Ring(self.plan.ring_bits))
        for name, part, worker in zip(names, self.open_here(order), self._workers, strict=True):
            what = "passing on"
            dealt = worker.submit(
                partial(_perform, worker.party, what, deal_parts, 3, extra, [part])
            )
            pieces = _results(dealt, worker.party, what, 3)
            for rank, receiver in enumerate(target._workers):
                host, piece = target._hosts[rank], pieces[rank].handle
                receiver.submit(partial(_put, host, name, piece, None))
            done += pieces
        return tuple(done)

    def save(self, order: SaveOrder) -> tuple[Ref, ...]:
        return self._all("saving", [partial(host.save, order) for host in self._hosts])

    def load(self, order: LoadOrder) -> tuple[Ref, ...]:
        return self._all("loading", [partial(host.load, order) for host in self._hosts])

    def free(self, names: Sequence[str]) -> None:
        if self.end.alive:
            self._all("freeing", [partial(host.free, names) for host in self._hosts])

    def names(self) -> list[list[str]]:
        """What each machine holds, after everything that was asked for before."""
        return [value(r) for r in self._all("listing", [host.names for host in self._hosts])]

    def close(self) -> None:
        self.end()

    def _all(self, what: str, steps: Sequence[Callable[[], Any]]) -> tuple[Ref, ...]:
        if not self.end.alive:
            raise UsageError(f"{self.plan.name} was closed", next="make a new SPU")
        return tuple(
            Ref(worker.party, what, worker.submit(step))
            for worker, step in zip(self._workers, steps, strict=True)
        )


def nothing() -> None:
    """A task that is done when all before it are."""


def _perform(
    party: str,
    what: str,
    fn: Callable[..., Any],
    results: int | None,
    extra: tuple[Any, ...],
    refs: Sequence[Ref],
) -> tuple[Any, ...]:
    call = Call((*(Slot(i) for i in range(len(refs))), *extra), {}, results)
    return perform(party, what, fn, call, [value(ref) for ref in refs])


def _put(host: Host, name: str, item: Item, rank: int | None) -> None:
    pieces = item.result()
    host.put(name, pieces if rank is None or isinstance(pieces, Failure) else pieces[rank])


def _end(hosts: Sequence[Host], workers: Sequence[Worker]) -> None:
    for host, worker in zip(hosts, workers, strict=True):
        worker.submit(host.close)
        worker.stop()
