"""Ciphertext arrays against numpy on the encoded integers: exact, whatever the shapes."""

import pickle
import threading

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spuvm.errors import UsageError, ValueRangeError
from spuvm.paillier import cores
from spuvm.paillier.arrays import concatenate, decrypt, decrypt_ints, encrypt
from spuvm.paillier.encoding import Encoding, Plain
from spuvm.paillier.keys import SecretKey
from spuvm.paillier.masking import mask_for
from spuvm.paillier.packing import Packed, decrypt_packed, encrypt_packed, pack, slot_for, slots
from spuvm.paillier.powers import _odd_digits, _tables, powers, product, weighted_products
from spuvm.paillier.randomness import _table

KEY = SecretKey.generate(512, "insecure")
ENCODING = Encoding(8)
INTS = st.integers(-(2**40), 2**40)


def enc(x):
    return encrypt(KEY.public, ENCODING.encode(np.asarray(x)))


def plain(x):
    return ENCODING.encode(np.asarray(x))


def arrays(*shape):
    return hnp.arrays(np.int64, shape, elements=INTS)


@given(arrays(2, 3), arrays(2, 3), arrays(3))
def test_sums_and_differences(a, b, row):
    x, y = enc(a), enc(b)
    for got, want in [
        (x + y, a + b),
        (x - y, a - b),
        (x + plain(row), a + row),
        (plain(row) + x, a + row),
        (x - plain(row), a - row),
        (plain(row) - x, row - a),
        (-x, -a),
        (x.sum(), a.sum()),
        (x.sum(axis=0), a.sum(0)),
        (x.sum(axis=1), a.sum(1)),
    ]:
        np.testing.assert_array_equal(decrypt(KEY, got), want)
        assert got.shape == np.shape(want)
        assert int(np.max(np.abs(want), initial=0)) <= got.bound


@given(arrays(2, 3), arrays(3), arrays(3, 4), arrays(2, 3))
def test_products(a, v, m, w):
    x = enc(a)
    exact = a.astype(object)
    for got, want in [
        (x @ plain(v), exact @ v),
        (x @ plain(m), exact @ m),
        (plain(w.T) @ x, w.T.astype(object) @ a),
        (x * plain(w), exact * w),
        (x * plain(v), exact * v),
        (plain(7) * x, exact * 7),
        (x * plain(-3), exact * -3),
        (x * plain(0), exact * 0),
        (enc(v) @ plain(v), (v.astype(object) * v).sum()),
        (plain(v) @ enc(m), v.astype(object) @ m),
    ]:
        np.testing.assert_array_equal(decrypt_ints(KEY, got), want)
        assert got.shape == np.shape(want)


def test_long_products_cross_blocks():
    rng = np.random.default_rng(0)
    a, m = rng.integers(-1000, 1000, 300), rng.integers(-1000, 1000, (300, 2))
    np.testing.assert_array_equal(decrypt(KEY, enc(a) @ plain(m)), a @ m)


def test_slices_shapes_and_concatenation():
    a = np.arange(12).reshape(3, 4)
    x = enc(a)
    for index in (0, (1, 2), slice(1, None), (slice(None), [0, 3]), a[:, 0] > 0, ..., -1):
        got = x[index]
        np.testing.assert_array_equal(decrypt(KEY, got), a[index])
        assert got.shape == np.shape(a[index])
    np.testing.assert_array_equal(decrypt(KEY, x.T), a.T)
    np.testing.assert_array_equal(decrypt(KEY, x.reshape(2, 6)), a.reshape(2, 6))
    both = concatenate([x, enc(a.astype(float) / 2)])
    np.testing.assert_array_equal(decrypt(KEY, both), np.concatenate([a, a / 2]))
    assert len(x) == 3
    assert (x.ndim, x.size) == (2, 12)


def test_bucket_sums():
    a = np.arange(10).reshape(5, 2)
    got = enc(a).bucket_sums([2, 0, 2, 2, 0], 4)
    np.testing.assert_array_equal(
        decrypt(KEY, got), [a[[1, 4]].sum(0), [0, 0], a[[0, 2, 3]].sum(0), [0, 0]]
    )
    for bad in ([0, 1], [0, 1, 2, 3, 4], [-1, 0, 0, 0, 0], [0.5] * 5):
        with pytest.raises(UsageError, match="one bucket per row"):
            enc(a).bucket_sums(bad, 4)


def test_no_rows():
    """Sums over nothing are 0; products of nothing have no elements."""
    x = enc(np.zeros((0, 2)))
    for got, want in [
        (x.sum(axis=0), [0, 0]),
        (x.sum(), 0),
        (x.bucket_sums(np.zeros(0, int), 3), np.zeros((3, 2))),
        (x.T @ plain(np.zeros(0)), [0, 0]),
        (x + x, np.zeros((0, 2))),
        (x * plain(np.zeros((0, 2))), np.zeros((0, 2))),
    ]:
        assert got.shape == np.shape(want)
        np.testing.assert_array_equal(decrypt(KEY, got), want)
    assert decrypt_packed(KEY, pack(x, 80)).shape == (0, 2)


