"""What links cost: the handshake, and 1,000 rounds over plain and TLS links on loopback.

    python -m benchmarks.links [--repeats 5]

Three processes, each with one machine per kind of link; the kinds take turns. `tcp` is the channel
of parties under one driver, `links` and `tls` are channels of an endpoint. Times are medians, from
the instant at which all begin to the last party's return; a handshake is from there to three
connected parties that have compared their agreements, with TLS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Parties, free_ports
from benchmarks.report import host

KINDS = ("tcp", "links", "tls")
NAMES = ("alice", "bob", "carol")
CHAIN = 500
RESULTS = Path(__file__).parent / "results"


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
        self._name = NAMES[rank]
        self._files = files = Tls(mine / "ca.pem", mine / "cert.pem", mine / "key.pem")
        for kind in ("links", "tls"):
            addresses = dict(zip(NAMES, places[kind], strict=True))
            end = TcpEndpoint(NAMES[rank], Links(addresses, files if kind == "tls" else None))
            end.connect()
            self._ends.append(end)
            self._parties[kind] = Party(rank, end.channel("spu0", NAMES), 64)

    def handshake(self, ports: list[int]) -> None:
        """Another endpoint, connected to the others."""
        from spuvm.net.settings import Links
        from spuvm.net.tcp_endpoint import TcpEndpoint

        addresses = dict(zip(NAMES, [("127.0.0.1", port) for port in ports], strict=True))
        self._ends.append(TcpEndpoint(self._name, Links(addresses, self._files)))
        self._ends[-1].connect({"version": "1"})

    def part(self) -> None:
        """Close the last endpoint."""
        self._ends.pop().close()

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
    parser.add_argument("--output", type=Path, default=RESULTS / "links.json")
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
            shakes = []
            for _ in range(options.repeats):
                _, timing = parties.timed("handshake", free_ports(3))
                shakes.append(timing.ms)
                parties.call("part")
            medians = {kind: statistics.median(found) for kind, found in times.items()}
            report = {
                "rounds": rounds,
                "ms": medians,
                "tls / links": medians["tls"] / medians["links"],
                "tls / tcp": medians["tls"] / medians["tcp"],
                "handshake ms": statistics.median(shakes),
                "host": host(),
            }
            print(f"{rounds} rounds")
            for kind, ms in medians.items():
                print(f"{kind:6} {ms:8.1f} ms   {1e3 * ms / rounds:6.1f} us a round")
            print(f"tls / links {report['tls / links']:.2f}")
            print(f"tls / tcp   {report['tls / tcp']:.2f}")
            print(f"handshake of three with TLS {report['handshake ms']:.0f} ms")
            options.output.parent.mkdir(exist_ok=True)
            options.output.write_text(json.dumps(report, indent=1) + "\n")
        finally:
            parties.close()


if __name__ == "__main__":
    main()
