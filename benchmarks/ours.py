"""spuvm as three processes over TCP loopback: the twin of `peer_spu`, plus speed-of-light runs.

``python -m benchmarks.ours`` serves JSON lines (see `harness.serve`) to `benchmarks.peers` and
`benchmarks.run`.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.cases import Case, Form, digest, find, max_error
from benchmarks.harness import (
    Parties,
    ThreadParties,
    Timing,
    free_ports,
    io_answer,
    operations,
    return_free_memory,
    serve,
)
from benchmarks.light import Work, run_light

RING = 64
NAMES = ("alice", "bob", "carol")


class Party:
    """One party: its channel, its VM, and the names of the values of the present case."""

    def __init__(self, rank: int, channel: Any, ring_bits: int) -> None:
        from spuvm.ring import Ring
        from spuvm.vm.machine import Machine

        self._channel = channel
        self._machine = Machine(rank, channel, Ring(ring_bits), NAMES)
        self._run_id = 0
        self._programs: dict[str, Any] = {}
        self._inputs: list[str] = []
        self._dealt: list[Any] = []

    def program(self, form: str, program: Any) -> None:
        """Take a compiled program."""
        self._programs[form] = program

    def receive(self, dealt: list[Any]) -> None:
        """Hold what the owner sent, not yet expanded."""
        self._dealt = dealt

    def load(self) -> None:
        """Expand and store the received shares."""
        self._inputs = [f"in{i}" for i in range(len(self._dealt))]
        for name, dealt in zip(self._inputs, self._dealt, strict=True):
            self._machine.put(name, dealt)

    def forget(self) -> None:
        """Drop what the owner sent."""
        self._dealt = []

    def run(self, form: str) -> tuple[int, int]:
        """Run the program on the stored inputs: rounds, bytes sent by this party."""
        self._run_id += 1
        stats = self._machine.run(
            self._run_id, self._programs[form], self._inputs, self._outputs(form)
        )
        return stats.rounds, stats.bytes_sent

    def free_outputs(self, form: str) -> None:
        """Drop the results of the last run."""
        self._machine.free(self._outputs(form))

    def reveal(self, form: str) -> list[Any]:
        """This party's parts for opening the outputs to an outsider."""
        parts = []
        program = self._programs[form]
        for name, output in zip(self._outputs(form), program.outputs, strict=True):
            self._run_id += 1
            t = program.types[output.value]
            bits = t.width or _visible_bits(output.dtype, program.ring)
            parts.append(self._machine.part(self._run_id, name, to=None, bits=bits))
        return parts

    def light(self, work: Work) -> None:
        """The least work that this case needs, through the same channel and matmul kernel."""
        run_light(self._channel, work)

    def clear(self) -> None:
        """Free the inputs and programs of the case (the results are freed one by one)."""
        self._machine.free(self._inputs)
        self._programs, self._dealt = {}, []
        return_free_memory()

    def _outputs(self, form: str) -> list[str]:
        return [f"{form}{i}" for i in range(len(self._programs[form].outputs))]


def tcp_party(rank: int, ports: list[int], ring_bits: int = RING) -> Party:
    """A party that talks over TCP loopback, in a process of its own."""
    from spuvm.net import tcp

    return Party(rank, tcp.connect(rank, [("127.0.0.1", port) for port in ports]), ring_bits)


def _visible_bits(dtype: str, ring_bits: int) -> int:
    target = np.dtype(dtype)
    return 8 * target.itemsize if target.kind in "iu" else ring_bits


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
        return self.open_case(find(case))

    def open_case(self, case: Case) -> dict[str, Any]:
        """Take any case, share and load its inputs."""
        import jax

        self._case = case
        self._args = self._case.inputs()
        self._leaves = jax.tree.leaves(self._case.secrets(self._args))
        self._share()
        self._parties.call("load")
        self._parties.call("forget")
        return {"digest": digest(self._args)}

    def prepare(self, form: Form = "declared") -> dict[str, Any]:
        """Compile the case with or without its declared ranges, run it once to warm up."""
        import jax

        from spuvm.compiler import CompileConfig, SecretSpec, compile_function

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
        }

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

    def finish(self, form: Form = "declared") -> dict[str, Any]:
        """Compare the last result with the plaintext and free it."""
        got = self._reconstruct(form, self._parties.call("reveal", form))
        self._parties.call("free_outputs", form)
        self._live.discard(form)
        return {"error": max_error(got, self._case.reference(self._args))}

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
        return [r for a, r in pairs for _ in jax.tree.leaves(a)]

    def _reconstruct(self, form: Form, parts: list[list[Any]]) -> list[Any]:
        from spuvm.protocol.aby3 import io

        results = []
        program = self._programs[form]
        for output, pieces in zip(program.outputs, zip(*parts, strict=True), strict=True):
            t = program.types[output.value]
            encoded = io.reconstruct(pieces, width=t.width)
            results.append(self._fxp.decode(encoded, output.dtype, t.frac).reshape(t.shape))
        return results


def _spec(make: Any, x: Any, bounds: tuple[float, float] | None) -> Any:
    lo, hi = bounds or (None, None)
    return make(shape=x.shape, dtype=str(x.dtype), origin="owner", lo=lo, hi=hi)


def main() -> None:
    """Serve until standard input closes."""
    parties = Parties(tcp_party, free_ports(3))
    try:
        server = Server(parties)
        serve(operations(server))
    finally:
        parties.close()


if __name__ == "__main__":
    main()
