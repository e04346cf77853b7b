"""What encryption costs: a program of about 1,000 rounds over plain and TLS links on loopback.

    python -m benchmarks.links [--repeats 5]

Three processes, each with one machine per kind of link; the kinds take turns. `tcp` is the channel
of parties under one driver, `links` and `tls` are channels of an endpoint. Times are medians, from
a barrier to the last party's return.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Parties, free_ports

KINDS = ("tcp", "links", "tls")
NAMES = ("alice", "bob", "carol")
CHAIN = 500


class Linked:
    """A party with a machine for each kind of link."""

    def __init__(self, rank: int, ports: dict[str, list[int]], folder: Path) -> None:
        from benchmarks.party import Party
        from spuvm.net import tcp
        from spuvm.net.settings import Links, Tls
        from spuvm.net.tcp_endpoint import TcpEndpoint

        places = {kind: [("127.0.0.1", port) for port in ports[kind]] for kind in KINDS}
        self._parties = {"tcp": Party(rank, tcp.connect(rank, places["tcp"]), 64)}
        self._ends = []
        mine = folder / NAMES[rank]
        files = Tls(mine / "ca.pem", mine / "cert.pem", mine / "key.pem")
        for kind in ("links", "tls"):
            addresses = dict(zip(NAMES, places[kind], strict=True))
            end = TcpEndpoint(NAMES[rank], Links(addresses, files if kind == "tls" else None))
            end.connect()
            self._ends.append(end)
            self._parties[kind] = Party(rank, end.channel("spu0", NAMES), 64)

    def load(self, program: Any, dealt: Any) -> None:
        for party in self._parties.values():
            party.program("x", program)
            party.receive([dealt])
            party.load()

    def run(self, kind: str) -> tuple[int, int]:
        return self._parties[kind].run("x")

    def free(self, kind: str) -> None:
        self._parties[kind].free_outputs("x")


def chain(x: Any) -> Any:
    for _ in range(CHAIN):
        x = x * x
    return x


def main() -> None:
    from spuvm import certs
    from spuvm.compiler import CompileConfig, SecretSpec, compile_function
    from spuvm.fxp import Fxp
    from spuvm.protocol.aby3 import io
    from spuvm.ring import Ring

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    ring = Ring(64)
    fxp = Fxp(ring, 18)
    spec = SecretSpec(shape=(8,), dtype="float32", origin="owner", lo=-1.0, hi=1.0)
    config = CompileConfig(ring=ring, fxp=fxp, on_overflow="warn")
    program = compile_function(chain, (spec,), config=config).program
    with tempfile.TemporaryDirectory() as folder:
        certs.development(Path(folder), NAMES)
        parties = Parties(Linked, {kind: free_ports(3) for kind in KINDS}, Path(folder))
        try:
            dealt = io.deal(fxp.encode(np.full(8, 0.5, np.float32), input_range=(-1, 1)), ring)
            parties.call_each("load", [(program, dealt[rank]) for rank in range(3)])
            times: dict[str, list[float]] = {kind: [] for kind in KINDS}
            rounds = 0
            for repeat in range(options.repeats + 1):
                for kind in KINDS:
                    counts, timing = parties.timed("run", kind)
                    parties.call("free", kind)
                    rounds = counts[0][0]
                    if repeat:
                        times[kind].append(timing.ms)
            medians = {kind: statistics.median(found) for kind, found in times.items()}
            print(f"{rounds} rounds")
            for kind, ms in medians.items():
                print(f"{kind:6} {ms:8.1f} ms   {1e3 * ms / rounds:6.1f} us a round")
            print(f"tls / links {medians['tls'] / medians['links']:.2f}")
            print(f"tls / tcp   {medians['tls'] / medians['tcp']:.2f}")
        finally:
            parties.close()


if __name__ == "__main__":
    main()
