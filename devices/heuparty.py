"""What one party of a HEU does: runs in that party's own process and keeps its values there.

The key holder's secret key and everybody's ciphertexts stay inside the instance; the script knows
names. What leaves goes through `send` (sealed: randomised typed arrays) or is a decrypted result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError
from spuvm.paillier.arrays import Ciphers, decrypt, encrypt
from spuvm.paillier.encoding import Encoding, Plain, decode
from spuvm.paillier.keys import Method, PublicKey, Safety, SecretKey
from spuvm.paillier.masking import mask_for
from spuvm.paillier.packing import Packed, decrypt_packed, pack, slot_for
from spuvm.paillier.wire import Message, bytes_to_integers, integers_to_bytes, seal, unseal

Facts = tuple[tuple[int, ...], int, int]  # shape, scale, bound: public
Announced = dict[str, npt.NDArray[Any]]

BINARY: dict[str, Callable[[Any, Any], Ciphers]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "@": lambda a, b: a @ b,
}


class HEUParty:
    """One party's key, ciphertexts and encoded numbers, by name.

    Args:
        encoding: how this HEU encodes numbers.
        key: bits of a new key pair for the key holder; what `announce` returned for the others.
        safety: "insecure" admits short keys.
    """

    def __init__(self, encoding: Encoding, key: int | Announced, safety: Safety) -> None:
        self._encoding = encoding
        self._values: dict[str, Ciphers | Plain] = {}
        self._masks: dict[str, Plain] = {}
        self._secret: SecretKey | None = None
        if isinstance(key, int):
            self._secret = SecretKey.generate(key, safety)
            self._public = self._secret.public
        else:
            self._public = public_key(key, safety)

    def announce(self) -> Announced:
        """The public key as typed arrays."""
        key = self._public
        return {
            "n": integers_to_bytes([key.n], (key.bits + 7) // 8)[0],
            "short": np.array(key.method == "short"),
        }

    def encode(
        self, free: Sequence[str], out: str, what: str, value: Any, encoding: Encoding
    ) -> Facts:
        """Keep a value in clear, encoded."""
        self._forget(free)
        return self._keep(out, encoding.encode(value, what))

    def encrypt(
        self, free: Sequence[str], out: str, what: str, value: Any, encoding: Encoding
    ) -> Facts:
        """Encrypt a value of this party."""
        self._forget(free)
        return self._keep(out, encrypt(self._public, encoding.encode(value, what)))

    def compute(
        self, free: Sequence[str], out: str, operation: str, left: Any, right: Any, *done: Facts
    ) -> Facts:
        """A binary operation on names or public numbers; `done` only orders what it needs."""
        self._forget(free)
        return self._keep(out, BINARY[operation](self._operand(left), self._operand(right)))

    def apply(
        self, free: Sequence[str], out: str, method: str, name: str, args: Any, *done: Facts
    ) -> Facts:
        """A method of an array: slicing, sums, bucket sums, reshaping, negation."""
        self._forget(free)
        value = self._values[name]
        if isinstance(value, Plain):
            if method not in ("__getitem__", "T", "reshape"):
                raise UsageError(
                    f"{method} of a value that is in clear at its owner",
                    next="compute it with the owner's PYU before .to(heu)",
                )
            ints = value.ints
            found = ints.T if method == "T" else np.asarray(getattr(ints, method)(*args))
            return self._keep(out, Plain(found, value.scale, value.bound))
        result = value.T if method == "T" else getattr(value, method)(*args)
        return self._keep(out, result)

    def send(self, free: Sequence[str], name: str, *done: Facts) -> Message:
        """A value in the form that may leave; plain numbers are encrypted first."""
        self._forget(free)
        value = self._values[name]
        return seal(encrypt(self._public, value) if isinstance(value, Plain) else value)

    def receive(self, free: Sequence[str], out: str, message: Message) -> Facts:
        """Take in and check what another party sent."""
        self._forget(free)
        return self._keep(out, self._unsealed(message))

    def decoded(self, free: Sequence[str], name: str, *done: Facts) -> npt.NDArray[Any]:
        """The value of plain numbers, for their owner, or of ciphertexts at the key holder."""
        self._forget(free)
        value = self._values[name]
        return value.decode() if isinstance(value, Plain) else decrypt(self._key(), value)

    def decrypt(self, free: Sequence[str], message: Message) -> npt.NDArray[Any]:
        """The value of ciphertexts that were sent to the key holder."""
        self._forget(free)
        return decrypt(self._key(), self._unsealed(message))

    def masked(self, free: Sequence[str], name: str, mask: str, *done: Facts) -> Message:
        """A value plus a fresh mask, packed and sealed for the key holder; the mask stays here."""
        self._forget(free)
        value = self._values[name]
        assert isinstance(value, Ciphers), "only ciphertexts are masked"
        noise = mask_for(value.bound, value.shape, value.scale)
        self._masks[mask] = noise
        total = value.bound + noise.bound
        if total.bit_length() + 1 > self._public.bits - 2:
            raise UsageError(
                "a value and its mask do not fit into one plaintext",
                got=f"{total.bit_length()} bits with the mask",
                expected=f"at most {self._public.bits - 4}",
                next="declare a smaller input_range, multiply less often, or use a longer key",
            )
        return seal(pack(value, slot_for(total)) + noise)

    def decrypt_masked(self, free: Sequence[str], message: Message) -> Announced:
        """The key holder's part: integers that a mask of the sender covers."""
        self._forget(free)
        packed = unseal(message, self._public)
        assert isinstance(packed, Packed), "masked values travel packed"
        flat = decrypt_packed(self._key(), packed).reshape(-1).tolist()
        offset = packed.bound
        width = (2 * offset).bit_length() // 8 + 1
        return {
            "body": integers_to_bytes([v + offset for v in flat], width),
            "offset": integers_to_bytes([offset], width)[0],
            "shape": np.array(packed.shape, np.int64),
            "scale": np.array(packed.scale, np.int64),
        }

    def unmask(self, free: Sequence[str], mask: str, shown: Announced) -> npt.NDArray[Any]:
        """The value itself, at the party that masked it."""
        self._forget(free)
        noise = self._masks.pop(mask)
        ints = masked_integers(shown) - noise.ints
        return decode(ints, noise.scale)

    def share_of_mask(
        self, free: Sequence[str], mask: str, drop: int, *done: Message
    ) -> npt.NDArray[Any]:
        """-(mask >> drop) modulo 2^64: this party's summand of a value that goes to an SPU."""
        self._forget(free)
        return to_ring(-(self._masks.pop(mask).ints >> drop))[None]

    def share_of_masked(self, free: Sequence[str], message: Message, drop: int) -> npt.NDArray[Any]:
        """(value + mask) >> drop modulo 2^64: the key holder's summand."""
        shown = self.decrypt_masked(free, message)
        return to_ring(masked_integers(shown) >> drop)[None]

    def draw(
        self, free: Sequence[str], count: int, shape: tuple[int, ...], bits: int
    ) -> npt.NDArray[np.uint64]:
        """Uniform integers below 2^bits, [count, *shape]: masks of this party's choice."""
        self._forget(free)
        size = count * int(np.prod(shape, dtype=np.int64))
        words = np.frombuffer(os.urandom(8 * size), np.uint64) >> np.uint64(64 - bits)
        return words.reshape(count, *shape)

    def encrypt_integers(
        self, free: Sequence[str], limbs: npt.NDArray[np.uint64], shifts: Sequence[int], scale: int
    ) -> Message:
        """Encryption of sum limbs[j] 2^shifts[j], for the evaluator who takes it off again."""
        self._forget(free)
        return seal(encrypt(self._public, joined(limbs, shifts, scale)))

    def subtract_encrypted(
        self,
        free: Sequence[str],
        out: str,
        opened: npt.NDArray[np.uint64],
        shifts: Sequence[int],
        bound: int,
        message: Message,
    ) -> Facts:
        """sum opened[j] 2^shifts[j] minus an encrypted mask: a value that came out of an SPU."""
        self._forget(free)
        mask = self._unsealed(message)
        value = joined(opened, shifts, mask.scale) - mask
        known = Ciphers(self._public, value.data, value.scale, bound)
        return self._keep(out, known)

    def names(self, free: Sequence[str]) -> list[str]:
        """What this party holds, for tests."""
        self._forget(free)
        return sorted(self._values)

    def _keep(self, name: str, value: Ciphers | Plain) -> Facts:
        self._values[name] = value
        return value.shape, value.scale, value.bound

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._values.pop(name, None)

    def _operand(self, x: Any) -> Ciphers | Plain:
        return self._values[x] if isinstance(x, str) else self._encoding.public(x)

    def _unsealed(self, message: Message) -> Ciphers:
        value = unseal(message, self._public)
        if isinstance(value, Packed):
            raise UsageError("packed ciphertexts where single ones were expected")
        return value

    def _key(self) -> SecretKey:
        if self._secret is None:
            raise UsageError("only the key holder decrypts")
        return self._secret

    def __repr__(self) -> str:
        role = "evaluator" if self._secret is None else "key holder"
        return f"HEUParty({role}, {len(self._values)} values)"


