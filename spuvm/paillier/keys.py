"""Paillier keys: (n) to encrypt, (p, q) to decrypt; interchangeable with phe's.

A ciphertext of m is (1 + m n) s mod n^2 with a random n-th residue s. Keys made here allow s to be
h_s^a with a short exponent a, where h_s = (-x^2)^n for a random x and p = q = 3 mod 4,
gcd(p-1, q-1) = 2 (Damgård, Jurik, Nielsen 2010, "A generalization of Paillier's public-key system
with applications to electronic voting", section 4.2). Everybody who encrypts draws an x of its own,
so nobody relies on a base that the key holder chose. Other keys take s = r^n.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, get_args

import gmpy2
from gmpy2 import mpz

from spuvm.errors import UsageError, ValueRangeError
from spuvm.paillier.cores import in_pieces
from spuvm.paillier.primes import prime_pair, suits_short_exponents
from spuvm.paillier.randomness import full_residues, short_residues

Method = Literal["short", "full"]
Safety = Literal["standard", "insecure"]
MIN_BITS = 2048
TEST_BITS = 128  # below this the encodings do not fit at all


class PublicKey:
    """What everybody may know: the modulus, and how residues are drawn.

    Args:
        n: the modulus.
        method: "short" when p and q are known to suit short exponents, else "full".
        safety: "insecure" admits moduli below 2048 bits, for tests.

    Raises:
        UsageError: an even or too small modulus.
    """

    __slots__ = ("bits", "id", "method", "n", "n2", "safety", "width")

    def __init__(self, n: int | mpz, method: Method = "full", safety: Safety = "standard") -> None:
        self.n = mpz(n)
        self.n2 = self.n * self.n
        self.bits = self.n.bit_length()
        self.method, self.safety = method, safety
        check_bits(self.bits, safety)
        if self.n % 2 == 0:
            raise UsageError("a Paillier modulus is odd", got="an even number")
        self.width = (self.n2.bit_length() + 7) // 8
        self.id = hashlib.sha256(b"spuvm paillier" + int(self.n).to_bytes(self.width)).digest()[:16]

    @property
    def max_int(self) -> int:
        """Plaintexts are integers of at most this absolute value; the rest of n tells signs."""
        return int(self.n // 2) - 1

    def residues(self, count: int) -> list[mpz]:
        """Fresh random n-th residues: each makes one ciphertext unlinkable to its past."""
        draw = short_residues if self.method == "short" else full_residues
        return draw(self.n, self.n2, self.bits, count)

    def raw(self, value: int) -> mpz:
        """(1 + value n) mod n^2: a ciphertext without randomness, for public numbers alone."""
        return (1 + value * self.n) % self.n2

    def checked(self, ciphertexts: Sequence[mpz]) -> None:
        """Raise ValueRangeError unless all of them are units modulo n^2."""
        product = mpz(1)
        for c in ciphertexts:
            if not 0 < c < self.n2:
                raise ValueRangeError("a ciphertext is out of range", expected="0 < c < n^2")
            product = product * c % self.n
        if gmpy2.gcd(product, self.n) != 1:
            raise ValueRangeError(
                "a ciphertext is not a unit modulo n^2",
                expected="what encryption under this key gives",
                next="do not go on: its sender is faulty or has another key",
            )

    def to_phe(self) -> Any:
        """The same key as phe.PaillierPublicKey."""
        return _phe().PaillierPublicKey(int(self.n))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.n == self.n

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PublicKey({self.bits} bits, {self.method} exponents, id {self.id[:4].hex()})"


class SecretKey:
    """The factors of n; never printed, compared, copied or pickled.

    Raises:
        UsageError: equal factors, or factors that are not odd primes.
    """

    __slots__ = ("_hp", "_hq", "_p", "_p2", "_q", "_q2", "_q_inverse", "public")

    def __init__(self, p: int | mpz, q: int | mpz, safety: Safety = "standard") -> None:
        self._p, self._q = p, q = mpz(p), mpz(q)
        if p == q or p < 3 or q < 3 or not (gmpy2.is_prime(p) and gmpy2.is_prime(q)):
            raise UsageError("a secret key has two distinct odd primes")
        method: Method = "short" if suits_short_exponents(p, q) else "full"
        self.public = PublicKey(p * q, method, safety)
        self._p2, self._q2 = p * p, q * q
        self._hp = gmpy2.invert((p - 1) * q % p, p)
        self._hq = gmpy2.invert((q - 1) * p % q, q)
        self._q_inverse = gmpy2.invert(q, p)

    @staticmethod
    def generate(bits: int = MIN_BITS, safety: Safety = "standard") -> SecretKey:
        """A new key whose modulus has exactly `bits` bits."""
        check_new(bits, safety)
        return SecretKey(*prime_pair(bits), safety)

    def decrypt(self, ciphertexts: Sequence[mpz]) -> list[int]:
        """Plaintexts between -n/2 and n/2, modulo p^2 and q^2 apart (Paillier 1999, section 7).

        m mod p = L_p(c^(p-1) mod p^2) hp with L_p(u) = (u - 1) / p and hp = ((p - 1) q)^-1 mod p,
        because (1 + n)^(m (p-1)) = 1 + m (p-1) n mod p^2 and residues vanish.
        """
        at_p = in_pieces(self._power(self._p, self._p2), ciphertexts)
        at_q = in_pieces(self._power(self._q, self._q2), ciphertexts)
        n, half = self.public.n, self.public.n // 2
        found = []
        for u, v in zip(at_p, at_q, strict=True):
            mp = (u - 1) // self._p * self._hp % self._p
            mq = (v - 1) // self._q * self._hq % self._q
            m = mq + self._q * ((mp - mq) * self._q_inverse % self._p)
            found.append(int(m - n if m > half else m))
        return found

    def to_phe(self) -> Any:
        """The same key as phe.PaillierPrivateKey."""
        return _phe().PaillierPrivateKey(self.public.to_phe(), int(self._p), int(self._q))

    @staticmethod
    def from_phe(key: Any, safety: Safety = "standard") -> SecretKey:
        """A phe.PaillierPrivateKey; residues are r^n unless its primes suit short exponents."""
        return SecretKey(key.p, key.q, safety)

    @staticmethod
    def _power(prime: mpz, square: mpz) -> Any:
        return lambda piece: gmpy2.powmod_base_list([c % square for c in piece], prime - 1, square)

    def __repr__(self) -> str:
        return f"SecretKey(hidden, of {self.public!r})"

    def __reduce__(self) -> NoReturn:
        raise UsageError("a secret key does not leave the process that made it")

    def __eq__(self, other: object) -> NoReturn:
        raise UsageError("secret keys are not compared")

    def __bool__(self) -> NoReturn:
        raise UsageError("a secret key has no truth value")

    __hash__ = None  # type: ignore[assignment]


def public_from_phe(key: Any, safety: Safety = "standard") -> PublicKey:
    """A phe.PaillierPublicKey: nothing is known of its factors, so residues are r^n."""
    return PublicKey(key.n, "full", safety)


def check_bits(bits: int, safety: Safety) -> None:
    """Raise UsageError for a size of key that protects nothing, unless that is asked for."""
    if safety not in get_args(Safety):
        raise UsageError("unknown safety", got=repr(safety), expected="'standard' or 'insecure'")
    if type(bits) is not int:
        raise UsageError("key_bits is an even number of bits", got=repr(bits), expected="2048")
    least = MIN_BITS if safety == "standard" else TEST_BITS
    if bits < least:
        raise UsageError(
            "a Paillier key this short protects nothing",
            got=f"{bits} bits",
            expected=f"at least {least}",
            next='safety="insecure" allows it in tests' if safety == "standard" else None,
        )


def check_new(bits: int, safety: Safety) -> None:
    """The same for keys that are made here: their two primes are equally long."""
    check_bits(bits, safety)
    if bits % 2:
        raise UsageError("key_bits is an even number of bits", got=repr(bits))


@functools.lru_cache(maxsize=1)
def _phe() -> Any:
    import phe

    return phe
