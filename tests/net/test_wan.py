"""Three hosts with latency, loss, little bandwidth, and links that are cut.

`make test-net` takes the whole list, the default run a short one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from networks import tls_files
from wan import Network, Shape, network

NAMES = ("alice", "bob", "carol")
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

    def test_bandwidth_is_used(net: Network) -> None:
        """10 MB to each of two peers at 100 Mbit/s per pair and direction: 0.8 s at best.

        The router is a Python thread and its queues drop at the end, so TCP does not fill them.
        """
        if not net.loses_packets:
            pytest.skip("no namespaces here: relays have no bandwidth limit")
        net.shape = Shape(0.005, rate=100e6)
        with walking(net, rounds=10, value=10_000_000) as walkers:
            for said in walkers.outcomes().values():
                assert 0.8 < said["values"] < 6
