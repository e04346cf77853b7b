"""An example as a user runs it, with the Ray that runs already; test_pending.py starts another."""

import runpy
import sys
from pathlib import Path

import pytest

import spuvm as sf

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.ray
def test_as_a_script(ray_started, monkeypatch, capsys):
    path = EXAMPLES / "logistic_gradient.py"
    monkeypatch.setattr(sys, "argv", [str(path)])
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sf.shutdown()
    assert "largest difference" in capsys.readouterr().out
