"""`spuvm doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

Check = tuple[bool, str, str]  # fine?, what was found, what to do

PACKAGES = {
    "jax": "",
    "numpy": "",
    "numba": "",
    "cryptography": "",
    "ray": 'for sf.init(backend="ray"): pip install "spuvm[ray]"',
    "gmpy2": 'for sf.HEU: pip install "spuvm[heu]"',
    "phe": 'for exchanging keys with phe: pip install "spuvm[heu]"',
    "pandas": 'for sf.data: pip install "spuvm[data]"',
    "scikit-learn": 'for spuvm demo: pip install "spuvm[demo]"',
}


def main() -> int:
    """Print the table; 0 when everything that is needed is there."""
    checks: dict[str, Callable[[], Check]] = {
        "python": _python,
        **{name: (lambda name=name: _package(name)) for name in PACKAGES},  # type: ignore[misc]
        "cores": _cores,
        "instruction set": _instructions,
        "kernel cache": _cache,
        "loopback": _loopback,
    }
    table = Table("", "what", "found", "next", title="spuvm doctor")
    bad = 0
    for name, check in checks.items():
        fine, found, advice = check()
        bad += not fine
        table.add_row("ok" if fine else "!!", name, found, "" if fine else advice)
    Console().print(table)
    return 1 if bad else 0


def _python() -> Check:
    return sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer"


def _package(name: str) -> Check:
    try:
        return True, importlib.metadata.version(name), ""
    except importlib.metadata.PackageNotFoundError:
        return False, "missing", PACKAGES[name] or "pip install spuvm"


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, str(count), ""


def _instructions() -> Check:
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    wanted = ("aes", "avx2", "avx512f", "neon")
    return True, ", ".join(name for name in wanted if features.get(name)) or "generic", ""


def _cache() -> Check:
    from spuvm.kernels.warm import ensure_compiled

    console = Console()
    with console.status("compiling kernels, once per machine"):
        compiled = ensure_compiled()
    return True, "compiled now" if compiled else "warm", ""


def _loopback() -> Check:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return True, f"free ports from {server.getsockname()[1]}", ""
    except OSError as error:
        return False, str(error), "parties on one machine meet on 127.0.0.1: allow it to listen"
