"""spuvm as three processes over TCP loopback: the twin of `peer_spu`, plus speed-of-light runs.

``python -m benchmarks.ours`` serves JSON lines (see `harness.serve`) to `benchmarks.peers` and
`benchmarks.run`. Everything that loads JAX is imported in the server's methods, because the party
processes import this module too.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.harness import (
    Parties,
    ThreadParties,
    Timing,
    free_ports,
    io_answer,
    operations,
    serve,
)
from benchmarks.light import Work
from benchmarks.party import RING, tcp_party
from spuvm.net.memory import keep_large_blocks

if TYPE_CHECKING:
    from benchmarks.cases import Case, Form


class Server:
    """Compiles, deals, runs and reconstructs one case at a time."""

    def __init__(self, parties: Parties | ThreadParties, ring: int = RING) -> None:
        from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
        from spuvm.ring import Ring

        self._parties = parties
        self._ring = Ring(ring)
        self._fxp = Fxp(self._ring, DEFAULT_FRAC_BITS[ring])
        self._programs: dict[str, Any] = {}
        self._live: set[str] = set()  # forms whose results the parties hold

    def open(self, case: str) -> dict[str, Any]:
        """Take a case of the table, share and load its inputs."""
        from benchmarks.cases import find

        return self.open_case(find(case))

    def open_case(self, case: Case) -> dict[str, Any]:
        """Take any case, share and load its inputs."""
        import jax

        from benchmarks.cases import digest

        self._case = case
        self._args = self._case.inputs()
        self._leaves = jax.tree.leaves(self._case.secrets(self._args))
        self._empty_mb = self._parties.call("resident")
        self._share()
        self._parties.call("load")
        self._parties.call("forget")
        self._parties.call("resident")  # what the way here took is no memory of the run
        return {"digest": digest(self._args)}

    def prepare(self, form: Form = "declared") -> dict[str, Any]:
        """Compile the case with or without its declared ranges, run it once to warm up."""
        import jax

        from benchmarks.memory import live_bytes
        from spuvm.compiler import CompileConfig, SecretSpec, compile_function

        secrets = self._case.secrets(self._args)
        specs = tuple(
            jax.tree.map(lambda x, r=r: _spec(SecretSpec, x, r if form == "declared" else None), a)
            for a, r in zip(secrets, self._case.secret_ranges(), strict=True)
        )
        start = time.perf_counter()
        compiled = compile_function(
            self._case.secret_fn(self._args, form),
            specs,
            config=CompileConfig(ring=self._ring, fxp=self._fxp, on_overflow="warn"),
        )
        compile_s = time.perf_counter() - start
        program = compiled.program
        self._programs[form] = program
        self._parties.call("program", form, program)
        counts, warm = self._run(form)
        return {
            "bytes": sum(sent for _, sent in counts),
            "rounds": counts[0][0],
            "messages": None,
            "compile_s": compile_s,
            "first_run_ms": warm.ms,
            "instructions": len(program.instructions),
            "warnings": list(compiled.warnings),
            "live_mb": live_bytes(program) / (1 << 20),
        }

    def memory(self, form: Form = "declared", runs: int = 3) -> dict[str, float]:
        """MB of the party that grows most in runs that follow each other, and nothing else.

        peak_mb  its largest resident set; empty_mb: before it had the inputs. Parties differ, for
        example in what the compiler of kernels has left.
        """
        self._parties.call("free_outputs", form)
        self._live.discard(form)
        self._parties.call("resident")
        peaks = zip(*(self._run(form)[1].peaks_mb for _ in range(runs)), strict=True)
        pairs = zip(map(max, peaks), self._empty_mb, strict=True)
        peak, empty = max(pairs, key=lambda pair: pair[0] - pair[1])
        return {"peak_mb": peak, "empty_mb": empty}

    def run(self, form: Form = "declared") -> dict[str, Any]:
        """One timed run; of an ``io`` case with sharing, loading and revealing around it."""
        if self._case.scope == "run":
            return asdict(self._run(form)[1])
        share_ms, move_ms = self._share()
        _, load = self._parties.timed("load")
        self._parties.call("forget")
        _, run = self._run(form)
        parts, reveal = self._parties.timed("reveal", form)
        start = time.perf_counter()
        self._reconstruct(form, parts)
        return io_answer(load, run, reveal, share_ms, move_ms, 1e3 * (time.perf_counter() - start))

    def light(self, form: Form = "declared") -> dict[str, Any]:
        """One timed speed-of-light run of the present case."""
        from spuvm.vm.cost import static_cost

        program = self._programs[form]
        work = Work.of(program, static_cost(program))
        return {**asdict(self._parties.timed("light", work)[1]), "work": work.summary()}

    def finish(self, form: Form = "declared") -> dict[str, float]:
        """Compare the last result with the plaintext and free it."""
        from benchmarks.cases import accuracy

        got = self._reconstruct(form, self._parties.call("reveal", form))
        self._parties.call("free_outputs", form)
        self._live.discard(form)
        return accuracy(got, self._case.reference(self._args))

    def close(self) -> None:
        """Free everything of the case."""
        for form in self._live:
            self._parties.call("free_outputs", form)
        self._live.clear()
        self._programs.clear()
        self._parties.call("clear")

    def _run(self, form: Form) -> tuple[list[Any], Timing]:
        if form in self._live:
            self._parties.call("free_outputs", form)
            self._live.discard(form)
        answer = self._parties.timed("run", form)
        self._live.add(form)
        return answer

    def _share(self) -> tuple[float, float]:
        """Deal the inputs and hand them to the parties: (sharing ms, moving ms)."""
        from spuvm.protocol.aby3 import io

        ranges = self._flat_ranges()
        start = time.perf_counter()
        dealt = [
            io.deal(self._fxp.encoding(x, input_range=r), self._ring)
            for x, r in zip(self._leaves, ranges, strict=True)
        ]
        made = time.perf_counter()
        self._parties.call_each("receive", [([d[rank] for d in dealt],) for rank in range(3)])
        return 1e3 * (made - start), 1e3 * (time.perf_counter() - made)

    def _flat_ranges(self) -> list[Any]:
        import jax

        secrets = self._case.secrets(self._args)
        pairs = zip(secrets, self._case.secret_ranges(), strict=True)
        return [r for a, r in pairs for _ in jax.tree.leaves(a)]

    def _reconstruct(self, form: Form, parts: list[list[Any]]) -> list[Any]:
        from spuvm.protocol.aby3 import io

        results = []
        program = self._programs[form]
        for output, pieces in zip(program.outputs, zip(*parts, strict=True), strict=True):
            t = program.types[output.value]
            encoded = io.reconstruct(pieces, width=t.width)
            decoded = self._fxp.decode(encoded, output.dtype, t.frac, output.divisor)
            results.append(decoded.reshape(t.shape))
        return results


def _spec(make: Any, x: Any, bounds: tuple[float, float] | None) -> Any:
    lo, hi = bounds or (None, None)
    return make(shape=x.shape, dtype=str(x.dtype), origin="owner", lo=lo, hi=hi)


def main() -> None:
    """Serve until standard input closes."""
    keep_large_blocks()  # as every process does that deals values
    parties = Parties(tcp_party, free_ports(3))
    try:
        server = Server(parties)
        serve(operations(server))
    finally:
        parties.close()


if __name__ == "__main__":
    main()
