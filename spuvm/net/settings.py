"""What an endpoint needs to know, as plain values: addresses, certificates, deadlines."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spuvm.errors import UsageError

Address = tuple[str, int]
"""Host name or IP address, and port."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form.

    Attributes:
        ca: certificates that a peer's certificate must be signed by (or be: pinned ones).
        cert: this party's certificate; its common name is the party's name.
        key: its private key; only the owner may read the file.
    """

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Links:
    """How the parties of a cluster find each other.

    Attributes:
        addresses: of every party by name, in the same order at all of them.
        tls: None for plain TCP, which is accepted on loopback addresses only.
        listen: where this party listens, if that is not its own address (behind a router).
        connect_deadline: seconds that `connect` waits for the other parties to start.
        deadline: seconds without progress after which an exchange fails, and without a sign of life
            after which a peer is given up: outages shorter than that are bridged.
    """

    addresses: Mapping[str, Address]
    tls: Tls | None = None
    listen: Address | None = None
    connect_deadline: float = 60.0
    deadline: float = 60.0

    def check(self, name: str) -> None:
        """Raise UsageError unless party `name` can use these settings."""
        if name not in self.addresses or len(self.addresses) < 2:
            raise UsageError(
                f"party '{name}' is not one of the cluster's parties, or is the only one",
                expected=f"one of {list(self.addresses)}",
            )
        if len(set(self.addresses.values())) != len(self.addresses):
            raise UsageError("two parties have the same address", got=str(dict(self.addresses)))
        if min(self.connect_deadline, self.deadline) <= 0:
            raise UsageError("a deadline is not a positive number of seconds")
        if self.tls is None:
            for party, (host, _) in self.addresses.items():
                if not is_loopback(host):
                    raise UsageError(
                        f"the link to party '{party}' would not be encrypted",
                        got=f"address {host} without TLS",
                        expected="a loopback address, or TLS with certificates of all parties",
                        next="make certificates with `spuvm certs` and name them under [tls]",
                    )
            if self.listen is not None and not is_loopback(self.listen[0]):
                raise UsageError(
                    "this party would listen for unencrypted links",
                    got=f"address {self.listen[0]} without TLS",
                    expected="a loopback address, or TLS",
                )


def is_loopback(host: str) -> bool:
    """Whether an address stays within the machine; names other than `localhost` do not count."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
