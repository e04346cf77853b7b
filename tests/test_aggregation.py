"""The three aggregators against numpy; masks that cancel exactly and hide."""

import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import spuvm as sf
from spuvm.devices.masker import Masker, unmasked
from spuvm.devices.session import current
from spuvm.errors import UsageError, ValueRangeError
from tests.devices.sessions import PARTIES, inprocess

__all__ = ["inprocess"]

NAMES = PARTIES[:3]


def tree(seed):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(2, 3)), "b": [rng.normal(size=4), np.float64(rng.normal())]}


TREES = [tree(i) for i in range(3)]
WEIGHTS = [3.0, 1.0, 2.5]


@pytest.fixture(scope="module")
def values(inprocess):
    return [sf.to(sf.PYU(name), t) for name, t in zip(NAMES, TREES, strict=True)]


@pytest.fixture(scope="module")
def aggregators(inprocess):
    spu = sf.SPU(NAMES)
    pyus = [sf.PYU(name) for name in NAMES]
    return [
        sf.aggregation.PlainAggregator(sf.PYU("server")),
        sf.aggregation.SecureAggregator(sf.PYU("server"), pyus),
        sf.aggregation.SPUAggregator(spu),
    ]


def leaves(t):
    return [t["w"], t["b"][0], t["b"][1]]


def stacked(weights):
    return [
        [np.asarray(x) * w for x, w in zip(layer, weights, strict=True)]
        for layer in zip(*map(leaves, TREES), strict=True)
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("weights", [None, WEIGHTS, "secret"])
def test_sums_and_averages(values, aggregators, which, weights):
    one = aggregators[which]
    numbers = [1.0] * 3 if weights is None else WEIGHTS
    given = weights
    if weights == "secret":
        given = [sf.to(sf.PYU(n), w) for n, w in zip(NAMES, WEIGHTS, strict=True)]
    total = sf.reveal(one.sum(values, weights=given))
    mean = sf.reveal(one.average(values, weights=given))
    flat = sf.reveal(one.average(values, weights=given, axis=None))
    for got, mid, scalar, want in zip(
        leaves(total), leaves(mean), leaves(flat), stacked(numbers), strict=True
    ):
        np.testing.assert_allclose(got, sum(want), atol=2e-4)
        np.testing.assert_allclose(mid, sum(want) / sum(numbers), atol=2e-4)
        np.testing.assert_allclose(scalar, np.mean(sum(want)) / sum(numbers), atol=2e-4)


def test_integers_are_exact(aggregators):
    data = [sf.to(sf.PYU(n), np.arange(4) * 10**9 + i) for i, n in enumerate(NAMES)]
    for one in aggregators[:2]:
        np.testing.assert_array_equal(sf.reveal(one.sum(data)), np.arange(4) * 3 * 10**9 + 3)


def test_the_report_says_who_learns_what(values, aggregators):
    def new(act):
        before = dict(current().opened)
        act()
        return {
            (d.what, d.to, d.origins) for d, n in current().opened.items() if n != before.get(d, 0)
        }

    plain, secure, shared = aggregators
    assert len(new(lambda: plain.average(values))) == 3
    assert new(lambda: secure.average(values)) == {
        ("average of 3 participants", "server", tuple(NAMES))
    }
    assert new(lambda: shared.average(values)) == set()


def test_masked_sums_from_several_threads(values, aggregators):
    """Rounds reach all participants in one order."""
    secure, errors = aggregators[1], []

    def several():
        try:
            sf.wait([secure.sum(values) for _ in range(15)])
        except UsageError as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=several) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors


