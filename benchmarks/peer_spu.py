"""SPU 0.9.5 as three processes over TCP loopback: ABY3, 64-bit ring, its default configuration
unless a case asks for its accurate exponential.

Runs in the peer's own environment: ``python -m benchmarks.peer_spu`` serves JSON lines (see
`harness.serve`) to `benchmarks.peers`. Imports nothing of spuvm.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import (
    Parties,
    free_ports,
    io_answer,
    operations,
    return_free_memory,
    serve,
)

FORM = "full"  # the peer knows no declared ranges
LINK_DETAILS = re.compile(r"Link details: total send bytes (\d+), .*send actions (\d+)")


def _runtime_config(mode: str = "default", profile: bool = False) -> Any:
    """The default configuration; `mode` may name another algorithm of its exponential."""
    from spu import libspu

    config = libspu.RuntimeConfig(
        protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64, fxp_fraction_bits=18
    )
    if mode != "default":
        config.fxp_exp_mode = getattr(libspu.RuntimeConfig.ExpMode, mode)
    config.enable_pphlo_profile = profile
    return config


class Party:
    """One SPU party: its link, a plain runtime, and one that logs link statistics."""

    def __init__(self, rank: int, ports: list[int], folder: str) -> None:
        from spu import api, libspu

        self._log = Path(folder) / f"party{rank}.log"
        options = libspu.logging.LogOptions()
        options.enable_console_logger = False
        options.system_log_path = str(self._log)
        libspu.logging.setup_logging(options)
        desc = libspu.link.Desc()
        for i, port in enumerate(ports):
            desc.add_party(f"party{i}", f"127.0.0.1:{port}")
        self._link = libspu.link.create_brpc(desc, rank)
        self._api, self._libspu = api, libspu
        self._mode = "default"
        self._plain = api.Runtime(self._link, _runtime_config())
        self._executable: Any = None
        self._shares: list[Any] = []

    def program(self, executable: bytes, mode: str) -> None:
        """Take a compiled program and the configuration that it is to run with."""
        if mode != self._mode:
            self._mode = mode
            self._plain = self._api.Runtime(self._link, _runtime_config(mode))
        self._executable = self._libspu.Executable()
        self._executable.ParseFromString(executable)

    def receive(self, shares: list[Any]) -> None:
        """Hold the shares that the owner sent, not yet loaded."""
        self._shares = shares

    def load(self) -> None:
        """Load the received shares into the runtime."""
        for name, share in zip(self._executable.input_names, self._shares, strict=True):
            self._plain.set_var(name, share)

    def count(self) -> tuple[int, int]:
        """One run in a runtime that logs: bytes sent and messages sent by this party."""
        runtime = self._api.Runtime(self._link, _runtime_config(self._mode, profile=True))
        for name, share in zip(self._executable.input_names, self._shares, strict=True):
            runtime.set_var(name, share)
        runtime.run(self._executable)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            found = LINK_DETAILS.findall(self._log.read_text())
            if found:
                self._log.write_text("")
                return int(found[-1][0]), int(found[-1][1])
            time.sleep(0.05)
        raise RuntimeError("no link statistics in the log")

    def forget(self) -> None:
        """Drop the received shares (the runtime keeps what was loaded)."""
        self._shares = []

    def run(self) -> None:
        """Run the program on the loaded inputs."""
        self._plain.run(self._executable)

    def reveal(self) -> list[Any]:
        """This party's shares of the outputs."""
        return [self._plain.get_var(name) for name in self._executable.output_names]

    def clear(self) -> None:
        """Free everything."""
        for name in (*self._executable.input_names, *self._executable.output_names):
            self._plain.del_var(name)
        self._shares = []
        return_free_memory()


class Server:
    """Compiles, shares, runs and reveals one case at a time."""

    def __init__(self, parties: Parties) -> None:
        from spu import api

        self._parties = parties
        self._io = api.Io(3, _runtime_config())

    def open(self, case: str) -> dict[str, Any]:
        """Take a case, compile it, share and load its inputs."""
        import jax
        from spu import libspu
        from spu.utils import frontend

        from benchmarks.cases import digest, find

        self._case = find(case)
        self._args = self._case.inputs()
        secrets = self._case.secrets(self._args)
        self._leaves = jax.tree.leaves(secrets)
        names = [f"in{i}" for i in range(len(self._leaves))]
        start = time.perf_counter()
        executable, _ = frontend.compile(
            frontend.Kind.JAX,
            self._case.secret_fn(self._args),
            secrets,
            {},
            names,
            [libspu.Visibility.VIS_SECRET] * len(names),
            lambda outputs: [f"out{i}" for i in range(len(outputs))],
        )
        self._compile_s = time.perf_counter() - start
        self._parties.call("program", executable.SerializeToString(), self._case.peer)
        self._share()
        return {"digest": digest(self._args)}

    def prepare(self, form: str = FORM) -> dict[str, Any]:
        """Count the traffic of one run, load the inputs, run once to warm up."""
        counts = self._parties.call("count")
        self._parties.call("load")
        self._parties.call("forget")
        _, warm = self._parties.timed("run")
        return {
            "bytes": sum(sent for sent, _ in counts),
            "messages": sum(messages for _, messages in counts),
            "rounds": None,
            "compile_s": self._compile_s,
            "first_run_ms": warm.ms,
        }

    def run(self, form: str = FORM) -> dict[str, Any]:
        """One timed run; of an ``io`` case with sharing, loading and revealing around it."""
        if self._case.scope == "run":
            return asdict(self._parties.timed("run")[1])
        share_ms, move_ms = self._share()
        _, load = self._parties.timed("load")
        self._parties.call("forget")
        _, run = self._parties.timed("run")
        shares, reveal = self._parties.timed("reveal")
        start = time.perf_counter()
        for parts in zip(*shares, strict=True):
            self._io.reconstruct(list(parts))
        return io_answer(load, run, reveal, share_ms, move_ms, 1e3 * (time.perf_counter() - start))

    def finish(self, form: str = FORM) -> dict[str, float]:
        """Compare the last result with the plaintext."""
        from benchmarks.cases import accuracy

        shares = self._parties.call("reveal")
        got = [self._io.reconstruct(list(parts)) for parts in zip(*shares, strict=True)]
        return accuracy(got, self._case.reference(self._args))

    def close(self) -> None:
        """Free everything of the case."""
        self._parties.call("clear")

    def _share(self) -> tuple[float, float]:
        """Make shares of the inputs and hand them to the parties: (sharing ms, moving ms)."""
        from spu import libspu

        start = time.perf_counter()
        shares = [self._io.make_shares(x, libspu.Visibility.VIS_SECRET) for x in self._leaves]
        made = time.perf_counter()
        self._parties.call_each("receive", [([s[rank] for s in shares],) for rank in range(3)])
        return 1e3 * (made - start), 1e3 * (time.perf_counter() - made)


def main() -> None:
    """Serve until standard input closes."""
    with tempfile.TemporaryDirectory() as folder:
        parties = Parties(Party, free_ports(3), folder)
        try:
            server = Server(parties)
            serve(operations(server))
        finally:
            parties.close()


if __name__ == "__main__":
    main()
