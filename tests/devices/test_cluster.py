"""The same script on a Ray cluster of several nodes, placed by the parties' resources."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster_script.py")


@pytest.mark.ray
@pytest.mark.slow
def test_three_nodes_one_of_which_goes(tmp_path):
    """In a process of its own: a process is connected to one Ray at a time."""
    root = SCRIPT.parents[2]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no node of this Ray cluster belongs to eve" in done.stdout
    assert "NODES 3 LAYERS 4" in done.stdout
    for asked in ("DEPENDENT", "TASK", "OLD", "NEW"):
        assert f"{asked} FAILED party 'carol': no node of it is in the Ray" in done.stdout
    assert "KEPT 2.5" in done.stdout
    assert "AGAIN 3.0" in done.stdout
