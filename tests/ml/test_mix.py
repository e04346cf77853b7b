"""The mixed model: vertical steps in row blocks, averages across them."""

import numpy as np
import pytest
from cancer import cancer, table_by_columns

import spuvm as sf
from spuvm.devices.session import current
from spuvm.errors import UsageError
from spuvm.ml import plain, worker
from tests.devices.sessions import PARTIES

ALICE, BOB, CAROL, DAVE, SERVER = PARTIES
ROWS = [slice(0, 284), slice(284, 569)]
SIZES = [284, 285]
PLACES = [[ALICE, BOB], [CAROL, DAVE]]


@pytest.fixture(scope="module")
def spu(inprocess):
    return sf.SPU([ALICE, BOB, CAROL])


@pytest.fixture(scope="module")
def heus(inprocess):
    return [sf.HEU(p[0], p[1:], key_bits=512, safety="insecure") for p in PLACES]


def mixed(x):
    return sf.data.MixDataFrame(
        [table_by_columns(x[rows], place) for rows, place in zip(ROWS, PLACES, strict=True)]
    )


def labels(y):
    return [sf.to(sf.PYU(p[0]), y[rows]) for rows, p in zip(ROWS, PLACES, strict=True)]


def weights_of(model):
    """Of the first block."""
    parts = [sf.reveal(v) for v in model.coef_[0].values()]
    return np.concatenate([*parts, [sf.reveal(model.intercept_[0])]])


@pytest.mark.parametrize("scores", ["shares", "clear"])
def test_targets_and_equality(heus, spu, scores, tmp_path):
    x, y = cancer()
    data, target = mixed(x), labels(y)
    aggregators = (
        sf.aggregation.SPUAggregator(spu)
        if scores == "shares"
        else [sf.aggregation.PlainAggregator(sf.PYU(SERVER))] * 2
    )
    model = sf.ml.FLogisticRegressionMix(
        heus, aggregators, spu, scores=scores, two_holders="reveal"
    )
    model.fit(data, target)
    want = plain.fit_blocks([(x[rows], y[rows]) for rows in ROWS])
    got = weights_of(model)
    np.testing.assert_allclose(got, want, atol=2e-4)
    for name, weights in (("ours", got), ("plain", want)):
        p = plain.probabilities(weights, x)
        assert worker.auc(p, y) >= 0.99, name
        assert (p.argmax(1) == y).mean() >= 0.94, name
    ours, clear = (worker.auc(plain.probabilities(w, x), y) for w in (got, want))
    assert abs(ours - clear) < 0.002
    p = np.concatenate(sf.reveal(model.predict_proba(data)))
    np.testing.assert_allclose(p, plain.probabilities(want, x), atol=1e-3)
    assert model.score(data, target) == pytest.approx((p.argmax(1) == y).mean())
    assert np.concatenate(sf.reveal(model.predict(data))).shape == (569,)
    files = [{sf.PYU(n): str(tmp_path / f"{n}{scores}.npy") for n in p} for p in PLACES]
    model.save(files)
    again = sf.ml.FLogisticRegressionMix(heus, aggregators, spu, scores=scores)
    again.load(files, [sf.PYU(p[0]) for p in PLACES])
    np.testing.assert_array_equal(weights_of(again), got)


def test_two_holders_are_refused_and_three_are_not(heus, spu):
    x, y = cancer()
    with pytest.raises(UsageError, match="tell each the other's weights"):
        sf.ml.FLogisticRegressionMix(heus, sf.aggregation.SPUAggregator(spu), spu).fit(
            mixed(x), labels(y)
        )


def test_two_holders_are_refused_whatever_else_is_shared(inprocess, spu):
    """One party may have columns of all blocks; the two others still see each other's weights."""
    x, y = cancer()
    insecure = {"key_bits": 512, "safety": "insecure"}
    one = sf.aggregation.SPUAggregator(spu)

    def fit(places, owners, **how):
        data = sf.data.MixDataFrame(
            [table_by_columns(x[rows, :4], p) for rows, p in zip(ROWS, places, strict=True)]
        )
        target = [sf.to(sf.PYU(o), y[rows]) for rows, o in zip(ROWS, owners, strict=True)]
        everybody = [[*p, o] if o not in p else p for p, o in zip(places, owners, strict=True)]
        keys = [sf.HEU(p[0], p[1:], **insecure) for p in everybody]
        model = sf.ml.FLogisticRegressionMix(keys, one, spu, epochs=1, **how)
        return model.fit(data, target)

    for places, owners in [
        ([[ALICE, DAVE], [BOB, DAVE]], [ALICE, BOB]),  # columns of alice and bob
        ([[DAVE, CAROL], [DAVE, CAROL]], [ALICE, BOB]),  # the intercept alone
    ]:
        with pytest.raises(UsageError, match="held by alice and bob alone"):
            fit(places, owners)
    model = fit([[ALICE, DAVE], [BOB, DAVE]], [ALICE, BOB], two_holders="reveal")
    want = plain.fit_blocks([(x[rows, :4], y[rows]) for rows in ROWS], epochs=1)
    np.testing.assert_allclose(weights_of(model), want, atol=1e-4)
    alone = fit([[ALICE, BOB], [ALICE, BOB]], [ALICE, ALICE])  # nobody to hide from
    np.testing.assert_allclose(weights_of(alone), want, atol=1e-4)


