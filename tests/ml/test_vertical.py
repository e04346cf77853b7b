"""The vertical model against the same algorithm in clear, and what is refused."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from cancer import by_columns, cancer, weights_of

import spuvm as sf
from spuvm.devices.session import current
from spuvm.errors import PartyError, UsageError
from spuvm.ml import block, plain, worker

ALICE, BOB, CAROL = "alice", "bob", "carol"
RNG = np.random.default_rng(5)
X = RNG.normal(size=(110, 7))
Y = (X @ np.linspace(-1, 1, 7) + RNG.normal(size=110) > 0).astype(int)


@pytest.fixture(scope="module")
def spu(inprocess):
    return sf.SPU([ALICE, BOB, CAROL])


@pytest.fixture(scope="module")
def heu(inprocess):
    return sf.HEU(ALICE, [BOB, CAROL], key_bits=512, safety="insecure")


def labels(party=ALICE, y=Y):
    return sf.to(sf.PYU(party), y)


def model(heu, spu, **how):
    return sf.ml.FLogisticRegressionVertical(heu, spu, **{"batch_size": 32, **how})


@pytest.mark.parametrize("scores", ["shares", "clear"])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_equals_the_algorithm_in_clear(heu, spu, scores, l2):
    x = by_columns(X, [ALICE, BOB, CAROL])
    ours = model(heu, spu, scores=scores, l2=l2, epochs=2).fit(x, labels())
    want = plain.fit(X, Y, epochs=2, size=32, l2=l2)
    np.testing.assert_allclose(weights_of(ours), want, atol=1e-4)
    p = sf.reveal(ours.predict_proba(x))
    np.testing.assert_allclose(p, plain.probabilities(want, X), atol=1e-3)
    np.testing.assert_array_equal(sf.reveal(ours.predict(x)), (p[:, 1] > 0.5))
    assert ours.score(x, labels()) == pytest.approx((p.argmax(1) == Y).mean())
    assert ours.auc(x, labels()) == pytest.approx(worker.auc(p, Y))


def test_labels_anywhere(spu):
    """The party with the labels may be an evaluator, and may have no columns."""
    heu = sf.HEU(ALICE, [BOB, CAROL], key_bits=512, safety="insecure")
    x = by_columns(X, [ALICE, BOB])
    ours = model(heu, spu, epochs=1).fit(x, labels(CAROL))
    np.testing.assert_allclose(weights_of(ours), plain.fit(X, Y, 1, 32), atol=1e-4)
    assert sf.reveal(ours.predict_proba(x)).shape == (110, 2)


def test_cancer_reaches_its_targets(heu, spu):
    """3 epochs, batches of 64, rate 0.1, standardised, rows in the file's order."""
    x, y = cancer()
    parts = by_columns(x, [ALICE, BOB, CAROL])
    ours = model(heu, spu, batch_size=64).fit(parts, labels(y=y))
    want = plain.probabilities(plain.fit(x, y), x)
    assert ours.auc(parts, labels(y=y)) >= 0.992
    assert ours.score(parts, labels(y=y)) >= 0.95
    assert abs(ours.auc(parts, labels(y=y)) - worker.auc(want, y)) < 0.002


def test_held_out_rows(heu, spu):
    x, y = cancer()
    parts = by_columns(x, [ALICE, BOB, CAROL])
    target = sf.data.FedNdarray({sf.PYU(ALICE): labels(y=y[:, None])})
    (a, b), (ya, yb) = (sf.data.train_test_split(d, 0.3, random_state=1) for d in (parts, target))
    ours = model(heu, spu, batch_size=64, scores="clear").fit(a, ya)
    order = np.random.default_rng(1).permutation(len(x))
    cut = len(x) - round(0.3 * len(x))
    train, test = order[:cut], order[cut:]
    want = plain.probabilities(plain.fit(x[train], y[train]), x[test])
    assert abs(ours.auc(b, yb) - worker.auc(want, y[test])) < 0.002


def test_the_report_tells_the_two_ways_apart(heu, spu):
    x = by_columns(X, [ALICE, BOB, CAROL])

    def learned(scores):
        before = dict(current().opened)
        model(heu, spu, scores=scores, epochs=1).fit(x, labels())
        found = Counter()
        for d, n in current().opened.items():
            if n != before.get(d, 0):
                found[d.what, d.to] += n - before.get(d, 0)
        return found

    clear, shares = learned("clear"), learned("shares")
    assert clear.pop(("partial scores of a batch", ALICE)) == 6  # two parties
    assert shares.pop(("output of gradient_of_own_columns", ALICE)) == 3  # its own gradient
    gradients = {("gradient of own columns, a batch", p): 3 for p in (BOB, CAROL)}
    common = {
        **gradients,
        ("equal row counts", ALICE): 2,
        ("equal row counts", "driver"): 2,
        ("row count", "driver"): 1,
    }
    for seen in (clear, shares):
        metadata = {k: v for k, v in seen.items() if k[0].startswith("equal")}
        assert set(seen) == set(common)
        assert {k: v for k, v in seen.items() if k in gradients} == gradients
        assert set(metadata) <= set(common)


