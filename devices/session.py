"""The one session of a process: who takes part and where their work runs."""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.backend import Backend, Machines
from spuvm.devices.local import LocalBackend, at_party
from spuvm.errors import SpuvmError, UsageError

BackendName = Literal["ray", "inprocess"]
Logs = Literal["driver", "files"]

_PARTY = re.compile(r"[A-Za-z_][\w.-]*")
_GATHER = 0.05  # seconds that dropped handles wait for company


class Session:
    """Parties, their backend, and counters that name what is made, the same in every run."""

    def __init__(self, parties: tuple[str, ...], backend: Backend) -> None:
        self.parties = parties
        self.backend = backend
        self.opened: dict[Disclosure, int] = {}
        self._counters: dict[str, itertools.count[int]] = {}
        self._dropped: queue.SimpleQueue[tuple[Machines, str] | None] = queue.SimpleQueue()
        threading.Thread(target=self._free, name="spuvm-free", daemon=True).start()

    def fresh(self, kind: str) -> str:
        """The next name of a kind: spu0, spu1, ..."""
        return f"{kind}{next(self._counters.setdefault(kind, itertools.count()))}"

    def drop(self, machines: Machines, name: str) -> None:
        """Free a value at its machines, soon; may be called while garbage is collected."""
        self._dropped.put((machines, name))

    def close(self) -> None:
        """End all work."""
        self._dropped.put(None)
        self.backend.close()

    def _free(self) -> None:
        while (first := self._dropped.get()) is not None:
            time.sleep(_GATHER)
            batch = {first[0]: [first[1]]}
            for machines, name in self._waiting():
                batch.setdefault(machines, []).append(name)
            for machines, names in batch.items():
                with contextlib.suppress(SpuvmError):  # closed in between: nothing to free
                    machines.free(names)
            first = batch = machines = None  # type: ignore[assignment]  # hold nothing while idle

    def _waiting(self) -> Iterator[tuple[Machines, str]]:
        """What was dropped in the meantime; the end of the session is left in the queue."""
        with contextlib.suppress(queue.Empty):
            while (more := self._dropped.get_nowait()) is not None:
                yield more
            self._dropped.put(None)


_session: Session | None = None


def init(
    parties: Sequence[str],
    backend: BackendName = "ray",
    address: str | None = None,
    *,
    logs: Logs = "driver",
) -> None:
    """Start a session of named parties; every device belongs to it.

    Args:
        parties: their names, data owners and computing parties alike.
        backend: "ray", or "inprocess": threads of this process, which protects nobody.
        address: of a Ray cluster to join ("auto", "ray://host:port"); None starts Ray here.
            Each party's nodes bring the resource "party:<name>".
        logs: where Ray shows what functions print at parties: here ("driver"), or only in its
            log files.

    Raises:
        UsageError: a session is already there, names that are empty, odd or not distinct, an
            unknown backend, or a cluster without nodes of some party.
    """
    global _session
    if _session is not None:
        raise UsageError(
            "sf.init was called before",
            got=f"a running session of {', '.join(_session.parties)}",
            next="call sf.shutdown() first",
        )
    names = checked_parties(parties)
    if backend not in get_args(BackendName):
        words = " or ".join(repr(word) for word in get_args(BackendName))
        raise UsageError("unknown backend", got=repr(backend), expected=words)
    if logs not in get_args(Logs):
        words = " or ".join(repr(word) for word in get_args(Logs))
        raise UsageError("unknown place for logs", got=repr(logs), expected=words)
    if backend == "inprocess":
        if address is not None:
            raise UsageError("an in-process session has no address", got=repr(address))
        _session = Session(names, LocalBackend(names))
        return
    try:
        from spuvm.devices.raybackend import RayBackend
    except ImportError as error:
        raise UsageError(
            "Ray is not installed",
            next='pip install "spuvm[ray]", or sf.init(..., backend="inprocess")',
        ) from error
    _session = Session(names, RayBackend(names, address, logs))


def shutdown() -> None:
    """End the session; handles of it are of no use any more. Without a session: nothing."""
    global _session
    session, _session = _session, None
    if session is not None:
        session.close()


_role = threading.local()


def play(session: Session | None) -> None:
    """Make this thread one party's script, with a session of its own: rehearsals in one process."""
    _role.session = session


def current() -> Session:
    """The running session.

    Raises:
        UsageError: there is none, or this is a party's own thread.
    """
    if at_party() is not None:
        raise UsageError(
            "devices are driven from the script, not from a function that runs at a party",
            got=f"a call inside a function at {at_party()!r}",
            next="return the value and move it with .to(device)",
        )
    own: Session | None = getattr(_role, "session", None)
    if own is not None:
        return own
    if _session is None:
        raise UsageError(
            "no session is running",
            expected="sf.init(parties=[...]) before any device is used",
        )
    return _session


def checked_parties(parties: Sequence[str]) -> tuple[str, ...]:
    """Party names as a tuple, or an error that says what is wrong with them."""
    if isinstance(parties, str) or not isinstance(parties, Sequence) or not parties:
        raise UsageError(
            "parties are a list of names", got=repr(parties), expected='["alice", "bob", "carol"]'
        )
    for name in parties:
        if not isinstance(name, str) or not _PARTY.fullmatch(name):
            raise UsageError(
                "not a party name",
                got=repr(name),
                expected="letters, digits, '_', '-' and '.', not starting with a digit",
            )
    twice = sorted({name for name in parties if list(parties).count(name) > 1})
    if twice:
        raise UsageError("parties are named twice", got=", ".join(twice))
    return tuple(parties)
