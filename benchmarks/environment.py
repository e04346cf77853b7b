"""The peer's environment: found, or made with its own Python 3.10 or 3.11."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT

PEER = "spu==0.9.5"
FOLDER = ROOT / ".venv-peer"


def peer_python(given: str | None) -> str:
    """Path of an interpreter that can import spu: the given one, or that of `FOLDER`.

    Raises:
        SystemExit: the given interpreter has no spu, or no Python 3.10 or 3.11 can be found.
    """
    if given:
        if not _runs(given, "import spu"):
            raise SystemExit(f"{given} cannot import spu; pip install {PEER} there first")
        return given
    python = str(FOLDER / "bin" / "python")
    if Path(python).exists() and _runs(python, "import spu"):
        return python
    base = _base_python()
    print(f"making {FOLDER.name} with {base} and {PEER} (once, some minutes)", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([base, "-m", "venv", str(FOLDER)], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PEER]
    subprocess.run(install, check=True)
    return python


def _base_python() -> str:
    """A Python for which the peer publishes wheels."""
    candidates = [sys.executable, "python3.11", "python3.10"]
    versions = Path.home() / ".pyenv" / "versions"
    for minor in ("3.11", "3.10"):
        candidates += [str(p / "bin" / "python") for p in sorted(versions.glob(f"{minor}.*"))]
    for candidate in candidates:
        if _runs(candidate, "import sys; assert sys.version_info[:2] in ((3, 10), (3, 11))"):
            return candidate
    raise SystemExit(
        "SPU 0.9.5 needs Python 3.10 or 3.11 and none was found;\n"
        "install one, or name an environment that has it: --peer-python PATH"
    )


def _runs(python: str, code: str) -> bool:
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, timeout=120, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
