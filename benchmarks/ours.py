"""spuvm as three processes over TCP loopback: the twin of `peer_spu`, plus speed-of-light runs.

``python -m benchmarks.ours`` serves JSON lines (see `harness.serve`) to `benchmarks.peers` and
`benchmarks.run`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.cases import Form, digest, find, max_error
from benchmarks.harness import Parties, Timing, free_ports, return_free_memory, serve
from benchmarks.light import Work, run_light

RING, FRAC_BITS = 64, 18
NAMES = ("alice", "bob", "carol")


class Party:
    """One party: its channel, its VM, and the names of the values of the present case."""

    def __init__(self, rank: int, ports: list[int]) -> None:
        from spuvm.vm.machine import Machine

        from spuvm.net import tcp
        from spuvm.ring import Ring

        addresses = [("127.0.0.1", port) for port in ports]
        self._channel = tcp.connect(rank, addresses, timeout=60.0)
        self._machine = Machine(rank, self._channel, Ring(RING), NAMES)
        self._run_id = 0
        self._program: Any = None
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._dealt: list[Any] = []

    def program(self, program: Any) -> None:
        """Take a compiled program."""
        self._program = program
        self._inputs = [f"in{i}" for i in range(len(program.inputs))]
        self._outputs = [f"out{i}" for i in range(len(program.outputs))]

    def receive(self, dealt: list[Any]) -> None:
        """Hold what the owner sent, not yet expanded."""
        self._dealt = dealt

    def load(self) -> None:
        """Expand and store the received shares."""
        for name, dealt in zip(self._inputs, self._dealt, strict=True):
            self._machine.put(name, dealt)

    def forget(self) -> None:
        """Drop what the owner sent."""
        self._dealt = []

    def run(self) -> tuple[int, int]:
        """Run the program on the stored inputs: rounds, bytes sent by this party."""
        self._run_id += 1
        stats = self._machine.run(self._run_id, self._program, self._inputs, self._outputs)
        return stats.rounds, stats.bytes_sent

    def free_outputs(self) -> None:
        """Drop the results of the last run."""
        self._machine.free(self._outputs)

    def reveal(self) -> list[Any]:
        """This party's parts for opening the outputs to an outsider."""
        parts = []
        for name, output in zip(self._outputs, self._program.outputs, strict=True):
            self._run_id += 1
            t = self._program.types[output.value]
            bits = t.width or _visible_bits(output.dtype)
            parts.append(self._machine.part(self._run_id, name, to=None, bits=bits))
        return parts

    def light(self, work: Work) -> None:
        """The least work that this case needs, through the same channel and matmul kernel."""
        run_light(self._channel, work)

    def clear(self) -> None:
        """Free everything of the case."""
        self._machine.free([*self._inputs, *self._outputs])
        self._dealt = []
        return_free_memory()


def _visible_bits(dtype: str) -> int:
    target = np.dtype(dtype)
    return 8 * target.itemsize if target.kind in "iu" else RING


