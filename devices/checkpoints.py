"""Orders to save a value's shares at each party's own storage and to load them again."""

from __future__ import annotations

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
    """Load what was saved under `path`.PARTY as arrays `name`.0, `name`.1, ..."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a machine found: equal at all three, or they do not belong together."""

    checkpoint: str
    about: str


def file_of(path: str, party: str) -> Path:
    """Where a party keeps its part."""
    return Path(f"{path}.{party}")


def default_key(party: str) -> Path:
    """A party's key where no cluster file names one."""
    return Path.home() / ".spuvm" / f"{party}.checkpoint.key"
