"""``python -m benchmarks.aggregation``: throughput of a secure mean of model weights.

Elements per second (clients x size / seconds) against clients, size and ring, with the parties as
threads of one process, as processes over TCP loopback, and behind Ray devices; rows as JSON, and a
plot. ``run``: weights already shared. ``all``: with sharing before and revealing after it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cases import MODEL, Case, average
from benchmarks.harness import Parties, ThreadParties, free_ports
from benchmarks.report import host, write_rows

RESULTS = Path(__file__).parent / "results"
CLIENTS = (3, 10, 30, 100)
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
RINGS = (64, 32)
PLACES = ("inprocess", "tcp", "ray")
ENOUGH = 5.0  # seconds of runs per row
NAMES = ["alice", "bob", "carol"]
# A step measures one mean: (seconds of the run alone, seconds with sharing and revealing).
Step = Callable[[], tuple[float, float]]


def _weights(clients: int, size: int) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.uniform(-4, 4, size).astype(np.float32) for _ in range(clients)]


class _OnMachines:
    """Three bare VMs, as threads or as processes."""

    def __init__(self, place: str, ring: int) -> None:
        from benchmarks.ours import Server
        from benchmarks.party import Party, tcp_party

        self._parties: Parties | ThreadParties
        if place == "tcp":
            self._parties = Parties(tcp_party, free_ports(3), ring)
        else:
            from spuvm.net.local import LocalNetwork

            channels = LocalNetwork(3).channels
            self._parties = ThreadParties(Party, [(channel, ring) for channel in channels])
        self._server = Server(self._parties, ring)

    def prepare(self, clients: int, size: int) -> Step:
        case = Case(
            "aggregation",
            average,
            lambda rng: (_weights(clients, size),),
            (MODEL,),
            None,
            scope="io",
        )
        self._server.open_case(case)
        self._server.prepare("declared")

        def step() -> tuple[float, float]:
            answer = self._server.run("declared")
            return answer["steps_ms"]["run"] / 1e3, answer["ms"] / 1e3

        return step

    def release(self) -> None:
        self._server.close()

    def close(self) -> None:
        self._parties.close()


class _OnRay:
    """The devices on a local Ray."""

    def __init__(self, ring: int) -> None:
        import spuvm as sf

        self._sf = sf
        sf.init(parties=NAMES)
        self._spu = sf.SPU(NAMES, config=sf.Config(ring=ring, input_range=MODEL))
        self._held: list[Any] = []

    def prepare(self, clients: int, size: int) -> Step:
        sf = self._sf
        owner = [sf.PYU(NAMES[i % 3]) for i in range(clients)]
        plain = [p(_one_client)(i, size) for i, p in enumerate(owner)]
        shared = [x.to(self._spu) for x in plain]
        sf.wait(shared)
        self._held = [plain, shared]
        mean = self._spu(average)
        sf.wait(mean(shared))

        def step() -> tuple[float, float]:
            start = time.perf_counter()
            sf.wait(mean(shared))
            run = time.perf_counter() - start
            start = time.perf_counter()
            sf.reveal(mean(plain))
            return run, time.perf_counter() - start

        return step

    def release(self) -> None:
        self._held = []

    def close(self) -> None:
        self._sf.shutdown()


def _one_client(index: int, size: int) -> Any:
    return np.random.default_rng(index).uniform(-4, 4, size).astype(np.float32)


def measure(place: str, ring: int, grid: Sequence[tuple[int, int]], runs: int) -> Iterator[Any]:
    """One row per (clients, size): `runs` times, fewer where these take more than `ENOUGH`."""
    system = _OnRay(ring) if place == "ray" else _OnMachines(place, ring)
    try:
        for clients, size in grid:
            step = system.prepare(clients, size)
            times = [step()]
            while len(times) < runs and sum(t[0] + t[1] for t in times) < ENOUGH:
                times.append(step())
            run_s, all_s = (statistics.median(t[i] for t in times) for i in (0, 1))
            yield {
                "place": place,
                "ring": ring,
                "clients": clients,
                "size": size,
                "runs": len(times),
                "run_s": run_s,
                "all_s": all_s,
                "run_elements_per_s": clients * size / run_s,
                "all_elements_per_s": clients * size / all_s,
                "case": f"{place} ring {ring}",
                "form": f"{clients}x{size}",
            }
            system.release()
    finally:
        system.close()


def plot(rows: Sequence[Any], path: Path) -> None:
    """Elements per second against elements per client: a column per place, a row per measure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    places = [p for p in PLACES if any(r["place"] == p for r in rows)]
    figure, axes = plt.subplots(
        2, len(places), figsize=(4.2 * len(places), 7), sharex=True, sharey=True, squeeze=False
    )
    measures = {"run_elements_per_s": "already shared", "all_elements_per_s": "share, run, reveal"}
    for column, place in enumerate(places):
        for line, (field, words) in enumerate(measures.items()):
            axis = axes[line][column]
            for number, clients in enumerate(CLIENTS):
                for ring, style in ((64, "o-"), (32, "s--")):
                    points = sorted(
                        (r["size"], r[field])
                        for r in rows
                        if (r["place"], r["clients"], r["ring"]) == (place, clients, ring)
                    )
                    if points:
                        label = f"{clients} clients, {ring} bits"
                        x, y = zip(*points, strict=True)
                        axis.plot(x, y, style, color=f"C{number}", ms=3, lw=1, label=label)
            axis.set(xscale="log", yscale="log", title=f"{place}: {words}")
            axis.grid(visible=True, alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("elements per client")
    for line in axes:
        line[0].set_ylabel("elements averaged per second")
    axes[0][0].legend(fontsize=7)
    figure.suptitle(f"secure mean of model weights\n{host()}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure the grid, print it, write rows and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregation", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rings", type=int, nargs="+", choices=RINGS, default=RINGS)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--limit", type=int, default=3 * 10**7, help="largest clients x size (memory)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "aggregation.json")
    options = parser.parse_args()
    grid = [(c, s) for c in options.clients for s in options.sizes if c * s <= options.limit]
    console = Console(stderr=True)
    table = Table("place", "ring", "clients", "size", "run ms", "all ms", "run M/s", "all M/s")
    for place in options.places:
        for ring in options.rings:
            with console.status(f"{place}, {ring} bits"):
                for row in measure(place, ring, grid, options.runs):
                    write_rows(options.output, [row], partial=True)  # what is cut off keeps rows
                    table.add_row(
                        *(str(row[k]) for k in ("place", "ring", "clients", "size")),
                        *(f"{1e3 * row[k]:,.2f}" for k in ("run_s", "all_s")),
                        *(f"{row[f'{k}_elements_per_s'] / 1e6:,.2f}" for k in ("run", "all")),
                    )
    console.print(table)
    plot(json.loads(options.output.read_text()), options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
