"""Calls at parties: which are under way, and failures that nobody has heard of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

from spuvm.devices.failure import Failure

log = logging.getLogger("spuvm")

PATIENCE = 2.0  # seconds of waiting after which it is said what is waited for, and looked around


class Pending:
    """What was started and what came of it, as far as nobody asked for it.

    Only calls that are under way are held, so that results live as long as their handles.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Future[Any], tuple[str, Callable[[Future[Any]], Sequence[Any]]]] = {}
        self._unheard: dict[str, Failure] = {}
        self._heard: set[str] = set()

    def started(
        self, name: str, future: Future[Any], results: Callable[[Future[Any]], Sequence[Any]]
    ) -> None:
        """A call has begun; of the future that is done, `results` gives what may be Failures."""
        with self._lock:
            self._running[future] = name, results
        future.add_done_callback(self._done)

    def heard(self, items: Iterable[Any]) -> None:
        """Somebody was given these; Failures among them are known now, also to what used them."""
        with self._lock:
            for item in items:
                if isinstance(item, Failure):
                    self._heard.add(_key(item))
                    self._unheard.pop(_key(item), None)

    def settle(self, meanwhile: Callable[[], object] | None = None) -> list[Failure]:
        """Wait for all calls; the failures that nobody has heard of.

        `meanwhile` is called now and then; it may end calls that cannot end by themselves.
        """
        said = False
        while running := self._names():
            wait_for(running, PATIENCE)
            for future in running:
                if future.done():
                    self._done(future)
            if left := self._names():
                if not said:
                    said = True
                    log.warning("still waiting for %s", ", ".join(sorted(set(left.values()))))
                if meanwhile is not None:
                    meanwhile()
        with self._lock:
            return list(self._unheard.values())

    def _names(self) -> dict[Future[Any], str]:
        with self._lock:
            return {future: name for future, (name, _) in self._running.items()}

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            _, results = self._running.pop(future, (None, None))
        if results is None:
            return
        failures = [item for item in results(future) if isinstance(item, Failure)]
        with self._lock:
            for failure in failures:
                if _key(failure) not in self._heard:
                    self._unheard[_key(failure)] = failure


def _key(failure: Failure) -> str:
    return f"{failure.party}\n{failure.what}\n{failure.error!r}"


def say_unheard(failures: Sequence[Failure]) -> None:
    """Log failures of calls whose results nobody asked for."""
    for failure in failures:
        try:
            failure.throw()
        except Exception as error:
            log.warning("nobody asked for this result: %s", error)
