"""What is particular to Ray: where values are, and what travels."""

import importlib
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ray

import spuvm as sf
from spuvm.devices.raystart import script_paths
from spuvm.devices.session import current

pytestmark = pytest.mark.ray


def test_the_driver_gets_references_only(ray_session):
    """Small results too: Ray by itself would hand them to the driver's process."""
    spu = sf.SPU(["alice", "bob", "carol"])  # of which nothing was asked yet
    x = sf.PYU("dave")(lambda: {"marker": np.full(3, 1234567.0)})()
    secret = x.to(spu)
    sf.wait(secret)
    y = secret.to(sf.PYU("bob"))
    sf.wait(y)
    refs = [x.ref, y.ref, *secret.stored.refs]
    for ref in refs:
        held = pickle.dumps(ray.get(ref.handle), protocol=5)
        assert np.float64(1234567.0).tobytes() not in held
        assert np.float32(1234567.0).tobytes() not in held
        assert len(held) < 700
    if sys.platform == "linux":  # what is dealt is described by JAX's trees, at its owner only
        for pid in spu.machines.pids().values():
            libraries = Path(f"/proc/{pid}/maps").read_text()
            assert "llvmlite" in libraries
            assert "jaxlib" not in libraries


def test_processes_find_the_modules_of_the_script(ray_session):
    """As the tests' own, whose folder conftest.py added; the driver's environment stays."""

    def at_party():
        return importlib.import_module("uniformity").__name__, os.environ["JAX_PLATFORMS"]

    assert sf.reveal(sf.PYU("dave")(at_party)()) == ("uniformity", "cpu")
    assert "RAY_prestart_worker_first_driver" not in os.environ


def test_saved_shares(ray_spu, tmp_path):
    """Written and read by the parties' own processes."""
    spu = ray_spu
    x = sf.PYU("alice")(lambda: {"w": np.array([1.5, -2.0], "float32")})().to(spu)
    spu.dump(x, tmp_path / "model")
    assert len(list(tmp_path.iterdir())) == 3
    got = sf.reveal(spu(lambda m: m["w"] * 2)(spu.load(tmp_path / "model")))
    np.testing.assert_allclose(got, [3, -4], atol=1e-4)


def test_only_what_was_inserted_comes_before_the_standard_library(tmp_path, monkeypatch):
    first, last = tmp_path / "first", tmp_path / "last"
    before = script_paths()
    for folder in (first, last):
        folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(first), *sys.path, str(last), "/nowhere"])
    early, late = script_paths()
    assert early == [str(first), *before[0]]
    assert late == [*before[1], str(last)]


def test_what_cannot_be_pickled(ray_session):
    alice, lock = sf.PYU("alice"), threading.Lock()
    captures = lambda: lock  # noqa: E731
    for start in (
        lambda: alice(len)(lock),
        alice(captures),
        lambda: sf.proxy(sf.PYUObject)(type("Box", (), {"__init__": lambda s, v: None}))(
            lock, device=alice
        ),
        lambda: sf.proxy(sf.PYUObject)(dict)(device=alice).update(lock),
    ):
        with pytest.raises(sf.errors.UsageError, match="cannot be sent to") as caught:
            start()
        assert "cannot pickle" in caught.value.got
        assert len(str(caught.value)) < 500
    with pytest.raises(sf.errors.UsageError, match="returned cannot leave its process") as caught:
        sf.reveal(alice(threading.Lock)())
    assert caught.value.got == "lock: cannot pickle '_thread.lock' object"


def test_functions_that_capture_much_are_not_kept(ray_session):
    """As in a loop whose function captures the present weights."""
    alice, backend = sf.PYU("alice"), current().backend
    small = alice(lambda: 1)
    for i in range(6):
        weights = np.full(3 << 20, i)  # 24 MiB
        assert sf.reveal(alice(lambda w=weights: int(w[0]))()) == i
        assert sf.reveal(small()) == 1
    assert sum(map(len, backend._tasks)) < 10_000
    assert len([size for _, size in backend._tasks.values() if size > 1 << 20]) <= 2
