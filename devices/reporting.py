"""What was opened to whom by code outside the SPU: moves of ciphertexts, data, models."""

from __future__ import annotations

from collections.abc import Iterable

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.session import current


def disclose(what: str, to: str, origins: Iterable[str], dtype: str = "float64") -> None:
    """Count a disclosure; its shape stays with the parties where the script does not know it."""
    one = Disclosure(what, to, tuple(sorted(set(origins))), (), dtype, "")
    opened = current().opened
    opened[one] = opened.get(one, 0) + 1


def disclosed() -> list[tuple[Disclosure, int]]:
    """Everything that was opened in this session so far, and how often, in order."""
    return list(current().opened.items())
