"""Keys: their form, their refusals, and that phe's and ours are the same scheme."""

import math
import pickle

import gmpy2
import numpy as np
import phe
import pytest

from spuvm.errors import UsageError, ValueRangeError
from spuvm.paillier import interop
from spuvm.paillier.arrays import decrypt, encrypt
from spuvm.paillier.encoding import Encoding
from spuvm.paillier.keys import PublicKey, SecretKey, public_from_phe
from spuvm.paillier.randomness import _table, short_residues

ENCODING = Encoding(18)
X = np.array([0.0, 1.5, -2.25, 1000.125, -(2.0**-18)])


def test_the_form_of_primes(large):
    key = large.to_phe()
    assert key.public_key.n.bit_length() == 2048
    assert key.p % 4 == key.q % 4 == 3
    assert math.gcd(key.p - 1, key.q - 1) == 2
    assert all(gmpy2.is_prime(prime, 50) for prime in (key.p, key.q))
    assert large.public.method == "short"


def test_short_exponents_have_half_the_bits_of_the_modulus(large):
    rows = _table(large.public.n, large.public.n2, 2048)
    assert 8 * len(rows) >= 2048 // 2
    assert all(len(row) == 256 for row in rows)


def test_short_residues_are_nth_residues(small):
    """Powers of n hide nothing else: they decrypt to 0; and no two are alike."""
    found = small.public.residues(50)
    assert small.decrypt(found) == [0] * 50
    assert len(set(found)) == 50


def test_the_base_of_residues_is_this_processs_own(small):
    """The square root of -h_s^(1/n) is drawn afresh: two tables of one key differ."""
    first = _table(small.public.n, small.public.n2, 512)[0][1]
    _table.cache_clear()
    assert _table(small.public.n, small.public.n2, 512)[0][1] != first
    key = small.to_phe()
    for prime in (key.p, key.q):  # -x^2 is no square modulo either prime
        assert gmpy2.legendre(first % prime, prime) == -1


@pytest.mark.parametrize("name", ["small", "large"])
def test_phe_decrypts_ours(name, request):
    ours = request.getfixturevalue(name)
    numbers = interop.to_phe(encrypt(ours.public, ENCODING.encode(X)))
    theirs = ours.to_phe()
    assert [theirs.decrypt(number) for number in numbers] == [round(v * 2**18) / 2**18 for v in X]


def test_ours_decrypts_phes(small):
    public = small.to_phe().public_key
    numbers = [public.encrypt(float(v)) for v in X] + [public.encrypt(-7), public.encrypt(3)]
    got = interop.from_phe(small.public, numbers)
    np.testing.assert_array_equal(decrypt(small, got), [*X, -7, 3])


def test_a_key_of_phe_falls_back_to_full_residues():
    public, private = phe.generate_paillier_keypair(n_length=512)
    key = SecretKey.from_phe(private, "insecure")
    if key.public.method == "short":  # one key of phe in some has primes that suit
        key = SecretKey.from_phe(phe.generate_paillier_keypair(n_length=512)[1], "insecure")
    ours = public_from_phe(public, "insecure")
    assert ours.method == "full"
    c = encrypt(ours, ENCODING.encode(X))
    theirs = [private.decrypt(v) for v in interop.to_phe(c)]
    np.testing.assert_allclose(theirs, X, atol=2.0**-19)
    assert len({int(r) for r in ours.residues(5)}) == 5
    assert SecretKey.from_phe(private, "insecure").decrypt(ours.residues(5)) == [0] * 5


def test_full_and_short_decrypt_alike(small):
    full = PublicKey(small.public.n, "full", "insecure")
    np.testing.assert_array_equal(
        decrypt(small, encrypt(full, ENCODING.encode(X))),
        decrypt(small, encrypt(small.public, ENCODING.encode(X))),
    )


def test_short_keys_are_refused():
    with pytest.raises(UsageError, match="protects nothing"):
        SecretKey.generate(1024)
    with pytest.raises(UsageError, match="protects nothing"):
        SecretKey.generate(64, "insecure")
    with pytest.raises(UsageError, match="protects nothing"):
        PublicKey((1 << 1024) + 1)
    with pytest.raises(UsageError, match="even number"):
        SecretKey.generate(2049)
    with pytest.raises(UsageError, match="distinct odd primes"):
        SecretKey(7, 7, "insecure")
    with pytest.raises(UsageError, match="distinct odd primes"):
        SecretKey(7, 9, "insecure")


def test_secret_keys_hide_and_stay(small):
    key = small.to_phe()
    for secret in (key.p, key.q):
        assert str(secret) not in repr(small)
    for act in (pickle.dumps, bool, hash, lambda k: k == k):
        with pytest.raises((UsageError, TypeError)):
            act(small)


def test_units_only(small, other):
    n, p = small.public.n, small.to_phe().p
    for bad in (0, n * n, -5, p, p * p, n, n * 7):
        with pytest.raises(ValueRangeError, match=r"unit|range"):
            small.public.checked([1, gmpy2.mpz(bad), 5])
    small.public.checked([gmpy2.mpz(1), n * n - 1])


def test_wrong_key(small, other):
    c = encrypt(small.public, ENCODING.encode(X))
    with pytest.raises(UsageError, match="another key"):
        decrypt(other, c)
    with pytest.raises(UsageError, match="another key"):
        interop.from_phe(other.public, interop.to_phe(c))


def test_residues_use_the_whole_exponent(monkeypatch, small):
    """Every byte of the drawn exponent counts."""
    rows = _table(small.public.n, small.public.n2, 512)
    base = rows[0][1]
    drawn = []

    def fake(count):
        drawn.append(bytes(range(1, count + 1)))
        return drawn[-1]

    monkeypatch.setattr("spuvm.paillier.randomness.os.urandom", fake)
    (found,) = short_residues(small.public.n, small.public.n2, 512, 1)
    exponent = int.from_bytes(drawn[0], "little")
    assert found == pow(int(base), exponent, int(small.public.n2))
    assert exponent.bit_length() > 512 // 2 - 8