def test_misuse(values, aggregators):
    plain, secure, shared = aggregators
    alice, bob = sf.PYU("alice"), sf.PYU("bob")
    pyus = [sf.PYU(name) for name in NAMES]
    for act, match in [
        (lambda: plain.sum([]), "list of values"),
        (lambda: plain.sum(values, weights=[1]), "one weight per value"),
        (lambda: shared.sum(values, weights=[1, 1, -1]), "from 0 on"),
        (lambda: plain.sum(values, weights=[0, 0, 0]), "not all 0"),
        (lambda: plain.sum(values, axis=1), "axis"),
        (lambda: secure.sum(values[:2]), "every participant"),
        (lambda: secure.sum([values[0], values[0], values[1]]), "every participant"),
        (lambda: sf.aggregation.SecureAggregator(alice, [alice, bob]), "three or more"),
        (lambda: sf.aggregation.SecureAggregator(alice, [alice, bob, bob]), "three or more"),
        (lambda: sf.aggregation.SecureAggregator(alice, bob), "between PYUs"),
        (lambda: sf.aggregation.SecureAggregator(alice, None), "between PYUs"),
        (lambda: sf.aggregation.SecureAggregator(alice, pyus, frac_bits=62), "frac_bits"),
        (lambda: plain.average(values, weights="abc"), "numbers from 0 on"),
        (lambda: sf.aggregation.PlainAggregator(shared.device), "is a PYU"),
        (lambda: sf.aggregation.SPUAggregator(alice), "is an SPU"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
    odd = [*values[:2], sf.to(sf.PYU(NAMES[2]), {"w": np.ones(2)})]
    with pytest.raises(UsageError, match="do not go together"):
        sf.wait(secure.sum(odd))
    hidden = [sf.to(pyu, np.ma.array([1.0], mask=[True])) for pyu in pyus]
    with pytest.raises(UsageError, match="without its mask"):
        sf.wait(secure.sum(hidden))


def maskers(count=3, frac=18):
    names = [f"p{i}" for i in range(count)]
    made = [Masker(name, names, frac) for name in names]
    keys = [m.public_key() for m in made]
    for m in made:
        m.agree(keys)
    return made


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(-(2**59), 2**59)))
def test_masks_cancel_exactly(x):
    parts = [m.mask(1, row, 1.0, False, 0) for m, row in zip(maskers(), x, strict=True)]
    np.testing.assert_array_equal(unmasked(parts, "sum"), x.sum(0))


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-1e9, 1e9)))
def test_fixed_point_is_exact(x):
    parts = [m.mask(1, row, 1.0, False, 0) for m, row in zip(maskers(4), x, strict=True)]
    want = np.rint(x * 2.0**18).astype(np.int64).sum(0) / 2.0**18
    np.testing.assert_array_equal(unmasked(parts, "sum"), want)


def test_masked_summands_are_uniform_and_new_every_round():
    made = maskers()
    zeros = np.zeros(4000)
    first, second = (m["words"] for m in (made[0].mask(i, zeros, 1.0, False, 0) for i in (1, 2)))
    assert not (first == second).any()
    for words in (first, second, first - second):
        for bit in range(64):
            ones = int((words >> np.uint64(bit) & np.uint64(1)).sum())
            assert abs(ones - 2000) < 200
    with pytest.raises(UsageError, match="never used twice"):
        made[0].mask(2, zeros, 1.0, False, 0)
    two = [m.mask(3, zeros, 1.0, False, 0) for m in made[:2]]
    assert np.count_nonzero(two[0]["words"] + two[1]["words"]) > 3990  # without the third: noise


def test_maskers_refuse():
    made = maskers()
    for bad in ([np.nan], [np.inf], [2.0**43]):
        with pytest.raises(ValueRangeError, match="cannot be added"):
            made[0].mask(1, np.array(bad), 1.0, False, 0)
        made = maskers()
    for bad in (np.array([2**61]), np.array([2**64 - 1], np.uint64)):  # the latter as int64 is -1
        with pytest.raises(ValueRangeError, match="too large"):
            made[0].mask(1, bad, 1.0, False, 0)
        made = maskers()
    with pytest.raises(UsageError, match="agreed once"):
        made[1].agree([m.public_key() for m in made])
    lonely = Masker("p0", ["p0", "p1", "p2"], 18)
    with pytest.raises(UsageError, match="other participants"):
        lonely.agree([lonely.public_key()])
