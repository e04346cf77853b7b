"""Processes that die: the driver hears of it and by name, the others stop, values survive."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import spuvm as sf

pytestmark = pytest.mark.ray


def long_running(x):
    for _ in range(400):
        x = x * x * 0.5
    return x


@pytest.fixture(scope="module")
def sound(ray_session):
    """The SPU that works: whoever breaks it puts another in its place."""
    return [sf.SPU(["alice", "bob", "carol"])]


@pytest.mark.parametrize("when", ["idle", "in a run"])
def test_a_machine_that_is_killed(sound, when):
    (spu,) = sound
    x = sf.PYU("dave")(lambda: np.linspace(-1, 1, 100_000, dtype="float32"))()
    pids = spu.machines.pids()
    y = spu(lambda v: v * 2)(x)
    sf.wait(y)

    def kill():
        os.kill(pids["bob"], signal.SIGKILL)

    if when == "idle":
        kill()
        time.sleep(0.5)
        z = spu(long_running)(y)
    else:
        z = spu(long_running)(y)
        threading.Timer(0.5, kill).start()
    start = time.monotonic()
    with pytest.raises(sf.errors.PartyError, match="party 'bob'"):
        sf.reveal(z)
    assert time.monotonic() - start < 10
    for use in (
        lambda: sf.wait(spu(lambda v: v + 1)(y)),
        lambda: sf.reveal(y),
        lambda: sf.reveal(y.to(sf.PYU("dave"))),
        lambda: sf.wait(x.to(spu)) or sf.reveal(x.to(spu)),
    ):
        with pytest.raises(sf.errors.PartyError, match="party 'bob'"):
            use()
    assert sf.reveal(x).shape == (100_000,)  # values held by parties survive
    sound[0] = fresh = sf.SPU(["alice", "bob", "carol"])
    assert abs(sf.reveal(fresh(lambda v: v * v)(x))[0] - 1) < 1e-4


@sf.proxy(sf.PYUObject)
class Fragile:
    """Dies when asked to."""

    def pid(self):
        return os.getpid()

    def add(self, x):
        return x + 1


def test_an_instance_that_is_killed(ray_session):
    fragile = Fragile(device=sf.PYU("dave"))
    os.kill(sf.reveal(fragile.pid()), signal.SIGKILL)
    with pytest.raises(sf.errors.PartyError, match="party 'dave': its process ended"):
        sf.reveal(fragile.add(1))
    assert sf.reveal(Fragile(device=sf.PYU("dave")).add(1)) == 2


def reveal_again_and_again(value):
    """Until Ray has seen that a process ended its values may still be there."""
    for _ in range(200):
        sf.reveal(value)
        time.sleep(0.1)


def test_a_process_of_functions_that_ends(sound):
    """Its values are lost with it, and whoever uses them is told so; all else goes on."""
    dave, (spu,) = sf.PYU("dave"), sound
    x, pid = dave(lambda: (np.ones(3, "float32"), os.getpid()), num_returns=2)()
    y = spu(lambda v: v + 1)(x)
    sf.wait(y)
    os.kill(sf.reveal(pid), signal.SIGKILL)
    with pytest.raises(sf.errors.PartyError):
        reveal_again_and_again(x)
    for use in (
        lambda: sf.reveal(x),
        lambda: sf.reveal(dave(np.sum)(x)),
        lambda: sf.wait(x.to(spu)),
        lambda: sf.reveal(spu(lambda v: v + 1)(x)),
        lambda: sf.reveal(Fragile(device=dave).add(x)),
    ):
        with pytest.raises(sf.errors.PartyError, match="party 'dave': a value is lost") as caught:
            use()
        assert caught.value.next == "make it again"
    assert sf.reveal(y)[0] == 2
    with pytest.raises(sf.errors.PartyError, match="party 'dave': its process ended"):
        sf.reveal(dave(os._exit)(1))
    assert sf.reveal(spu(lambda v: v * 2)(dave(lambda: np.float32(3))())) == 6


def test_ports_that_are_taken(ray_session):
    taken = {"nodes": [{"party": p, "address": "127.0.0.1:1"} for p in ("alice", "bob", "carol")]}
    with pytest.raises(sf.errors.SpuvmError, match=r"party '\w+': .*(listen|address)"):
        sf.SPU(taken)
