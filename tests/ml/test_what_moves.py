"""Everything that leaves a party during training is named here: hidden, or in the report."""

from collections import Counter

import numpy as np
import pytest
from cancer import by_columns

import spuvm as sf
from spuvm.devices.local import LocalBackend, LocalMachines
from spuvm.devices.session import current

ALICE, BOB, CAROL = "alice", "bob", "carol"
X = np.random.default_rng(0).normal(size=(64, 6))
Y = (X.sum(1) > 0).astype(int)
STEPS = 2

# Hidden from who gets it: sealed ciphertexts, masked integers, shares' public shapes, keys of
# digests among the data's parties.
SEALED = {"heu0 send", "heu0 masked", "heu0 encrypt_integers"}
MASKED = {"to ciphertexts"}
SHAPES = {f"sharing Worker.{name}" for name in ("batch", "labels", "partial_score")}
SALTS = {"fresh_salt"}
# What is shown, and as what the report has it.
SHOWN = {
    "row_digest": "equal row counts",
    "different": "equal row counts",
    "Worker.rows": "row count",
    "Worker.partial_score": "partial scores of a batch",
    "gradient of own columns, a batch": "gradient of own columns, a batch",
    "gradient_of_own_columns": "output of gradient_of_own_columns",
}


@pytest.fixture
def moved(inprocess, monkeypatch):
    """What went to another party, to the script, or was opened by an SPU: (name, receiver)."""
    seen = []
    move, fetch, open_at = LocalBackend.move, LocalBackend.fetch, LocalMachines.open_at

    def watched_move(self, ref, target):
        if ref.party != target:
            seen.append((ref.what, target))
        return move(self, ref, target)

    def watched_fetch(self, refs):
        seen.extend((ref.what, "driver") for ref in refs)
        return fetch(self, refs)

    def watched_open(self, order, party, what, join):
        seen.append((what, party))
        return open_at(self, order, party, what, join)

    monkeypatch.setattr(LocalBackend, "move", watched_move)
    monkeypatch.setattr(LocalBackend, "fetch", watched_fetch)
    monkeypatch.setattr(LocalMachines, "open_at", watched_open)
    return seen


@pytest.mark.parametrize("scores", ["shares", "clear"])
def test_what_is_shown_is_reported_and_nothing_else_is(moved, scores):
    heu = sf.HEU(ALICE, [BOB, CAROL], 512, safety="insecure")
    heu.name = "heu0"  # whatever other tests made before
    spu = sf.SPU([ALICE, BOB, CAROL])
    x, y = by_columns(X, [ALICE, BOB, CAROL]), sf.to(sf.PYU(ALICE), Y)
    sf.wait([*x.partitions.values(), y])
    moved.clear()
    before = dict(current().opened)
    model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=1, batch_size=32)
    model.fit(x, y)
    hidden = SEALED | MASKED | SHAPES | SALTS
    shown = [(what, to) for what, to in moved if what not in hidden]
    assert not {what for what, _ in shown} - set(SHOWN)
    reported = Counter()
    for d, n in current().opened.items():
        if n != before.get(d, 0):
            reported[d.what, d.to] += n - before.get(d, 0)
    assert {(SHOWN[what], to) for what, to in shown} == set(reported)
    # The default closes what the talk's algorithm shows to the party with the labels.
    scores_seen = [to for what, to in shown if what == "Worker.partial_score"]
    assert scores_seen == ([ALICE] * 2 * STEPS if scores == "clear" else [])
    count = reported.get(("partial scores of a batch", ALICE))
    assert count == (2 * STEPS if scores == "clear" else None)
    assert {to for what, to in moved if what in MASKED} <= {BOB}


def test_predictions_and_scores_are_reported(moved):
    heu = sf.HEU(ALICE, [BOB, CAROL], 512, safety="insecure")
    spu = sf.SPU([ALICE, BOB, CAROL])
    x, y = by_columns(X, [ALICE, BOB, CAROL]), sf.to(sf.PYU(ALICE), Y)
    for scores, seen in [("shares", "output of shared_probability"), ("clear", "partial scores")]:
        model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=1, batch_size=32)
        model.fit(x, y)
        before = dict(current().opened)
        moved.clear()
        model.score(x, y)
        new = [d for d, n in current().opened.items() if n != before.get(d, 0)]
        assert {d.to for d in new} == {ALICE, "driver"}
        assert any(d.what.startswith(seen) for d in new)
        plain = {w for w, _ in moved if not w.startswith("sharing ")}
        opened = {"shared_probability"} if scores == "shares" else {"linear"}
        assert plain == {"accuracy", *opened}
