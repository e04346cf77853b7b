"""Three hosts with latency, loss, little bandwidth, and links that are cut.

`make test-net` takes the whole list, the default run a short one.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import tls_files
from wan import Network, Shape, network

NAMES = ("alice", "bob", "carol")
HOSPITAL = ("hospital", "clinic", "university")
LONG = os.environ.get("SPUVM_NET") == "long"


class Walkers:
    """The three parties as processes."""

    def __init__(self, net: Network, **plan: float) -> None:
        addresses = json.dumps({name: net.address(name) for name in NAMES})
        self._processes = {
            name: subprocess.Popen(
                [
                    *net.command(name),
                    sys.executable,
                    str(Path(__file__).with_name("walker.py")),
                    name,
                    addresses,
                    json.dumps(net.listen(name)),
                    str(Path(tls_files(NAMES)[name].ca).parent),
                    json.dumps({"words": 1, "value": 1, "deadline": 30} | plan),
                ],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
            for name in NAMES
        }
        self.start = time.monotonic()

    def connected(self) -> None:
        for process in self._processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
        self.start = time.monotonic()

    def outcomes(self, patience: float = 90) -> dict[str, dict[str, Any]]:
        return {
            name: json.loads(process.communicate(timeout=patience)[0].splitlines()[-1])
            for name, process in self._processes.items()
        }

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()


@contextmanager
def walking(net: Network, **plan: float) -> Iterator[Walkers]:
    walkers = Walkers(net, **plan)
    try:
        walkers.connected()
        yield walkers
    finally:
        walkers.close()


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network(NAMES) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(net: Network) -> Iterator[None]:
    yield
    net.shape = Shape()
    net.join()


@pytest.mark.parametrize(("delay", "rounds"), [(0.02, 50), (0.08, 50)] if LONG else [(0.08, 12)])
def test_a_round_takes_one_latency(net: Network, delay: float, rounds: int) -> None:
    """At least one, and less than two; how much less is measured by benchmarks/wan.py."""
    net.shape = Shape(delay)
    with walking(net, rounds=rounds) as walkers:
        for said in walkers.outcomes().values():
            assert rounds * delay * 0.95 < said["rounds"] < (rounds + 1) * delay * 1.9


@pytest.mark.parametrize("cut", [5.0] if LONG else [1.0])
def test_a_link_that_is_cut_for_a_while(net: Network, cut: float) -> None:
    net.shape = Shape(0.005)
    with walking(net, rounds=150, words=1000, value=100_000) as walkers:
        time.sleep(0.1)
        net.cut("alice", "bob")
        time.sleep(cut)
        net.join()
        for said in walkers.outcomes().values():
            assert said.get("error") is None
        assert cut < time.monotonic() - walkers.start < 4 * cut + 12


def test_a_link_that_is_cut_for_good(net: Network) -> None:
    with walking(net, rounds=10_000_000, deadline=3 if LONG else 1.5) as walkers:
        time.sleep(0.1)
        net.cut("alice", "bob")
        said = {name: found["error"] for name, found in walkers.outcomes().items()}
        assert "'bob'" in said["alice"]
        assert "'alice'" in said["bob"]
        assert "cannot be reached any more" in said["carol"]
        assert time.monotonic() - walkers.start < 15


if LONG:

    @pytest.mark.parametrize("delay", [0.0, 0.02, 0.08])
    def test_lost_packets_cost_time_only(net: Network, delay: float) -> None:
        net.shape = Shape(delay, loss=0.01 if net.loses_packets else 0.0)
        with walking(net, rounds=60, words=2000, value=300_000) as walkers:
            assert all("error" not in said for said in walkers.outcomes().values())

    @contextmanager
    def organisations(folder: Path, *args: str, **timing: float) -> Iterator[tuple[Network, Any]]:
        """examples/three_organisations over TLS on three hosts, 20 ms and a bad line apart."""
        from tests.devices.processes import ORGANISATIONS, Deployment

        make = runpy.run_path(str(ORGANISATIONS / "make_data.py"))["main"]
        make(folder / "data")
        with network(HOSPITAL) as hosts:
            hosts.shape = Shape(0.02, loss=0.01 if hosts.loses_packets else 0.0, rate=100e6)
            places = {n: (hosts.address(n), hosts.listen(n), hosts.command(n)) for n in HOSPITAL}
            deployment = Deployment(folder, HOSPITAL, timing=timing, places=places)
            running = {
                name: deployment.start(name, ORGANISATIONS / "train.py", *args) for name in HOSPITAL
            }
            try:
                yield hosts, running
            finally:
                for process in running.values():
                    process.kill()
                    process.communicate()

    def after_ten_epochs(folder: Path, running: Any) -> None:
        """The checkpoints of all are there."""
        until = time.monotonic() + 150
        while not all((folder / f"model.{name}").exists() for name in HOSPITAL):
            ended = [process for process in running.values() if process.poll() is not None]
            assert not ended, ended[0].communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.05)

    def test_a_training_whose_links_lose_packets_and_are_cut(tmp_path: Path) -> None:
        """Over twelve epochs, with 5 s without a connection: the weights of plaintext."""
        from tests.devices.processes import plain_training

        with organisations(tmp_path, "--epochs", "12", deadline=30, start_wait=120) as (net, all_):
            after_ten_epochs(tmp_path, all_)
            net.cut("hospital", "clinic")
            time.sleep(5)
            net.join()
            out = {name: process.communicate(timeout=200)[0] for name, process in all_.items()}
        first, _, right = plain_training(tmp_path / "data", 12)
        for name, text in out.items():
            assert all_[name].returncode == 0, text
            assert abs(float(text.split("right for ")[1].split(" %")[0]) - 100 * right) < 0.6
        shown = out["hospital"].split("hospital's columns: [")[1].split("]")[0]
        np.testing.assert_allclose(np.array(shown.split(), float), first, atol=2e-3)

    def test_a_host_that_is_switched_off_in_the_middle(tmp_path: Path) -> None:
        """Killed behind a dead line: the others only see silence."""
        with organisations(tmp_path, deadline=10, start_wait=120) as (net, all_):
            after_ten_epochs(tmp_path, all_)
            for other in ("hospital", "clinic"):
                net.cut("university", other)
            all_["university"].kill()
            start = time.monotonic()
            for name in ("hospital", "clinic"):
                text = all_[name].communicate(timeout=60)[0]
                assert all_[name].returncode == 1
                assert "party 'university' cannot be reached any more" in text
                assert "train.py:" in text
            assert time.monotonic() - start < 60

    def test_bandwidth_is_used(net: Network) -> None:
        """10 MB to each of two peers at 100 Mbit/s per pair and direction: 0.8 s at best.

        The router is a Python thread and its queues drop at the end, so TCP does not fill them.
        """
        if not net.loses_packets:
            pytest.skip("no namespaces here: relays have no bandwidth limit")
        net.shape = Shape(0.005, rate=100e6)
        with walking(net, rounds=10, value=10_000_000) as walkers:
            for said in walkers.outcomes().values():
                assert 0.8 < said["values"] < 30
