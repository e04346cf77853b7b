"""Three organisations as processes over TLS: examples, ledgers, and processes that are killed."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from spuvm.devices.ledger import entries, verify
from spuvm.functions import weighted_average
from spuvm.ml import plain as plain_model
from tests.devices.party_scripts import mixed_data
from tests.devices.processes import ORGANISATIONS, ROOT, Deployment, plain_training
from tests.examples.test_examples import load

SCRIPTS = Path(__file__).with_name("party_scripts.py")
PARTIES = ("alice", "bob", "carol")
HOSPITAL_PARTIES = ("hospital", "clinic", "university")


def test_the_examples_give_the_same_results(tmp_path):
    """Their files as they are; beside what they give in clear, with the tolerances of a driver."""
    deployment = Deployment(tmp_path, (*PARTIES, "server"))
    done = deployment.run(SCRIPTS, "examples", tmp_path)
    assert {p: d.code for p, d in done.items()} == dict.fromkeys(deployment.parties, 0), done
    plain, secure = np.load(tmp_path / "plain.npz"), np.load(tmp_path / "secure.npz")
    assert len(secure.files) == 4
    for name in secure.files:
        np.testing.assert_allclose(secure[name], plain[name], atol=1e-3)
    example = load("fedavg_public_counts")
    counts = list(example["COUNTS"].values())
    models = [example["local_weights"](n) for n in counts]
    want = weighted_average(models, [float(n) for n in counts])
    mixed = plain_model.fit_blocks(mixed_data(), 2, 32)
    for party, one in done.items():
        average = re.search(r"^average: (\[.*\])$", one.out, re.MULTILINE)
        np.testing.assert_allclose(json.loads(average[1]), want["dense"], atol=2e-4)
        assert float(re.search(r"largest difference: (\S+)", one.out)[1]) < 2.0**-12
        others = re.search("OTHERS (.*)", one.out)[1]
        if party in ("alice", "server"):
            assert re.findall(r"\d+\.\d\d", others) == ["4.66", "4.66"] or "4.67" in others
        else:
            assert others.count(f"<not revealed to {party}, only to alice, server: f32[]") == 2
        np.testing.assert_allclose(np.load(tmp_path / f"mixed-{party}.npy"), mixed, atol=2e-4)
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


@contextmanager
def processes(started):
    """The processes of parties by name, none of which is left behind."""
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


def heard(process):
    """The next line that tells how a session ended, and what came before it."""
    lines = []
    while line := process.stdout.readline():
        lines.append(line)
        if line.startswith(("HEARD", "RESULT")):
            return line
    raise AssertionError("".join(lines))


EARLY = ("start", "handshake")  # after these she may come again: the others still wait
PHASES = ("agreement", "joined", "sharing", "protocol", "reveal")


def test_a_party_that_is_killed(tmp_path):
    """In every phase; the same processes of the others go on with the next session each time."""
    timing = {"deadline": 12, "start_wait": 120, "patience": 60}
    deployment = Deployment(tmp_path, timing=timing)
    every = (*EARLY, *PHASES, "none")
    running = {p: deployment.start(p, SCRIPTS, "killed", *every[2:]) for p in ("alice", "bob")}
    running["carol"] = carol = deployment.start("carol", SCRIPTS, "carols", *every)
    others = ("alice", "bob")
    said = {}
    with processes(running):
        for phase in every:
            carol.stdin.write("next\n")
            carol.stdin.flush()
            if phase not in EARLY:
                said[phase] = {name: heard(running[name]) for name in others}
        assert all(running[name].wait(60) == 0 for name in others)
        out = carol.communicate(timeout=60)[0]
    ends = re.findall(r"^ENDED (\w+) (-?\d+)$", out, re.M)
    assert ends == [*((phase, "-9") for phase in every[:-1]), ("none", "0")], out
    for text in said.pop("none").values():
        assert text.startswith("RESULT")
    for phase, texts in said.items():
        for text in texts.values():
            assert text.startswith("HEARD")
            assert "party 'carol'" in text, (phase, text)
            if phase != "agreement":  # before that there is no operation
                assert re.search(r"operation \d+: ", text), (phase, text)
                assert "party_scripts.py:" in text
    for party in others:
        assert verify(deployment.ledger(party))
        assert len({e["session"] for e in entries(deployment.ledger(party))}) == len(PHASES)


def test_a_party_that_does_not_come(tmp_path):
    deployment = Deployment(tmp_path, timing={"deadline": 5, "start_wait": 3})
    start = time.monotonic()
    done = deployment.run(SCRIPTS, "reports", tmp_path, only=("alice", "bob"))
    assert time.monotonic() - start < 60
    for one in done.values():
        assert one.code == 1
        assert "carol" in one.out


def test_refusals_and_differences(tmp_path):
    """One session after the other in the same three processes."""
    more = '[policy.alice]\nopen = [{ what = "told", to = ["*"] }]\n'
    deployment = Deployment(tmp_path, more=more)
    done = deployment.run(SCRIPTS, "scenes")
    source = SCRIPTS.read_text().splitlines()

    def line(text):
        (number,) = [i for i, one in enumerate(source, 1) if text in one]
        return f"party_scripts.py:{number} "

    digests, results = {}, set()
    for party, one in done.items():
        assert one.code == 0, one.out
        scenes = dict(part.split("\n", 1) for part in one.out.split("SCENE ")[1:])
        refused = scenes["_refused"]
        if party == "alice":  # the others may hear of the refusal while they still wait for it
            assert "RESULT text" in refused
        assert "HEARD PolicyError" in refused
        assert line("# the line that is refused") in refused
        advice = '[policy.alice]: { what = "secret", to = ["bob"] }'
        assert (advice in refused) == (party == "alice")
        branch = scenes["_another_branch"]
        assert "HEARD AgreementError" in branch
        assert "differ from operation 1 on" in branch
        assert line("# carol's line") in branch
        assert line("# the others' line") in branch
        program = scenes["_another_program"]
        assert "HEARD AgreementError" in program
        assert "the programs of " in program
        assert line("# the line of the program") in program
        failure = scenes["_failure"]
        assert "failing raised ValueError" in failure
        assert "party 'bob'" in failure
        assert ("123456789" in failure) == (party == "bob")  # in bob's log
        assert "HEARD" in failure
        constants = scenes["_other_constants"]
        assert "HEARD" not in constants
        digests[party] = re.search("DIGEST (.*)", constants)[1]
        results.add(re.search("RESULT (.*)", constants)[1])
        assert all("RESULT" not in scenes[name] for name in ("_another_branch", "_another_program"))
    assert digests["alice"] == digests["bob"] != digests["carol"], "JAX computed the same"
    assert len(results) == 1
    starts = [next(entries(deployment.ledger(party)))["policies"] for party in PARTIES]
    assert starts[0] == starts[1] == starts[2]  # digests of all policies, in everybody's ledger
    assert set(starts[0]) == set(PARTIES)


def test_scripts_that_join_themselves(tmp_path):
    """Without `spuvm run`, without sf.shutdown; bob's fails in the end."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport time\nimport spuvm as sf\n"
        "me = os.environ['PARTY']\n"
        "sf.init(party=me, cluster='cluster.toml', backend='inprocess')\n"
        "print('RESULT', sf.reveal(sf.PYU('alice')(lambda: 7)()), flush=True)\n"
        "if me == 'bob':\n    time.sleep(2)\n    raise ValueError('secret text')\n"
        "sf.wait(sf.PYU('carol')(lambda: 8)())\n"
    )
    deployment = Deployment(tmp_path)
    running = {party: deployment.start_plainly(party, script) for party in PARTIES}
    outs = {party: process.communicate(timeout=150)[0] for party, process in running.items()}
    assert all("RESULT 7" in out for out in outs.values()), outs
    assert "ValueError: secret text" in outs["bob"]
    for party in ("alice", "carol"):
        assert "party 'bob': the script ended with ValueError" in outs[party]
        assert "script.py:9" in outs[party]
        assert "secret text" not in outs[party]
        assert running[party].returncode == 1


def test_three_organisations(tmp_path):
    """The script on one machine: first some epochs, then more from the checkpoint."""
    script = ORGANISATIONS / "run_on_one_machine.sh"
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
