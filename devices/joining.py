"""From a cluster file to a session without a driver: links, agreement, ledger, and how it ends."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from types import TracebackType
from typing import Any

import jax

from spuvm.devices.backend import Backend
from spuvm.devices.cluster import Cluster
from spuvm.devices.ledger import Entry, Ledger
from spuvm.devices.local import LocalBackend
from spuvm.devices.party import PartyBackend
from spuvm.errors import SpuvmError, UsageError
from spuvm.net.endpoint import Endpoint, Envelope

log = logging.getLogger("spuvm")

_POLICY = "policy"


def join(cluster: Cluster, endpoint: Endpoint, inner: Callable[[], Backend]) -> PartyBackend:
    """Meet the other parties and agree on what must be the same.

    Args:
        endpoint: not yet connected.
        inner: makes the backend that runs this party's own functions, once all are there.

    Raises:
        UsageError: the ledger cannot be used.
        ChannelError: a party did not come, or does not agree.
    """
    ledger = Ledger(cluster.ledger, cluster.party, "")
    try:
        endpoint.connect(settings(cluster))
        ledger.session = endpoint.session.hex()[:16]
        policies = _tell_policies(cluster, endpoint)
        entry = Entry("note", "public", "start", 0, "", (), endpoint.parties)
        ledger.write(entry, {"policies": policies})
        return PartyBackend(cluster, endpoint, inner(), ledger)
    except BaseException:
        ledger.close()
        endpoint.close()
        raise


def settings(cluster: Cluster) -> dict[str, str]:
    """What must be equal at all parties before anything happens."""
    timing = cluster.timing
    return {
        "spuvm": str(sys.modules["spuvm"].__version__),  # the name would import everything
        "jax": version("jax"),
        "64-bit types of jax": str(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "deadline": f"{timing.deadline:g} s",
        "patience": f"{timing.patience:g} s",
        "links": "TLS" if cluster.links.tls is not None else "plain",
    }


def connect(cluster: Cluster, backend: str, address: str | None, logs: Any) -> PartyBackend:
    """Join over TCP, with TLS where the cluster file names certificates."""
    from spuvm.net.tcp_endpoint import TcpEndpoint

    if cluster.links.tls is None:
        log.warning("links between the parties are not encrypted: for development on one machine")
    party = (cluster.party,)

    def inner() -> Backend:
        if backend == "inprocess":
            return LocalBackend(party)
        from spuvm.devices.raybackend import RayBackend

        return RayBackend(party, address, logs)

    return join(cluster, TcpEndpoint(cluster.party, cluster.links), inner)


def at_the_end(shutdown: Callable[[], None], backend: PartyBackend) -> None:
    """End the session when the script ends: well, or by telling the others of its error."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if not backend.closed.locked():
            backend.leave(error)

    def finish() -> None:
        try:
            shutdown()
        except SpuvmError as error:
            print(f"spuvm: {error}", file=sys.stderr)

    if threading.current_thread() is threading.main_thread():
        sys.excepthook = hook
        atexit.register(finish)


def chosen(cluster: Cluster, parties: Any) -> tuple[str, ...]:
    """The parties of a session: those of the cluster file, which a script may name again."""
    from spuvm.devices.session import checked_parties

    if parties is None:
        return cluster.parties
    unknown = [name for name in checked_parties(parties) if name not in cluster.parties]
    if unknown:
        raise UsageError(
            "the script names parties that the cluster file does not have",
            got=", ".join(unknown),
            expected=f"some of {', '.join(cluster.parties)}",
            next="add them under [parties]",
        )
    return cluster.parties


def _tell_policies(cluster: Cluster, endpoint: Endpoint) -> dict[str, str]:
    """Digests of all parties' policies: not compared, but everybody's ledger has them."""
    own = sha256(repr(cluster.policy).encode()).hexdigest()
    others = [party for party in endpoint.parties if party != cluster.party]
    for peer in others:
        endpoint.send(peer, Envelope(_POLICY, _POLICY), own)
    wait = cluster.timing.deadline
    heard = {
        peer: str(endpoint.receive(peer, Envelope(_POLICY, _POLICY), deadline=wait))[:64]
        for peer in others
    }
    return {cluster.party: own, **heard}
