"""The examples, on both backends."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import spuvm as sf
from spuvm.functions import weighted_average

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENTS = ["alice", "bob", "carol"]


def load(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


def test_federated_averaging_with_both_servers(session, spu, tmp_path):
    plain = load("fedavg_plain_server")["run"](sf.PYU("server"), tmp_path / "plain.npz")
    ours = load("fedavg_secure_server")["run"](spu, tmp_path / "secure.npz")
    assert [w.shape for w in ours] == [(8, 6), (6,), (6,), ()]
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    saved = np.load(tmp_path / "secure.npz")
    for i, w in enumerate(ours):
        np.testing.assert_array_equal(saved[f"arr_{i}"], w)


def test_the_two_programs_differ_in_the_server_only():
    plain = (EXAMPLES / "fedavg_plain_server.py").read_text().split('"""', 2)[2].splitlines()
    ours = (EXAMPLES / "fedavg_secure_server.py").read_text().split('"""', 2)[2].splitlines()
    assert len(plain) == len(ours)
    differing = [(a.strip(), b.strip()) for a, b in zip(plain, ours, strict=True) if a != b]
    assert len(differing) == 2
    assert differing[1][0].replace('sf.PYU("server")', "sf.SPU(CLIENTS)") == differing[1][1]


def test_public_counts(spu):
    example = load("fedavg_public_counts")
    got, disclosed = example["run"](spu)
    counts = list(example["COUNTS"].values())
    want = weighted_average(
        [example["local_weights"](n) for n in counts], [float(n) for n in counts]
    )
    np.testing.assert_allclose(got["dense"], want["dense"], atol=1e-4)
    public = [d.what for d in disclosed if d.what.startswith("public argument")]
    assert len(public) == 3  # the counts, and nothing else
    assert {o for d in disclosed if d.what.startswith("output") for o in d.origins} == set(CLIENTS)


def test_gradient_on_split_data(spu):
    ours, plain = load("logistic_gradient")["run"](spu)
    np.testing.assert_allclose(ours, plain, atol=2.0**-12)


def columns_of_three_parties(folder, scores, epochs):
    example = load("vertical_logistic")
    example["write_files"](folder)
    auc, accuracy, report = example["run"](folder, scores, 512, "insecure", epochs=epochs)
    assert auc > 0.96
    assert accuracy > 0.9
    seen = {(one.what, one.to) for one, _ in report}
    assert ("gradient of own columns, a batch", "bob") in seen
    return seen


def test_columns_of_three_parties(session, tmp_path):
    columns_of_three_parties(tmp_path, "shares", 1 if session == "ray" else 2)


@pytest.mark.parametrize("session", ["inprocess"], indirect=True)
def test_columns_of_three_parties_with_scores_in_the_clear(session, tmp_path):
    """On threads alone: of what moves on Ray, sharing the scores moves all and more."""
    seen = columns_of_three_parties(tmp_path, "clear", 2)
    assert ("partial scores of a batch", "alice") in seen


def test_a_large_table(session):
    """On fewer rows than it is written for."""
    accuracy, _ = load("large_regression")["run"](rows=4096, batch_size=512)
    assert accuracy > 0.8
