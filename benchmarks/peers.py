"""``python -m benchmarks.peers``: the cases on ours and on SPU 0.9.5, interleaved run by run."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import calls
from benchmarks.cases import CASES, Case, Form, select
from benchmarks.environment import peer_python
from benchmarks.harness import ROOT, System, SystemFailed
from benchmarks.report import peers_table, write_rows

RESULTS = Path(__file__).parent / "results"
LOGS = ROOT / "build" / "benchmarks"
FORMS: tuple[Form, ...] = ("declared", "full")


def compare(case: Case, forms: Sequence[Form], ours: System, peer: System, runs: int) -> list[Any]:
    """One row per form; every round of runs takes the peer once and each of our forms once."""
    opened = ours.ask("open", case=case.name), peer.ask("open", case=case.name)
    if opened[0] != opened[1]:
        raise SystemFailed(f"the two systems have different inputs: {opened}")
    theirs = peer.ask("prepare")
    prepared: dict[Form, Any] = {}
    failures: dict[Form, str] = {}
    for form in forms:
        try:
            prepared[form] = ours.ask("prepare", form=form)
        except SystemFailed as failure:
            failures[form] = str(failure)
    peer_runs, our_runs = [], {form: [] for form in prepared}
    for _ in range(runs):
        peer_runs.append(peer.ask("run"))
        for form in prepared:
            our_runs[form].append(ours.ask("run", form=form))
    peer_error = peer.ask("finish")
    rows = []
    for form in forms:
        row = {"case": case.name, "form": form, "target": _target(case, form), "note": case.note}
        row["peer_mode"] = case.peer
        row |= _side("peer", theirs, peer_runs, peer_error)
        if form in failures:
            row |= {"ours_ms": None, "ratio": None, "failure": failures[form]}
        else:
            error = ours.ask("finish", form=form)
            row |= _side("ours", prepared[form], our_runs[form], error)
            row["ratio"] = row["peer_ms"] / row["ours_ms"]
        rows.append(row)
    ours.ask("close")
    peer.ask("close")
    return rows


def _target(case: Case, form: Form) -> float | None:
    return case.target if form in case.holds else None


def _side(
    name: str, prepared: Any, runs: Sequence[Any], error: Mapping[str, float]
) -> dict[str, Any]:
    def middle(field: str) -> float:
        return statistics.median(run[field] for run in runs)

    side = {
        "ms": middle("ms"),
        "min_ms": min(run["ms"] for run in runs),
        "bytes": prepared["bytes"],
        "rounds": prepared["rounds"],
        "messages": prepared["messages"],
        "cpu_s": middle("cpu_s"),
        "peak_mb": max(run["peak_mb"] for run in runs),
        **error,
        "compile_s": prepared["compile_s"],
    }
    if "steps_ms" in runs[0]:
        steps = runs[0]["steps_ms"]
        side["steps_ms"] = {s: statistics.median(r["steps_ms"][s] for r in runs) for s in steps}
        side["move_ms"] = middle("move_ms")
    return {f"{name}_{key}": value for key, value in side.items()}


def _start(python: str) -> tuple[System, System]:
    """Ours and the peer."""
    ours = System(sys.executable, "benchmarks.ours", log=LOGS / "ours.log")
    return ours, System(python, "benchmarks.peer_spu", log=LOGS / "peer.log")


def _stop(systems: tuple[System, System]) -> None:
    for system in systems:
        system.close()


def _row_or_failure(
    case: Case, forms: Sequence[Form], systems: tuple[System, System], runs: int
) -> list[Any]:
    try:
        return compare(case, forms, *systems, runs)
    except SystemFailed as failure:
        failed = {"ours_ms": None, "peer_ms": None, "ratio": None, "failure": str(failure)}
        return [
            {"case": case.name, "form": form, "target": _target(case, form), **failed}
            for form in forms
        ]


def main() -> None:
    """Compare, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--cases", default="", help="part of a name, or a shell pattern")
    parser.add_argument("--runs", type=int, default=7, help="timed runs per case (default 7)")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--peer-python", help="an interpreter that has SPU (default: make one)")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    cases = select(options.cases)
    with_call = calls.matches(options.cases)
    if not cases and not with_call:
        parser.error(f"no case matches; there are: {', '.join(c.name for c in CASES)}")
    console = Console(stderr=True)
    rows: list[Any] = []
    if cases:
        systems = _start(peer_python(options.peer_python))
        try:
            for case in cases:
                with console.status(case.name):
                    fresh = _row_or_failure(case, options.forms, systems, options.runs)
                rows += fresh
                if any("failure" in row for row in fresh):  # a party that failed stays failed
                    _stop(systems)
                    systems = _start(peer_python(options.peer_python))
        finally:
            _stop(systems)
    if with_call:
        with console.status(calls.NAME):
            rows.append(calls.compare(log=LOGS / "ray.log"))
    Console(width=max(150, console.width)).print(peers_table(rows))
    write_rows(options.output, rows, partial=len(cases) < len(CASES))


if __name__ == "__main__":
    main()
