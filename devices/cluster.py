"""cluster.toml: who takes part, where they listen, how they prove it, what each lets out.

    [parties]                              # the same at all parties, in the same order
    alice = "alice.example:9700"
    bob = "bob.example:9700"
    carol = "carol.example:9700"

    [tls]                                  # {party} is the name of who reads the file
    ca = "certs/ca.pem"
    cert = "certs/{party}.pem"
    key = "certs/{party}.key"

    [timing]                               # seconds
    deadline = 60                          # without progress or a sign of life
    start_wait = 120                       # for the other parties to start
    patience = 3600                        # for results of a party that is alive

    [local]                                # this party's own
    listen = "0.0.0.0:9700"
    ledger = "ledger-{party}.jsonl"
    checkpoint_key = "certs/{party}.checkpoint.key"
    largest_value = 4294967296             # bytes that it sends or accepts at once

    [policy.alice]                         # read by alice alone; see policy.py
    open = [{ what = "train", to = ["bob"] }]
    share = ["alice", "bob", "carol"]

Paths are relative to the file.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spuvm.devices.clusterdef import host_and_port
from spuvm.devices.policy import Policy, Rule
from spuvm.errors import UsageError
from spuvm.net.schema import DEFAULT
from spuvm.net.settings import Links, Tls

_SECTIONS = ("parties", "tls", "timing", "local", "policy")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    deadline    without progress of a message, or without a sign of life of a party.
    start_wait  that a party waits at the start for the others.
    patience    that a party waits for a result of another one that is alive.
    """

    deadline: float = 60.0
    start_wait: float = 60.0
    patience: float = 3600.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """One party's view of a deployment.

    checkpoint_key  file of the key that this party's saved shares are encrypted with; it is made
                    when it is first needed.
    largest_value   bytes of one value, or of the shares of one, that are sent or accepted.
    """

    party: str
    parties: tuple[str, ...]
    links: Links
    timing: Timing
    policy: Policy
    ledger: Path
    checkpoint_key: Path
    largest_value: int = DEFAULT.nbytes


def load(path: str | Path, party: str) -> Cluster:
    """Read and check a cluster file for one party.

    Raises:
        UsageError: the file cannot be read, an entry is unknown, missing or odd, or the party is
            not in it; the text names the entry.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot read the cluster file", got=f"{path}: {error}") from error
    try:
        return parse(text, party, path.parent, path.name)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path.name} is not TOML", got=str(error)) from error


def parse(text: str, party: str, folder: Path, name: str = "cluster.toml") -> Cluster:
    """The cluster that a text describes for one party; relative paths start in `folder`."""
    data = tomllib.loads(text)
    _known(name, data, _SECTIONS)
    parties = _parties(_table(name, data, "parties"))
    if party not in parties:
        raise UsageError(
            f"{name} does not know party {party!r}",
            expected=f"one of {', '.join(parties)}",
            next=f'add {party} = "host:port" under [parties], or correct party=',
        )
    local = _table(name, data, "local")
    _known("[local]", local, ("listen", "ledger", "checkpoint_key", "largest_value"))

    def file(section: str, entry: Any) -> Path:
        return folder / _text(section, entry).replace("{party}", party)

    timing = _timing(_table(name, data, "timing"))
    links = Links(
        addresses=parties,
        tls=_tls(_table(name, data, "tls"), file) if "tls" in data else None,
        listen=_address("[local] listen", local["listen"]) if "listen" in local else None,
        connect_deadline=timing.start_wait,
        deadline=timing.deadline,
    )
    links.check(party)
    return Cluster(
        party,
        tuple(parties),
        links,
        timing,
        _policy(_table(name, data, "policy"), party, parties),
        file("[local] ledger", local.get("ledger", "ledger-{party}.jsonl")),
        file("[local] checkpoint_key", local.get("checkpoint_key", "{party}.checkpoint.key")),
        _bytes("[local] largest_value", local.get("largest_value", DEFAULT.nbytes)),
    )


def _parties(table: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    from spuvm.devices.session import checked_parties

    checked_parties(list(table))
    return {name: _address(f"[parties] {name}", address) for name, address in table.items()}


def _tls(table: Mapping[str, Any], file: Any) -> Tls:
    names = [field.name for field in fields(Tls)]
    _known("[tls]", table, names)
    missing = [name for name in names if name not in table]
    if missing:
        raise UsageError("[tls] is incomplete", got=f"no {', '.join(missing)}")
    found = {name: file(f"[tls] {name}", table[name]) for name in names}
    for name, path in found.items():
        if not path.is_file():
            raise UsageError(
                f"[tls] {name} is not a file",
                got=str(path),
                next="`spuvm certs --parties ...` makes certificates for development",
            )
    return Tls(**found)


def _timing(table: Mapping[str, Any]) -> Timing:
    _known("[timing]", table, [field.name for field in fields(Timing)])
    for name, value in table.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise UsageError(f"[timing] {name} is a number of seconds", got=repr(value))
    return Timing(**{name: float(value) for name, value in table.items()})


def _bytes(title: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise UsageError(f"{title} is a number of bytes", got=repr(value))
    return value


def _policy(table: Mapping[str, Any], party: str, parties: Mapping[str, Any]) -> Policy:
    _known("[policy]", table, parties)
    title = f"[policy.{party}]"
    if party not in table:
        return Policy(party)
    own = table[party]
    if not isinstance(own, dict):
        raise UsageError(f"{title} is a section", got=repr(own))
    _known(title, own, ("open", "share"))
    rules, share = own.get("open"), own.get("share")
    if rules is not None:
        if not isinstance(rules, list):
            raise UsageError(f"{title} open is a list of rules", got=repr(rules))
        rules = tuple(_rule(f"{title} open", rule) for rule in rules)
    if share is not None:
        share = _names(f"{title} share", share)
    return Policy(party, rules, share)


def _rule(title: str, rule: Any) -> Rule:
    expected = '{ what = "function", to = ["party"] }'
    if not isinstance(rule, dict) or set(rule) != {"what", "to"}:
        raise UsageError(f"{title}: not a rule", got=repr(rule), expected=expected)
    return Rule(_text(f"{title} what", rule["what"]), _names(f"{title} to", rule["to"]))


def _names(title: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{title} is a list of names", got=repr(value), expected='["alice"]')
    return tuple(value)


def _address(title: str, text: Any) -> tuple[str, int]:
    try:
        return host_and_port(_text(title, text))
    except UsageError as error:
        raise UsageError(
            f"{title} is not an address", got=error.got, expected="host:port"
        ) from error


def _table(name: str, data: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = data.get(section, {})
    if not isinstance(table, dict):
        raise UsageError(f"[{section}] of {name} is a section", got=repr(table))
    return table


def _text(title: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{title} is a text", got=repr(value))
    return value


def _known(title: str, table: Mapping[str, Any], names: Any) -> None:
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise UsageError(
            f"unknown entries in {title}",
            got=", ".join(unknown),
            expected=", ".join(names),
        )
