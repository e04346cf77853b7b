"""What left a party and what it learned: one JSON object per line, each sealed by the one before.

An entry's `hash` is SHA-256 of its canonical text, in which `previous` is the hash of the entry
before it (zeros for the first). Changing, inserting, removing or reordering entries breaks the
chain; that the last entries are still there shows a head hash kept elsewhere: the last entry of a
session holds the heads that the other parties had then, and `verify` prints this file's.

Data itself is never written: `digest` is SHA-256 of the encoded value. A value with few
possibilities can be guessed from it, so every entry holds a random `salt`: heads go to the other
parties, and tell nothing of the digests behind them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from spuvm.errors import UsageError

log = logging.getLogger("spuvm")

START: Final = "0" * 64
SALT_BYTES: Final = 16
Direction = Literal["out", "in", "consent", "note"]
Form = Literal["clear", "masked", "public"]
"""clear: data; public: shapes, counts; masked: shares, rounds of a protocol, masked or encrypted
values, which show nothing of anybody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that left this party ("out"), that it learned ("in"), that its policy let become
    clear elsewhere because it depends on its data ("consent"), or that happened ("note").

    what       name of the function that made the value, or of what happened.
    operation  number in the order of the script, the same at all parties.
    source     the user's line.
    origins    parties whose data it depends on.
    peers      who got it, or whom it came from.
    """

    direction: Direction
    form: Form
    what: str
    operation: int
    source: str
    origins: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    shape: str = ""
    nbytes: int = 0
    digest: str = ""


class Ledger:
    """An append-only file of one party; several sessions follow each other in it.

    Raises:
        UsageError: the file cannot be written, another process writes to it, or what is in it was
            tampered with.
    """

    def __init__(self, path: Path, party: str, session: str) -> None:
        self._party, self.session = party, session
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError("cannot write the ledger", got=f"{path}: {error}") from error
        self._file = os.fdopen(handle, "r+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(
                "another process writes to this ledger",
                got=str(path),
                next="give each party its own [local] ledger",
            ) from error
        try:
            self._count, self.head = check(self._file, str(path))
        except BaseException:
            self._file.close()
            raise

    def write(self, entry: Entry, more: Mapping[str, Any] | None = None) -> None:
        """Append an entry; it is in the file when this returns."""
        fields = {name: getattr(entry, name) for name in Entry.__slots__}
        with self._lock:
            if self._file.closed:
                log.warning("the ledger was closed before this came: %s", entry)
                return
            line = {
                "number": self._count,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "session": self.session,
                "party": self._party,
                "salt": os.urandom(SALT_BYTES).hex(),
                **fields,
                **(more or {}),
                "previous": self.head,
            }
            self.head = _seal(line)
            self._file.write(json.dumps({**line, "hash": self.head}) + "\n")
            self._file.flush()
            self._count += 1

    def close(self) -> None:
        """Release the file; later entries are only logged. Idempotent."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a file as they are, unchecked."""
    with _opened(path) as file:
        for number, text in enumerate(file, start=1):
            yield _object(text, f"{path}, line {number}")


def verify(path: Path, head: str | None = None) -> tuple[int, str]:
    """Number of entries and hash of the last one.

    Raises:
        UsageError: an entry was changed, removed, inserted or moved, or the file does not contain
            the entry with the hash `head`.
    """
    with _opened(path) as file:
        count, last = check(file, str(path), head)
    return count, last


def check(file: Any, name: str, head: str | None = None) -> tuple[int, str]:
    """Follow the chain of an opened file to its end."""
    previous, count, seen = START, 0, head in (None, START)
    for count, text in enumerate(file, start=1):
        where = f"{name}, line {count}"
        if not text.endswith("\n"):
            raise _broken(f"{where}: the entry is cut off, by a crash or by somebody")
        line = _object(text, where)
        claimed = line.pop("hash", None)
        if line.get("number") != count - 1 or line.get("previous") != previous:
            raise _broken(f"{where}: entries before this one were removed, inserted or moved")
        if _seal(line) != claimed:
            raise _broken(f"{where}: this entry was changed")
        previous = claimed
        seen = seen or claimed == head
    if not seen:
        raise UsageError(
            f"{name}: the end was cut off", expected=f"an entry with hash {head}", got=previous
        )
    return count, previous


def _opened(path: Path) -> Any:
    try:
        return path.open()
    except OSError as error:
        raise UsageError("cannot read the ledger", got=f"{path}: {error}") from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise _broken(f"{where}: not an entry of a ledger")
    return line


def _broken(message: str) -> UsageError:
    return UsageError(message, next="keep this file; for a new session name another [local] ledger")


def _seal(line: Mapping[str, Any]) -> str:
    text = json.dumps(line, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
