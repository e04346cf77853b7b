"""One of our parties, hosted in a process of its own (or a thread): never imports JAX."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import resident_mb, return_free_memory
from benchmarks.light import Work, drop_buffers, run_light

RING = 64
NAMES = ("alice", "bob", "carol")


class Party:
    """One party: its channel, its VM, and the names of the values of the present case."""

    def __init__(self, rank: int, channel: Any, ring_bits: int) -> None:
        from spuvm.ring import Ring
        from spuvm.vm.machine import Machine

        self._loaded = False
        self._channel = channel
        self._machine = Machine(rank, channel, Ring(ring_bits), NAMES)
        self._run_id = 0
        self._programs: dict[str, Any] = {}
        self._inputs: list[str] = []
        self._dealt: list[Any] = []

    def resident(self) -> float:
        """MB of this process with all kernels loaded and without freed memory."""
        from spuvm.kernels.warm import samples

        if not self._loaded:
            for function, args in samples():
                function(*args)
            self._loaded = True
        drop_buffers()
        return_free_memory()
        return resident_mb()

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
    from spuvm.net.memory import keep_large_blocks

    keep_large_blocks()
    return Party(rank, tcp.connect(rank, [("127.0.0.1", port) for port in ports]), ring_bits)


def _visible_bits(dtype: str, ring_bits: int) -> int:
    target = np.dtype(dtype)
    return 8 * target.itemsize if target.kind in "iu" else ring_bits
