"""Work that threads share: in order, until all of it is done, and at the end of a script."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from spuvm.kernels import threads
from spuvm.kernels.matmul import matmul


def test_results_are_in_the_order_of_the_calls():
    assert threads.together([]) == []
    assert threads.together([lambda i=i: i for i in range(7)]) == list(range(7))


@pytest.mark.parametrize("wrong", [0, 1])
def test_an_error_waits_for_the_others(wrong):
    """They use the same operands, which nobody may free before."""
    done = threading.Event()

    def call(i):
        if i == wrong:
            raise ValueError(i)
        done.wait(0.2)
        done.set()

    with pytest.raises(ValueError, match=str(wrong)):
        threads.both(call, 1 << 20) if threads.processors() > 1 else call(wrong)
    assert done.is_set() or threads.processors() == 1


@pytest.mark.parametrize("words", [1, 1 << 20])
def test_both_halves(words):
    assert threads.both(lambda i: i + 1, words) == (1, 2)


def test_few_words_take_no_thread(monkeypatch):
    monkeypatch.setattr(threads, "pool", lambda: pytest.fail("a thread for so little"))
    assert threads.both(lambda i: i, threads.LEAST_WORDS - 1) == (0, 1)


def test_when_no_thread_can_be_started(monkeypatch):
    """As where a script has ended, and what it began is carried out."""

    class Ended:
        def submit(self, call):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(threads, "pool", Ended)
    monkeypatch.setattr(threads, "processors", lambda: 4)
    assert threads.both(lambda i: i, 1 << 20) == (0, 1)
    x = np.arange(600 * 600, dtype=np.uint64).reshape(1, 600, 600)
    out = np.zeros((1, 600, 600), np.uint64)
    matmul(x, x, out)
    assert (out == x @ x).all()


SCRIPT = """
import time
import numpy as np
import spuvm as sf
from spuvm.functions import average

def late():
    time.sleep(1.5)  # the script is at its end before
    return np.ones(200_000, "float32")

sf.init(parties=["alice", "bob", "carol"], backend="inprocess")
alice = sf.PYU("alice")
spu = sf.SPU(["alice", "bob", "carol"])
x = alice(late)()
mean = spu(average)([x, x, x]).to(alice)
alice(lambda m: print("mean", m[0], flush=True))(mean)
"""


def test_what_a_script_leaves_to_do_is_done():
    """Large enough for threads, which the interpreter gives no more at its end."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert "mean 1.0" in run.stdout, run.stderr
