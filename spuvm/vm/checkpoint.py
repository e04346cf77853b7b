"""A party's shares in a file of its own, encrypted with a key of its own.

    8 bytes   "SPUVMCP1"
    4 bytes   length of the header, little-endian
    header    JSON: party, rank, ring, checkpoint, arrays, about; readable, and authenticated
    12 bytes  nonce, fresh for every file
    the rest  AES-256-GCM of all shares, with everything before the nonce as associated data

`checkpoint` is equal at the three parties that saved a value together and different for any two
savings, so that files of different moments are not mixed. The file that was there before is kept
beside it: parties that were interrupted while they saved still have one moment in common. Two of
three files give the value away: the key protects a stolen disk, not against two parties.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spuvm.errors import UsageError
from spuvm.protocol.aby3.saved import SavedForm, form_of, from_bytes, to_bytes
from spuvm.protocol.aby3.share import Share

MAGIC: Final = b"SPUVMCP1"
KEY_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_NONCE: Final = 12
_HEADER_LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself; `about` is for whoever asked for it."""

    party: str
    rank: int
    ring: int
    checkpoint: str
    about: str
    arrays: tuple[SavedForm, ...] = ()


def key_of(path: Path) -> bytes:
    """The key in a file, which is made, readable by its owner alone, when there is none.

    Raises:
        UsageError: the file cannot be used, or others may read it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(os.urandom(KEY_BYTES).hex())
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError("cannot make a checkpoint key", got=f"{path}: {error}") from error
    try:
        if path.stat().st_mode & 0o077:
            raise UsageError("others may read this checkpoint key", got=str(path), next="chmod 600")
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise UsageError("cannot read the checkpoint key", got=str(path)) from error
    if len(key) != KEY_BYTES:
        raise UsageError("not a checkpoint key", got=str(path), expected="64 hex digits")
    return key


def write(path: Path, key: bytes, header: Header, shares: Sequence[Share]) -> None:
    """Save shares; the file is there completely or not at all, and the one before it is kept.

    Raises:
        UsageError: the file cannot be written.
    """
    fields = {**asdict(header), "arrays": [asdict(form_of(share)) for share in shares]}
    text = json.dumps(fields).encode()
    head = MAGIC + _LENGTH.pack(len(text)) + text
    nonce = os.urandom(_NONCE)
    body = AESGCM(key).encrypt(nonce, b"".join(map(to_bytes, shares)), head)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(head + nonce)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous(path))
        os.replace(file.name, path)
    except OSError as error:
        raise UsageError("cannot write a checkpoint", got=f"{path}: {error}") from error


def previous(path: Path) -> Path:
    """Where the file is that was at `path` before the last saving."""
    return path.with_name(f"{path.name}.previous")


def found(path: Path) -> str:
    """Which checkpoint a file claims to be; "" where there is none that can be read."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + _LENGTH.size)
            length = _LENGTH.unpack(start[len(MAGIC) :])[0]
            if start[: len(MAGIC)] != MAGIC or length > _HEADER_LIMIT:
                return ""
            return str(json.loads(file.read(length))["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return ""


def choose(path: Path, checkpoint: str) -> None:
    """Have `path` be a certain checkpoint, which is there or was there before the last saving.

    Raises:
        UsageError: neither.
    """
    before = previous(path)
    if found(path) == checkpoint:
        return
    if found(before) != checkpoint:
        raise UsageError("this checkpoint is not there any more", got=str(path))
    try:
        os.replace(before, path)
    except OSError as error:
        raise UsageError("cannot use the checkpoint before", got=f"{before}: {error}") from error


def read(path: Path, key: bytes) -> tuple[Header, list[Share]]:
    """What was saved.

    Raises:
        UsageError: no such file, not a checkpoint, changed, or written with another key.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise UsageError("cannot read a checkpoint", got=f"{path}: {error}") from error
    start = len(MAGIC) + _LENGTH.size
    if bytes(data[: len(MAGIC)]) != MAGIC or len(data) < start:
        raise UsageError("not a checkpoint", got=str(path))
    (length,) = _LENGTH.unpack(data[len(MAGIC) : start])
    end = start + length
    if length > _HEADER_LIMIT or len(data) < end + _NONCE:
        raise UsageError("a checkpoint is cut off", got=str(path))
    try:
        body = AESGCM(key).decrypt(
            bytes(data[end : end + _NONCE]), data[end + _NONCE :], data[:end]
        )
    except InvalidTag:
        raise UsageError(
            "a checkpoint was changed, or is encrypted with another key", got=str(path)
        ) from None
    fields: dict[str, Any] = json.loads(bytes(data[start:end]))
    forms = tuple(
        SavedForm(tuple(one["shape"]), one["dtype"], one["width"]) for one in fields["arrays"]
    )
    shares, at = [], 0
    for form in forms:
        shares.append(from_bytes(form, body[at : at + form.nbytes]))
        at += form.nbytes
    return Header(**{**fields, "arrays": forms}), shares