class Server:
    """Compiles, deals, runs and reconstructs one case at a time."""

    def __init__(self, parties: Parties) -> None:
        from spuvm.fxp import Fxp
        from spuvm.ring import Ring

        self._parties = parties
        self._ring = Ring(RING)
        self._fxp = Fxp(self._ring, FRAC_BITS)
        self._has_outputs = False

    def prepare(self, case: str, form: Form = "declared") -> dict[str, Any]:
        """Compile a case, share its inputs, run it once to warm up and count its traffic."""
        import jax

        from spuvm.compiler import CompileConfig, SecretSpec, compile_function

        self._case, self._form = find(case), form
        self._args = self._case.inputs()
        secrets = self._case.secrets(self._args)
        specs = tuple(
            jax.tree.map(lambda x, r=r: _spec(SecretSpec, x, r if form == "declared" else None), a)
            for a, r in zip(secrets, self._case.secret_ranges(), strict=True)
        )
        start = time.perf_counter()
        compiled = compile_function(
            self._case.secret_fn(self._args),
            specs,
            config=CompileConfig(ring=self._ring, fxp=self._fxp, on_overflow="warn"),
        )
        compile_s = time.perf_counter() - start
        self._program = compiled.program
        self._leaves = jax.tree.leaves(secrets)
        self._parties.call("program", self._program)
        self._share()
        self._parties.call("load")
        self._parties.call("forget")
        counts, warm = self._run()
        return {
            "digest": digest(self._args),
            "bytes": sum(sent for _, sent in counts),
            "rounds": counts[0][0],
            "messages": None,
            "compile_s": compile_s,
            "first_run_ms": warm.ms,
            "instructions": len(self._program.instructions),
            "warnings": list(compiled.warnings),
        }

    def run(self) -> dict[str, Any]:
        """One timed run; of an ``io`` case with sharing, loading and revealing around it."""
        if self._case.scope == "run":
            return _answer(self._run()[1])
        share_ms, move_ms = self._share()
        _, load = self._parties.timed("load")
        self._parties.call("forget")
        _, run = self._run()
        parts, reveal = self._parties.timed("reveal")
        start = time.perf_counter()
        self._reconstruct(parts)
        reveal_ms = reveal.ms + 1e3 * (time.perf_counter() - start)
        return {
            "ms": share_ms + load.ms + run.ms + reveal_ms,
            "cpu_s": load.cpu_s + run.cpu_s + reveal.cpu_s,
            "peak_mb": max(load.peak_mb, run.peak_mb, reveal.peak_mb),
            "steps_ms": {"share": share_ms, "load": load.ms, "run": run.ms, "reveal": reveal_ms},
            "move_ms": move_ms,
        }

    def light(self) -> dict[str, Any]:
        """One timed speed-of-light run of the present case."""
        from spuvm.vm.cost import static_cost

        work = Work.of(self._program, static_cost(self._program))
        return {**_answer(self._parties.timed("light", work)[1]), "work": work.summary()}

    def finish(self) -> dict[str, Any]:
        """Compare the last result with the plaintext and free everything."""
        got = self._reconstruct(self._parties.call("reveal"))
        error = max_error(got, self._case.reference(self._args))
        self._parties.call("clear")
        self._has_outputs = False
        return {"error": error}

    def _run(self) -> tuple[list[Any], Timing]:
        if self._has_outputs:
            self._parties.call("free_outputs")
        answer = self._parties.timed("run")
        self._has_outputs = True
        return answer

    def _share(self) -> tuple[float, float]:
        """Deal the inputs and hand them to the parties: (sharing ms, moving ms)."""
        from spuvm.protocol.aby3 import io

        ranges = self._flat_ranges()
        start = time.perf_counter()
        dealt = [
            io.deal(self._fxp.encode(x, input_range=r), self._ring)
            for x, r in zip(self._leaves, ranges, strict=True)
        ]
        made = time.perf_counter()
        self._parties.call_each("receive", [([d[rank] for d in dealt],) for rank in range(3)])
        return 1e3 * (made - start), 1e3 * (time.perf_counter() - made)

    def _flat_ranges(self) -> list[Any]:
        import jax

        secrets = self._case.secrets(self._args)
        pairs = zip(secrets, self._case.secret_ranges(), strict=True)
        declared = [r for a, r in pairs for _ in jax.tree.leaves(a)]
        return declared if self._form == "declared" else [None] * len(declared)

    def _reconstruct(self, parts: list[list[Any]]) -> list[Any]:
        from spuvm.protocol.aby3 import io

        results = []
        for output, pieces in zip(self._program.outputs, zip(*parts, strict=True), strict=True):
            t = self._program.types[output.value]
            encoded = io.reconstruct(pieces, width=t.width)
            results.append(self._fxp.decode(encoded, output.dtype, t.frac).reshape(t.shape))
        return results


def _spec(make: Any, x: Any, bounds: tuple[float, float] | None) -> Any:
    lo, hi = bounds or (None, None)
    return make(shape=x.shape, dtype=str(x.dtype), origin="owner", lo=lo, hi=hi)


def _answer(timing: Timing) -> dict[str, Any]:
    return {"ms": timing.ms, "cpu_s": timing.cpu_s, "peak_mb": timing.peak_mb}


def main() -> None:
    """Serve until standard input closes."""
    parties = Parties(Party, free_ports(3))
    try:
        server = Server(parties)
        serve(
            {
                "prepare": server.prepare,
                "run": server.run,
                "light": server.light,
                "finish": server.finish,
            }
        )
    finally:
        parties.close()


if __name__ == "__main__":
    main()
