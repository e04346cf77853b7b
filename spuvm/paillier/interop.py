"""Ciphertexts to and from phe's EncryptedNumber: a value is mantissa * 16^exponent there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gmpy2 import mpz

from spuvm.errors import UsageError
from spuvm.paillier.arrays import Ciphers, objects
from spuvm.paillier.keys import PublicKey

_DIGIT = 4  # bits of a digit to base 16


def to_phe(ciphers: Ciphers) -> list[Any]:
    """phe.EncryptedNumber for every element in C order, all with one exponent, re-randomised."""
    import phe

    scale = -(-ciphers.scale // _DIGIT) * _DIGIT
    ready = ciphers.rescaled(scale).rerandomised()
    public = ciphers.key.to_phe()
    return [phe.EncryptedNumber(public, int(c), -(scale // _DIGIT)) for c in ready.data.reshape(-1)]


def from_phe(
    key: PublicKey,
    numbers: Sequence[Any],
    shape: tuple[int, ...] | None = None,
    bound: int | None = None,
) -> Ciphers:
    """Ciphertexts of phe as an array at one scale.

    `bound` is what is known of their mantissas' absolute values at that scale; None: a third of n,
    which is what phe itself admits and leaves no room for sums.

    Raises:
        UsageError: ciphertexts under another key, or positive exponents.
        ValueRangeError: something that is not a unit modulo n^2.
    """
    if any(int(number.public_key.n) != key.n for number in numbers):
        raise UsageError("ciphertexts under another key", expected=repr(key))
    exponents = [number.exponent for number in numbers]
    if any(e > 0 for e in exponents):
        raise UsageError(
            "ciphertexts of multiples of 16", next="encode them with a fixed precision"
        )
    raw = [mpz(number.ciphertext(be_secure=False)) for number in numbers]
    key.checked(raw)
    lowest = min(exponents, default=0)
    flat = [
        pow(c, mpz(1) << (_DIGIT * (e - lowest)), key.n2)
        for c, e in zip(raw, exponents, strict=True)
    ]
    data = objects(flat, (len(flat),) if shape is None else shape)
    return Ciphers(key, data, -_DIGIT * lowest, int(key.n // 3) if bound is None else bound)
