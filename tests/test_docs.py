"""The documents' code runs, their commands exist, and they name nothing that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, code) of all fenced blocks of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(d.name, code) for d in DOCUMENTS for code in pattern.findall(d.read_text())]


@pytest.mark.parametrize(("document", "code"), blocks("python"))
def test_python_blocks_run(document: str, code: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{document}:\n{done.stderr}"
    assert done.stdout, f"{document}: a block shows nothing"


def test_make_targets_that_documents_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:`|    )make ([a-z-]+)", document.read_text()))
        assert named <= targets, f"{document.name} names {sorted(named - targets)}"


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_extras_that_the_readme_names_resolve() -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"'\.\[([a-z,]+)\]'", readme))
    declared = (ROOT / "pyproject.toml").read_text()
    for extra in named:
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra


def test_the_table_of_speeds_is_what_was_measured() -> None:
    import json

    from benchmarks.report import readme_table

    rows = json.loads((ROOT / "benchmarks" / "results" / "peers.json").read_text())
    assert readme_table(rows) in (ROOT / "README.md").read_text(), (
        "the README's table is old: paste what python -m benchmarks.report prints"
    )
