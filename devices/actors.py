"""Party processes on Ray: tasks for functions, actors for instances.

With machineactor.py, raybackend.py, raystart.py and presence.py the only module that imports Ray.
A party's values are objects that its own process put into the object store: what comes back to the
caller is a Box with a reference, because Ray would otherwise hand small results to the calling
process. Nothing is ever restarted or retried. A process that neither deals shares nor hosts a
machine imports this module alone, and with it no kernels.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from spuvm.devices.calls import Call, Slot, perform
from spuvm.devices.failure import Failure
from spuvm.errors import ChannelError, PartyError, SpuvmError, UsageError


@dataclass(frozen=True, slots=True)
class Box:
    """Where a party's value is: a reference to it, or the reason why there is none."""

    ref: Any
    failure: Failure | None = None


def boxed(party: str, what: str, results: Sequence[Any]) -> Any:
    """Results as Boxes, in the form that Ray wants for one or several returns."""
    boxes = [_box(party, what, value) for value in results]
    return boxes[0] if len(boxes) == 1 else tuple(boxes)


def _box(party: str, what: str, value: Any) -> Box:
    if isinstance(value, Failure):
        return Box(None, value)
    try:
        return Box(ray.put(value))
    except UNPICKLABLE as error:
        cannot = UsageError(
            f"what {what} returned cannot leave its process",
            got=f"{type(value).__name__}: {reason(error)}",
            next="return arrays, numbers, containers of these; keep the rest in an instance of a "
            "proxied class",
        )
        return Box(None, Failure(party, what, cannot))


UNPICKLABLE = (TypeError, AttributeError, RecursionError, pickle.PicklingError)


def reason(error: BaseException) -> str:
    """The first line of what pickle says; Ray hangs a long analysis behind it."""
    return str(error.__cause__ or error).strip().split("\n")[0][:200]


def unboxed(items: Sequence[Any]) -> list[Any]:
    """The values behind Boxes; other items are themselves."""
    refs = [item.ref for item in items if isinstance(item, Box) and item.failure is None]
    values = iter(ray.get(refs) if refs else ())
    return [item if not isinstance(item, Box) else item.failure or next(values) for item in items]


def arrived(party: str, what: str, items: Sequence[Any]) -> list[Any]:
    """The values behind Boxes, at a party; a Failure for one that is lost."""
    try:
        return unboxed(items)
    except ray.exceptions.RayError:
        return [_arrived(party, what, item) for item in items]


def _arrived(party: str, what: str, item: Any) -> Any:
    try:
        return unboxed([item])[0]
    except ray.exceptions.RayError as error:
        return Failure(party, what, explain(error, what))


def task_of(fn: Callable[..., Any], name: str) -> Any:
    """A Ray task that runs `fn` at a party."""

    def at_party(party: str, what: str, call: Call, *boxes: Any) -> Any:
        return boxed(party, what, perform(party, what, fn, call, arrived(party, what, boxes)))

    at_party.__name__ = at_party.__qualname__ = name
    return ray.remote(num_cpus=1, max_retries=0)(at_party)


@ray.remote(num_cpus=1, max_retries=0)
def join_at_party(party: str, what: str, join: Callable[..., Any], *parts: Any) -> Any:
    """Reconstruct a value at the party that it is opened to."""
    call = Call(tuple(Slot(i) for i in range(len(parts))), {})
    return boxed(party, what, perform(party, what, join, call, arrived(party, what, parts)))


def explain(error: Exception, what: str) -> SpuvmError:
    """What Ray says about a process, in the words of this package."""
    if isinstance(error, ray.exceptions.RayActorError):
        return PartyError(
            f"its process ended or cannot be reached (in {what})",
            next="make a new SPU (or instance); values held by PYUs are intact",
        )
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return PartyError(
            f"its process ended (in {what})",
            next="see the log of that party; values that this process had made are lost too",
        )
    if isinstance(error, ray.exceptions.ObjectLostError):
        return PartyError(
            f"a value is lost with the process that made it (in {what})", next="make it again"
        )
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return ChannelError(f"no answer in time (in {what})", next="see the log of that party")
    lines = str(error).strip().splitlines()
    return PartyError(f"{what} failed: {lines[-1] if lines else type(error).__name__}")


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class Resident:
    """An instance of a user's class that lives at a party."""

    def __init__(self, party: str, what: str, cls: type, call: Call, *boxes: Any) -> None:
        self._party = party
        self._instance = perform(party, what, cls, call, arrived(party, what, boxes))[0]

    def invoke(self, method: str, what: str, call: Call, *boxes: Any) -> Any:
        """Call a method; the results stay here, as Boxes."""
        if isinstance(self._instance, Failure):
            return boxed(self._party, what, (self._instance,) * (call.results or 1))
        fn = getattr(self._instance, method)
        values = arrived(self._party, what, boxes)
        return boxed(self._party, what, perform(self._party, what, fn, call, values))
