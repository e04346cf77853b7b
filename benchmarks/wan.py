"""Logistic regression between three hosts 20 ms apart, beside the time that `cost()` predicts.

    python -m benchmarks.wan [--delay 0.02] [--rate 100e6] [--runs 5]

Three `spuvm run` processes over TLS in network namespaces (tests/net/wan.py; needs root and Linux).
Two computations: steps of the training of examples/three_organisations, and the gradient of
examples/logistic_gradient.py. Each is timed in the same session without latency, which is the local
time, and with it. The prediction for one run:

    rounds x delay + most bytes that a party sends / rate + local time

The ledger and policies are on; the time is the script's own, from the call to the end of `sf.wait`.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.report import host

EXAMPLES = ROOT / "examples"
RESULTS = Path(__file__).parent / "results"
NAMES = ("hospital", "clinic", "university")
EPOCHS = 5


# ---- one party's script


def party(folder: str, runs: int) -> None:
    """Time both computations twice, when the file `quiet` or `slow` is there; print rows."""
    import numpy as np

    import spuvm as sf

    here = Path(folder)
    train = runpy.run_path(str(EXAMPLES / "three_organisations" / "train.py"), run_name="example")
    gradient = runpy.run_path(str(EXAMPLES / "logistic_gradient.py"), run_name="example")
    sf.init(NAMES)
    hospital, clinic, _ = map(sf.PYU, NAMES)
    spu = sf.SPU(list(NAMES))
    theirs = hospital(train["read_measurements"])(here / "hospital.csv").to(spu)
    columns, outcome = clinic(train["read_outcomes"], num_returns=2)(here / "clinic.csv")
    data = theirs, columns.to(spu), outcome.to(spu)
    start = spu(train["start"])(*data)
    step = spu(train["epoch"])
    import jax

    slope = spu(jax.grad(gradient["logistic_loss"]))
    w = sf.to(hospital, np.linspace(-0.5, 0.5, 6).astype("float32")).to(spu)
    x, y = hospital(gradient["features"])().to(spu), clinic(gradient["labels"])().to(spu)

    def training() -> Any:
        weights = start
        for _ in range(EPOCHS):
            weights = step(weights, *data)
        return weights

    costs, weights = [], start
    for _ in range(EPOCHS):  # the first weights are known to be 0: that step is cheaper
        costs.append(step.cost(weights, *data))
        weights = step(weights, *data)
    cases: dict[str, tuple[Callable[[], Any], list[Any]]] = {
        f"training, {EPOCHS} steps": (training, costs),
        "gradient": (lambda: slope(w, x, y), [slope.cost(w, x, y)]),
    }
    for run, _ in cases.values():
        for _ in range(2):
            sf.wait(run())
    for phase in ("quiet", "slow"):
        print(f"READY {phase}", flush=True)
        while not (here / phase).exists():
            time.sleep(0.01)
        for name, (run, costs) in cases.items():
            seconds = []
            for _ in range(runs):
                sf.wait(sf.PYU(NAMES[0])(_nothing)())  # all start together
                begin = time.perf_counter()
                sf.wait(run())
                seconds.append(time.perf_counter() - begin)
            assert spu.last_run.rounds == costs[-1].rounds
            row = {
                "case": name,
                "rounds": sum(cost.rounds for cost in costs),
                "bytes": sum(max(cost.bytes_sent) for cost in costs),
                "seconds": statistics.median(seconds),
            }
            print("ROW", phase, json.dumps(row), flush=True)


def _nothing() -> None: ...


# ---- the parent


def measure(delay: float, rate: float, runs: int) -> list[dict[str, Any]]:
    """Rows with what was measured and predicted."""
    sys.path.insert(0, str(ROOT / "tests" / "net"))
    from wan import Namespaces, Shape

    from spuvm import certs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certs.development(folder, NAMES)
        make = runpy.run_path(str(EXAMPLES / "three_organisations" / "make_data.py"))["main"]
        make(folder)
        net = Namespaces(NAMES)
        try:
            text = "[parties]\n"
            text += "".join('{} = "{}:{}"\n'.format(party, *net.address(party)) for party in NAMES)
            text += '[tls]\nca = "{party}/ca.pem"\ncert = "{party}/cert.pem"\n'
            (folder / "cluster.toml").write_text(text + 'key = "{party}/key.pem"\n')
            processes = [_start(net.command(party), party, folder, runs) for party in NAMES]
            try:
                found: dict[str, dict[str, dict[str, Any]]] = {}
                for phase, shape in (("quiet", Shape(rate=rate)), ("slow", Shape(delay, 0, rate))):
                    for process in processes:
                        _until(process, f"READY {phase}")
                    net.shape = shape
                    (folder / phase).touch()
                    for process in processes:
                        for _ in range(2):
                            row = json.loads(_until(process, f"ROW {phase}"))
                            best = found.setdefault(row["case"], {}).setdefault(phase, row)
                            best["seconds"] = max(best["seconds"], row["seconds"])
            finally:
                for process in processes:
                    process.kill()
                    process.communicate()
        finally:
            net.close()
    return [_row(case, at["quiet"], at["slow"], delay, rate) for case, at in found.items()]


def _row(
    case: str, quiet: dict[str, Any], slow: dict[str, Any], delay: float, rate: float
) -> dict[str, Any]:
    local = quiet["seconds"]
    predicted = slow["rounds"] * delay + 8 * slow["bytes"] / rate + local
    return {
        "case": case,
        "delay": delay,
        "rate": rate,
        "rounds": slow["rounds"],
        "bytes": slow["bytes"],
        "local": local,
        "predicted": predicted,
        "measured": slow["seconds"],
        "ratio": slow["seconds"] / predicted,
        "host": host(),
    }


def _start(before: list[str], party: str, folder: Path, runs: int) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "spuvm.cli", "run", "--party", party]
    command += ["--cluster", str(folder / "cluster.toml"), str(Path(__file__))]
    return subprocess.Popen(
        [*command, "--party", str(folder), "--runs", str(runs)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _until(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith(start):
            return line[len(start) :].strip()
        print(line, end="")
    raise RuntimeError("a party ended early")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.02, help="seconds, one way")
    parser.add_argument("--rate", type=float, default=100e6, help="bits per second and direction")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "wan.json")
    parser.add_argument("--party", metavar="FOLDER", help="be a party: the parent says so")
    options = parser.parse_args()
    if options.party:
        party(options.party, options.runs)
        return
    rows = measure(options.delay, options.rate, options.runs)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['case']:20} {row['rounds']:5} rounds {row['bytes']:8} bytes  local "
            f"{row['local']:6.3f} s  predicted {row['predicted']:6.3f} s  measured "
            f"{row['measured']:6.3f} s  ratio {row['ratio']:.3f}"
        )


if __name__ == "__main__":
    main()
