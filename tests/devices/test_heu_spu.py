"""Between ciphertexts and shares: exact, and masked by more bits than the value has."""

import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf
from tests.devices.sessions import PARTIES

ALICE, BOB, CAROL = PARTIES[:3]


@pytest.fixture(scope="module")
def heu(session):
    return sf.HEU(ALICE, [BOB, CAROL], key_bits=768, input_range=(-1000, 1000), safety="insecure")


def at(party, value):
    return sf.to(sf.PYU(party), np.asarray(value))


def encrypted_at_bob(heu, value):
    return at(ALICE, value).to(heu).to(sf.PYU(BOB))


def test_from_ciphertexts_to_shares(heu, spu):
    x = np.array([[1.5, -2.25, 3.0], [0.0, 999.0, -(2.0**-18)]])
    y = encrypted_at_bob(heu, x).to(spu)
    np.testing.assert_array_equal(sf.reveal(y), x.astype(np.float32))
    product = encrypted_at_bob(heu, x) * at(BOB, x)  # scale 36: truncated on the way
    got = sf.reveal(product.to(spu))
    np.testing.assert_allclose(got, x * x, rtol=1e-6, atol=2.0**-17)
    assert product.to(spu).structure()[0][0].origins == (ALICE, BOB)
    whole = encrypted_at_bob(heu, np.array([7, -8])).to(spu)
    assert sf.reveal(whole).dtype == np.int32
    np.testing.assert_array_equal(sf.reveal(whole), [7, -8])
    np.testing.assert_allclose(sf.reveal(at(BOB, x).to(heu).to(spu)), x)
    np.testing.assert_allclose(sf.reveal(at(ALICE, x).to(heu).to(spu)), x)


def test_truncation_is_one_unit_and_unbiased(heu, spu):
    x = np.full(400, 0.5)
    product = encrypted_at_bob(heu, x) * at(BOB, np.full(400, 3 * 2.0**-18))
    units = sf.reveal(product.to(spu)) * 2.0**18
    assert set(units.tolist()) <= {1.0, 2.0}  # 1.5 units
    assert 140 < (units == 1).sum() < 260


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e9, 1.7e13])
def test_from_shares_to_ciphertexts(heu, spu, scale):
    """Whatever the range: with one piece or with four."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-scale, scale, 20), [0.0, scale, -scale, 2.0**-18]])
    y = at(CAROL, x).to(spu)
    h = y.to(heu)
    assert (h.party, h.kind) == (BOB, "ciphertexts")
    encoded = np.rint(x * 2.0**18) / 2.0**18
    np.testing.assert_array_equal(sf.reveal(h.to(sf.PYU(ALICE))), encoded)


def test_small_ranges_need_one_piece(heu, spu):
    def bounded(a):
        return sf.assume_range(a, -1.0, 1.0)

    x = np.array([1.0, -1.0, 0.25])
    h = spu(bounded)(at(CAROL, x)).to(heu)
    np.testing.assert_array_equal(sf.reveal(h.to(sf.PYU(ALICE))), x)
    assert spu.last_run.rounds == 0  # nothing but additions
    total = h @ at(BOB, np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(sf.reveal(total.to(sf.PYU(ALICE))), 0.0)


def test_there_and_back(heu, spu):
    x = np.linspace(-500, 500, 11)
    y = at(CAROL, x).to(spu)
    back = y.to(heu)
    narrow = sf.HEU(ALICE, [BOB], key_bits=768, safety="insecure")
    for h in (back.to(sf.PYU(CAROL)), y.to(narrow)):
        got = sf.reveal(spu(jnp.negative)(h.to(spu)))
        np.testing.assert_allclose(got, -x, atol=1e-5)
