"""What the parties of a crossing see, and that a weaker mask would not pass."""

import itertools

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices import heuparty
from spuvm.devices.crossings import RingJoiner
from spuvm.paillier import masking
from spuvm.paillier.arrays import objects
from spuvm.paillier.encoding import Plain
from spuvm.paillier.masking import STATISTICAL_BITS
from tests.devices.sessions import PARTIES

ALICE, BOB, CAROL = PARTIES[:3]
RUNS = 80
BITS = (1000 << 18).bit_length()


def at(party, value):
    return sf.to(sf.PYU(party), np.asarray(value))


@pytest.fixture
def shown(monkeypatch):
    """The integers that the key holder decrypts for somebody else."""
    found = []
    original = heuparty.masked_integers

    def look(announced):
        numbers = original(announced)
        found.extend(numbers.reshape(-1).tolist())
        return numbers

    monkeypatch.setattr(heuparty, "masked_integers", look)
    return found


@pytest.fixture
def heu(inprocess):
    return sf.HEU(ALICE, [BOB], key_bits=768, input_range=(-1000, 1000), safety="insecure")


@pytest.fixture
def spu(inprocess):
    return sf.SPU(PARTIES[:3])


def uniform_bits(values, bits):
    """Every one of the low `bits` bits is set in about half of the values.

    Also in the difference of every value from the one before: masks that are used twice, or that
    count upwards, are no masks.
    """
    numbers = [int(v) for v in values]
    steps = [(b - a) % (1 << bits) for a, b in itertools.pairwise(numbers)]
    n = len(numbers)
    for series in (numbers, steps):
        counts = [sum(v >> b & 1 for v in series) for b in range(bits)]
        if any(abs(c - n / 2) >= 6 * np.sqrt(n) / 2 for c in counts):
            return False
    return True


@pytest.mark.parametrize("secret", [123.456, -1000.0, 0.0])
def test_the_key_holder_sees_uniform_bits(heu, spu, shown, secret):
    for _ in range(RUNS):
        h = at(ALICE, np.full(4, secret)).to(heu).to(sf.PYU(BOB))
        sf.wait(h.to(spu))
    assert len(shown) == 4 * RUNS
    assert uniform_bits(shown, BITS + STATISTICAL_BITS)


def test_the_key_holder_sees_uniform_bits_of_what_is_opened_to_others(heu, shown):
    h = at(ALICE, np.full(4, -77.25)).to(heu).to(sf.PYU(BOB))
    opened = [h.opened_here() for _ in range(RUNS)]
    np.testing.assert_array_equal(sf.reveal(opened), -77.25)
    assert len(shown) == 4 * RUNS
    assert uniform_bits(shown, BITS + STATISTICAL_BITS)


def coarse(bound, shape, scale):
    """The known implementation's masks were multiples of 2^26."""
    fine = masking.mask_for(bound, shape, scale)
    return Plain((fine.ints >> 26) << 26, scale, fine.bound)


def short(bound, shape, scale):
    """Masks that cover the bound but not the statistical bits."""
    fine = masking.mask_for(bound, shape, scale)
    return Plain(fine.ints >> STATISTICAL_BITS, scale, fine.bound)


def same(bound, shape, scale, kept=[]):  # noqa: B006 - the one mask that is used again
    """One mask for everything."""
    if not kept:
        kept.append(masking.mask_for(bound, (), scale).ints.reshape(-1)[0])
    return Plain(objects([kept[0]] * int(np.prod(shape)), shape), scale, 1 << 90)


@pytest.mark.parametrize("broken", [coarse, short, same])
def test_weak_masks_of_the_evaluator_are_noticed(heu, spu, shown, monkeypatch, broken):
    monkeypatch.setattr(heuparty, "mask_for", broken)
    for _ in range(RUNS):
        h = at(ALICE, np.full(4, 123.456)).to(heu).to(sf.PYU(BOB))
        sf.wait(h.to(spu))
    assert not uniform_bits(shown, BITS + STATISTICAL_BITS)


@pytest.fixture
def limbs(monkeypatch):
    """What is opened to the evaluator: [count, ...] each time."""
    opened = []
    joiner = RingJoiner.__call__

    def watch(self, *parts):
        found = joiner(self, *parts)
        opened.append(found)
        return found

    monkeypatch.setattr(RingJoiner, "__call__", watch)

    def columns():
        return [np.concatenate([o[j].reshape(-1) for o in opened]).tolist() for j in range(4)]

    return columns


@pytest.mark.parametrize("secret", [-1e9, 0.0, 12345.678])
def test_the_evaluator_sees_uniform_bits(heu, spu, limbs, secret):
    for _ in range(RUNS):
        sf.wait(at(CAROL, np.full(4, secret)).to(spu).to(heu))
    for values in limbs():
        assert len(values) == 4 * RUNS
        assert uniform_bits(values, 61)


@pytest.mark.parametrize("broken", ["coarse", "short", "same"])
def test_weak_masks_of_the_key_holder_are_noticed(heu, spu, limbs, monkeypatch, broken):
    draw = heuparty.HEUParty.draw
    first = {}

    def weak(self, free, count, shape, bits):
        found = draw(self, free, count, shape, bits)
        if broken == "coarse":
            return found >> np.uint64(26) << np.uint64(26)
        if broken == "short":
            return found >> np.uint64(STATISTICAL_BITS)
        return first.setdefault("mask", np.broadcast_to(found[..., :1], found.shape).copy())

    monkeypatch.setattr(heuparty.HEUParty, "draw", weak)
    for _ in range(RUNS):
        sf.wait(at(CAROL, np.full(4, -1e9)).to(spu).to(heu))
    assert not all(uniform_bits(values, 61) for values in limbs())
