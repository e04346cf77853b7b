"""``python -m benchmarks.run``: our cases beside the speed of light, measured in the same run."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cases import CASES, Case, Form, select
from benchmarks.harness import System, SystemFailed
from benchmarks.peers import FORMS, LOGS, RESULTS
from benchmarks.report import light_table, write_rows

LEAST_LIVE_MB = 8.0  # below it the interpreter's own growth is what is seen


def measure(case: Case, forms: Sequence[Form], ours: System, runs: int) -> list[Any]:
    """One row per form: runs of the program and light runs, alternating."""
    ours.ask("open", case=case.name)
    rows = []
    for form in forms:
        row: dict[str, Any] = {"case": case.name, "form": form}
        try:
            prepared = ours.ask("prepare", form=form)
            memory = ours.ask("memory", form=form)
            ours.ask("light", form=form)
            pairs = [
                (ours.ask("run", form=form), ours.ask("light", form=form)) for _ in range(runs)
            ]
            row |= {
                "ours_ms": statistics.median(run["ms"] for run, _ in pairs),
                "light_ms": statistics.median(light["ms"] for _, light in pairs),
                "ours_bytes": prepared["bytes"],
                "ours_rounds": prepared["rounds"],
                "ours_cpu_s": statistics.median(run["cpu_s"] for run, _ in pairs),
                "ours_peak_mb": memory["peak_mb"],
                "empty_mb": memory["empty_mb"],
                "live_mb": prepared["live_mb"],
                "first_run_ms": prepared["first_run_ms"],
                "compile_s": prepared["compile_s"],
                "work": pairs[0][1]["work"],
                **{f"ours_{k}": v for k, v in ours.ask("finish", form=form).items()},
            }
            alone = [run.get("steps_ms", {}).get("run", run["ms"]) for run, _ in pairs]
            grown = row["ours_peak_mb"] - row["empty_mb"]
            if row["live_mb"] >= LEAST_LIVE_MB:
                row["memory_ratio"] = grown / row["live_mb"]
            row["fraction"] = row["light_ms"] / statistics.median(alone)
        except SystemFailed as failure:
            row["failure"] = str(failure)
        rows.append(row)
    ours.ask("close")
    return rows


def _start() -> System:
    return System(sys.executable, "benchmarks.ours", log=LOGS / "ours.log")


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--cases", default="", help="part of a name, or a shell pattern")
    parser.add_argument("--runs", type=int, default=7, help="timed runs per case (default 7)")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--output", type=Path, default=RESULTS / "ours.json")
    options = parser.parse_args()
    cases = select(options.cases)
    if not cases:
        parser.error(f"no case matches; there are: {', '.join(c.name for c in CASES)}")
    console = Console(stderr=True)
    ours = _start()
    rows: list[Any] = []
    try:
        for case in cases:
            with console.status(case.name):
                fresh = measure(case, options.forms, ours, options.runs)
            rows += fresh
            write_rows(options.output, fresh, partial=True)  # what is cut off keeps what it has
            if any("failure" in row for row in fresh):  # a party that failed stays failed
                ours.close()
                ours = _start()
    finally:
        ours.close()
    Console(width=max(150, console.width)).print(light_table(rows))
    write_rows(options.output, rows, partial=len(cases) < len(CASES))


if __name__ == "__main__":
    main()