def public_key(announced: Announced, safety: Safety) -> PublicKey:
    """The key that another party announced, checked."""
    method: Method = "short" if bool(announced["short"]) else "full"
    return PublicKey(int.from_bytes(announced["n"].tobytes()), method, safety)


def masked_integers(shown: Announced) -> Any:
    """Integers that the key holder wrote down with an offset, as an array of objects."""
    offset = int.from_bytes(shown["offset"].tobytes())
    flat = np.empty(len(shown["body"]), object)
    for i, value in enumerate(bytes_to_integers(shown["body"])):
        flat[i] = value - offset
    return flat.reshape(tuple(map(int, shown["shape"])))


def joined(limbs: npt.NDArray[np.uint64], shifts: Sequence[int], scale: int) -> Plain:
    """Signed integers from limbs [count, ...], each to be multiplied by a power of two."""
    total = sum(
        limb.view(np.int64).astype(object) << shift
        for limb, shift in zip(limbs, shifts, strict=True)
    )
    bound = sum(1 << (64 + shift) for shift in shifts)
    return Plain(np.asarray(total, object), scale, bound)


def to_ring(ints: Any) -> npt.NDArray[np.uint64]:
    """Integers modulo 2^64."""
    flat = [int(v) % (1 << 64) for v in np.asarray(ints, object).reshape(-1)]
    return np.array(flat, np.uint64).reshape(np.shape(ints))
