"""Three spawned party processes, timing from one instant to the last return, a JSON-lines server.

Runs in both environments (the peer's and ours), so it needs nothing beyond the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing as mp
import os
import resource
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AHEAD_S = 0.005  # from the last party's arrival to the instant at which all begin
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Timing:
    """One call from the instant of release to the last party's return.

    ms: the earliest start to the latest return. cpu_s: CPU seconds of all threads of the three
    processes. peak_mb: the largest resident set that any party reached during the call; peaks_mb:
    of each.
    """

    ms: float
    cpu_s: float
    peak_mb: float
    peaks_mb: tuple[float, ...]


@dataclass(frozen=True)
class _Span:
    start: float
    end: float
    cpu_s: float
    peak_mb: float


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now (another process could still take one)."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def reset_peak_memory() -> None:
    """Let the kernel's high-water mark of this process start again from its present size."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """High-water mark of this process's resident set since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status: these benchmarks need Linux")


def resident_mb() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def return_free_memory() -> None:
    """Give freed memory back to the kernel, so that the next case's peak starts from little."""
    ctypes.CDLL(None).malloc_trim(0)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Together:
    """Releases the three processes at one instant.

    A barrier alone wakes them one after the other, which is no work of either system.
    """

    def __init__(self, context: Any) -> None:
        self._barrier = context.Barrier(3)
        self._instant = context.Value("d", 0.0, lock=False)

    def wait(self) -> None:
        """Return at the same time in all three."""
        if self._barrier.wait() == 0:
            self._instant.value = time.perf_counter() + AHEAD_S
        self._barrier.wait()
        time.sleep(max(0.0, self._instant.value - time.perf_counter()))


def _measure(
    together: _Together, method: Callable[..., Any], args: Sequence[Any]
) -> tuple[Any, _Span]:
    reset_peak_memory()
    together.wait()
    cpu, start = _cpu_seconds(), time.perf_counter()
    result = method(*args)
    end = time.perf_counter()
    return result, _Span(start, end, _cpu_seconds() - cpu, peak_memory_mb())


def _party_main(
    host: Callable[..., Any], rank: int, args: tuple[Any, ...], connection: Any, together: _Together
) -> None:
    try:
        party = host(rank, *args)
        connection.send((None, None, None))
    except BaseException:
        connection.send((None, None, traceback.format_exc()))
        return
    while True:
        try:
            name, timed, call_args = connection.recv()
        except EOFError:
            return
        if name is None:
            return
        try:
            method = getattr(party, name)
            if timed:
                result, span = _measure(together, method, call_args)
            else:
                result, span = method(*call_args), None
            connection.send((result, span, None))
        except BaseException:
            connection.send((None, None, traceback.format_exc()))
        call_args = None


