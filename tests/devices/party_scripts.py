"""Scripts that test_multi_processes.py runs as every party: ``party_scripts.py NAME ARGS...``."""

import os
import pickle
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

import spuvm as sf

CLIENTS = ["alice", "bob", "carol"]
EXAMPLES = Path(__file__).parents[2] / "examples"
ME = os.environ["PARTY"]


def examples(folder):
    """The examples' own `run` functions in one session; results are left in a file."""
    sf.init([*CLIENTS, "server"])
    spu = sf.SPU(CLIENTS)
    here = Path(folder)

    def load(name):
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")["run"]

    results = {
        "plain": load("fedavg_plain_server")(sf.PYU("server"), here / "plain.npz"),
        "secure": load("fedavg_secure_server")(spu, here / "secure.npz"),
        "counts": load("fedavg_public_counts")(spu)[0],
        "gradient": load("logistic_gradient")(spu),
    }
    (here / f"results-{ME}.pickle").write_bytes(pickle.dumps(results))
    sf.shutdown()


def killed(phase):
    """carol's process is killed in some phase; the others print what they hear, and when."""

    def die():
        print("killed at", time.time(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def here(name):
        if ME == "carol" and phase == name:
            die()

    sf.init(CLIENTS)
    here("handshake")
    spu = sf.SPU(CLIENTS)
    x = sf.PYU("alice")(lambda: np.linspace(-1, 1, 20_000, dtype="float32"))()
    sf.wait(x)
    here("sharing")
    y = x.to(spu)
    sf.wait(y)
    if ME == "carol" and phase == "protocol":
        threading.Timer(0.5, die).start()
    z = spu(_long)(y)
    if phase == "reveal":
        sf.wait(z)
        here("reveal")
    sf.reveal(z)
    print("unexpected end", flush=True)


def _long(x):
    for _ in range(200):
        x = x * x * 0.5
    return x


def reports(folder):
    """Times of the steps of a small session."""
    begin = time.perf_counter()
    sf.init(CLIENTS)
    joined = time.perf_counter()
    spu = sf.SPU(CLIENTS)
    x = sf.PYU("alice")(lambda: np.arange(4.0, dtype="float32"))()
    print("RESULT", sf.reveal(spu(lambda v: v * v)(x)).tolist())
    print("JOINED", joined - begin)


@sf.proxy(sf.PYUObject)
class Adder:
    """Keeps a sum."""

    def __init__(self):
        self.total = np.zeros(3, "float32")

    def add(self, x):
        self.total = self.total + x
        return self.total


def own_ray():
    """Functions and instances in Ray processes of their own party."""
    sf.init(CLIENTS)
    alice, bob, _ = map(sf.PYU, CLIENTS)
    spu = sf.SPU(CLIENTS)
    x = alice(lambda: np.array([1.0, 2.0, 3.0], "float32"))()
    adder = Adder(device=bob)
    for _ in range(2):
        total = adder.add(spu(lambda v: v)(x).to(adder))
    print("RESULT", sf.reveal(total).round(3).tolist())
    print("FUNCTION", sf.reveal(alice(os.getpid)()), "SCRIPT", os.getpid())
    sf.shutdown()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
