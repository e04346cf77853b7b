"""Encryption, aggregation and models where every party runs the script itself."""

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.policy import Policy
from spuvm.ml import plain
from tests.devices.rehearsal import Rehearsal

ALICE, BOB, CAROL = "alice", "bob", "carol"
RNG = np.random.default_rng(5)
X = RNG.normal(size=(70, 6))
Y = (X @ np.linspace(-1, 1, 6) + RNG.normal(size=70) > 0).astype(int)


@pytest.fixture
def rehearse(tmp_path):
    return lambda script: Rehearsal(tmp_path).run(script)


def results(done):
    assert not done.errors
    return done.results.values()


def test_ciphertexts_and_crossings(rehearse):
    x, m = np.array([1.5, -2.25, 3.0]), np.arange(6.0).reshape(3, 2) / 4

    def script(me):
        alice, bob, _ = (sf.PYU(name) for name in (ALICE, BOB, CAROL))
        heu = sf.HEU(ALICE, [BOB, CAROL], 512, safety="insecure", input_range=(-99, 99))
        spu = sf.SPU([ALICE, BOB, CAROL])
        product = alice(lambda: x)().to(heu) @ bob(lambda: m)().to(heu)
        y = product.to(spu)
        back = y.to(heu).to(alice)
        return [sf.reveal(v) for v in (product.to(alice), product.opened_here(), y, back)]

    for found in results(rehearse(script)):
        for one in found:
            np.testing.assert_allclose(one, x @ m, atol=1e-4)


@pytest.mark.parametrize("scores", ["shares", "clear"])
def test_a_vertical_model(rehearse, scores):
    def script(me):
        pyus = [sf.PYU(name) for name in (ALICE, BOB, CAROL)]
        heu = sf.HEU(ALICE, [BOB, CAROL], 512, safety="insecure")
        spu = sf.SPU([ALICE, BOB, CAROL])
        x = sf.data.FedNdarray(
            {p: p(lambda i=i: X[:, 2 * i : 2 * i + 2])() for i, p in enumerate(pyus)}
        )
        model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=2, batch_size=32)
        y = pyus[0](lambda: Y)()
        model.fit(x, y)
        weights = [sf.reveal(v) for v in model.coef_.values()]
        return np.concatenate([*weights, [sf.reveal(model.intercept_)]]), model.score(x, y)

    for weights, _ in results(rehearse(script)):
        np.testing.assert_allclose(weights, plain.fit(X, Y, 2, 32), atol=1e-4)


def test_masked_sums(rehearse):
    def script(me):
        pyus = [sf.PYU(name) for name in (ALICE, BOB, CAROL)]
        secure = sf.aggregation.SecureAggregator(pyus[0], pyus)
        data = [p(lambda i=i: {"w": X[i], "n": i})() for i, p in enumerate(pyus)]
        return sf.reveal(secure.sum(data))

    for total in results(rehearse(script)):
        np.testing.assert_allclose(total["w"], X[:3].sum(0), atol=1e-5)
        assert int(total["n"]) == 3


@pytest.mark.parametrize("way", ["decrypt", "open"])
def test_owners_may_refuse(tmp_path, way):
    """Whoever's data a value depends on decides, also where it travels encrypted or masked."""
    x, m = np.array([1.5, -2.25, 3.0]), np.arange(6.0).reshape(3, 2) / 4
    refusing = {"decrypt": BOB, "open": ALICE}[way]

    def script(me):
        alice, bob = sf.PYU(ALICE), sf.PYU(BOB)
        heu = sf.HEU(ALICE, [BOB], 512, safety="insecure", input_range=(-99, 99))
        product = alice(lambda: x)().to(heu) @ bob(lambda: m)().to(heu)
        sf.wait(product.to(alice) if way == "decrypt" else product.opened_here())

    policies = {refusing: Policy(refusing, open=())}
    done = Rehearsal(tmp_path, policies=policies).run(script)
    assert set(done.errors) == {ALICE, BOB, CAROL}
    assert isinstance(done.errors[refusing], sf.errors.PolicyError)
    said = f"the policy of party {refusing!r} does not allow operation"
    assert all(said in str(e) for e in done.errors.values())
    assert any("output of heu0" in str(e) for e in done.errors.values())


def test_crossings_open_nothing(tmp_path):
    """Parties that let nothing out still compute between ciphertexts and shares."""
    x = np.array([1.5, -2.25, 3.0])

    def script(me):
        alice, bob = sf.PYU(ALICE), sf.PYU(BOB)
        heu = sf.HEU(ALICE, [BOB], 512, safety="insecure", input_range=(-99, 99))
        spu = sf.SPU([ALICE, BOB, CAROL])
        y = (alice(lambda: x)().to(heu) * bob(lambda: x)().to(heu)).to(spu)
        sf.wait(y.to(heu))

    policies = {name: Policy(name, open=()) for name in (ALICE, BOB)}
    assert not Rehearsal(tmp_path, policies=policies).run(script).errors
