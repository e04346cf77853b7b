"""SecretFlow's way to say who an SPU is: a dict of nodes and a runtime configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spuvm.devices.config import Config
from spuvm.errors import UsageError

_PROTOCOLS = {"ABY3", "3"}
_FIELDS = {"FM32": 32, "1": 32, "FM64": 64, "2": 64, "FM128": 128, "3": 128}

Parsed = tuple[tuple[str, ...], tuple[tuple[str, int], ...] | None, Config]


def parse(definition: Mapping[str, Any], config: Config | None) -> Parsed:
    """Parties, their addresses (None where not given) and the configuration.

    ``{"nodes": [{"party": "alice", "address": "127.0.0.1:9001"}, ...],
    "runtime_config": {"protocol": "ABY3", "field": "FM64", "fxp_fraction_bits": 18}}``

    Raises:
        UsageError: a missing or unknown entry, or a protocol other than ABY3.
    """
    nodes = definition.get("nodes")
    if not isinstance(nodes, list | tuple) or not all(map(_names_a_party, nodes)):
        raise UsageError(
            "a cluster definition lists its nodes",
            got=", ".join(map(str, definition)) or "an empty dict",
            expected='{"nodes": [{"party": "alice", "address": "host:port"}, ...]}',
        )
    parties = tuple(str(node["party"]) for node in nodes)
    addresses = None
    if all(node.get("address") for node in nodes):
        addresses = tuple(host_and_port(str(n.get("listen_addr") or n["address"])) for n in nodes)
    runtime = definition.get("runtime_config")
    if runtime is None:
        return parties, addresses, config or Config()
    if config is not None:
        raise UsageError(
            "the configuration is given twice", got="runtime_config and config=", expected="one"
        )
    return parties, addresses, _config(runtime)


def _names_a_party(node: object) -> bool:
    return isinstance(node, Mapping) and "party" in node


def _config(runtime: Mapping[str, Any]) -> Config:
    known = {"protocol", "field", "fxp_fraction_bits"}
    unknown = sorted(set(runtime) - known)
    if unknown:
        raise UsageError(
            "unknown entries of runtime_config",
            got=", ".join(unknown),
            expected=", ".join(sorted(known)),
            next="say the rest with sf.Config",
        )
    protocol = _word(runtime.get("protocol", "ABY3"))
    if protocol not in _PROTOCOLS:
        raise UsageError("unknown protocol", got=protocol, expected="ABY3")
    field = _word(runtime.get("field", "FM64"))
    if field not in _FIELDS:
        raise UsageError("unknown field", got=field, expected="FM32, FM64 or FM128")
    return Config(ring=_FIELDS[field], frac_bits=runtime.get("fxp_fraction_bits"))


def _word(value: Any) -> str:
    """A name or number from a string, a Python enum or a protobuf enum value."""
    return str(getattr(value, "name", value)).rpartition(".")[2]


def host_and_port(text: str) -> tuple[str, int]:
    """An address from its text; brackets around an IPv6 address are taken off."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError("not an address", got=repr(text), expected="host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
