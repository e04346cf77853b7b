"""The one session of a process: who takes part and where their work runs."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.backend import Backend, Machines
from spuvm.devices.calls import at_party
from spuvm.devices.flow import Flow
from spuvm.devices.local import LocalBackend
from spuvm.devices.pending import say_unheard
from spuvm.errors import SpuvmError, UsageError

log = logging.getLogger("spuvm")

BackendName = Literal["ray", "inprocess"]
Logs = Literal["driver", "files"]

_PARTY = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_TAKEN = re.compile(r"driver|caller|everybody|(spu|heu)\d+")  # others in reports and ledgers
_GATHER = 0.05  # seconds that dropped handles wait for company


class Session:
    """Parties, their backend, and counters that name what is made, the same in every run."""

    def __init__(self, parties: tuple[str, ...], backend: Backend) -> None:
        self.parties = parties
        self.backend = backend
        self.opened: dict[Disclosure, int] = {}
        self.noting = threading.Lock()  # held while `opened` is counted
        self.flow = Flow()
        self.held: list[object] = []  # devices whose processes hold values that are on their way
        self._counters: dict[str, itertools.count[int]] = {}
        self._dropped: queue.SimpleQueue[tuple[Machines, str] | None] = queue.SimpleQueue()
        threading.Thread(target=self._free, name="spuvm-free", daemon=True).start()

    def fresh(self, kind: str) -> str:
        """The next name of a kind: spu0, spu1, ..."""
        return f"{kind}{next(self._counters.setdefault(kind, itertools.count()))}"

    def drop(self, machines: Machines, name: str) -> None:
        """Free a value at its machines, soon; may be called while garbage is collected."""
        self._dropped.put((machines, name))

    def close(self, *, at_once: bool = False) -> None:
        """End all work: after what was asked for, or at once."""
        self._dropped.put(None)
        try:
            if self.backend.me is None and not at_once:  # without a driver, leaving is more
                say_unheard(self.backend.settle())
        finally:
            self.backend.close()
            self.held.clear()

    def _free(self) -> None:
        while (first := self._dropped.get()) is not None:
            time.sleep(_GATHER)
            batch = {first[0]: [first[1]]}
            for machines, name in self._waiting():
                batch.setdefault(machines, []).append(name)
            for machines, names in batch.items():
                try:
                    machines.free(names)
                except SpuvmError:  # closed in between: nothing to free
                    pass
                except Exception as error:  # of a machine that is gone; others go on
                    log.warning("cannot free values of %s: %s", machines.plan.name, error)
            first = batch = machines = None  # type: ignore[assignment]  # hold nothing while idle

    def _waiting(self) -> Iterator[tuple[Machines, str]]:
        """What was dropped in the meantime; the end of the session is left in the queue."""
        with contextlib.suppress(queue.Empty):
            while (more := self._dropped.get_nowait()) is not None:
                yield more
            self._dropped.put(None)


_session: Session | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """Which party this process is; `spuvm run` says it for scripts that do not."""

    party: str
    cluster: str
    backend: BackendName


_assigned: Role | None = None


def assign(role: Role | None) -> None:
    """Make every sf.init of this process join as this party."""
    global _assigned
    _assigned = role


def init(
    parties: Sequence[str] | None = None,
    backend: BackendName = "ray",
    address: str | None = None,
    *,
    party: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    logs: Logs = "driver",
) -> None:
    """Start a session of named parties; every device belongs to it.

    With `party` and `cluster` there is no driver: every party runs this same script and carries out
    its own part of it (`spuvm run` says both for a script that does not).

    Args:
        parties: their names, data owners and computing parties alike; from the cluster file where
            there is one.
        party: which party this process is.
        cluster: path of the cluster file: addresses, certificates, policy (devices/cluster.py).
        backend: "ray", or "inprocess": threads of this process, which protects nobody.
        address: of a Ray cluster to join ("auto", "ray://host:port"); None starts Ray here.
            Each party's nodes bring the resource "party:<name>". With `party`: its own Ray.
        logs: where Ray shows what functions print at parties: here ("driver"), or only in its
            log files.

    Raises:
        UsageError: a session is already there, names that are empty, odd or not distinct, an
            unknown backend, a cluster without nodes of some party, or an odd cluster file.
        ChannelError: another party did not come in time, or does not agree on what must be equal.
    """
    global _session
    _not_at_a_party()
    if _session is not None:
        raise UsageError(
            "sf.init was called before",
            got=f"a running session of {', '.join(_session.parties)}",
            next="call sf.shutdown() first",
        )
    if _assigned is not None:
        party, cluster, backend = _assigned.party, _assigned.cluster, _assigned.backend
    if (party is None) != (cluster is None):
        raise UsageError(
            "party and cluster go together",
            got=f"party={party!r}, cluster={cluster!r}",
            expected='sf.init(party="alice", cluster="cluster.toml")',
        )
    if backend not in get_args(BackendName):
        words = " or ".join(repr(word) for word in get_args(BackendName))
        raise UsageError("unknown backend", got=repr(backend), expected=words)
    if logs not in get_args(Logs):
        words = " or ".join(repr(word) for word in get_args(Logs))
        raise UsageError("unknown place for logs", got=repr(logs), expected=words)
    if backend == "inprocess" and address is not None:
        raise UsageError("an in-process session has no address", got=repr(address))
    if party is not None and cluster is not None:
        _session = _join(parties, party, cluster, backend, address, logs)
        return
    names = checked_parties(parties or ())
    if backend == "inprocess":
        log.warning(
            'backend="inprocess": all parties share this process; it protects nobody, '
            "use it for tests and debugging"
        )
        _session = Session(names, LocalBackend(names))
        _finish_at_exit()
        return
    try:
        from spuvm.devices.raybackend import RayBackend
    except ImportError as error:
        raise UsageError(
            "Ray is not installed",
            next='pip install "spuvm[ray]", or sf.init(..., backend="inprocess")',
        ) from error
    _session = Session(names, RayBackend(names, address, logs))
    _finish_at_exit()


def _join(
    parties: Sequence[str] | None,
    party: str,
    cluster: str | os.PathLike[str],
    backend: BackendName,
    address: str | None,
    logs: Logs,
) -> Session:
    """A session without a driver."""
    from spuvm.devices.cluster import load
    from spuvm.devices.joining import at_the_end, chosen, connect

    found = load(Path(cluster), party)
    names = chosen(found, parties)
    joined = connect(found, backend, address, logs)
    at_the_end(shutdown, joined)
    return Session(names, joined)


def shutdown() -> None:
    """End the session; handles of it are of no use any more. Without a session: nothing.

    Calls at parties that were started are carried out first, and failures of theirs that nobody
    has heard of are logged as warnings; while an exception is under way all ends at once.
    """
    global _session
    _not_at_a_party()
    session, _session = _session, None
    if session is not None:
        session.close(at_once=sys.exc_info()[1] is not None)


def _finish() -> None:
    """Where a script does not say `sf.shutdown()`: a driver's calls are carried out before it ends.

    Not those of a script that an exception ended.
    """
    if _session is not None and _session.backend.me is None and not hasattr(sys, "last_value"):
        shutdown()


def _finish_at_exit() -> None:
    """Register `_finish` as the last one, so that it is called before Ray ends itself."""
    atexit.unregister(_finish)
    atexit.register(_finish)


_role = threading.local()


def play(session: Session | None) -> None:
    """Make this thread one party's script, with a session of its own: rehearsals in one process."""
    _role.session = session


def current() -> Session:
    """The running session.

    Raises:
        UsageError: there is none, or this is a party's own thread.
    """
    _not_at_a_party()
    own: Session | None = getattr(_role, "session", None)
    if own is not None:
        return own
    if _session is None:
        raise UsageError(
            "no session is running",
            expected="sf.init(parties=[...]) before any device is used",
        )
    return _session


def _not_at_a_party() -> None:
    if at_party() is not None:
        raise UsageError(
            "devices are driven from the script, not from a function that runs at a party",
            got=f"a call inside a function at {at_party()!r}",
            next="return the value and move it with .to(device)",
        )


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
        if _TAKEN.fullmatch(name):
            raise UsageError(
                "a party's name that means somebody else in reports",
                got=repr(name),
                expected="not driver, caller, everybody, spu0 or heu0",
            )
    twice = sorted({name for name in parties if list(parties).count(name) > 1})
    if twice:
        raise UsageError("parties are named twice", got=", ".join(twice))
    return tuple(parties)
