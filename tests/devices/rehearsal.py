"""Several parties as threads of the test: the same script at each, over in-process endpoints."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from spuvm.devices.cluster import Cluster, Timing
from spuvm.devices.ledger import Ledger
from spuvm.devices.local import LocalBackend
from spuvm.devices.party import PartyBackend
from spuvm.devices.policy import Policy
from spuvm.devices.session import Session, play
from spuvm.net.local_endpoint import local_endpoints
from spuvm.net.settings import Links

PARTIES = ("alice", "bob", "carol")


@dataclass
class Rehearsal:
    """Runs a function as the script of every party; results and errors by party."""

    folder: Path
    parties: tuple = PARTIES
    policies: dict = field(default_factory=dict)
    patience: float = 20.0
    deadline: float = 10.0
    largest: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    endpoints: dict = field(default_factory=dict)

    def run(self, script, limit=60.0):
        """`script(me)` at every party at once."""
        self.endpoints = local_endpoints(self.parties, deadline=self.deadline)
        self._met = threading.Barrier(len(self.parties))
        threads = [
            threading.Thread(target=self._party, args=(name, script)) for name in self.parties
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(limit)
            assert not thread.is_alive(), f"{thread} hangs"
        return self

    def ledger(self, party):
        return self.folder / f"{party}.jsonl"

    def _party(self, name, script):
        endpoint = self.endpoints[name]
        cluster = Cluster(
            name,
            self.parties,
            Links({p: ("127.0.0.1", 1 + i) for i, p in enumerate(self.parties)}),
            Timing(self.deadline, self.deadline, self.patience),
            self.policies.get(name, Policy(name)),
            self.ledger(name),
            self.folder / f"{name}.key",
            self.largest.get(name, 1 << 30),
        )
        endpoint.connect({})
        self._met.wait(30)
        ledger = Ledger(cluster.ledger, name, endpoint.session.hex()[:16])
        backend = PartyBackend(cluster, endpoint, LocalBackend((name,)), ledger)
        session = Session(self.parties, backend)
        play(session)
        try:
            try:
                self.results[name] = script(name)
            finally:
                session.close()
        except Exception as error:
            self.errors[name] = error
        finally:
            play(None)
