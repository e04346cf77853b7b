"""Random n-th residues modulo n^2: what makes ciphertexts unlinkable to plaintext and history."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from spuvm.paillier.cores import in_pieces

WINDOW_KEYS = 4  # tables kept per process; one takes about 17 MB at 2048 bits


def short_residues(n: mpz, n2: mpz, bits: int, count: int) -> list[mpz]:
    """h_s^a with a uniform in 2^(8 ceil(bits/16)): at least half the modulus' bits."""
    table = _table(n, n2, bits)
    exponents = [os.urandom(len(table)) for _ in range(count)]

    def powers(piece: Sequence[bytes]) -> list[mpz]:
        found = []
        for digits in piece:
            product = mpz(1)
            for row, digit in zip(table, digits, strict=True):
                product = product * row[digit] % n2
            found.append(product)
        return found

    return in_pieces(powers, exponents)


def full_residues(n: mpz, n2: mpz, bits: int, count: int) -> list[mpz]:
    """r^n with r uniform among the units modulo n: for keys whose factors are not ours."""
    bases = [_unit(n) for _ in range(count)]
    return in_pieces(lambda piece: gmpy2.powmod_base_list(list(piece), n, n2), bases)


@functools.lru_cache(maxsize=WINDOW_KEYS)
def _table(n: mpz, n2: mpz, bits: int) -> list[list[mpz]]:
    """Row i holds h_s^(d 256^i) for d = 0..255; h_s is this process's own.

    1 is written as 1 + n^2: see powers._tables.

    One byte of the exponent costs one product. The base h_s = (-x^2)^n needs x random; whoever
    knows x learns nothing from it about ciphertexts of others.
    """
    x = _unit(n)
    base = gmpy2.powmod(-x * x % n, n, n2)
    rows = []
    for _ in range(-(-bits // 16)):
        row = [n2 + 1, base]
        for _ in range(254):
            row.append(row[-1] * base % n2)
        rows.append(row)
        base = row[-1] * base % n2
    return rows


def _unit(n: mpz) -> mpz:
    while True:
        x = mpz(secrets.randbelow(int(n)))
        if x and gmpy2.gcd(x, n) == 1:
            return x
