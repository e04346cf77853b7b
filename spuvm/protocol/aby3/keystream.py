"""The output of AES-CTR at places that the caller chooses: the one source of masks.

OpenSSL makes the same bytes in two ways. CTR goes to any place in half a microsecond. GCM is
AES-CTR with a tag, which nobody asks for here, and of the two only GCM uses the wide AES
instructions of some processors: up to twice as fast, but forward only, from a counter that ends in
2, and slow to begin. So sequences begin at FIRST, and long ones are made by GCM where that was
measured to be the faster way, once per process. It makes no difference to the bytes.
References: NIST SP 800-38A, section 6.5 (CTR); SP 800-38D, section 7.1 (GCM: GCTR from inc32(J0)).
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FIRST = 2
"""The place where sequences begin: the counter of GCM's first block of text."""

BLOCK = 16
LONG = 2 << 20  # bytes; below, what GCM saves is not worth its beginning
_OPEN = 8  # sequences that one stream goes on with: pieces of them take turns
_CHUNK = 1 << 16
_ZEROS = memoryview(bytes(_CHUNK))


class Stream:
    """AES-CTR output of one key at places chosen by the caller."""

    __slots__ = ("_encryptor", "_key", "_sequences")

    def __init__(self, key: bytes) -> None:
        self._key = algorithms.AES(key)
        self._encryptor = Cipher(self._key, modes.CTR(bytes(BLOCK))).encryptor()
        self._sequences: dict[int, Any] = {}  # GCM encryptors by the place where they go on

    def begin(self, place: int, size: int) -> None:
        """Say that about `size` bytes from `place` on will be asked for, one piece after another.

        Only how they are made depends on it.
        """
        if size >= LONG and place & 0xFFFFFFFF == FIRST and gcm_is_faster():
            nonce = (place >> 32).to_bytes(12, "big")
            self._keep(place, Cipher(self._key, modes.GCM(nonce)).encryptor())

    def fill(self, out: memoryview, place: int) -> None:
        """Fill `out` with the stream's bytes from counter block `place` on."""
        size = len(out)
        encryptor = self._sequences.pop(place, None) if self._sequences else None
        if encryptor is None or (place & 0xFFFFFFFF) + size // BLOCK + 1 >= 1 << 32:
            # In GCM the last 32 bits would begin again at 0.
            self._encryptor.reset_nonce(place.to_bytes(BLOCK, "big"))
            _update(self._encryptor, out)
            return
        _update(encryptor, out)
        if not size % BLOCK:
            self._keep(place + size // BLOCK, encryptor)

    def _keep(self, place: int, encryptor: Any) -> None:
        if len(self._sequences) == _OPEN:
            del self._sequences[next(iter(self._sequences))]
        self._sequences[place] = encryptor


def _update(encryptor: Any, out: memoryview) -> None:
    if len(out) <= _CHUNK:  # as nearly always
        encryptor.update_into(_ZEROS[: len(out)], out)
        return
    for start in range(0, len(out), _CHUNK):
        piece = out[start : start + _CHUNK]
        encryptor.update_into(_ZEROS[: len(piece)], piece)


@cache
def gcm_is_faster() -> bool:
    """Whether this machine makes long sequences faster by GCM than by CTR: measured once."""
    key, out = algorithms.AES(bytes(BLOCK)), memoryview(bytearray(4 * _CHUNK))

    def seconds(mode: Any) -> float:
        encryptor, best = Cipher(key, mode).encryptor(), 1.0
        for _ in range(4):
            start = time.perf_counter()
            _update(encryptor, out)
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(modes.GCM(bytes(12))) < seconds(modes.CTR(bytes(BLOCK)))