def test_scales_are_public_types_not_values():
    small, big = enc([2.0**-8, 2.0**-7]), enc([1000.0, 3e6])
    assert small.scale == big.scale == 8
    assert small.bound == big.bound
    mixed = enc([1, 2]) + enc([0.5, 0.25])
    np.testing.assert_array_equal(decrypt(KEY, mixed), [1.5, 2.25])
    product = enc([0.5, 0.25]) * plain([0.5, 3.0]) + enc([1, 1])
    assert product.scale == 16
    np.testing.assert_array_equal(decrypt(KEY, product), [1.25, 1.75])
    with pytest.raises(UsageError, match="cannot drop"):
        product.rescaled(8)


def test_equal_plaintexts_have_different_ciphertexts():
    x = enc(np.zeros(20, int))
    assert len(set(x.data.tolist())) == 20
    again = x.rerandomised()
    assert not set(again.data.tolist()) & set(x.data.tolist())
    np.testing.assert_array_equal(decrypt(KEY, again), np.zeros(20))


def test_the_plaintext_space_is_never_left():
    x = enc([1.5])
    for _ in range(7):  # 62 bits each of 510
        x = x * plain([1.5])
    with pytest.raises(ValueRangeError, match="plaintext space"):
        x * plain([1.5])
    with pytest.raises(ValueRangeError, match="plaintext space"):
        x @ plain([1.5])
    with pytest.raises(ValueRangeError, match="plaintext space"):
        x.rescaled(200)
    y = enc(np.full(4, 2**40))
    for _ in range(2):
        y = y * plain(np.full(4, 2**40))
    np.testing.assert_array_equal(decrypt_ints(KEY, y), [2**120] * 4)
    with pytest.raises(ValueRangeError, match="int64"):
        decrypt(KEY, y)


def test_fractions_beyond_float64_are_an_error(large):
    x = encrypt(large.public, Encoding(1).encode([1.5])).rescaled(2)
    for _ in range(27):
        x = x * Plain(np.array([2**62 - 1]), 0, 2**62 - 1)
    with pytest.raises(ValueRangeError, match="float64"):
        decrypt(large, x)


@given(st.integers(1, 8), st.integers(0, 130), st.data())
def test_odd_digits(window, bits, data):
    """No digit is 0, and there are as many for every number: the work tells nothing of it."""
    odd = data.draw(st.integers(0, 2**bits)) | 1
    places = -(-(bits + 2) // window)
    digits = _odd_digits(odd, window, places)
    assert sum(d << (window * i) for i, d in enumerate(digits)) == odd
    assert len(digits) == places
    assert all(d % 2 and abs(d) < 1 << window for d in digits)
    assert digits[-1] > 0


@given(st.integers(0, 70), st.data())
def test_powers_of_hidden_numbers(bits, data):
    top = (1 << bits) - 1
    exponents = [*data.draw(st.lists(st.integers(-top, top), max_size=4)), 0, top, -top]
    bases = KEY.public.residues(len(exponents))
    n2 = KEY.public.n2
    want = [pow(b, e, n2) for b, e in zip(bases, exponents, strict=True)]
    assert powers(bases, exponents, bits, n2) == want
    found = weighted_products(bases, [exponents, exponents[::-1]], bits, n2)
    back = [pow(b, e, n2) for b, e in zip(bases, exponents[::-1], strict=True)]
    assert found == [product(want, n2), product(back, n2)]


def test_products_with_hidden_numbers_never_multiply_by_a_short_one(monkeypatch):
    """A factor 1 takes less time than a residue: zeros and small numbers would show."""
    lengths = []
    original = gmpy2.powmod

    def watched(base, exponent, modulus):
        lengths.append(mpz(base).bit_length())
        return original(base, exponent, modulus)

    key = KEY.public
    assert min(row[0].bit_length() for row in _tables(key.residues(3), 4, key.n2)) > 1000
    assert min(row[0].bit_length() for row in _table(key.n, key.n2, key.bits)) > 1000
    monkeypatch.setattr(gmpy2, "powmod", watched)
    x = enc(np.ones(4, int))
    counts = set()
    for value in (0, 1, -1, 2**40):
        lengths.clear()
        _ = x * plain(np.full(4, value))
        assert min(lengths) > 900  # no power of 1 on the way
        counts.add(len(lengths))
    assert len(counts) == 1
    _ = x * ENCODING.encode(1)  # one hidden number for all elements
    assert len(lengths) == 2 * max(counts)


@pytest.mark.parametrize("cores_there", [1, 3])
def test_work_is_spread_over_the_cores(monkeypatch, cores_there):
    """Every core gets a piece, on threads that leave the interpreter's lock."""
    monkeypatch.setattr(cores, "count", lambda: cores_there)
    seen = []
    everybody = threading.Barrier(cores_there)

    def work(piece):
        everybody.wait(20)  # passes only if all pieces are worked on at the same time
        seen.append((threading.current_thread().name, gmpy2.get_context().allow_release_gil))
        return list(piece)

    assert cores.in_pieces(work, list(range(7))) == list(range(7))
    assert len({name for name, _ in seen}) == cores_there
    if cores_there > 1:
        assert all(released for _, released in seen)
        assert not gmpy2.get_context().allow_release_gil  # the caller's context is its own


def test_a_plaintext_beyond_its_bound_is_reported():
    from spuvm.paillier.arrays import Ciphers

    x = enc([5])
    with pytest.raises(ValueRangeError, match="beyond its declared bound"):
        decrypt(KEY, Ciphers(KEY.public, x.data, 0, 4))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([np.nan], "finite"),
        ([np.inf], "finite"),
        ([2.0**54], r"2\^54"),
        ([2**62], "out of range"),
        ([-(2**63)], "out of range"),
        (["a"], "dtype"),
        ([1 + 2j], "dtype"),
    ],
)
def test_owners_refuse(value, error):
    with pytest.raises((ValueRangeError, UsageError), match=error) as caught:
        ENCODING.encode(value, "salary")
    assert str(caught.value).startswith("salary")


