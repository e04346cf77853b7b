"""What leaves a party: randomised, typed, checked on arrival; and why phe objects never do."""

import pickle

import numpy as np
import pytest
from gmpy2 import mpz

from spuvm.errors import ValueRangeError
from spuvm.paillier.arrays import decrypt, encrypt
from spuvm.paillier.encoding import Encoding
from spuvm.paillier.packing import decrypt_packed, pack
from spuvm.paillier.wire import seal, unseal

ENCODING = Encoding(18)


def enc(key, x):
    return encrypt(key.public, ENCODING.encode(np.asarray(x)))


def test_there_and_back(small):
    x = enc(small, [[1.5, -2.0], [0.0, 4.0]])
    got = unseal(pickle.loads(pickle.dumps(seal(x))), small.public)
    np.testing.assert_array_equal(decrypt(small, got), [[1.5, -2.0], [0.0, 4.0]])
    assert (got.scale, got.bound) == (x.scale, x.bound)
    packed = pack(x, 80)
    again = unseal(seal(packed), small.public)
    np.testing.assert_array_equal(decrypt_packed(small, again), decrypt_packed(small, packed))
    empty = unseal(seal(enc(small, np.zeros((0, 3)))), small.public)
    assert empty.shape == (0, 3)


def test_messages_are_plain_arrays(small):
    message = seal(enc(small, [1.0]))
    assert all(type(v) is np.ndarray and v.dtype.kind in "iu" for v in message.values())


def recovered_multiplier(before, after, n2):
    """What an eavesdropper who saw Enc(m) does with m's product: try every multiplier."""
    return next((k for k in range(2, 3000) if pow(before, k, n2) == after), None)


def test_the_multiplier_stays_at_its_party(small):
    """c -> c^k is deterministic: whoever knows c finds k, unless the result is randomised."""
    n2 = small.public.n2
    x = enc(small, [3])
    y = x * ENCODING.encode(1234)
    c, raw = x.data[0], y.data[0]
    assert recovered_multiplier(c, raw, n2) == 1234  # as phe's pickle would hand it out
    sent = mpz(int.from_bytes(seal(y)["body"][0].tobytes()))
    assert recovered_multiplier(c, sent, n2) is None
    assert decrypt(small, unseal(seal(y), small.public)) == 3 * 1234


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x + x,
        lambda x: x + ENCODING.encode([1.0, 2.0]),
        lambda x: x[[0, 0]],
        lambda x: x.T,
        lambda x: x.sum(),
        lambda x: -x,
        lambda x: x @ ENCODING.encode([1.0, 2.0]),
        lambda x: x.bucket_sums([0, 0], 2),
        lambda x: x.rescaled(20),
        lambda x: pack(x, 70),
    ],
)
def test_results_are_randomised_before_they_leave(small, act):
    """Nothing that an operation made is sent as it is, and sending twice differs."""
    made = act(enc(small, [1.5, 2.5])[:])
    held = made if hasattr(made, "data") else made.ciphers
    texts = {int(c) for c in held.data.reshape(-1)}
    first, second = ({row.tobytes() for row in seal(made)["body"]} for _ in range(2))
    assert not {int.from_bytes(t) for t in first} & texts
    assert not first & second
    assert len(first) == held.size


def changed(message, **fields):
    return {**message, **fields}


def test_arrivals_are_checked(small, other):
    good = seal(enc(small, [1.5, 2.5]))
    key = small.public
    p = small.to_phe().p
    zeros = np.zeros_like(good["body"])
    not_unit = zeros.copy()
    not_unit[:] = np.frombuffer(int(p).to_bytes(key.width), np.uint8)
    for bad, match in [
        (changed(good, body=zeros), "out of range"),
        (changed(good, body=np.full_like(zeros, 255)), "out of range"),
        (changed(good, body=not_unit), "not a unit"),
        (changed(good, body=good["body"][:1]), "another number"),
        (changed(good, body=good["body"][:, 1:]), "not a sealed message"),
        (changed(good, body=good["body"].astype(np.int64)), "not a sealed message"),
        (changed(good, shape=np.array([-1, -2])), "impossible shape"),
        (changed(good, shape=np.array([1 << 40])), "another number"),
        (changed(good, shape=np.array([1 << 33, 1 << 33])), "another number"),
        (changed(good, scale=np.array(-1)), "impossible"),
        (changed(good, slot=np.array(10_000)), "impossible slot"),
        (changed(good, extra=zeros), "not a sealed message"),
        (changed(good, bound=np.full(100, 255, np.uint8)), "plaintext space"),
        (b"pickle", "not a sealed message"),
    ]:
        with pytest.raises(ValueRangeError, match=match):
            unseal(bad, key)
    with pytest.raises(ValueRangeError, match="another key"):
        unseal(good, other.public)
    packed = seal(pack(enc(small, [1.5, 2.5]), 70))
    with pytest.raises(ValueRangeError, match="impossible slot"):
        unseal(changed(packed, bound=np.full(9, 255, np.uint8)), key)
