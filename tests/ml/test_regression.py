"""Regression with everything on the SPU, for every kind of partition."""

import numpy as np
import pytest
from cancer import by_columns, cancer, table_by_columns

import spuvm as sf
from spuvm.devices.session import current
from spuvm.errors import UsageError
from spuvm.ml import plain, worker
from tests.devices.sessions import PARTIES

ALICE, BOB, CAROL, DAVE, SERVER = PARTIES
RNG = np.random.default_rng(5)
X = RNG.normal(size=(120, 6))
SCORE = X @ np.linspace(-1, 1, 6) + 0.5
Y = (SCORE + RNG.normal(size=120) > 0).astype(int)
VALUES = SCORE + 0.1 * RNG.normal(size=120)


@pytest.fixture(scope="module")
def spu(inprocess):
    return sf.SPU(PARTIES[:3], sf.Config(input_range=(-64, 64)))


def at(party, value):
    return sf.to(sf.PYU(party), value)


def test_logistic_on_columns(spu):
    x, y = by_columns(X, [ALICE, BOB, CAROL]), at(BOB, Y)
    model = sf.ml.SSRegression(spu, batch_size=32, epochs=2, l2=0.1).fit(x, y)
    want = plain.fit(X, Y, 2, 32, l2=0.1)
    np.testing.assert_allclose(sf.reveal(model.weights_), want, atol=2e-3)
    np.testing.assert_allclose(sf.reveal(model.coef_), want[:-1], atol=2e-3)
    np.testing.assert_allclose(sf.reveal(model.intercept_), want[-1], atol=2e-3)
    p = sf.reveal(model.predict_proba(x))
    np.testing.assert_allclose(p, plain.probabilities(want, X), atol=2e-3)
    np.testing.assert_array_equal(sf.reveal(model.predict(x)), p[:, 1] > 0.5)
    assert model.score(x, y) == pytest.approx((p.argmax(1) == Y).mean(), abs=1e-4)