def test_bad_input(heus, spu):
    x, y = cancer()
    data, target = mixed(x), labels(y)
    one = sf.aggregation.SPUAggregator(spu)

    def model(aggregators=one, keys=heus, **how):
        return sf.ml.FLogisticRegressionMix(keys, aggregators, spu, two_holders="reveal", **how)

    moved = [target[0], sf.to(sf.PYU(DAVE), y[ROWS[1]])]
    fitted = model(scores="clear", epochs=1).fit(data, target)
    for act, match in [
        (lambda: model().fit(data.blocks[0], target), "takes a MixDataFrame"),
        (lambda: model(keys=heus[:1]).fit(data, target), "one HEU"),
        (lambda: model().fit(data, target[:1]), "one set of labels per block"),
        (lambda: model([one]).fit(data, target), "one aggregator per place"),
        (lambda: model().fit(data, moved), "same place in every block"),
        (lambda: model().predict(data), "not fitted"),
        (lambda: model().load([{}], [sf.PYU(ALICE), sf.PYU(CAROL)]), "block by block"),
        (lambda: model().load({}, []), "block by block"),
        (lambda: fitted.predict(data.blocks[0]), "as many blocks"),
        (lambda: fitted.predict(data[:100]), "as many blocks"),
        (lambda: fitted.score(data, target[:1]), "other parties than in training"),
        (lambda: fitted.score(data, target[::-1]), "other parties than in training"),
        (lambda: fitted.auc(data, moved, sf.PYU(ALICE)), "other parties than in training"),
        (lambda: fitted.save([{}]), "block by block"),
        (lambda: sf.ml.FLogisticRegressionMix(heus, one, spu, two_holders="?"), "two_holders"),
        (lambda: sf.ml.FLogisticRegressionMix(heus[0], one, spu), "list of HEUs"),
        (lambda: sf.ml.FLogisticRegressionMix([], one, spu), "needs a HEU"),
        (lambda: sf.ml.FLogisticRegressionMix(heus, spu, spu), "averaged by aggregators"),
        (lambda: sf.ml.FLogisticRegressionMix(heus, [], spu), "averaged by aggregators"),
        (lambda: sf.ml.FLogisticRegressionMix(heus, one), "needs an SPU"),
        (lambda: model().fit(data, target[0]), "one set of labels per block"),
        (lambda: sf.data.MixDataFrame([x]), r"blocks are VDataFrames[\s\S]*got +ndarray$"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()


def test_three_row_holders_with_masks(inprocess):
    """Three blocks, each of two parties; one party per block has the labels and one the columns.

    Last in this file: it needs parties, and so a session, of its own.
    """
    sf.shutdown()
    names = [f"{kind}{i}" for i in range(3) for kind in ("bank", "shop")]
    sf.init([*names, SERVER], backend="inprocess")
    try:
        x, y = cancer()
        x = x[:, :8]
        rows = [slice(0, 190), slice(190, 380), slice(380, 569)]
        places = [names[2 * i : 2 * i + 2] for i in range(3)]
        data = sf.data.MixDataFrame(
            [table_by_columns(x[r], p) for r, p in zip(rows, places, strict=True)]
        )
        target = [sf.to(sf.PYU(p[0]), y[r]) for r, p in zip(rows, places, strict=True)]
        heus = [sf.HEU(p[0], p[1:], key_bits=512, safety="insecure") for p in places]
        secure = [
            sf.aggregation.SecureAggregator(sf.PYU(SERVER), [sf.PYU(p[k]) for p in places])
            for k in range(2)
        ]
        model = sf.ml.FLogisticRegressionMix(heus, secure, scores="clear", epochs=2, tol=100.0)
        model.fit(data, target)
        assert model.epochs_done == 1
        want = plain.fit_blocks([(x[r], y[r]) for r in rows], epochs=1)
        np.testing.assert_allclose(weights_of(model), want, atol=1e-4)
        seen = {(d.what, d.to) for d in current().opened}
        assert ("average of 3 participants", SERVER) in seen
        assert ("average of weights, an epoch", "bank0") in seen
    finally:
        sf.shutdown()
        sf.init(PARTIES, backend="inprocess")