def test_tol_and_progress(heu, spu, capsys):
    x = by_columns(X, [ALICE, BOB, CAROL])
    for scores in ("shares", "clear"):
        ours = model(heu, spu, scores=scores, epochs=5, tol=100.0, progress="bar")
        assert ours.fit(x, labels()).epochs_done == 1
    assert "vertical logistic regression" in capsys.readouterr().out
    ours = model(heu, spu, epochs=np.int64(2), tol=np.float32(1e-9), scores="clear")
    assert ours.fit(x, labels()).epochs_done == 2


def test_saving_and_loading_per_party(heu, spu, tmp_path):
    x = by_columns(X, [ALICE, BOB, CAROL])
    ours = model(heu, spu, epochs=1).fit(x, labels())
    paths = {sf.PYU(n): str(tmp_path / f"{n}.npy") for n in (ALICE, BOB, CAROL)}
    ours.save(paths)
    again = model(heu, spu).load(paths, sf.PYU(ALICE))
    np.testing.assert_allclose(
        sf.reveal(again.predict_proba(x)), sf.reveal(ours.predict_proba(x)), atol=1e-4
    )
    assert np.load(tmp_path / "bob.npy", allow_pickle=False)["weights"].shape == (2,)
    (tmp_path / "text").write_text("no weights")
    np.save(tmp_path / "other.npy", np.ones(3))
    for act, match in [
        (lambda: ours.save({sf.PYU(ALICE): "x"}), "without a path"),
        (
            lambda: again.load({**paths, sf.PYU(BOB): str(tmp_path / "text")}, sf.PYU(ALICE)),
            "saved",
        ),
        (
            lambda: again.load({**paths, sf.PYU(BOB): tmp_path / "other.npy"}, sf.PYU(ALICE)),
            "saved",
        ),
        (lambda: again.load({sf.PYU(BOB): "x"}, sf.PYU(ALICE)), "no file"),
        (lambda: again.at_epoch(1), "not trained for so long"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
    with pytest.raises(PartyError, match="party 'bob'"):
        again.load({**paths, sf.PYU(BOB): str(tmp_path / "none")}, sf.PYU(ALICE))


def test_predictions_need_the_columns_of_training(heu, spu, tmp_path):
    """A table's names are remembered at its party, also in files; another order is refused."""
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    pieces = {ALICE: ["a"], BOB: list("bcd"), CAROL: list("efg")}

    def table(**changes):
        names = pieces | changes
        return sf.data.VDataFrame(
            {sf.PYU(n): sf.to(sf.PYU(n), frame[list(c)]) for n, c in names.items()}
        )

    paths = {sf.PYU(n): str(tmp_path / n) for n in pieces}
    ours = model(heu, spu, epochs=1, scores="clear").fit(table(), labels())
    ours.save(paths)
    again = model(heu, spu, scores="clear").load(paths, sf.PYU(ALICE))
    want = sf.reveal(ours.predict_proba(table()))
    for one in (ours, again, ours.at_epoch(1)):
        np.testing.assert_array_equal(sf.reveal(one.predict_proba(table(carol="efg"))), want)
        np.testing.assert_array_equal(sf.reveal(one.predict_proba(table().values)), want)
        with pytest.raises(UsageError, match=r"party 'bob'[\s\S]*another order"):
            sf.reveal(one.predict_proba(table(bob="cbd")))
        with pytest.raises(UsageError, match="other names, 2 columns"):
            sf.reveal(one.predict_proba(table(carol="ef")))
        with pytest.raises(UsageError, match="other columns"):
            sf.reveal(one.predict_proba(table(carol="ef").values))
    with pytest.raises(UsageError, match="columns of a party are missing"):
        sf.wait(ours.predict(table().drop("a")))
    with pytest.raises(UsageError, match="other parties"):
        ours.predict(sf.data.VDataFrame({sf.PYU(ALICE): sf.to(sf.PYU(ALICE), frame[["a"]])}))


def test_few_new_rows_can_be_scored(heu, spu):
    """Also of one class, which training refuses."""
    x = by_columns(X, [ALICE, BOB, CAROL])
    ours = model(heu, spu, epochs=1, scores="clear").fit(x, labels())
    ones = sf.reveal(ours.predict(x))[:3]
    assert ours.score(x[:3], labels(y=np.ones(3))) == pytest.approx(ones.mean())
    for act, match in [
        (lambda: ours.auc(x[:3], labels(y=np.ones(3))), "one class"),
        (lambda: ours.score(x[:3], labels()), "labels of other rows"),
        (lambda: ours.score(x, labels(BOB)), "another party than in training"),
        (lambda: ours.score(x[:3], labels(y=np.full(3, 2))), "outside"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()


def test_bad_input(heu, spu, inprocess):
    x = by_columns(X, [ALICE, BOB, CAROL])
    short = sf.data.FedNdarray({sf.PYU(BOB): sf.to(sf.PYU(BOB), X[:-1])})
    idle = sf.HEU(ALICE, [BOB, CAROL, "dave"], key_bits=512, safety="insecure")
    wrong = sf.HEU(BOB, [ALICE, CAROL], key_bits=512, safety="insecure")
    few = sf.HEU(ALICE, [BOB], key_bits=512, safety="insecure")
    gaps = X.copy()
    gaps[3, 3] = np.nan
    for act, match in [
        (lambda: model(heu, spu).fit(x, labels(y=Y + 1)), r"outside \{0, 1\}"),
        (lambda: model(heu, spu).fit(x, labels(y=np.ones(110))), "one class only"),
        (lambda: model(heu, spu).fit(x, labels(y=Y[:-1])), "labels are missing"),
        (lambda: model(few, spu).fit(short, labels()), "rows are missing"),
        (lambda: model(idle, spu).fit(x, labels()), "evaluator without data"),
        (lambda: model(few, spu).fit(x, labels()), "HEU does not have"),
        (lambda: model(wrong, spu, scores="clear").fit(x, labels()), "is the key holder"),
        (lambda: model(heu, None).fit(x, labels()), "needs an SPU"),
        (lambda: model(heu, spu).fit(by_columns(gaps, [ALICE, BOB, CAROL]), labels()), "missing"),
        (lambda: model(heu, spu).fit(by_columns(X * 1e5, [ALICE, BOB, CAROL]), labels()), "large"),
        (lambda: model(heu, spu, batch_size=2).fit(x, labels()), "as many columns as rows"),
        (  # three columns and the intercept are as many as four rows
            lambda: model(heu, spu, batch_size=4).fit(x[:108], labels(y=Y[:108])),
            "the intercept is one",
        ),
        (lambda: model(heu, spu).fit(X, labels()), "table by columns"),
        (lambda: model(heu, spu).fit(x, x), "labels live at one party"),
        (lambda: model(heu, spu).fit(x, Y), r"labels live at one party[\s\S]*got +ndarray\n"),
        (lambda: model(heu, spu).fit(x, labels(y=np.where(Y, "secret", "b"))), "column of numbers"),
        (lambda: model(heu, spu).fit(x, labels(y=np.stack([Y, Y], 1))), "one column"),
        (lambda: model(heu, heu), "meet on an SPU"),
        (lambda: model(heu, spu).coef_, "not fitted"),
        (lambda: model(None, spu), "needs a HEU"),
        (lambda: model(heu, spu, scores="open"), "partial scores"),
        (lambda: model(heu, spu, epochs=0), "epochs"),
        (lambda: model(heu, spu, learning_rate=-1), "learning_rate"),
        (lambda: model(heu, spu, progress=True), "progress"),
    ]:
        with pytest.raises(UsageError, match=match) as caught:
            act()
        assert "secret" not in str(caught.value)
        assert "[0" not in str(caught.value)


def test_tables_of_pandas(heu, spu):
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    pieces = {ALICE: ["a"], BOB: list("bcd"), CAROL: list("efg")}
    table = sf.data.VDataFrame({sf.PYU(n): sf.to(sf.PYU(n), frame[c]) for n, c in pieces.items()})
    y = sf.data.VDataFrame({sf.PYU(ALICE): sf.to(sf.PYU(ALICE), pd.DataFrame({"y": Y}))})
    ours = model(heu, spu, epochs=1, scores="clear").fit(table, y)
    np.testing.assert_allclose(weights_of(ours), plain.fit(X, Y, 1, 32), atol=1e-4)


def test_the_bar_counts_steps_that_are_done(heu, spu, monkeypatch):
    """Blocks go side by side, few steps ahead of what is done; fit ends when all of it is."""
    events = []

    class Counted:
        def __init__(self, count, name):
            self.count, self.name = count, name

        def steps(self):
            for i in range(self.count):
                events.append((self.name, i))
                yield [self.name, i]

    monkeypatch.setattr(block, "wait", lambda done: events.append(("done", *done)))
    block.epoch([Counted(30, "a"), Counted(20, "b")], lambda: events.append(("tick",)))
    assert events[:4] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [e for e in events if e[0] == "done"] == [
        ("done", n, i) for i in range(30) for n in "ab" if i < (30 if n == "a" else 20)
    ]
    assert events.count(("tick",)) == 50
    started = ended = 0
    for event in events:
        started, ended = started + (event[0] in "ab"), ended + (event[0] == "done")
        assert started - ended <= 2 * block.AHEAD + 2
    assert events[-1] == ("tick",)


def test_last_batches():
    assert worker.batches(569, 64)[-1] == (512, 569)
    assert worker.batches(513, 64)[-1] == (448, 513)
    assert worker.batches(5, 64) == [(0, 5)]
    for rows in range(1, 200):
        spans = worker.batches(rows, 16)
        assert [i for low, high in spans for i in range(low, high)] == list(range(rows))
        assert min(high - low for low, high in spans) >= min(rows, 8)


def test_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 50)
        s = rng.integers(0, 9, 50) / 8  # with ties
        got = worker.auc(np.stack([1 - s, s], 1), y)
        assert got == pytest.approx(roc_auc_score(y, s))
