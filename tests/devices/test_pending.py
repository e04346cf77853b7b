"""What was asked for is carried out before a session ends, and no failure of it goes unsaid."""

import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

import spuvm as sf
from spuvm.devices.failure import Failure
from spuvm.devices.pending import Pending

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
import spuvm as sf

def save(path):
    time.sleep(1.0)
    open(path, "w").write("saved")

sf.init(["alice", "bob"], backend=sys.argv[2])
sf.PYU("alice")(save)(sys.argv[1])
"""
FAILED = Failure("alice", "save", OSError("no room"))


@pytest.fixture
def alice():
    sf.init(["alice", "bob"], backend="inprocess")
    yield sf.PYU("alice")
    sf.shutdown()


def save(path):
    time.sleep(0.3)
    Path(path).write_text("saved")


@sf.proxy(sf.PYUObject)
class Keeper:
    def save(self, path):
        save(path)


def fail_with_a_session():
    try:
        _ = 1 / 0
    finally:
        sf.shutdown()


def said(caplog):
    return [r.getMessage() for r in caplog.records if "nobody asked" in r.getMessage()]


def test_calls_are_carried_out_before_the_end(alice, tmp_path):
    alice(save)(tmp_path / "a")
    Keeper(device=sf.PYU("bob")).save(tmp_path / "b")
    sf.shutdown()
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "saved"


def test_a_failure_that_nobody_heard_of_is_logged(alice, caplog, tmp_path):
    alice(save)(tmp_path / "nowhere" / "a")
    with caplog.at_level(logging.WARNING, "spuvm"):
        sf.shutdown()
    (message,) = said(caplog)
    assert "party 'alice': save raised FileNotFoundError" in message
    assert "test_pending.py:" in message


@pytest.mark.parametrize("ask", [sf.reveal, lambda x: sf.wait([x])])
def test_a_failure_that_somebody_heard_of_is_not_said_again(alice, ask, caplog, tmp_path):
    failed = alice(save)(tmp_path / "nowhere" / "a")
    alice(lambda x: x)(failed)  # fails for the same reason
    with pytest.raises(sf.errors.PartyError, match="FileNotFoundError"):
        ask(failed)
    alice(lambda x: x)(failed)
    with caplog.at_level(logging.WARNING, "spuvm"):
        sf.shutdown()
    assert said(caplog) == []


def test_an_exception_under_way_ends_all_at_once(alice):
    go = threading.Event()
    alice(go.wait)(60.0)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fail_with_a_session()
    assert time.monotonic() - began < 30
    go.set()


@pytest.mark.parametrize("backend", ["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_script_that_does_not_say_shutdown(backend, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = tmp_path / "saved"
    done = subprocess.run(
        [sys.executable, script, path, backend],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_text() == "saved"


def test_what_is_waited_for_is_said_and_can_be_helped(caplog):
    pending, future = Pending(), Future()
    pending.started("save at alice", future, lambda f: [f.result()])
    with caplog.at_level(logging.WARNING, "spuvm"):
        unheard = pending.settle(lambda: future.set_result(FAILED))
    assert "still waiting for save at alice" in caplog.text
    assert unheard == [FAILED]
    pending.heard([FAILED, 1])
    assert pending.settle() == []
