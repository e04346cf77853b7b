"""Size budget: a file that outgrows its one purpose is cut, or named here with a reason."""

from __future__ import annotations

from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
LIMIT = 450

LONGER = {
    "spuvm/bytecode/isa.py": (730, "the instruction table: read as one, and nothing else in it"),
    "spuvm/protocol/plain.py": (520, "its meaning in the clear, an entry for each instruction"),
}


def lengths(*folders: str) -> dict[str, int]:
    found = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("spuvm/kernels/", "spuvm/devices/")):
                found[name] = len(path.read_text().splitlines())
    return found


def test_files_stay_small() -> None:
    code = lengths("spuvm", "kernels", "devices")
    rest = lengths("tests", "benchmarks", "examples")
    for title, sizes in (("package", code), ("around it", rest)):
        largest = sorted(sizes.items(), key=lambda x: -x[1])[:5]
        middle = median(sizes.values())
        print(f"{title}: {len(sizes)} files, {sum(sizes.values())} lines, median {middle}")
        print("".join(f"  {n:5} {name}\n" for name, n in largest), end="")
    every = code | rest
    over = {n: s for n, s in every.items() if s > LONGER.get(n, (LIMIT, ""))[0]}
    assert not over, f"more than {LIMIT} lines: {over}"
    assert set(LONGER) <= set(every), "an exception is not needed any more"
    assert all(every[n] > LIMIT for n in LONGER), "an exception is not needed any more"
