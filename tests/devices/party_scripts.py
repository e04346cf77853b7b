"""Scripts that test_multi_processes.py runs as every party: ``party_scripts.py NAME ARGS...``."""

import contextlib
import itertools
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import spuvm as sf

CLIENTS = ["alice", "bob", "carol"]
EXAMPLES = Path(__file__).parents[2] / "examples"
ME = os.environ.get("PARTY", "")


def examples(folder):
    """The files of the examples as they are, one session each, and two sessions more."""
    here = Path(folder)
    for name, args in {
        "fedavg_plain_server": ["--model", here / "plain.npz"],
        "fedavg_secure_server": ["--model", here / "secure.npz"],
        "fedavg_public_counts": [],
        "logistic_gradient": [],
    }.items():
        file = str(EXAMPLES / f"{name}.py")
        sys.argv = [file, *map(str, args)]
        print("EXAMPLE", name, time.process_time(), flush=True)
        runpy.run_path(file, run_name="__main__")
    with session([*CLIENTS, "server"]):
        _others_compute()
        _mixed_model(here)


def _others_compute():
    """alice's data, and others than the first three compute."""
    others = sf.SPU(["server", "carol", "bob"])
    x = sf.PYU("alice")(lambda: np.array([1.0, -2.0, 3.0], "float32"))()
    mean = others(lambda v: (v * v).mean())(x)
    print("OTHERS", sf.reveal([mean, mean.to(sf.PYU("server"))], to=["alice", "server"]))


def _mixed_model(here):
    """Rows of two pairs of parties, columns split within each pair; see mixed_data."""
    import pandas as pd

    def columns(block, first):
        names = ["a", "b", "c", "d"]
        return pd.DataFrame(mixed_data()[block][0], columns=names).iloc[:, first : first + 2]

    places = (("alice", "bob"), ("carol", "server"))
    spu = sf.SPU(CLIENTS)
    heus = [sf.HEU(p[0], p[1:], key_bits=512, safety="insecure") for p in places]
    blocks, labels = [], []
    for number, place in enumerate(places):
        pyus = [sf.PYU(name) for name in place]
        parts = {pyu: pyu(columns)(number, 2 * i) for i, pyu in enumerate(pyus)}
        blocks.append(sf.data.VDataFrame(parts))
        labels.append(pyus[0](lambda n=number: mixed_data()[n][1])())
    model = sf.ml.FLogisticRegressionMix(
        heus,
        sf.aggregation.SPUAggregator(spu),
        spu,
        two_holders="reveal",
        epochs=2,
        batch_size=32,
    )
    model.fit(sf.data.MixDataFrame(blocks), labels)
    weights = [sf.reveal(v) for v in model.coef_[0].values()]
    np.save(here / f"mixed-{ME}.npy", np.concatenate([*weights, [sf.reveal(model.intercept_[0])]]))


def mixed_data():
    """Two blocks of rows: features [64, 4] and labels."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(128, 4))
    y = (x @ [1.0, -1.0, 0.5, 2.0] + rng.normal(size=128) > 0).astype(int)
    return [(x[:64], y[:64]), (x[64:], y[64:])]


@contextlib.contextmanager
def session(parties):
    """A session that is over at the end, whatever happens; the script may start another one."""
    sf.init(parties)
    try:
        yield
    finally:
        sf.shutdown()


def die():
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(*phases):
    """One session for each phase; the others hear of carol's death and go on with the next one."""
    for phase in phases:
        try:
            with session(CLIENTS):
                _steps(phase)
        except sf.errors.SpuvmError as error:
            print("HEARD", str(error).replace("\n", " "), flush=True)


def carols(*phases):
    """carol: a process for each phase, forked from this one so that its imports are paid once.

    Each starts with a line of standard input; what became of it is printed.
    """
    for phase in phases:
        sys.stdin.readline()
        child = os.fork()
        if not child:
            _before_it_is_there(phase)
            killed(phase)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("ENDED", phase, os.waitstatus_to_exitcode(status), flush=True)


def _before_it_is_there(phase):
    """Has this process die while the parties still meet."""
    if phase == "start":
        die()
    from spuvm.net import door, endpoint

    if phase == "handshake":  # TLS is done, and nothing was said
        door.say = lambda *_: die()
    if phase == "agreement":  # all three have greeted each other
        endpoint.Endpoint.agree = lambda *_, **__: die()


def _steps(phase):
    def here(name):
        if ME == "carol" and phase == name:
            die()

    here("joined")
    spu = sf.SPU(CLIENTS)
    x = sf.PYU("alice")(lambda: np.linspace(-1, 1, 2_000, dtype="float32"))()
    sf.wait(x)
    here("sharing")
    y = x.to(spu)
    sf.wait(y)
    if ME == "carol" and phase == "protocol":
        from spuvm.net.link_channel import LinkChannel

        exchange, count = LinkChannel.exchange, itertools.count()
        LinkChannel.exchange = lambda *a: die() if next(count) == 40 else exchange(*a)
    z = spu(_long)(y)
    if phase == "reveal":
        sf.wait(z)
        here("reveal")
    print("RESULT", float(np.abs(sf.reveal(z)).max()), flush=True)


def _long(x):
    for _ in range(30):
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


def told():
    return "text"


def secret():
    return "text"


def failing():
    raise ValueError("the patient's number is 123456789")


def scenes():
    """Sessions that fail, each for a reason of its own, and one that must not."""
    if ME == "carol":  # what JAX computes has other last places there
        os.environ["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=true"
    for scene in (_refused, _another_branch, _another_program, _failure, _other_constants):
        try:
            with session(CLIENTS):
                print("SCENE", scene.__name__, flush=True)
                scene(*map(sf.PYU, CLIENTS))
        except sf.errors.SpuvmError as error:
            print("HEARD", type(error).__name__, str(error).replace("\n", " "), flush=True)


def _refused(alice, bob, carol):
    print("RESULT", sf.reveal(alice(told)()))
    sf.reveal(alice(secret)().to(bob), to=["bob"])  # the line that is refused


def _another_branch(alice, bob, carol):
    x = bob(told)()
    if ME == "carol":
        moved = x.to(carol)  # carol's line
    else:
        moved = x.to(alice)  # the others' line
    print("RESULT", sf.reveal(moved))


def _another_program(alice, bob, carol):
    spu = sf.SPU(CLIENTS)
    x = bob(lambda: np.ones(3, "float32"))()
    power = 3 if ME == "bob" else 2
    print("RESULT", sf.reveal(spu(lambda v: v**power)(x)))  # the line of the program


def _failure(alice, bob, carol):
    print("RESULT", sf.reveal(bob(failing)()))


def _other_constants(alice, bob, carol):
    """Constants that JAX folds: at carol with other last places."""

    def scaled(v):
        table = jnp.exp(jnp.linspace(-3.0, 3.0, 500)) * jnp.tanh(jnp.linspace(0.1, 2.0, 500))
        return v * table

    spu = sf.SPU(CLIENTS)
    x = bob(lambda: np.ones(500, "float32"))()
    print("DIGEST", spu(scaled).lower(x).digest)
    out = spu(scaled)(x)
    print("RESULT", float(np.asarray(sf.reveal(out)).sum()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
