"""Defects of the known implementation of this model: each must stay out.

- gradient masks were multiples of 2^26: low bits reached the key holder (recovery attack below);
- results were not re-randomised before they went to the key holder;
- the label holder saw partial scores (tests/ml/test_vertical.py: the report of the default);
- averages between two holders revealed weights (tests/ml/test_mix.py: refused).
"""

import numpy as np
import pytest
from attack import BITS, recovered

import spuvm as sf
from spuvm.devices import heuparty
from spuvm.devices.local import LocalBackend, value
from spuvm.ml.worker import Worker, sigmoid
from spuvm.paillier import masking
from spuvm.paillier.arrays import Ciphers
from spuvm.paillier.encoding import Plain

ALICE, BOB = "alice", "bob"
ROWS, EPOCHS = 64, 70
RNG = np.random.default_rng(11)
X = RNG.normal(size=(ROWS, 3))
Y = (X @ [1.0, -2.0, 0.5] + RNG.normal(size=ROWS) > 0).astype(int)
COLUMN = np.rint(X[:, 2] * 2**18).astype(np.int64)  # bob's, as it is encoded


def coarse_mask(bound, shape, scale):
    """The masks of the known implementation: random multiples of 2^26."""
    fine = masking.mask_for(bound, shape, scale)
    return Plain((fine.ints >> BITS) << BITS, scale, fine.bound)


@pytest.fixture
def key_holders_view(inprocess, monkeypatch):
    """Train with scores="clear"; what alice sees: every residual, every masked gradient of bob."""

    def train(mask):
        residuals, masked = [], []
        residual, decrypt = Worker.residual, heuparty.HEUParty.decrypt_masked

        def watched(self, low, high, *others):
            r = residual(self, low, high, *others)
            residuals.append(np.rint(r * 2**18).astype(np.int64))
            return r

        def shown(self, free, message):
            answer = decrypt(self, free, message)
            masked.append(int(heuparty.masked_integers(answer)[0]))
            return answer

        monkeypatch.setattr(Worker, "residual", watched)
        monkeypatch.setattr(heuparty.HEUParty, "decrypt_masked", shown)
        monkeypatch.setattr(heuparty, "mask_for", mask)
        heu = sf.HEU(ALICE, [BOB], key_bits=512, safety="insecure")
        x = sf.data.FedNdarray(
            {sf.PYU(n): sf.to(sf.PYU(n), c) for n, c in ((ALICE, X[:, :2]), (BOB, X[:, 2:]))}
        )
        model = sf.ml.FLogisticRegressionVertical(heu, scores="clear", epochs=EPOCHS)
        sf.wait(list(model.fit(x, sf.to(sf.PYU(ALICE), Y)).coef_.values()))
        assert len(residuals) == len(masked) == EPOCHS
        return residuals, masked

    return train


def test_the_attack_recovers_a_column_from_coarse_masks(key_holders_view):
    """Otherwise its failure against ours would say nothing."""
    found = recovered(*key_holders_view(coarse_mask))
    np.testing.assert_array_equal(found, COLUMN)


def test_the_attack_finds_nothing_in_ours(key_holders_view):
    found = recovered(*key_holders_view(masking.mask_for))
    assert found is not None  # the equations are as solvable as before: their right sides are noise
    assert np.count_nonzero(found == COLUMN) == 0
    error = np.abs(found - COLUMN)
    assert np.median(error) > 2**20  # as far off as guessing modulo 2^26
    assert abs(np.corrcoef(found, COLUMN)[0, 1]) < 0.5


def test_solving_residuals_needs_more_columns_than_a_party_may_have():
    """A party with as many columns as a batch has rows could solve x^T r = g for r."""
    x = RNG.normal(size=(20, 20))
    r = sigmoid(x @ np.ones(20)) - 0.5
    np.testing.assert_allclose(np.linalg.solve(x.T, x.T @ r), r, atol=1e-6)
    with pytest.raises(sf.errors.UsageError, match="as many columns as rows"):
        Worker(x, None, 20, 0.1, 0.0)
    Worker(np.vstack([x, x]), None, 40, 0.1, 0.0)


def test_gradients_are_randomised_before_they_leave(inprocess, monkeypatch):
    """What the key holder gets is no ciphertext that the evaluator computed from the residual's."""
    computed, sent = [], []
    packed, sealed = heuparty.pack, heuparty.seal

    def pack(value, slot):
        found = packed(value, slot)
        computed.extend(int(c) for c in found.ciphers.data)
        return found

    def seal(value):
        message = sealed(value)
        sent.extend(int.from_bytes(row.tobytes()) for row in message["body"])
        return message

    monkeypatch.setattr(heuparty, "pack", pack)
    monkeypatch.setattr(heuparty, "seal", seal)
    heu = sf.HEU(ALICE, [BOB], key_bits=512, safety="insecure")
    x = sf.to(sf.PYU(ALICE), X[:, 0]).to(heu) @ sf.to(sf.PYU(BOB), X[:, 1:])
    sf.wait(x.opened_here())
    key = heu.key
    assert computed
    assert not set(computed) & set(sent)
    # Neither sum with the mask: (1 + m n) c for any mask m leaves c's residue class in place.
    classes = {pow(c, 1, int(key.n)) for c in computed}
    assert not classes & {c % int(key.n) for c in sent}


@pytest.mark.parametrize("scores", ["shares", "clear"])
def test_what_travels_in_training(inprocess, monkeypatch, scores):
    """Typed arrays only; no ciphertext leaves that an operation made, and none leaves twice."""
    computed, sent, leaving = set(), [], []
    keep, move = heuparty.HEUParty._keep, LocalBackend.move

    def kept(self, name, value):
        if isinstance(value, Ciphers) and not value.fresh:
            received = set(leaving)
            computed.update({int(c) for c in value.data.reshape(-1)} - received)
        return keep(self, name, value)

    def moved(self, ref, target):
        if ref.what.startswith("heu"):
            message = value(ref)
            sent.append(message)
            if "slot" in message:
                leaving.extend(int.from_bytes(row.tobytes()) for row in message["body"])
        return move(self, ref, target)

    monkeypatch.setattr(heuparty.HEUParty, "_keep", kept)
    monkeypatch.setattr(LocalBackend, "move", moved)
    heu = sf.HEU(ALICE, [BOB, "carol"], key_bits=512, safety="insecure")
    spu = sf.SPU([ALICE, BOB, "carol"])
    x = sf.data.FedNdarray(
        {sf.PYU(n): sf.to(sf.PYU(n), X[:, [i]]) for i, n in enumerate((ALICE, BOB, "carol"))}
    )
    model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=2, batch_size=16)
    sf.wait(list(model.fit(x, sf.to(sf.PYU(ALICE), Y)).coef_.values()))
    assert len(sent) > 20
    for message in sent:
        assert type(message) is dict
        assert all(type(v) is np.ndarray and v.dtype.kind in "iub" for v in message.values())
    assert leaving
    assert not computed & set(leaving)
    if scores == "shares":
        assert len(set(leaving)) == len(leaving)
    else:  # a fresh encryption of the residual goes to both evaluators as it is
        assert len(leaving) - len(set(leaving)) <= 2 * len(Y)
