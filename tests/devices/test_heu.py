"""The HEU device on both backends: where operations run, who sees what, what is refused."""

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.session import current
from spuvm.errors import PartyError, UsageError, ValueRangeError

X = np.array([1.5, -2.25, 3.0])
M = np.array([[0.25, 4.0], [-1.0, 0.5], [8.0, -0.125]])
ALICE, BOB, CAROL = "alice", "bob", "carol"


@pytest.fixture(scope="module")
def heu(session):
    return sf.HEU(ALICE, [BOB, CAROL], key_bits=768, input_range=(-1000, 1000), safety="insecure")


def at(party, value):
    return sf.to(sf.PYU(party), value)


def shown(h):
    """What the key holder decrypts."""
    return sf.reveal(h.to(sf.PYU(ALICE)))


def test_operations(heu):
    h, m = at(ALICE, X).to(heu), at(BOB, M).to(heu)
    v = at(CAROL, X * 2).to(heu)
    for got, want, party in [
        (h + h, X + X, ALICE),
        (h - 0.5 * h, X / 2, ALICE),
        (h @ m, X @ M, BOB),
        (m.T @ h, M.T @ X, BOB),
        (h + v, 3 * X, CAROL),
        (v - h, X, CAROL),
        (h * v, 2 * X * X, CAROL),
        (h @ at(BOB, M), X @ M, BOB),
        (M.T @ h, M.T @ X, ALICE),
        (3 * h - 1, 3 * X - 1, ALICE),
        (-h, -X, ALICE),
        (h[1:], X[1:], ALICE),
        (h[::-1] + v[::-1], 3 * X[::-1], CAROL),
        (h.sum(), X.sum(), ALICE),
        (h.reshape(3, 1).sum(axis=0), X.sum(keepdims=True), ALICE),
        ((h @ m) + (h @ m), 2 * X @ M, BOB),
        ((h @ m).to(sf.PYU(CAROL)) + v[:2], X @ M + 2 * X[:2], CAROL),
        (h.bucket_sums(at(BOB, np.array([1, 0, 1])), 2), [-2.25, 4.5], BOB),
        (h.bucket_sums([1, 0, 1], 2), [-2.25, 4.5], ALICE),
    ]:
        assert got.party == party
        np.testing.assert_allclose(shown(got), want, atol=1e-4)


def test_integers_stay_integers(heu):
    got = shown(at(ALICE, np.array([3, -4])).to(heu) * at(BOB, np.array([5, 6])))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, [15, -24])


def test_owners_get_their_own_numbers_back(heu):
    v = at(BOB, X).to(heu)
    assert v.kind == "plain"
    np.testing.assert_allclose(sf.reveal(v.to(sf.PYU(BOB))), X)
    moved = v.to(sf.PYU(CAROL))
    assert (moved.kind, moved.party) == ("ciphertexts", CAROL)
    np.testing.assert_allclose(shown(moved + at(CAROL, X)), 2 * X)
    np.testing.assert_allclose(shown(v), X)


def test_open_at_an_evaluator(heu):
    """The evaluator learns the value, the key holder a masked one."""
    product = at(ALICE, X).to(heu) @ at(BOB, M)
    before = dict(current().opened)
    opened = product.opened_here()
    assert opened.device == sf.PYU(BOB)
    np.testing.assert_allclose(sf.reveal(opened), X @ M, atol=1e-4)
    new = [d for d in current().opened if current().opened[d] != before.get(d, 0)]
    both = (ALICE, BOB)
    assert [(d.to, d.origins) for d in new] == [(BOB, both), ("driver", both)]


def test_export_to_phe(heu):
    h = at(ALICE, X).to(heu)
    numbers = h.ciphertexts()
    assert heu.public_key == numbers[0].public_key
    assert len({n.exponent for n in numbers}) == 1
    assert len({n.ciphertext(be_secure=False) for n in numbers + h.ciphertexts()}) == 6


def test_ciphertexts_meet_where_they_are(heu):
    h = at(ALICE, X).to(heu)
    first, second = h @ at(BOB, M), h @ at(CAROL, M)
    with pytest.raises(UsageError, match=r"different parties[\s\S]*x.to\(PYU\('bob'\)\)"):
        first + second
    total = first + second.to(sf.PYU(BOB))
    np.testing.assert_allclose(shown(total), 2 * X @ M, atol=1e-4)


