"""Random primes of the form that short exponents need."""

from __future__ import annotations

import secrets

import gmpy2
from gmpy2 import mpz

_ROUNDS = 40  # Miller-Rabin: a composite passes with probability below 4^-40


def prime_pair(bits: int) -> tuple[mpz, mpz]:
    """Primes p, q with p = q = 3 mod 4, gcd(p-1, q-1) = 2 and a product of exactly `bits` bits.

    Both have their two top bits set, which makes the product's top bit 1; they differ in their
    leading halves, except with negligible probability.
    """
    p = _prime(bits // 2)
    while True:
        q = _prime(bits - bits // 2)
        if q != p and suits_short_exponents(p, q):
            return p, q


def suits_short_exponents(p: mpz, q: mpz) -> bool:
    """Damgård, Jurik, Nielsen: then -1 is no square, and the squares form a cyclic group."""
    return bool(p % 4 == 3 and q % 4 == 3 and gmpy2.gcd(p - 1, q - 1) == 2)


def _prime(bits: int) -> mpz:
    while True:
        candidate = mpz(secrets.randbits(bits) | (3 << (bits - 2)) | 3)
        if gmpy2.is_prime(candidate, _ROUNDS):
            return candidate
