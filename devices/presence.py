"""Which parties have a node in the Ray cluster; what waits for one that has none is cancelled.

Ray keeps a task for a resource that no node brings until some node brings it, which may be never.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from spuvm.errors import PartyError

REMEMBERED = 4096  # tasks of each party, the latest ones; older ones have long been started
ABSENT = "no node of it is in the Ray cluster any more"
WAY_OUT = "start a node that brings its resource; then make a new SPU (or instance) and call again"


class Presence:
    """Knows the nodes of the parties as of the last look, and what was asked of each party.

    Tasks are remembered by their numbers, not by handles, which would keep their results alive.
    """

    def __init__(self, resources: Mapping[str, str]) -> None:
        """`resources`: the name of the Ray resource of each party."""
        self._resources = dict(resources)
        self._lock = threading.Lock()
        self._asked: dict[str, deque[bytes]] = {p: deque(maxlen=REMEMBERED) for p in resources}
        self._actors: dict[str, weakref.WeakSet[Any]] = {p: weakref.WeakSet() for p in resources}
        self.absent: frozenset[str] = frozenset()

    def asked(self, party: str, handles: Iterable[Any]) -> None:
        """Remember what a task of this party will return."""
        with self._lock:
            self._asked[party].extend(handle.binary() for handle in handles)

    def hosts(self, party: str, actor: Any) -> None:
        """Remember an actor that lives at this party."""
        with self._lock:
            self._actors[party].add(actor)

    def require(self, party: str) -> None:
        """Raise when this party was absent and still is.

        Raises:
            PartyError: no node of the party is in the cluster.
        """
        if party in self.absent and party in self.look():
            raise PartyError(f"party {party!r}: {ABSENT}", next=WAY_OUT)

    def look(self) -> frozenset[str]:
        """The parties without a node now; what was asked of them fails, and what waits for it."""
        have = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
        self.absent = frozenset(p for p, name in self._resources.items() if name not in have)
        for party in self.absent:
            self._give_up(party)
        return self.absent

    def _give_up(self, party: str) -> None:
        with self._lock:
            asked, actors = list(self._asked[party]), list(self._actors[party])
            self._asked[party].clear()
            self._actors[party].clear()
        for number in asked:
            with contextlib.suppress(ValueError, TypeError, ray.exceptions.RayError):
                ray.cancel(ray.ObjectRef(number))  # nothing happens to a task that has ended
        for actor in actors:
            ray.kill(actor)