def test_misuse_is_reported_at_the_call(heu, session):
    h, m = at(ALICE, X).to(heu), at(BOB, M).to(heu)
    for act, match in [
        (lambda: h * h, "one operand in clear"),
        (lambda: h @ h, "one operand in clear"),
        (lambda: m + m, "without ciphertexts"),
        (lambda: m + at(CAROL, M).to(heu), "without ciphertexts"),
        (lambda: at("dave", X).to(heu), "does not have"),
        (lambda: h.to(sf.PYU("dave")), "does not have"),
        (lambda: heu(lambda x: x), "operators"),
        (lambda: sf.reveal(h), "only the key holder reveals"),
        (lambda: h[at(ALICE, 1)], "index is public"),
        (lambda: (h @ m).at(ALICE), "decrypted there"),
        (lambda: h.opened_here(), "at an evaluator"),
        (lambda: bool(h), "not its value"),
        (lambda: len(h), "not its value"),
        (lambda: sf.HEU(ALICE, [ALICE]), "twice"),
        (lambda: sf.HEU(ALICE, []), "at least one"),
        (lambda: sf.HEU(ALICE, ["zoe"]), "unknown party"),
        (lambda: sf.HEU(ALICE, [BOB], key_bits=1024), "protects nothing"),
        (lambda: sf.HEU(ALICE, [BOB], frac_bits=99), "frac_bits"),
        (lambda: sf.HEU(ALICE, BOB), r"list of names[\s\S]*\['bob'\]"),
        (lambda: sf.HEU(ALICE, [BOB], key_bits=2049), "even number"),
        (lambda: sf.HEU(ALICE, [BOB], key_bits="2048"), "even number"),
        (lambda: sf.HEU(ALICE, [BOB], safety="none"), "unknown safety"),
        (lambda: h + "abc", r"constant of \+[\s\S]*dtype <U3"),
        (lambda: h * None, "constant of"),
        (lambda: h / 2, r"h \* \(1 / c\)"),
        (lambda: h**2, "arithmetic"),
        (lambda: h == h, "lets the key holder decrypt"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()


def test_constants_are_checked_at_the_call(heu):
    h = at(ALICE, X).to(heu)
    for bad, match in [(np.nan, "finite"), (np.inf, "finite"), (1e20, r"2\^44"), (2**62, "<=")]:
        with pytest.raises(ValueRangeError, match=match):
            h + bad


def test_failures_name_the_party_and_travel(heu):
    h = at(ALICE, X).to(heu)
    wrong = h @ at(BOB, np.ones((5, 2)))
    with pytest.raises(UsageError, match=r"party 'bob'.*\n?.*shapes do not fit"):
        sf.wait(wrong)
    with pytest.raises(UsageError, match="party 'bob'"):
        sf.reveal((wrong + 1).to(sf.PYU(ALICE)))
    for bad in (np.nan, 1001.0):
        with pytest.raises(ValueRangeError, match="party 'alice'"):
            sf.wait(at(ALICE, np.array([bad])).to(heu))
    with pytest.raises(UsageError, match="without its mask"):
        sf.wait(at(ALICE, np.ma.array([1.0], mask=[True])).to(heu))
    with pytest.raises((UsageError, PartyError), match="cannot encrypt"):
        sf.wait(at(ALICE, np.array(["text"])).to(heu))


def test_public_numbers_are_bound_by_their_size(heu):
    """Not by the range that is declared for data."""
    h = at(ALICE, X).to(heu)
    np.testing.assert_allclose(shown(h * 5000 - 7000.5), 5000 * X - 7000.5, rtol=1e-6)
    for _ in range(15):
        h = h * -2
    assert (h * 3).facts()[2] == 3 * h.facts()[2]
    np.testing.assert_allclose(shown(h), -(2.0**15) * X)


def test_dropped_values_are_freed(heu):
    h = at(ALICE, X).to(heu)
    sf.wait(h)
    name = h.name
    sf.wait(h @ at(BOB, M))
    del h
    other = at(ALICE, X).to(heu)
    (ref,) = [heu.ask(ALICE, "names", refs=[])]
    (names,) = current().backend.fetch([ref])
    assert name not in names
    assert other.name in names
