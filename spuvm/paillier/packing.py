"""Several integers in one plaintext: sum of v_i 2^(slot i), where only sums are needed.

Slots are wide enough for sign and bound, so that the integers never touch: |v_i| < 2^(slot - 1)
makes the balanced digits of the sum unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gmpy2
import numpy as np
from gmpy2 import mpz

from spuvm.errors import UsageError
from spuvm.paillier.arrays import Ciphers, Objects, decrypt_ints, encrypt, objects
from spuvm.paillier.cores import in_pieces
from spuvm.paillier.encoding import Ints, Plain
from spuvm.paillier.keys import PublicKey, SecretKey


@dataclass(frozen=True, eq=False)
class Packed:
    """Integers of one shape, several per ciphertext; can be added up, nothing else.

    ciphers  [ceil(size / per)] ciphertexts whose plaintexts are packed sums.
    slot     bits per integer; bound: |integer| is at most this.
    """

    ciphers: Ciphers
    shape: tuple[int, ...]
    slot: int
    bound: int
    scale: int

    def __add__(self, other: Packed | Plain) -> Packed:
        """Element by element, with equal slots and scales.

        Raises:
            UsageError: another shape, slot, scale or key, or a sum that may leave its slot.
        """
        bound = self.bound + other.bound
        _fits(bound, self.slot)
        if other.shape != self.shape or other.scale != self.scale:
            raise UsageError(
                "packed integers of different kinds",
                got=f"shape {self.shape} scale {self.scale}, shape {other.shape} "
                f"scale {other.scale}",
            )
        if isinstance(other, Plain):
            per = slots(self.ciphers.key, self.slot)
            added: Ciphers | Plain = _packed_plain(other, self.slot, per)
        elif other.slot != self.slot:
            raise UsageError("packed with different slots", got=f"{self.slot} and {other.slot}")
        else:
            added = other.ciphers
        return Packed(self.ciphers + added, self.shape, self.slot, bound, self.scale)


def slots(key: PublicKey, slot: int) -> int:
    """How many integers of `slot` bits one plaintext takes."""
    count: int = (key.bits - 2) // slot
    if count < 1:
        raise UsageError("not even one slot fits", got=f"{slot} bits, key of {key.bits}")
    return count


def slot_for(bound: int) -> int:
    """Bits per slot for integers of absolute value up to `bound`."""
    return bound.bit_length() + 1


def encrypt_packed(key: PublicKey, plain: Plain, total: int = 1) -> Packed:
    """Encrypt integers several per ciphertext, with room for sums of `total` such arrays."""
    slot = slot_for(plain.bound * total)
    ciphers = encrypt(key, _packed_plain(plain, slot, slots(key, slot)))
    return Packed(ciphers, plain.shape, slot, plain.bound, plain.scale)


def pack(ciphers: Ciphers, slot: int) -> Packed:
    """Put ciphertexts together, without decrypting: Horner's rule in the exponent.

    Raises:
        UsageError: a slot too narrow for the bound.
    """
    _fits(ciphers.bound, slot)
    per, n2 = slots(ciphers.key, slot), ciphers.key.n2
    flat = list(ciphers.data.reshape(-1))
    shift = mpz(1) << slot

    def horner(part: Sequence[Sequence[mpz]]) -> list[mpz]:
        made = []
        for group in part:
            total = group[-1]
            for c in reversed(group[:-1]):
                total = gmpy2.powmod(total, shift, n2) * c % n2
            made.append(total)
        return made

    made = in_pieces(horner, [flat[start : start + per] for start in range(0, len(flat), per)])
    bound = _packed_bound(slot, per)
    data = Ciphers(ciphers.key, objects(made, (len(made),)), 0, bound)
    return Packed(data, ciphers.shape, slot, ciphers.bound, ciphers.scale)


def decrypt_packed(key: SecretKey, packed: Packed) -> Objects:
    """The integers (not divided by the scale)."""
    sums = decrypt_ints(key, packed.ciphers).tolist()
    size = int(np.prod(packed.shape, dtype=np.int64))
    return objects(_digits(sums, packed.slot, slots(key.public, packed.slot), size), packed.shape)


def _packed_plain(plain: Plain, slot: int, per: int) -> Plain:
    _fits(plain.bound, slot)
    flat: Sequence[int] = [int(v) for v in plain.ints.reshape(-1)]
    sums: list[int] = []
    for start in range(0, len(flat), per):
        sums.append(sum(v << (slot * i) for i, v in enumerate(flat[start : start + per])))
    packed: Ints = objects(sums, (len(sums),))
    return Plain(packed, 0, _packed_bound(slot, per))


def _digits(sums: Sequence[int], slot: int, per: int, size: int) -> list[int]:
    """Balanced digits: add half of the slot's range everywhere, cut, take it off again."""
    half, mask = 1 << (slot - 1), (1 << slot) - 1
    offset = sum(half << (slot * i) for i in range(per))
    found: list[int] = []
    for total in sums:
        shifted = total + offset
        found += [((shifted >> (slot * i)) & mask) - half for i in range(per)]
    return found[:size]


def _packed_bound(slot: int, per: int) -> int:
    """Of a packed sum with every slot in use and every integer within its slot."""
    return sum(((1 << (slot - 1)) - 1) << (slot * i) for i in range(per))


def _fits(bound: int, slot: int) -> None:
    if slot_for(bound) > slot:
        raise UsageError(
            "an integer may leave its slot", got=f"{bound.bit_length()} bits and sign",
            expected=f"at most {slot - 1} bits and sign",
        )  # fmt: skip
