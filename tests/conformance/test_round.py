"""round_a: by the shares, without a message; it tells a party what a truncation would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import RANKS, value_of
from variant import builder, to_ints

from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.share import AShare
from spuvm.protocol.base import Party
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

RINGS = [32, 64, 128]
N = 4096


def components(ring, x, rng):
    """Three uniform ones that add up to x."""
    words = [ring.array(np.array([int.from_bytes(rng.bytes(16)) for _ in x], object)) for _ in "ab"]
    return [*words, ring.array(np.array(x, object)) - words[0] - words[1]]


def rounded(ring, parts, bits, op="round_a", **attrs):
    """Shares of what becomes of components."""
    shares = [AShare(parts[i], parts[(i + 1) % 3]) for i in RANKS]
    return [
        ABY3.local[op](Party(i, ring, None), s, bits=bits, **attrs)
        for i, s in zip(RANKS, shares, strict=True)
    ]


def integers(ring, x):
    return np.array(to_ints(ring, x), object).ravel()


@pytest.mark.parametrize("ring", RINGS)
@given(bits=st.integers(1, 28), seed=st.integers(0, 2**32 - 1))
def test_near_and_without_lower_digits(ring, bits, seed):
    ring, rng = Ring(ring), np.random.default_rng(seed)
    x = rng.integers(-(1 << 20), 1 << 20, 50)
    got = integers(ring, value_of(rounded(ring, components(ring, x, rng), bits)))
    assert (abs(got - x) <= 3 << bits - 1).all()
    assert (got % (1 << bits) == 1 << bits - 1).all()


@pytest.mark.parametrize("bits", [8, 16, 31, 32, 33, 60, 63, 64, 65, 100, 125])
def test_any_number_of_bits(bits):
    """Also those of a machine word."""
    ring, rng = Ring(128), np.random.default_rng(bits)
    x = [int(v) << 3 for v in rng.integers(-(1 << 60), 1 << 60, 50)]
    got = integers(ring, value_of(rounded(ring, components(ring, x, rng), bits)))
    assert all(abs(a - b) <= 3 << bits - 1 for a, b in zip(got, x, strict=True))
    assert all(v % (1 << bits) == 1 << bits - 1 for v in got)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("bits", [1, 8, 13, 18, 28])
def test_a_party_learns_a_value_of_a_uniform_threshold(ring, bits):
    """floor((x - a) / 2^m) of its own a, uniform and unrelated to x; the rest follows from that."""
    ring, rng, low = Ring(ring), np.random.default_rng(bits), (1 << bits) - 1
    x = rng.integers(-(1 << 20), 1 << 20, N)
    parts = components(ring, x, rng)
    shares = rounded(ring, parts, bits)
    got = integers(ring, value_of(shares))
    for i in RANKS:
        first, second = (integers(ring, parts[(i + k) % 3]) & low for k in (0, 1))
        threshold = first + second & low
        told = (x - threshold) >> bits << bits
        known = got - (3 << bits - 1) - (threshold - first - second)
        assert (known == told).all()
        for bit in range(bits):
            assert abs(np.mean(threshold >> bit & 1) - 0.5) < 6 / (2 * N**0.5)
        related = np.corrcoef(np.asarray(threshold, float), np.asarray(x & low, float))[0, 1]
        assert abs(related) < 6 / N**0.5
        missing = value_of(shares) - shares[i].x0 - shares[i].x1  # nothing below 2^(m-1)
        assert (integers(ring, missing) % (1 << bits - 1) == 0).all()
    assert abs(np.mean(np.asarray(got - x, float))) < 6 * 0.5 * 2**bits / N**0.5 + 1.5


@pytest.mark.parametrize("ring", RINGS)
def test_the_same_shares_are_rounded_alike(trio, ring):
    """Repeated, moved, in another run; sent is nothing."""
    b = builder(Ring(ring))
    x = b.input(Type("a", (N,), 10, 0, -1000, 1000), "o")
    wide = b.emit("broadcast", x, shape=(2, N), dims=(1,))
    b.output(b.emit("round_a", x, bits=10), "float64", "o")
    b.output(b.emit("round_a", wide, bits=10), "float64", "o")
    program = b.build()
    assert static_cost(program).bytes_sent == (0, 0, 0)
    words = [Ring(ring).array(np.arange(N) % 2000 - 1000)]
    made = trio(ring).run(program, words)
    assert made.bytes_sent == (0, 0, 0)
    once, twice = (integers(Ring(ring), v) for v in made.outputs)
    assert (twice.reshape(2, N) == once).all()
    (plain, _) = run_plain(program, words, np.random.default_rng(0), "ranges")
    spread = [
        np.asarray(integers(Ring(ring), v) - integers(Ring(ring), words[0]), float).std()
        for v in (made.outputs[0], plain)
    ]
    assert spread == pytest.approx([512, 512], rel=0.1)  # sqrt(3 / 12) 2^10


@pytest.mark.parametrize("bounds", [(None, None), (0, 1 << 61)])
def test_a_range_has_to_leave_room(bounds):
    b = builder(Ring(64))
    x = b.input(Type("a", (2,), 60, 0, *bounds), "o")
    with pytest.raises(VerifyError, match="round_a"):
        b.emit("round_a", x, bits=61)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_sum_is_rounded_as_one_value(ring, size):
    """Of 100,000 elements in two threads."""
    ring, rng = Ring(ring), np.random.default_rng(size)
    parts = [ring.array(rng.integers(0, 1 << 31, size)) for _ in range(3)]
    one, two = (
        rounded(ring, parts, 9, "round_sum_a", coefficients=(5,)),
        rounded(ring, [p * ring.array(np.array([5])) for p in parts], 9),
    )
    for s, t in zip(one, two, strict=True):
        assert np.array_equal(s.x0, t.x0)
        assert np.array_equal(s.x1, t.x1)
