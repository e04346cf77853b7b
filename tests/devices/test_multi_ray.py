"""Every party with its own Ray: functions and instances run there, links and machines stay."""

import re

import pytest

from tests.devices.processes import Deployment
from tests.devices.test_multi_processes import SCRIPTS

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_each_with_its_own_ray(tmp_path):
    deployment = Deployment(tmp_path, timing={"deadline": 60, "start_wait": 180})
    done = deployment.run("--backend", "ray", SCRIPTS, "own_ray", limit=250)
    processes = {}
    for party, one in done.items():
        assert one.code == 0, f"{party}: {one.out}"
        assert "RESULT [2.0, 4.0, 6.0]" in one.out
        processes[party] = re.search(r"FUNCTION (\d+) SCRIPT (\d+)", one.out).groups()
    assert len({ids[0] for ids in processes.values()}) == 1  # alice's function ran once
    assert processes["alice"][0] not in {ids[1] for ids in processes.values()}
