"""Means and weighted means on an SPU, as they are shared: opened, saved, moved, used, encrypted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import spuvm as sf
from spuvm.functions import average, weighted_average

X = [np.random.default_rng(i).normal(size=6).astype("float32") for i in range(3)]
MEAN = np.mean(np.asarray(X, np.float64), 0)
UNIT = 2.0**-18


@pytest.fixture
def mean(spu):
    owners = map(sf.PYU, ("alice", "bob", "carol"))
    shared = [owner(lambda x=x: x)().to(spu) for owner, x in zip(owners, X, strict=True)]
    made = spu(average)(shared)
    assert spu.last_run.rounds == 0
    assert [leaf.divisor for leaf in made.structure()[0]] == [3]
    return made


def test_opened(spu, mean):
    """To the driver, to a party, and as the report says before: exact, rounding of inputs apart."""
    np.testing.assert_allclose(sf.reveal(mean), MEAN, atol=0.6 * UNIT)
    at_bob = mean.to(sf.PYU("bob"))
    np.testing.assert_allclose(sf.reveal(at_bob), MEAN, atol=0.6 * UNIT)
    said = [d.what for d in spu(average).disclosures([sf.PYU("bob")(lambda: X[0])()] * 3)]
    assert said == ["output out as a sum, divided by 3 where it is opened"]


def test_used_in_the_next_program(spu, mean):
    x = sf.PYU("alice")(lambda: X[0])()
    got = sf.reveal(spu(lambda m, x: 2 * m + x)(mean, x))
    np.testing.assert_allclose(got, 2 * MEAN + X[0], atol=4 * UNIT)
    same = spu(lambda m: m)(mean)
    assert spu.last_run.rounds == 0
    np.testing.assert_allclose(sf.reveal(same), MEAN, atol=0.6 * UNIT)
    again = spu(average)([mean, x])  # a mean of a mean
    np.testing.assert_allclose(sf.reveal(again), (MEAN + X[0]) / 2, atol=2 * UNIT)
    assert sf.reveal(spu(lambda m: m > 0)(mean)).tolist() == (MEAN > 0).tolist()


def test_moved_to_another_spu(mean):
    other = sf.SPU(["carol", "alice", "bob"])
    moved = mean.to(other)
    np.testing.assert_allclose(sf.reveal(moved), MEAN, atol=0.6 * UNIT)
    np.testing.assert_allclose(sf.reveal(other(lambda m: -m)(moved)), -MEAN, atol=2 * UNIT)


def test_saved_and_loaded(spu, mean, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spu.dump(mean, tmp_path / "mean")
    loaded = spu.load(tmp_path / "mean")
    np.testing.assert_allclose(sf.reveal(loaded), MEAN, atol=0.6 * UNIT)


@pytest.mark.parametrize("ends", [None, (-8.0, 8.0)])
def test_to_ciphertexts(mean, ends):
    heu = sf.HEU("alice", ["bob"], key_bits=768, safety="insecure")
    if ends is not None:
        near = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=ends))
        mean = near(average)([sf.PYU("bob")(lambda x=x: x)() for x in X])
        assert mean.structure()[0][0].divisor == 3
    got = sf.reveal(mean.to(heu).to(sf.PYU("alice")))
    np.testing.assert_allclose(got, MEAN, atol=2 * UNIT)


def test_a_weighted_mean_goes_the_same_ways(spu, session, tmp_path, monkeypatch):
    """Rounded where it is: 44 fraction bits of which 26 say nothing, within 1.5 units of 18."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    weights = np.array([3.0, 5.0, 7.0], "float32")
    near = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=(-8.0, 8.0)))
    owners = map(sf.PYU, ("alice", "bob", "carol"))
    shared = [owner(lambda x=x: x)() for owner, x in zip(owners, X, strict=True)]
    made = near(weighted_average)(shared, weights)
    assert near.last_run.rounds == 0
    (leaf,) = made.structure()[0]
    assert (leaf.frac, leaf.squares, leaf.hi) == (44, False, 16.0)
    want = np.average(X, axis=0, weights=weights)
    for value in (
        made,
        made.to(sf.PYU("bob")),
        near(lambda m: m)(made),
        made.to(sf.SPU(["carol", "alice", "bob"], sf.Config(input_range=(-8.0, 8.0)))),
        made.to(sf.HEU("alice", ["bob"], key_bits=768, safety="insecure")).to(sf.PYU("alice")),
    ):
        np.testing.assert_allclose(sf.reveal(value), want, atol=3 * UNIT)
    words = sf.reveal(made) * 2.0**18
    np.testing.assert_array_equal(np.asarray(words, np.float64) % 1, 0.5)
    near.dump(made, tmp_path / "mean")
    np.testing.assert_allclose(sf.reveal(near.load(tmp_path / "mean")), want, atol=3 * UNIT)
    np.testing.assert_allclose(sf.reveal(near(lambda m: m * m)(made)), want**2, atol=20 * UNIT)
    again = near(average)([made, made])
    np.testing.assert_allclose(sf.reveal(again), want, atol=4 * UNIT)


@pytest.fixture
def weighted(session):
    """An SPU, and a mean with secret weights on it."""
    near = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=(0.5, 8.0)))
    owners = map(sf.PYU, ("alice", "bob", "carol"))
    shared = [owner(lambda x=x: abs(x) + 1)() for owner, x in zip(owners, X, strict=True)]
    made = near(weighted_average)(shared, sf.PYU("bob")(lambda: WEIGHTS)())
    assert made.structure()[0][0].additive
    return near, made