def test_saving_and_loading_per_party(spu, tmp_path, monkeypatch):
    """Every party keeps its shares; nobody sees the weights, nothing is opened."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where keys are kept
    x, y = by_columns(X, [ALICE, BOB, CAROL]), at(BOB, Y)
    model = sf.ml.SSRegression(spu, batch_size=64, epochs=1).fit(x, y)
    before = dict(current().opened)
    model.save(str(tmp_path / "w"))
    again = sf.ml.SSRegression(spu).load(str(tmp_path / "w"))
    assert dict(current().opened) == before
    assert sorted(p.name for p in tmp_path.glob("w.*")) == ["w.alice", "w.bob", "w.carol"]
    np.testing.assert_array_equal(sf.reveal(again.weights_), sf.reveal(model.weights_))
    p = sf.reveal(model.predict_proba(x))
    np.testing.assert_allclose(sf.reveal(again.predict_proba(x)), p, atol=1e-4)


def test_columns_as_in_training(spu):
    """Weights belong to columns: parties come in the order of training, names must be the same."""
    x = table_by_columns(X, [ALICE, BOB])
    model = sf.ml.SSRegression(spu, batch_size=64, epochs=1).fit(x, at(BOB, Y))
    want = sf.reveal(model.predict_proba(x))
    a, b = sf.PYU(ALICE), sf.PYU(BOB)
    turned = sf.data.VDataFrame({b: x.partitions[b], a: x.partitions[a]})
    np.testing.assert_allclose(sf.reveal(model.predict_proba(turned)), want, atol=1e-4)
    arrays = sf.data.FedNdarray({b: turned.values.partitions[b], a: turned.values.partitions[a]})
    np.testing.assert_allclose(sf.reveal(model.predict_proba(arrays)), want, atol=1e-4)
    swapped = sf.data.VDataFrame(
        {a: a(lambda t: t.iloc[:, ::-1])(x.partitions[a]), b: x.partitions[b]}
    )
    with pytest.raises(UsageError, match="another order"):
        sf.reveal(model.predict(swapped))
    with pytest.raises(UsageError, match=r"other columns[\s\S]*3 columns"):
        sf.reveal(model.predict(sf.data.VDataFrame({a: x.partitions[a]})))
    one = x[:5]
    assert model.score(one, at(BOB, np.ones(5))) == pytest.approx((want[:5, 1] > 0.5).mean())
    rows = sf.data.FedNdarray({a: at(ALICE, X)})  # all columns at one party
    np.testing.assert_allclose(sf.reveal(model.predict_proba(rows)), want, atol=1e-3)


def test_linear_on_rows_and_blocks(spu):
    want = plain.fit(X[:64], VALUES[:64], 0, 32)
    for _ in range(3):
        for rows in (slice(0, 64), slice(64, 120)):
            want = plain.epoch(want, X[rows], VALUES[rows], 32, 0.1, kind="linear")
    rows = sf.data.FedNdarray(
        {sf.PYU(ALICE): at(ALICE, X[:64]), sf.PYU(BOB): at(BOB, X[64:])}, "horizontal"
    )
    model = sf.ml.SSRegression(spu, "linear", batch_size=32)
    y = [at(ALICE, VALUES[:64]), at(BOB, VALUES[64:])]
    np.testing.assert_allclose(sf.reveal(model.fit(rows, y).weights_), want, atol=2e-3)
    values = X @ want[:-1] + want[-1]
    np.testing.assert_allclose(sf.reveal(model.predict(rows)), values, atol=2e-2)
    error = ((values - VALUES) ** 2).mean() / VALUES.var()
    assert model.score(rows, y) == pytest.approx(1 - error, abs=2e-3)
    blocks = sf.data.MixDataFrame(
        [table_by_columns(X[:64], [ALICE, BOB]), table_by_columns(X[64:], [CAROL, DAVE])]
    )
    targets = [at(BOB, VALUES[:64]), at(CAROL, VALUES[64:])]
    mixed = sf.ml.SSRegression(spu, "linear", batch_size=32).fit(blocks, targets)
    np.testing.assert_allclose(sf.reveal(mixed.weights_), want, atol=2e-3)


def test_cancer(spu):
    x, y = cancer()
    parts = by_columns(x, [ALICE, BOB, CAROL])
    model = sf.ml.SSRegression(spu).fit(parts, at(ALICE, y))
    p = sf.reveal(model.predict_proba(parts))
    want = plain.probabilities(plain.fit(x, y), x)
    assert worker.auc(p, y) >= 0.992
    assert (p.argmax(1) == y).mean() >= 0.95
    assert abs(worker.auc(p, y) - worker.auc(want, y)) < 0.002


def test_only_row_counts_are_learned(spu):
    x, y = by_columns(X, [ALICE, BOB]), at(CAROL, Y)
    before = dict(current().opened)
    sf.ml.SSRegression(spu, batch_size=64, epochs=1).fit(x, y)
    seen = {d.what for d, n in current().opened.items() if n != before.get(d, 0)}
    assert seen == {"equal row counts", "row count"}


def test_tol(spu):
    x, y = by_columns(X, [ALICE, BOB]), at(ALICE, Y)
    assert sf.ml.SSRegression(spu, tol=100.0, epochs=4).fit(x, y).epochs_done == 1


def test_bad_input(spu):
    x, y = by_columns(X, [ALICE, BOB]), at(ALICE, Y)
    model = sf.ml.SSRegression(spu, batch_size=64, epochs=1)
    for act, match in [
        (lambda: model.fit(x, at(ALICE, Y + 1)), r"outside \{0, 1\}"),
        (lambda: model.fit(x, at(ALICE, np.zeros(120))), "one class only"),
        (lambda: model.fit(x, at(ALICE, Y[1:])), "labels are missing"),
        (lambda: model.fit(x, at(CAROL, Y[1:])), "do not go together"),
        (lambda: model.fit(X, y), "no federated data"),
        (lambda: model.fit(x, [y, y]), "one set of labels per block"),
        (lambda: model.fit(by_columns(X * 1e6, [ALICE, BOB]), y), "too large to be learned from"),
        (lambda: model.weights_, "not fitted"),
        (lambda: sf.ml.SSRegression(spu, "cubic"), "kind of regression"),
        (lambda: sf.ml.SSRegression(None), "runs on an SPU"),
        (lambda: sf.ml.SSRegression(spu, "linear").predict_proba(x), "no probabilities"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
