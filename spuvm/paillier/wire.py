"""What travels between parties: typed arrays of a fixed form, never an object of phe or gmpy2.

Serialising a phe object skips its obfuscation: (1 + m n) or c^x would leave a party as it is, and
the multiplier x can be recovered from the bytes. Here only `seal` makes something that travels, and
it randomises anew whatever an operation made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from spuvm.errors import ValueRangeError
from spuvm.paillier.arrays import Ciphers, objects
from spuvm.paillier.keys import PublicKey
from spuvm.paillier.packing import Packed, slot_for

Message = dict[str, npt.NDArray[Any]]
_FIELDS = {"key": "u1", "shape": "i8", "scale": "i8", "bound": "u1", "slot": "i8", "body": "u1"}


def seal(value: Ciphers | Packed) -> Message:
    """Randomise ciphertexts and write them down.

    key [16] names the public key; body [count, width] holds ciphertexts, big-endian; scale,
    bound and shape are public; slot is 0, or the bits per integer of a packed value.
    """
    ciphers = value if isinstance(value, Ciphers) else value.ciphers
    if not ciphers.fresh:
        ciphers = ciphers.rerandomised()
    key = ciphers.key
    return {
        "key": np.frombuffer(key.id, np.uint8),
        "shape": np.array(value.shape, np.int64),
        "scale": np.array(value.scale, np.int64),
        "bound": _bytes_of(value.bound),
        "slot": np.array(value.slot if isinstance(value, Packed) else 0, np.int64),
        "body": integers_to_bytes(ciphers.data.reshape(-1).tolist(), key.width),
    }


def unseal(message: Message, key: PublicKey) -> Ciphers | Packed:
    """Read what another party sealed, checking every ciphertext.

    Raises:
        ValueRangeError: another form or key, sizes that do not agree, or a number that is not a
            unit modulo n^2.
    """
    _check_form(message, key)
    shape = tuple(map(int, message["shape"]))
    size, slot = math.prod(shape), int(message["slot"])
    bound = int.from_bytes(message["bound"].tobytes())
    scale = int(message["scale"])
    per = 1
    if slot:
        if slot < slot_for(bound) or slot > key.bits - 2:
            raise ValueRangeError("a sealed message has an impossible slot", got=str(slot))
        per = (key.bits - 2) // slot
    count = -(-size // per)
    if len(message["body"]) != count:
        raise ValueRangeError(
            "a sealed message has another number of ciphertexts than its shape",
            got=str(len(message["body"])),
            expected=str(count),
        )
    numbers = [mpz(v) for v in bytes_to_integers(message["body"])]
    key.checked(numbers)
    if not slot:
        return Ciphers(key, objects(numbers, shape), scale, bound)
    inner = sum(((1 << (slot - 1)) - 1) << (slot * i) for i in range(per))
    return Packed(Ciphers(key, objects(numbers, (count,)), 0, inner), shape, slot, bound, scale)


def integers_to_bytes(values: Sequence[Any], width: int) -> npt.NDArray[np.uint8]:
    """Non-negative integers below 256^width as [count, width] bytes, big-endian."""
    text = b"".join(int(v).to_bytes(width) for v in values)
    return np.frombuffer(text, np.uint8).reshape(len(values), width)


def bytes_to_integers(body: npt.NDArray[np.uint8]) -> list[int]:
    """The integers that `integers_to_bytes` wrote."""
    return [int.from_bytes(row.tobytes()) for row in body]


def _bytes_of(value: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(value.to_bytes((value.bit_length() + 7) // 8 or 1), np.uint8)


def _check_form(message: Message, key: PublicKey) -> None:
    well_formed = isinstance(message, dict) and set(message) == set(_FIELDS) and all(
        isinstance(message[name], np.ndarray) and message[name].dtype == np.dtype(kind)
        for name, kind in _FIELDS.items()
    )  # fmt: skip
    if not well_formed or message["body"].ndim != 2 or message["body"].shape[1] != key.width:
        raise ValueRangeError(
            "not a sealed message for this key", expected=f"rows of {key.width} bytes"
        )
    if any(message[name].ndim != 1 for name in ("key", "shape", "bound")) or any(
        message[name].ndim for name in ("scale", "slot")
    ):
        raise ValueRangeError("a sealed message has fields of another form")
    if message["key"].tobytes() != key.id:
        raise ValueRangeError(
            "sealed under another key", expected=repr(key), next="move it through its own device"
        )
    shape = message["shape"]
    if len(shape) > 8 or (shape < 0).any() or not 0 <= int(message["scale"]) <= key.bits:
        raise ValueRangeError("a sealed message has an impossible shape or scale")
