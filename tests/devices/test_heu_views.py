"""What the parties of a crossing see, and that a weaker mask would not pass."""

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices import heuparty
from spuvm.devices.crossings import RingJoiner
from spuvm.paillier import masking
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
    """Every one of the low `bits` bits is set in about half of the values."""
    counts = [sum(int(v) >> b & 1 for v in values) for b in range(bits)]
    n = len(values)
    return all(abs(c - n / 2) < 5 * np.sqrt(n) / 2 for c in counts)


def test_the_key_holder_sees_uniform_bits(heu, spu, shown):
    for _ in range(RUNS):
        h = at(ALICE, np.full(4, 123.456)).to(heu).to(sf.PYU(BOB))
        sf.wait(h.to(spu))
    assert len(shown) == 4 * RUNS
    assert uniform_bits(shown, BITS + STATISTICAL_BITS)


def test_masks_that_skip_low_bits_are_noticed(heu, spu, shown, monkeypatch):
    """The known implementation's masks were multiples of 2^26: the test above must see that."""

    def coarse(bound, shape, scale):
        fine = masking.mask_for(bound, shape, scale)
        return Plain((fine.ints >> 26) << 26, scale, fine.bound)

    monkeypatch.setattr(heuparty, "mask_for", coarse)
    for _ in range(RUNS):
        h = at(ALICE, np.full(4, 123.456)).to(heu).to(sf.PYU(BOB))
        sf.wait(h.to(spu))
    assert not uniform_bits(shown, BITS + STATISTICAL_BITS)


def test_the_evaluator_sees_uniform_bits(heu, spu, monkeypatch):
    opened = []
    joiner = RingJoiner.__call__

    def watch(self, *parts):
        found = joiner(self, *parts)
        opened.append(found)
        return found

    monkeypatch.setattr(RingJoiner, "__call__", watch)
    for _ in range(RUNS):
        sf.wait(at(CAROL, np.full(4, -1e9)).to(spu).to(heu))
    for limb in range(4):
        values = np.concatenate([o[limb].reshape(-1) for o in opened]).tolist()
        assert len(values) == 4 * RUNS
        assert uniform_bits(values, 60)
