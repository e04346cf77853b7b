"""How fast a channel is: three processes over loopback, or three threads in one process.

    python -m benchmarks.channel [--over links] [--patterns ring pairs] [--sizes 8 1024]

Over: `tcp` (the channel of parties under one driver), `links` and `tls` (a channel of an endpoint,
plain and encrypted), `local` (threads).
Patterns: `ring` (every party sends to the previous one and receives from the next), `pairs` (every
party exchanges with both), `stream` (party 0 sends to party 1 only). Time is per exchange, the
median over repeats; `total` is payload of all parties per second; `cpu` is of all three parties.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spuvm import certs
from spuvm.net.channel import Channel, Spec
from spuvm.net.local import LocalNetwork
from spuvm.net.memory import keep_large_blocks
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp import connect, listen
from spuvm.net.tcp_endpoint import TcpEndpoint

Row = dict[str, Any]
Options = argparse.Namespace
SIZES = (8, 1024, 64 << 10, 1 << 20, 8 << 20)
WORD = np.dtype(np.uint64)
NAMES = ("alice", "bob", "carol")


def ring(rank: int) -> tuple[list[int], list[int]]:
    return [(rank - 1) % 3], [(rank + 1) % 3]


def pairs(rank: int) -> tuple[list[int], list[int]]:
    others = [(rank + 1) % 3, (rank - 1) % 3]
    return others, others


def stream(rank: int) -> tuple[list[int], list[int]]:
    return [[1], [], []][rank], [[], [0], []][rank]


PATTERNS: dict[str, Callable[[int], tuple[list[int], list[int]]]] = {
    "ring": ring,
    "pairs": pairs,
    "stream": stream,
}


def barrier(channel: Channel) -> None:
    peers = channel.peers
    channel.exchange(dict.fromkeys(peers, ()), dict.fromkeys(peers, ()))
    channel.exchange(dict.fromkeys(peers, ()), dict.fromkeys(peers, ()))


def measure(channel: Channel, cpu_clock: Callable[[], float], options: Options) -> list[Row]:
    """The rows as one party sees them."""
    rows = []
    for pattern in options.patterns:
        to, of = PATTERNS[pattern](channel.rank)
        for size in options.sizes:
            specs = [Spec(WORD, size // WORD.itemsize)]
            data = [np.arange(size // WORD.itemsize, dtype=WORD)]
            sends, receives = dict.fromkeys(to, data), dict.fromkeys(of, specs)
            count = max(4, min(3000, (64 << 20) // size))
            times, cpus = [], []
            for _ in range(7):
                barrier(channel)
                cpu, start = cpu_clock(), time.perf_counter()
                for _ in range(count):
                    channel.exchange(sends, receives)
                times.append((time.perf_counter() - start) / count)
                cpus.append((cpu_clock() - cpu) / count)
            row = {"pattern": pattern, "bytes": size, "sent": size * len(to)}
            rows.append(row | {"seconds": statistics.median(times), "cpu": statistics.median(cpus)})
    barrier(channel)
    return rows


def party_of(rank: int, addresses: list[Any], folder: Path, results: Any, options: Options) -> None:
    if options.memory == "kept":
        keep_large_blocks()
    if options.over == "tcp":
        with connect(rank, addresses) as channel:
            results.put((rank, measure(channel, time.process_time, options)))
        return
    name, tls = NAMES[rank], None
    if options.over == "tls":
        mine = folder / name
        tls = Tls(mine / "ca.pem", mine / "cert.pem", mine / "key.pem")
    start = time.perf_counter()
    with TcpEndpoint(name, Links(dict(zip(NAMES, addresses, strict=True)), tls)) as endpoint:
        endpoint.connect()
        connected = time.perf_counter() - start
        with endpoint.channel("benchmark", NAMES) as channel:
            results.put((rank, measure(channel, time.process_time, options)))
    if rank == 0:
        print(f"connected after {connected:.2f} s")


def over_processes(options: Options) -> list[list[Row]]:
    context = multiprocessing.get_context("spawn")
    listeners = [listen() for _ in range(3)]
    addresses = [listener.getsockname()[:2] for listener in listeners]
    for listener in listeners:
        listener.close()
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        if options.over == "tls":
            certs.development(Path(folder), NAMES)
        return collect(
            [
                context.Process(
                    target=party_of, args=(r, addresses, Path(folder), results, options)
                )
                for r in range(3)
            ],
            results,
        )


def collect(parties: list[Any], results: Any) -> list[list[Row]]:
    """Run the processes; the rows of each."""
    for party in parties:
        party.start()
    by_rank: dict[int, list[Row]] = {}
    while len(by_rank) < 3:
        try:
            rank, rows = results.get(timeout=1)
            by_rank[rank] = rows
        except queue.Empty:
            if any(party.exitcode for party in parties):
                raise SystemExit("a party failed") from None
    for party in parties:
        party.join()
    return [by_rank[rank] for rank in range(3)]


def over_threads(options: Options) -> list[list[Row]]:
    channels = LocalNetwork().channels
    rows: dict[int, list[Row]] = {}

    def run(rank: int) -> None:
        with channels[rank] as channel:
            rows[rank] = measure(channel, time.thread_time, options)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [rows[rank] for rank in range(3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--over", default="tcp", choices=("tcp", "links", "tls", "local"))
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="bytes, multiples of 8")
    parser.add_argument("--memory", choices=("kept", "default"), default="kept")
    options = parser.parse_args()
    by_rank = over_threads(options) if options.over == "local" else over_processes(options)
    rows = []
    print(f"{'pattern':8} {'bytes':>9} {'us':>10} {'total GB/s':>11} {'cpu us':>9}")
    for three in zip(*by_rank, strict=True):
        seconds = max(row["seconds"] for row in three)
        rate = sum(row["sent"] for row in three) / seconds / 1e9
        cpu = sum(row["cpu"] for row in three)
        pattern, size = three[0]["pattern"], three[0]["bytes"]
        print(f"{pattern:8} {size:9} {seconds * 1e6:10.1f} {rate:11.3f} {cpu * 1e6:9.1f}")
        rows.append(
            {"pattern": pattern, "bytes": size, "us": seconds * 1e6, "gb_s": rate, "cpu_us": cpu}
        )
    if options.json:
        host = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"host": host, "over": options.over, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
