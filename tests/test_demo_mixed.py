"""`spuvm demo --mixed-lr`: its result and what it prints; with parties as threads and on Ray."""

import re

import pytest

from spuvm import cli, demo_mixed
from tests.devices.sessions import ray_started

__all__ = ["ray_started"]


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
def test_on_ray(ray_started, capsys, monkeypatch):
    monkeypatch.setattr(demo_mixed, "EPOCHS", 1)  # how many it takes is the same on threads
    result = demo_mixed.main("ray", 512, "insecure")
    assert result.auc_secure >= 0.98
    assert abs(result.auc_secure - result.auc_plain) < 0.002
    assert f"RESULT auc_secure={result.auc_secure:.4f}" in capsys.readouterr().out


def test_the_command(monkeypatch):
    seen = []
    monkeypatch.setattr(demo_mixed, "main", lambda *args: seen.append(args))
    assert cli.main(["demo", "--mixed-lr", "--backend", "inprocess"]) == 0
    assert seen == [("inprocess",)]
