"""Rows as JSON files, on the terminal and, by `python -m benchmarks.report`, in the README."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table


def write_rows(path: Path, rows: Sequence[Any], *, partial: bool) -> None:
    """Write the rows; of a partial run, keep what the file has for other cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {_key(row): {**row, "host": host()} for row in rows}
    old = json.loads(path.read_text()) if partial and path.exists() else []
    merged = {_key(row): row for row in old} | fresh
    path.write_text(json.dumps(list(merged.values()), indent=1) + "\n")


def host() -> str:
    """The machine in words."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def peers_table(rows: Sequence[Any]) -> Table:
    """Ours beside the peer: medians, ratio against target, traffic, CPU, memory, accuracy."""
    table = Table(title="three processes, TCP loopback; ours / SPU 0.9.5 (ABY3, FM64)")
    table.add_column("case")
    table.add_column("form")
    for column in ("ours ms", "SPU ms", "ratio", "target", "MB sent", "rounds"):
        table.add_column(column, justify="right")
    for column in ("CPU s", "peak MB", "max abs error", "/ max(1, |x|)"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["case"],
            row["form"],
            _number(row.get("ours_ms"), 2),
            _number(row.get("peer_ms"), 1),
            _ratio(row),
            _number(row["target"], 0),
            _pair(row, "bytes", 2, 1e-6),
            _number(row.get("ours_rounds"), 0),
            _pair(row, "cpu_s", 2),
            _pair(row, "peak_mb", 0),
            *(
                f"{_small(row.get(f'ours_{kind}'))} / {_small(row.get(f'peer_{kind}'))}"
                for kind in ("error", "scaled_error")
            ),
        )
    table.caption = _failures(rows)
    return table


def light_table(rows: Sequence[Any]) -> Table:
    """Ours beside the speed of light."""
    table = Table(title="three processes, TCP loopback; ours beside the speed of light")
    table.add_column("case")
    table.add_column("form")
    columns = ("ours ms", "light ms", "fraction", "MB sent", "rounds", "GB memory", "G mul-adds")
    for column in (*columns, "CPU s", "peak MB", "/ live", "max abs error"):
        table.add_column(column, justify="right")
    for row in rows:
        work = row.get("work", {})
        table.add_row(
            row["case"],
            row["form"],
            _number(row.get("ours_ms"), 2),
            _number(row.get("light_ms"), 2),
            _number(row.get("fraction"), 2),
            _number(row.get("ours_bytes"), 2, 1e-6),
            _number(row.get("ours_rounds"), 0),
            _number(work.get("memory_bytes"), 3, 1e-9),
            _number(work.get("multiply_adds"), 3, 1e-9),
            _number(row.get("ours_cpu_s"), 2),
            _number(row.get("ours_peak_mb"), 0),
            _number(row.get("memory_ratio"), 1),
            _small(row.get("ours_error")),
        )
    table.caption = _failures(rows)
    return table


def readme_table(rows: Sequence[Any]) -> str:
    """The README's table of the rows that have a target, and the geometric mean of their ratios."""
    lines = [
        "| case | spuvm ms | SPU ms | ratio | asked for | spuvm error | SPU error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    held = [row for row in rows if row["target"] is not None and row.get("ratio") is not None]
    for row in held:
        name = row["case"] + (", nothing declared" if _in_both_forms(row, held) else "")
        ratio, target = f"{row['ratio']:.1f}", f"{row['target']:g}"
        errors = _small(row.get("ours_error")), _small(row.get("peer_error"))
        times = f"{row['ours_ms']:.1f}", f"{row['peer_ms']:.1f}"
        lines.append("| " + " | ".join((name, *times, ratio, target, *errors)) + " |")
    mean = math.exp(sum(math.log(row["ratio"]) for row in held) / len(held))
    return "\n".join((*lines, "", f"Geometric mean of the ratios: {mean:.1f}."))


def _in_both_forms(row: Any, rows: Sequence[Any]) -> bool:
    forms = {other["form"] for other in rows if other["case"] == row["case"]}
    return row["form"] == "full" and len(forms) == 2


def _failures(rows: Sequence[Any]) -> str | None:
    lines = {
        f"{row['case']}: {row['failure'].splitlines()[0]}": None
        for row in rows
        if row.get("failure")
    }
    return "\n".join(lines) or None


def _key(row: Any) -> tuple[str, str]:
    return row["case"], row["form"]


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "–" if value is None else f"{value * scale:,.{digits}f}"


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _pair(row: Any, field: str, digits: int, scale: float = 1.0) -> str:
    ours, peer = row.get(f"ours_{field}"), row.get(f"peer_{field}")
    return f"{_number(ours, digits, scale)} / {_number(peer, digits, scale)}"


def _ratio(row: Any) -> str:
    if row.get("ratio") is None:
        return "[red]failed" if row.get("failure") else "–"
    text = f"{row['ratio']:.1f}"
    if row["target"] is None:
        return text
    return f"[green]{text}" if row["ratio"] >= row["target"] else f"[red]{text}"


if __name__ == "__main__":
    print(readme_table(json.loads((Path(__file__).parent / "results" / "peers.json").read_text())))
