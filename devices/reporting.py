"""The session's report: who learned what, from whose data, at which line of the script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.failure import source_line
from spuvm.devices.session import current

_moves_as: ContextVar[tuple[str | None] | None] = ContextVar("moves_as", default=None)
"""What `named` says, for this thread alone: others may move values in clear meanwhile."""


def disclose(
    what: str,
    to: str,
    origins: Iterable[str],
    dtype: str = "float64",
    shape: tuple[int, ...] = (),
) -> None:
    """Count a disclosure; its shape stays with the parties where the script does not know it."""
    one = Disclosure(what, to, tuple(sorted(set(origins))), shape, dtype, source_line())
    session = current()
    with session.noting:
        session.opened[one] = session.opened.get(one, 0) + 1


@contextmanager
def named(what: str | None) -> Iterator[None]:
    """What goes from party to party inside is reported under this name.

    None: it is not reported, because masks or keyed digests hide it, or because the code around it
    calls `disclose` itself.
    """
    before = _moves_as.set((what,))
    try:
        yield
    finally:
        _moves_as.reset(before)


def moved_in_clear(made_by: str, to: str, origins: Iterable[str]) -> None:
    """Report a value that goes from one party to another, or to the driver, as it is."""
    as_what = _moves_as.get()
    what = f"value of {made_by}" if as_what is None else as_what[0]
    if what is not None:
        disclose(what, to, origins, "")


def disclosed() -> list[tuple[Disclosure, int]]:
    """Everything that somebody learned in this session so far, and how often, in order.

    Openings of an SPU and a HEU, and values that move from one party to another or to the driver as
    they are; not what stays masked, encrypted or shared.
    """
    session = current()
    with session.noting:
        return list(session.opened.items())
