"""The list of packages equals the tree, and a built wheel contains every one as real files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINKS = {"spuvm/kernels": "../kernels", "spuvm/devices": "../devices"}


def folder_of(package: str, root: Path = ROOT) -> Path:
    """Where a package's files really are."""
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    for name, folder in mapped.items():
        if package == name or package.startswith(name + "."):
            return root / folder / Path(*package[len(name) :].strip(".").split("."))
    return root / package.replace(".", "/")


def test_the_list_of_packages_equals_the_tree() -> None:
    found = set()
    for top, name in ((ROOT / "spuvm", "spuvm"), *((ROOT / f, f"spuvm.{f}") for f in TOPS)):
        for init in top.rglob("__init__.py"):
            if not init.is_relative_to(ROOT / "spuvm/kernels") and not init.is_relative_to(
                ROOT / "spuvm/devices"
            ):
                found.add(".".join([name, *init.parent.relative_to(top).parts]))
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])
    for package in found:
        assert (folder_of(package) / "__init__.py").is_file()


TOPS = ("kernels", "devices")


@pytest.mark.parametrize("link", LINKS)
def test_links_are_relative(link: str) -> None:
    assert (ROOT / link).is_symlink()
    assert (ROOT / link).readlink().as_posix() == LINKS[link]


def test_top_level_folders_guard_their_name() -> None:
    for name in TOPS:
        text = (ROOT / name / "__init__.py").read_text()
        assert f'if __name__ != "spuvm.{name}":' in text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, in this environment where its tools suffice."""
    source = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("spuvm", *TOPS):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(source / "out")]
    if int(version("setuptools").split(".")[0]) >= 77:
        command.append("--no-isolation")
    done = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (made,) = (source / "out").glob("*.whl")
    return made


def test_the_wheel_contains_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as z:
        inside = {n: z.getinfo(n).file_size for n in z.namelist()}
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        for path in folder_of(package, wheel.parents[1]).glob("*.py"):
            name = f"{package.replace('.', '/')}/{path.name}"
            assert inside.get(name) == path.stat().st_size, name
    assert "spuvm/py.typed" in inside
    tops = {n.split("/")[0] for n in inside}
    assert tops == {"spuvm", f"spuvm-{PROJECT['project']['version']}.dist-info"}


def test_the_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Unpacked alone in a folder, without the sources beside it."""
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path)
    code = (
        f"import sys; sys.path[:] = [{str(tmp_path)!r}] + [p for p in sys.path if p]\n"
        "import spuvm.kernels, spuvm.vm.machine, spuvm.devices\n"
        "print(spuvm.kernels.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "spuvm" / "kernels" / "__init__.py")