class Parties:
    """Three spawned processes, each with an object `host(rank, *args)` whose methods are called."""

    def __init__(self, host: Callable[..., Any], *args: Any) -> None:
        context = mp.get_context("spawn")
        together = _Together(context)
        self._connections, self._processes = [], []
        for rank in range(3):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_party_main, args=(host, rank, args, theirs, together), daemon=True
            )
            process.start()
            theirs.close()
            self._connections.append(mine)
            self._processes.append(process)
        self._collect()

    def call(self, name: str, *args: Any) -> list[Any]:
        """Call `name(*args)` at all three, wait, and return the three results."""
        return self.call_each(name, [args] * 3)

    def call_each(self, name: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call `name` with other arguments at each rank."""
        for connection, one in zip(self._connections, args, strict=True):
            connection.send((name, False, one))
        return [result for result, _ in self._collect()]

    def timed(self, name: str, *args: Any) -> tuple[list[Any], Timing]:
        """Call `name(*args)` at all three, released at one instant."""
        for connection in self._connections:
            connection.send((name, True, args))
        answers = self._collect()
        return [result for result, _ in answers], _timing([span for _, span in answers])

    def close(self) -> None:
        """Stop the processes."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.send((None, False, ()))
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.terminate()

    def _collect(self) -> list[tuple[Any, Any]]:
        answers: list[tuple[Any, Any]] = []
        failures: list[str] = []
        for rank, (connection, process) in enumerate(
            zip(self._connections, self._processes, strict=True)
        ):
            while not connection.poll(1.0):
                if not process.is_alive() and not connection.poll(0):
                    raise RuntimeError(f"party {rank} ended with code {process.exitcode}")
            result, span, error = connection.recv()
            answers.append((result, span))
            if error:
                failures.append(f"party {rank} failed: {error}")
        if failures:
            raise RuntimeError("\n".join(failures))
        return answers


def _timing(spans: Sequence[_Span]) -> Timing:
    return Timing(
        ms=1e3 * (max(s.end for s in spans) - min(s.start for s in spans)),
        cpu_s=sum(s.cpu_s for s in spans),
        peak_mb=max(s.peak_mb for s in spans),
        peaks_mb=tuple(s.peak_mb for s in spans),
    )


class ThreadParties:
    """The same with three threads of this process; CPU and memory are those of the process."""

    def __init__(self, host: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> None:
        self._pool = ThreadPoolExecutor(3)
        self._parties = list(self._pool.map(lambda r: host(r, *each[r]), range(3)))

    def call(self, name: str, *args: Any) -> list[Any]:
        """Call `name(*args)` at all three, wait, and return the three results."""
        return self.call_each(name, [args] * 3)

    def call_each(self, name: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call `name` with other arguments at each rank."""
        return list(self._pool.map(lambda r: getattr(self._parties[r], name)(*args[r]), range(3)))

    def timed(self, name: str, *args: Any) -> tuple[list[Any], Timing]:
        """Call `name(*args)` at all three, released together."""
        reset_peak_memory()
        cpu, start = _cpu_seconds(), time.perf_counter()
        results = self.call(name, *args)
        span = _Span(start, time.perf_counter(), _cpu_seconds() - cpu, peak_memory_mb())
        return results, _timing([span])

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()


def io_answer(
    load: Timing, run: Timing, reveal: Timing, share_ms: float, move_ms: float, rebuild_ms: float
) -> dict[str, Any]:
    """The answer for a run with sharing and revealing.

    Moving shares between the owner's process and the parties goes over the same pipe in both
    systems; it is reported beside (`move_ms`), not in `ms`: counting it would favour ours.
    """
    reveal_ms = reveal.ms + rebuild_ms
    return {
        "ms": share_ms + load.ms + run.ms + reveal_ms,
        "cpu_s": load.cpu_s + run.cpu_s + reveal.cpu_s,
        "peak_mb": max(load.peak_mb, run.peak_mb, reveal.peak_mb),
        "steps_ms": {"share": share_ms, "load": load.ms, "run": run.ms, "reveal": reveal_ms},
        "move_ms": move_ms,
    }


def operations(server: Any) -> dict[str, Callable[..., Any]]:
    """The public methods of a server by name."""
    return {name: getattr(server, name) for name in dir(server) if not name.startswith("_")}


def serve(operations: Mapping[str, Callable[..., Any]]) -> None:
    """Answer JSON lines on standard input with JSON lines on the original standard output.

    A request is ``{"op": name, ...keywords}``; an answer ``{"ok": value}`` or ``{"error": text}``.
    Whatever libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            value = operations[request.pop("op")](**request)
            answer = {"ok": value}
        except BaseException as failure:
            answer = {"error": f"{type(failure).__name__}: {failure}"}
            traceback.print_exc()
        answers.write(json.dumps(answer) + "\n")


class SystemFailed(RuntimeError):
    """A server answered with an error or went away."""


class System:
    """A server process of one system, seen from the process that compares both."""

    def __init__(self, python: str, module: str, *, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                text=True,
                bufsize=1,
            )

    def ask(self, op: str, **keywords: Any) -> Any:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **keywords}) + "\n")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemFailed(
                f"the server ended with code {self._process.wait()}; see {self._log}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise SystemFailed(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        """End the server and with it its party processes."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(5)