def test_declared_ranges():
    narrow = Encoding(18, (-4, 8))
    assert narrow.encode([7.9]).bound == 8 << 18
    with pytest.raises(ValueRangeError, match="1 of 2 elements"):
        narrow.encode([1.0, -4.5])
    for bad in ((3, 1), (0, np.inf), (0, 1e30)):
        with pytest.raises(UsageError, match="input_range"):
            Encoding(18, bad)
    with pytest.raises(UsageError, match="frac_bits"):
        Encoding(-1)


def test_misuse():
    x, y = enc([1, 2]), enc([3, 4])
    for act in (lambda: x * y, lambda: x @ y):
        with pytest.raises(UsageError, match="not possible"):
            act()
    with pytest.raises(UsageError, match="not encoded"):
        x + np.ones(2)
    with pytest.raises(UsageError, match="do not fit"):
        x @ plain(np.ones((3, 2)))
    stranger = encrypt(SecretKey.generate(512, "insecure").public, plain([1, 2]))
    with pytest.raises(UsageError, match="different keys"):
        x + stranger
    for act in (bool, float, np.asarray, lambda c: c == c, lambda c: c < c, lambda c: c / 2):
        with pytest.raises(UsageError, match="no value here"):
            act(x)
    with pytest.raises(UsageError, match="do not leave"):
        pickle.dumps(x)
    assert str(x.data[0]) not in repr(x)


@given(hnp.arrays(np.int64, (7,), elements=st.integers(-(2**20), 2**20)))
def test_packing(a):
    packed = encrypt_packed(KEY.public, Encoding(8, (-(2**20), 2**20)).encode(a), total=3)
    assert packed.ciphers.size < 7
    total = packed + packed + packed
    np.testing.assert_array_equal(decrypt_packed(KEY, total), 3 * a)
    with pytest.raises(UsageError, match="leave its slot"):
        total + packed
    again = pack(encrypt(KEY.public, Encoding(8, (-(2**20), 2**20)).encode(a)), 64)
    np.testing.assert_array_equal(decrypt_packed(KEY, again), a)


def test_packing_extremes():
    """Largest values of either sign beside each other: no borrow crosses a slot."""
    encoding = Encoding(0, (-255, 255))
    a = np.array([255, -255, -255, 255, 0, -1, 1] * 30)
    packed = encrypt_packed(KEY.public, encoding.encode(a))
    assert packed.slot == 9
    assert packed.ciphers.size == -(-len(a) // slots(KEY.public, 9))
    np.testing.assert_array_equal(decrypt_packed(KEY, packed), a)
    assert slot_for(255) == 9


def test_masks_cover_every_bit_and_forty_more():
    masks = [int(mask_for(1000, (), 0).ints) for _ in range(200)]
    assert all(0 <= m < 1 << 51 for m in masks)
    for bit in range(51):  # each bit is 1 in about half of them
        assert 50 < sum(m >> bit & 1 for m in masks) < 150
    packed = pack(enc([3, -4]), 128)
    assert isinstance(packed, Packed)
    mask = mask_for(packed.bound, (2,), packed.scale)
    got = decrypt_packed(KEY, packed + mask)
    np.testing.assert_array_equal(got - mask.ints, [3, -4])
