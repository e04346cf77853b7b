"""What importing costs and brings, and that layers import downward only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[1]


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {m.split(".")[0] for m in done.stdout.split()}


def test_import_of_the_package_is_light() -> None:
    loaded = modules_after("import spuvm as sf; sf.__version__; dir(sf)")
    assert not loaded & {"jax", "jaxlib", "numba", "ray", "phe", "cryptography", "sklearn"}


WALK = """
import importlib, pkgutil
for name in {packages!r}:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(found.name)
"""


def test_the_share_side_needs_neither_jax_nor_ray_nor_phe() -> None:
    packages = ["spuvm.vm", "spuvm.protocol", "spuvm.net", "spuvm.bytecode", "spuvm.kernels"]
    loaded = modules_after(WALK.format(packages=packages))
    assert {"numba", "cryptography"} <= loaded
    assert not loaded & {"jax", "jaxlib", "ray", "phe", "gmpy2", "sklearn"}


def test_a_machine_alone() -> None:
    loaded = modules_after("import spuvm.vm.machine")
    assert not loaded & {"jax", "jaxlib", "ray", "phe"}


def test_the_compiler_loads_no_kernels_and_no_protocol() -> None:
    loaded = modules_after("import spuvm.compiler")
    assert "jax" in loaded
    assert not loaded & {"numba", "ray", "phe", "cryptography"}


@pytest.mark.parametrize("name", ["kernels", "devices"])
def test_top_level_folders_have_one_name(name: str) -> None:
    """From the root they could be imported under the wrong name: refused, with the right one."""
    code = f"import {name}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode
    assert f"ImportError: import this package as spuvm.{name}" in done.stderr


def test_layers() -> None:
    """import-linter's contracts in pyproject.toml hold."""
    beside = Path(sys.executable).parent / "lint-imports"
    tool = str(beside) if beside.exists() else shutil.which("lint-imports")
    assert tool, "install the dev extra"
    done = subprocess.run(
        [tool], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ciphertexts_need_neither_jax_nor_ray_nor_phe() -> None:
    loaded = modules_after(WALK.format(packages=["spuvm.paillier"]))
    assert "gmpy2" in loaded
    assert not loaded & {"jax", "jaxlib", "ray", "phe", "numba"}


def test_what_runs_inside_a_party_loads_little() -> None:
    loaded = modules_after("import spuvm.ml.worker, spuvm.data.local, spuvm.devices.heuparty")
    assert {"pandas", "gmpy2"} <= loaded
    assert not loaded & {"jax", "ray", "phe"}


def test_a_process_of_functions_and_instances_on_ray_loads_little() -> None:
    """Of a party: only who deals shares or hosts a machine needs kernels."""
    loaded = modules_after("import spuvm.devices.actors")
    assert "ray" in loaded
    assert not loaded & {"jax", "numba", "scipy", "phe", "cryptography", "pandas"}
    assert not modules_after("import spuvm.devices.machineactor") & {"jax", "phe", "pandas"}


def test_products_in_tests_take_one_thread() -> None:
    """Threads of the linear algebra that wait for a core spin: small products take 8 times as long.

    tests/conftest.py says so before numpy is loaded, unless a plugin of pytest loads it.
    """
    wanted = int(os.environ["OPENBLAS_NUM_THREADS"])
    pools = [p for p in threadpool_info() if p["internal_api"] == "openblas"]
    assert all(p["num_threads"] == wanted for p in pools), pools
