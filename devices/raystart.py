"""Starts Ray on this machine, or joins a cluster that runs: resources, paths, habits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

log = logging.getLogger("spuvm")


def resource(party: str) -> str:
    """Name of the Ray resource that the nodes of a party bring; the bare name does too."""
    return f"party:{party}"


def start_ray(parties: Sequence[str], address: str | None, logs: str = "driver") -> None:
    """Start Ray on this machine, with the resources of all parties, or join a cluster."""
    habits: dict[str, Any] = {
        "log_to_driver": logs == "driver",
        "logging_level": logging.ERROR,
    }
    if address is None:
        early, late = script_paths()
        if late:
            habits["runtime_env"] = {"worker_process_setup_hook": _setup_hook(late)}
        with _environment(_for_processes_of_this_machine(early)):
            ray.init(
                address="local",
                resources={resource(party): 1.0 for party in parties},
                include_dashboard=False,
                **habits,
            )
        log.info("Ray started on this machine; links between the parties are plain, on loopback")
    else:
        hook = _setup_hook(list(sys.path))
        ray.init(address=address, runtime_env={"worker_process_setup_hook": hook}, **habits)
        log.warning("a Ray cluster is one trust domain; links between the parties are plain TCP")


QUIET_JAX = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "1"}


def script_paths() -> tuple[list[str], list[str]]:
    """Where this process finds modules and another Python does not, before its own ones and after.

    What the script inserted comes before the standard library there too; what it appended must not,
    nor what a site's configuration adds, which the other Python knows by itself.
    """
    here = [os.path.abspath(p) for p in sys.path if os.path.exists(p or ".")]
    library = sysconfig.get_path("stdlib")
    if not sys.executable or library not in here:
        return [], here
    code = "import sys; print(*sys.path, sep=chr(10))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = {os.path.abspath(p) for p in done.stdout.splitlines() if p}
    middle = here.index(library)
    parts = here[:middle], here[middle:]
    early, late = ([p for p in part if p not in theirs] for part in parts)
    return early, late


def _for_processes_of_this_machine(paths: list[str]) -> dict[str, str]:
    """What a Ray of our own hands on: where the script's modules are, a quiet JAX.

    A hook, which running clusters need, makes Ray start each process twice. And it would start one
    per processor ahead, most of them for nothing.
    """
    given = {**QUIET_JAX, "RAY_prestart_worker_first_driver": "0"}
    before = [p for p in [os.environ.get("PYTHONPATH", "")] if p]
    return {**given, **os.environ, "PYTHONPATH": os.pathsep.join([*paths, *before])}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - before.keys():
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in variables.keys() & before.keys()})


def _setup_hook(paths: list[str]) -> Callable[[], None]:
    """What a process does first: it finds the script's modules, and JAX is quiet."""
    quiet = QUIET_JAX

    def setup() -> None:
        import os
        import sys

        for name, value in quiet.items():
            os.environ.setdefault(name, value)
        sys.path += [p for p in paths if os.path.isdir(p or ".") and p not in sys.path]

    return setup
