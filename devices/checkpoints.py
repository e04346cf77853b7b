"""Orders to save a value's shares at each party's own storage and to load them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SaveOrder:
    """Save named arrays at every machine under `path`.PARTY, with a text about them."""

    names: tuple[str, ...]
    path: str
    about: str


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Load what was saved under `path`.PARTY as arrays `name`.0, `name`.1, ...

    checkpoint  which one, of the last and the one before it; "" for what is there.
    """

    name: str
    path: str
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a machine found: equal at all three, or they do not belong together.

    before  the checkpoint that it has besides, of the saving before; "" for none.
    """

    checkpoint: str
    about: str
    before: str = ""


def in_common(found: Sequence[Loaded]) -> str:
    """A checkpoint that all machines have, the latest; "" if there is none."""
    for one in (found[0].checkpoint, found[0].before):
        if one and all(one in (other.checkpoint, other.before) for other in found):
            return one
    return ""


def file_of(path: str, party: str) -> Path:
    """Where a party keeps its part."""
    return Path(f"{path}.{party}")


def default_key(party: str) -> Path:
    """A party's key where no cluster file names one."""
    return Path.home() / ".spuvm" / f"{party}.checkpoint.key"
