"""Ciphertexts, tables and models without a driver: the same code, the same results."""

import runpy

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.ledger import entries
from spuvm.devices.policy import Policy, Rule
from tests.devices.rehearsal import PARTIES, Rehearsal
from tests.examples.test_examples import EXAMPLES

pytest.importorskip("sklearn")
pytest.importorskip("phe")


@pytest.fixture
def vertical(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "vertical_logistic.py"), run_name="example")
    example["write_files"](tmp_path)
    return example


def test_ciphertexts(tmp_path):
    def script(me):
        alice, bob, carol = map(sf.PYU, PARTIES)
        heu = sf.HEU("alice", ["bob"], 1024, safety="insecure", input_range=(-8, 8))
        spu = sf.SPU(list(PARTIES))
        x = alice(lambda: np.arange(3.0, dtype="float32"))()
        y = bob(lambda: np.ones(3, "float32"))()
        mixed = spu(lambda a, b: a * b)((x.to(heu) + y.to(heu)).to(spu), y)
        return sf.reveal(mixed.to(carol)), sf.reveal(spu(lambda v: v)(x).to(heu).to(alice))

    done = Rehearsal(tmp_path).run(script)
    assert not done.errors
    for total, back in done.results.values():
        np.testing.assert_allclose(total, [1, 2, 3], atol=1e-4)
        np.testing.assert_allclose(back, [0, 1, 2], atol=1e-4)
    clear = [e for e in entries(done.ledger("bob")) if e["form"] == "clear"]
    # The revealed results; and, on its way to the key holder, what alice may decrypt.
    learned = {"<lambda>", "heu0 decrypt"}
    assert {e["what"] for e in clear if e["direction"] == "in"} == learned
    assert {e["what"] for e in clear if e["direction"] == "out"} <= {"output of heu0"}


def test_a_vertical_model(tmp_path, vertical):
    def script(me):
        auc, accuracy, _ = vertical["run"](tmp_path, "shares", 1024, "insecure", epochs=1)
        return auc, accuracy

    done = Rehearsal(tmp_path, patience=120).run(script, limit=150)
    assert not done.errors
    assert len(set(done.results.values())) == 1
    auc, accuracy = done.results["alice"]
    assert auc > 0.95
    assert accuracy > 0.9


def test_facts_about_tables_need_consent(tmp_path, vertical):
    def script(me):
        paths = {sf.PYU(name): tmp_path / f"{name}.csv" for name in PARTIES}
        return sf.data.read_csv(paths, key="patient")

    carol = Policy("carol", (Rule("nothing", ("*",)),))
    done = Rehearsal(tmp_path, policies={"carol": carol}).run(script)
    assert "[policy.carol]" in str(done.errors["carol"])
    assert all(isinstance(done.errors[n], sf.errors.PolicyError) for n in PARTIES)
    for name in ("alice", "bob"):
        heard = [e for e in entries(done.ledger(name)) if "carol" in e["origins"]]
        assert not [e for e in heard if e["direction"] == "in" and e["form"] != "public"]
