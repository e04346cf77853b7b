"""The command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spuvm import cli, samples
from spuvm.errors import UsageError
from spuvm.explain import load, parse_spec

FUNCTIONS = "spuvm/functions.py"


def test_explain(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    before = list(sys.path)
    assert cli.main(["explain", f"{FUNCTIONS}:average", "f32[3]+f32[3]"]) == 0
    assert sys.path == before
    out = capsys.readouterr().out
    assert "program ring=64 frac=18" in out
    assert re.search(r"total\s*│\s*\d+", out)
    assert "output out" in out
    assert "nothing shows that" in out
    args = ["f32[2,3]", "--ring", "32", "--input-range", "-4", "4"]
    assert cli.main(["explain", f"{FUNCTIONS}:softplus", *args]) == 0
    out = capsys.readouterr().out
    assert "ring=32" in out
    assert "nothing shows that" not in out


def test_explain_says_what_is_wrong(capsys):
    for target, spec, text in [
        ("nowhere.py:f", "f32", "no such file"),
        (f"{FUNCTIONS}:nothing", "f32", "no such function"),
        (f"{FUNCTIONS}:Any.x", "f32", "no such function"),
        (f"{FUNCTIONS}:__name__", "f32", "not a function"),
        (f"{FUNCTIONS}:total", "float", "not an argument specification"),
        (f"{FUNCTIONS}:softplus", "c64[2]", "not an argument specification"),
        (f"{FUNCTIONS}:softplus", "i64[2]", "64-bit"),
    ]:
        assert cli.main(["explain", target, spec]) == 1
        assert text in capsys.readouterr().err


def test_files_to_explain(capsys, tmp_path):
    (tmp_path / "beside.py").write_text("def plus_one(x):\n    return x + 1\n")
    good, bad, odd = (tmp_path / f"{name}.py" for name in ("good", "bad", "odd"))
    good.write_text("from beside import plus_one\n")
    bad.write_text("\n1 / 0\n")
    odd.write_text("def (\n")
    assert cli.main(["explain", f"{good}:plus_one", "f32"]) == 0
    for file, text in ((bad, "ZeroDivisionError"), (odd, "SyntaxError")):
        assert cli.main(["explain", f"{file}:f", "f32"]) == 1
        said = capsys.readouterr().err
        assert "cannot be loaded" in said
        assert text in said
    assert cli.main(["explain", f"{bad}:f", "f32"]) == 1
    assert "bad.py:2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["demo", "--rounds", "0"], ["certs", "--parties", "a,b", "--days", "0"]]
)
def test_counts_that_make_no_sense(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 1
    assert "at least one" in capsys.readouterr().err


def test_argument_specifications():
    assert parse_spec("f32[3,4]").shape == (3, 4)
    assert parse_spec("u8").shape == ()
    assert str(parse_spec("bf16[2]").dtype) == "bfloat16"
    assert [s.shape for s in parse_spec("bool[1]+bool[ 2, 3 ]")] == [(1,), (2, 3)]
    with pytest.raises(UsageError):
        parse_spec("f32[a]")
    assert load(f"{FUNCTIONS}:softplus.defjvp")


def test_doctor(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "jax", "cores", "instruction set", "kernel cache", "loopback"):
        assert word in out


def test_demo_in_process(capsys, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["demo", "--backend", "inprocess", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    last = re.fullmatch(
        r"RESULT accuracy_secure=(\S+) accuracy_plain=(\S+) max_weight_difference=(\S+)", lines[-1]
    )
    assert last is not None
    secure, plain, difference = map(float, last.groups())
    assert abs(secure - plain) <= 2 / 360
    assert 0 < difference < 1e-3
    assert any("Disclosures" in line for line in lines)


def test_the_tables_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets")
    for ours, given in (
        (samples.digits, theirs.load_digits()),
        (samples.tumours, theirs.load_breast_cancer()),
    ):
        features, labels = ours()
        np.testing.assert_array_equal(features, given.data)
        np.testing.assert_array_equal(labels, given.target)
    assert list(samples.TUMOUR_NAMES) == list(given.feature_names)


@pytest.mark.ray
@pytest.mark.slow
def test_demo_on_ray(tmp_path):
    pytest.importorskip("sklearn")
    root = Path(__file__).parents[1]
    few = "from spuvm import demo; demo.CLIENTS = 4; demo.main(rounds=1)"  # a process each
    done = subprocess.run(
        [sys.executable, "-c", few],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("RESULT accuracy_secure=")


def test_usage():
    with pytest.raises(SystemExit) as stop:
        cli.main(["dance"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
