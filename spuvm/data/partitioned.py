"""What all federated data has in common: partitions that are handles, and checks among parties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spuvm.data import local
from spuvm.devices.base import DeviceObject
from spuvm.devices.moves import reveal
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import disclose, named
from spuvm.errors import UsageError

Partitions = dict[PYU, PYUObject]
SCRIPT = "driver"


def shown(x: Any) -> str:
    """What a value is, for messages: handles and tables by their repr, data by its type alone."""
    if isinstance(x, DeviceObject) or type(x).__module__.startswith("spuvm."):
        return repr(x)
    if isinstance(x, list | tuple):
        return f"{type(x).__name__} of {len(x)}"
    return type(x).__name__


def checked_partitions(given: Mapping[PYU, Any], check: Callable[[Any], Any]) -> Partitions:
    """Handles by owner, each looked at by its owner."""
    if not isinstance(given, Mapping) or not given:
        raise UsageError(
            "partitions are a dict of parties and their data", got=type(given).__name__,
            expected="{alice: handle, bob: handle}",
        )  # fmt: skip
    made: Partitions = {}
    for pyu, value in given.items():
        if not isinstance(pyu, PYU) or not isinstance(value, PYUObject) or value.device != pyu:
            raise UsageError(
                "every partition lives at its own party",
                got=f"{shown(pyu)}: {shown(value)}",
                next="make it there, alice(load)(), or move it with .to(alice)",
            )
        made[pyu] = pyu(check)(value)
    return made


def each(partitions: Partitions, fn: Callable[..., Any], *args: Any) -> Partitions:
    """`fn` at every party on its own partition."""
    return {pyu: pyu(fn)(value, *args) for pyu, value in partitions.items()}


def salts(parties: Sequence[PYU]) -> dict[PYU, PYUObject]:
    """One fresh key at all parties, which the script does not see."""
    salt: PYUObject = parties[0](local.fresh_salt)()
    with named(None):  # of nobody's data
        return {pyu: salt.to(pyu) for pyu in parties}


def compare(parts: Partitions, by: Callable[[Sequence[Any]], Any], what: str) -> list[str]:
    """Compare digests at the first party; names of the parties that it finds, for the script.

    The digests are keyed: the first party learns which of them are equal, the script which parties
    do not fit, and both are reported.
    """
    first = next(iter(parts))
    with named(None):  # digests: what they tell is reported below
        digests = [part.to(first) for part in parts.values()]
    found = first(by)(digests)
    disclose(what, first.party, [p.party for p in parts], "bool")
    places = learn([found], what)[0]
    return [list(parts)[i].party for i in places]


def pieces(index: slice, counts: Sequence[int]) -> list[slice | None]:
    """What a slice of all rows is in each part; None where it takes none.

    Raises:
        UsageError: a step, or no rows at all.
    """
    if index.step not in (None, 1):
        raise UsageError("row slices across parties have no step", got=str(index))
    start, stop, _ = index.indices(sum(counts))
    found: list[slice | None] = []
    first = 0
    for count in counts:
        low, high = max(start - first, 0), min(stop - first, count)
        found.append(slice(low, high) if low < high else None)
        first += count
    if not any(found):
        raise UsageError("a slice without rows", got=f"{start}:{stop}")
    return found


def learn(handles: Sequence[PYUObject], what: str) -> list[Any]:
    """Metadata to the script: reported."""
    for one in handles:
        disclose(what, SCRIPT, one.ref.origins, "metadata")
    with named(None):
        return list(reveal(list(handles)))