NEAR = 12 * UNIT  # the weights too have 18 fraction bits
WEIGHTS = np.array([3.0, 5.0, 7.0], "float32")
WEIGHTED = np.average([abs(x) + 1 for x in X], axis=0, weights=WEIGHTS)


def test_secret_weights_send_nothing_for_the_values(weighted):
    near, made = weighted
    assert sum(near.last_run.bytes_sent) < 10_000  # the weights' own
    many = [sf.PYU("alice")(lambda: np.ones(1000, "float32"))() for _ in X]
    cost = near(weighted_average).cost(many, sf.PYU("bob")(lambda: WEIGHTS)())
    assert cost.bytes_sent == near.last_run.bytes_sent
    for value in (made, made.to(sf.PYU("bob")), made.to(sf.PYU("dave")), made.to(sf.PYU("carol"))):
        np.testing.assert_allclose(sf.reveal(value), WEIGHTED, atol=NEAR)
    assert made.structure()[0][0].additive  # openings leave it as it is


def test_secret_weights_are_shared_again_once(weighted):
    """By the first program that takes the mean: a round more, said before."""
    near, made = weighted
    named = {"twice": made, "x": made}

    def both(twice, x):
        return 2 * twice - x

    before = near(both).cost(**named)
    assert sum(row.what == "reshare_z" for row in before.rows) == 1
    got = near(both)(**named)
    assert not made.waits
    after = near(both).cost(**named)
    assert before.rounds == after.rounds + 1
    assert sum(before.bytes_sent) == sum(after.bytes_sent) + 3 * 8 * 6
    np.testing.assert_allclose(sf.reveal(got), WEIGHTED, atol=3 * NEAR)
    np.testing.assert_allclose(sf.reveal(made), WEIGHTED, atol=NEAR)
    np.testing.assert_allclose(sf.reveal(made.to(sf.PYU("carol"))), WEIGHTED, atol=NEAR)


def test_secret_weights_go_everywhere(weighted, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    near, made = weighted
    other = sf.SPU(["carol", "alice", "bob"], near.config)
    moved = made.to(other)
    assert made.structure()[0][0].additive
    np.testing.assert_allclose(sf.reveal(moved), WEIGHTED, atol=NEAR)
    np.testing.assert_allclose(sf.reveal(other(lambda m: -m)(moved)), -WEIGHTED, atol=NEAR)
    heu = sf.HEU("alice", ["bob"], key_bits=768, safety="insecure")
    np.testing.assert_allclose(sf.reveal(made.to(heu).to(sf.PYU("alice"))), WEIGHTED, atol=NEAR)
    near.dump(made, tmp_path / "mean")
    np.testing.assert_allclose(sf.reveal(near.load(tmp_path / "mean")), WEIGHTED, atol=NEAR)


def test_secret_weights_of_a_tree_in_parts(session):
    """Some leaves of a result are additive, some are not; one part is used, one is saved."""
    near = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=(0.5, 8.0)))
    trees = [
        sf.PYU("alice")(lambda i=i: {"a": np.full((2, 2), i + 1.0), "b": np.full(3, i + 2.0)})()
        for i in range(3)
    ]
    weights = sf.PYU("bob")(lambda: WEIGHTS)()

    def fn(trees, w):
        return weighted_average(trees, w), w * 2, w > 4

    mean, doubled, more = near(fn, num_returns=3)(trees, weights)
    kinds = [[leaf.additive for leaf in x.structure()[0]] for x in (mean, doubled, more)]
    assert kinds == [[True, True], [False], [False]]
    at = np.average([1.0, 2.0, 3.0], weights=WEIGHTS)
    total = near(lambda m, d, b: m["a"].sum() + m["b"].sum() + d.sum() + b.sum())
    want = 4 * at + 3 * (at + 1) + 2 * WEIGHTS.sum() + 2
    np.testing.assert_allclose(sf.reveal(total(mean, doubled, more)), want, atol=8 * NEAR)
    np.testing.assert_allclose(sf.reveal(mean)["b"], np.full(3, at + 1), atol=NEAR)
    assert sf.reveal(more).tolist() == [False, True, True]


def test_secret_weights_are_shared_again_once_by_many_threads(weighted):
    """Each with a function of its own, which takes a while to compile."""
    near, made = weighted
    fns = [lambda m, i=i: m * (i + 2) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda fn: sf.reveal(near(fn)(made)), fns))
    for i, got in enumerate(results):
        np.testing.assert_allclose(got, (i + 2) * WEIGHTED, atol=(i + 2) * NEAR)
    assert made.replicated() is made.replicated()


def test_secret_weights_keep_a_promised_range(session):
    near = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=(0.5, 8.0)))

    def fn(x, w):
        return sf.assume_range(weighted_average(list(x), w), 0.5, 8)

    x, w = sf.PYU("bob")(lambda: np.ones((3, 2)))(), sf.PYU("bob")(lambda: WEIGHTS)()
    (leaf,) = near(fn)(x, w).structure()[0]
    assert leaf.additive
    assert leaf.hi <= 16  # rounded up to a power


def test_cost_for_another_spu_has_no_resharing(weighted):
    """It is passed on as it is."""
    near, made = weighted
    other = sf.SPU(["carol", "alice", "bob"], near.config)
    cost = other(lambda m: -m).cost(made)
    assert not [row for row in cost.rows if row.what == "reshare_z"]
    other(lambda m: -m)(made)
    assert other.last_run.bytes_sent == cost.bytes_sent
