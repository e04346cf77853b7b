"""Three organisations as processes over TLS: examples, ledgers, and processes that are killed."""

import os
import pickle
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spuvm.devices.ledger import entries, verify
from spuvm.functions import weighted_average
from tests.devices.processes import ROOT, Deployment
from tests.examples.test_examples import EXAMPLES, load

SCRIPTS = Path(__file__).with_name("party_scripts.py")
PARTIES = ("alice", "bob", "carol")
HOSPITAL_PARTIES = ("hospital", "clinic", "university")


def test_the_examples_give_the_same_results(tmp_path):
    """As with a driver: averages and gradients beside those in clear, with the same tolerances."""
    deployment = Deployment(tmp_path, (*PARTIES, "server"))
    done = deployment.run(SCRIPTS, "examples", tmp_path)
    assert {p: d.code for p, d in done.items()} == dict.fromkeys(deployment.parties, 0), done
    example = load("fedavg_public_counts")
    counts = list(example["COUNTS"].values())
    models = [example["local_weights"](n) for n in counts]
    want = weighted_average(models, [float(n) for n in counts])
    for party in deployment.parties:
        got = pickle.loads((tmp_path / f"results-{party}.pickle").read_bytes())
        for a, b in zip(got["secure"], got["plain"], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
        np.testing.assert_allclose(got["counts"]["dense"], want["dense"], atol=1e-4)
        np.testing.assert_allclose(*got["gradient"], atol=2.0**-12)
    saved = np.load(tmp_path / "secure.npz")
    assert len(saved.files) == 4
    lines = {party: list(entries(deployment.ledger(party))) for party in deployment.parties}
    heads = lines["alice"][-1]["heads"]
    for party in deployment.parties:
        assert verify(deployment.ledger(party), heads.get(party))[0] == len(lines[party])
    # Everything that anybody learned in clear, somebody recorded as sent to it.
    for party in deployment.parties:
        for entry in lines[party]:
            if (entry["direction"], entry["form"]) != ("in", "clear"):
                continue
            for peer in entry["peers"]:
                sent = [e for e in lines[peer] if e["operation"] == entry["operation"]]
                assert any(party in e["peers"] for e in sent)


def test_an_example_as_it_is(tmp_path):
    deployment = Deployment(tmp_path)
    done = deployment.run(EXAMPLES / "logistic_gradient.py")
    for party, one in done.items():
        assert one.code == 0, f"{party}: {one.out}"
        difference = re.search(r"largest difference: (\S+)", one.out)
        assert float(difference[1]) < 2.0**-12


@pytest.mark.parametrize("phase", ["handshake", "sharing", "protocol", "reveal"])
def test_a_killed_party(tmp_path, phase):
    deployment = Deployment(tmp_path, timing={"deadline": 5, "start_wait": 120, "patience": 60})
    done = deployment.run(SCRIPTS, "killed", phase)
    assert done["carol"].code == -9
    for party in ("alice", "bob"):
        out = done[party].out
        assert done[party].code == 1, out
        assert "unexpected end" not in out
        assert "party 'carol'" in out
        assert re.search(r"operation \d+: ", out), out
        assert "party_scripts.py:" in out
        assert verify(deployment.ledger(party))
    if phase == "reveal":  # nothing of the broken session is in the way of the next one
        done = deployment.run(SCRIPTS, "reports", tmp_path)
        assert all("RESULT [0.0, 1.0, 4.0, 9.0]" in one.out for one in done.values()), done
        for party in PARTIES:
            assert len({e["session"] for e in entries(deployment.ledger(party))}) == 2


def test_a_party_that_does_not_come(tmp_path):
    deployment = Deployment(tmp_path, timing={"deadline": 5, "start_wait": 3})
    start = time.monotonic()
    done = deployment.run(SCRIPTS, "reports", tmp_path, only=("alice", "bob"))
    assert time.monotonic() - start < 60
    for one in done.values():
        assert one.code == 1
        assert "carol" in one.out


def test_policies_and_scripts_that_differ(tmp_path):
    """Both at once: a refusal, in processes, with the line to add."""
    script = tmp_path / "script.py"
    script.write_text(
        "import spuvm as sf\n"
        "def secret():\n    return 'text'\n"
        "sf.init(['alice', 'bob', 'carol'])\n"
        "x = sf.PYU('alice')(secret)()\n"
        "print(sf.reveal(x.to(sf.PYU('bob')), to=['bob']))\n"
    )
    deployment = Deployment(tmp_path, more="[policy.alice]\nopen = []\n")
    done = deployment.run(script)
    assert {d.code for d in done.values()} == {1}
    assert '[policy.alice]: { what = "secret", to = ["bob"] }' in done["alice"].out
    for party in ("bob", "carol"):
        assert "the policy of party 'alice' does not allow operation 1" in done[party].out
        assert "script.py:6" in done[party].out
        assert "{ what" not in done[party].out


def test_scripts_that_join_themselves(tmp_path):
    """Without `spuvm run`, without sf.shutdown; bob's fails in the end."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport spuvm as sf\n"
        "me = os.environ['PARTY']\n"
        "sf.init(party=me, cluster='cluster.toml', backend='inprocess')\n"
        "print('RESULT', sf.reveal(sf.PYU('alice')(lambda: 7)()), flush=True)\n"
        "if me == 'bob':\n    raise ValueError('secret text')\n"
        "sf.wait(sf.PYU('carol')(lambda: 8)())\n"
    )
    deployment = Deployment(tmp_path)
    running = {party: deployment.start_plainly(party, script) for party in PARTIES}
    outs = {party: process.communicate(timeout=150)[0] for party, process in running.items()}
    assert all("RESULT 7" in out for out in outs.values()), outs
    assert "ValueError: secret text" in outs["bob"]
    for party in ("alice", "carol"):
        assert "party 'bob': the script ended with ValueError" in outs[party]
        assert "script.py:7" in outs[party]
        assert "secret text" not in outs[party]
        assert running[party].returncode == 1


def plain_training(folder, epochs):
    """The same steps in clear: weights of both, and the share that is right."""
    example = runpy.run_path(str(EXAMPLES / "three_organisations" / "train.py"), run_name="example")
    theirs = example["read_measurements"](folder / "hospital.csv")
    ours, outcome = example["read_outcomes"](folder / "clinic.csv")
    w = example["start"](theirs, ours, outcome)
    for _ in range(epochs):
        w = example["epoch"](w, theirs, ours, outcome)
    right = example["share_of_right_answers"](w, theirs, ours, outcome)
    return np.asarray(w[: theirs.shape[1]]), np.asarray(w[theirs.shape[1] :]), float(right)


def test_three_organisations(tmp_path):
    """The script on one machine: first some epochs, then more from the checkpoint."""
    script = EXAMPLES / "three_organisations" / "run_on_one_machine.sh"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}

    def run(*args):
        done = subprocess.run(
            ["sh", str(script), str(tmp_path / "run"), *args],
            capture_output=True,
            text=True,
            timeout=200,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    out = run("--epochs", "10")
    out = run("--epochs", "2", "--resume")
    first, second, right = plain_training(tmp_path / "run" / "data", 12)
    logs = {name: (tmp_path / "run" / f"{name}.log").read_text() for name in HOSPITAL_PARTIES}

    def numbers(name, whose):
        line = re.search(rf"weights of the {whose}'s columns: +\[([^\]]*)\]", logs[name])
        return None if line is None else np.array(line[1].split(), float)

    np.testing.assert_allclose(numbers("hospital", "hospital"), first, atol=2e-3)
    np.testing.assert_allclose(numbers("clinic", "clinic"), second, atol=2e-3)
    assert numbers("hospital", "clinic") is None
    assert numbers("university", "hospital") is None
    assert logs["clinic"].count("<not revealed to clinic, only to hospital: f32[4]") == 1
    for log in logs.values():
        assert abs(float(re.search(r"right for (\S+) %", log)[1]) - 100 * right) < 0.6
    assert out.count("chain intact") == 3
