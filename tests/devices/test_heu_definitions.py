"""What does not depend on where a HEU's parties run: definitions, bounds, refused crossings."""

import numpy as np
import pytest

import spuvm as sf
from spuvm.errors import UsageError, ValueRangeError
from tests.devices.sessions import PARTIES

X = np.array([1.5, -2.25, 3.0])
M = np.array([[0.25, 4.0], [-1.0, 0.5], [8.0, -0.125]])
ALICE, BOB = PARTIES[:2]


def at(party, value):
    return sf.to(sf.PYU(party), np.asarray(value))


def shown(h):
    """What the key holder decrypts."""
    return sf.reveal(h.to(sf.PYU(ALICE)))


@pytest.fixture(scope="module")
def wide(inprocess):
    """Without a declared range."""
    return sf.HEU(ALICE, [BOB], key_bits=768, safety="insecure")


def test_secretflows_dict(inprocess):
    heu = sf.HEU(
        {
            "sk_keeper": {"party": ALICE},
            "evaluators": [{"party": BOB}],
            "mode": "PHEU",
            "he_parameters": {
                "schema": "paillier",
                "key_pair": {"generate": {"bit_size": 3072}},
            },
            "encoding": {"cleartext_type": "DT_I32", "encoder": "IntegerEncoder"},
        },
        "FM64",
    )
    assert (heu.sk_keeper, heu.evaluators, heu.key_bits) == (ALICE, (BOB,), 3072)
    assert heu.key.bits == heu.public_key.n.bit_length() == 3072
    np.testing.assert_allclose(shown(at(ALICE, X).to(heu) @ at(BOB, M)), X @ M, atol=1e-4)
    for field in ("FM32", [BOB]):
        with pytest.raises(UsageError, match="SPU's field or nothing"):
            sf.HEU({"sk_keeper": {"party": ALICE}, "evaluators": []}, field)
    for bad, match in [
        ({"sk_keeper": {"party": ALICE}}, "evaluators"),
        ({"sk_keeper": ALICE, "evaluators": []}, "names a party"),
        ({"sk_keeper": {"party": ALICE}, "evaluators": [], "x": 1}, "unknown entries"),
        ({"sk_keeper": {"party": ALICE}, "evaluators": [], "mode": "FHE"}, "mode"),
        (
            {
                "sk_keeper": {"party": ALICE},
                "evaluators": [],
                "he_parameters": {"schema": "ckks"},
            },
            "unknown scheme",
        ),
    ]:
        with pytest.raises(UsageError, match=match):
            sf.HEU(bad)


def test_ranges_are_tracked(wide):
    h = at(ALICE, X).to(wide)
    v = at(BOB, 1.5).to(wide)
    for _ in range(11):
        h = h * v
    with pytest.raises(ValueRangeError, match="plaintext space"):
        sf.wait(h * v)


def test_refused_crossings(wide):
    heu = sf.HEU(ALICE, [BOB], 768, input_range=(-1000, 1000), safety="insecure")
    spu = sf.SPU(PARTIES[:3])
    product = at(ALICE, [1.0]).to(wide) * at(BOB, [1.0])
    pair = spu(lambda a: (a, a))(at(BOB, [1.0]))
    small = sf.SPU(PARTIES[:3], sf.Config(ring=32))
    for act, match in [
        (lambda: product.to(spu), "may not fit into the SPU"),
        (lambda: pair.to(heu), "single arrays"),
        (lambda: at(BOB, [True]).to(spu).to(heu), "only fractions"),
        (lambda: at(BOB, np.array([1], np.int32)).to(spu).to(heu), "only fractions"),
        (lambda: at(BOB, [1.0]).to(small).to(heu), "rings of 64 bits"),
        (lambda: at(ALICE, [1.0]).to(heu).to(sf.PYU(BOB)).to(small), "rings of 64 bits"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
