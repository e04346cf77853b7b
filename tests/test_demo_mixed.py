"""`spuvm demo --mixed-lr`: its result and what it prints; with parties as threads and on Ray."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spuvm import demo_mixed


def test_in_one_process(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = demo_mixed.main("inprocess", 512, "insecure")
    assert result.auc_secure >= 0.99
    assert result.accuracy_secure >= 0.94
    assert abs(result.auc_secure - result.auc_plain) < 0.002
    out = capsys.readouterr().out
    assert re.search(r"│ 3 +│ 0\.99", out)
    assert "gradient of own columns, a batch" in out
    assert out.splitlines()[-1].startswith("RESULT auc_secure=0.99")


@pytest.mark.ray
def test_as_a_command(tmp_path):
    """With keys of 2048 bits."""
    done = subprocess.run(
        [sys.executable, "-m", "spuvm.cli", "demo", "--mixed-lr"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RESULT auc_secure=0.99" in done.stdout
