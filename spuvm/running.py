"""`spuvm run`: a script as one party; `spuvm ledger`: what left a party and what it learned."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spuvm.devices.ledger import entries, verify
from spuvm.errors import UsageError


def run(party: str, cluster: str, backend: Any, script: str, args: Sequence[str]) -> None:
    """Run a Python file as `python FILE ARGS...` would, as one party of a cluster."""
    from spuvm.devices.session import Role, assign, shutdown  # imports JAX: not for ledgers

    path = Path(script)
    if not path.is_file():
        raise UsageError("no such script", got=script)
    logging.basicConfig(level=logging.WARNING, format=f"{party}: %(levelname)s %(message)s")
    assign(Role(party, str(Path(cluster).resolve()), backend))
    sys.argv = [script, *args]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        shutdown()  # with an error in flight: tells the others


def show_ledger(file: str) -> None:
    """One line per entry, after the chain was checked."""
    path = Path(file)
    count, head = verify(path)
    session = None
    for entry in entries(path):
        if entry["session"] != session:
            session = entry["session"]
            print(f"session {session} of {entry['party']}, from {entry['time']}")
        print(f"  {_line(entry)}")
    print(f"{count} entries, chain intact, head {head}")


def verify_ledger(file: str, head: str | None) -> None:
    """Check the chain, and that the entry with the hash `head` is in it."""
    count, last = verify(Path(file), head)
    print(f"{count} entries, chain intact, head {last}")


def _line(entry: dict[str, Any]) -> str:
    peers = ", ".join(entry["peers"])
    if entry["direction"] == "note":
        return f"{entry['what']} with {peers}"
    words = {"out": ("sent", "to"), "consent": ("allowed", "to")}
    got = "received" if entry["form"] == "masked" else "learned"
    verb, way = words.get(entry["direction"], (got, "from"))
    origins = f", data of {', '.join(entry['origins'])}" if entry["origins"] else ""
    size = f", {entry['nbytes']} bytes" if entry["nbytes"] else ""
    return (
        f"{entry['operation']:>5} {verb} {entry['form']:<6} {entry['what']}: {entry['shape']} "
        f"{way} {peers}{origins}{size}, at {entry['source'] or 'an unknown line'}"
    )
