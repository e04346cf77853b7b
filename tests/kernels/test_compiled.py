"""What is compiled ahead is all that protocols use: nothing compiles in the middle of a run."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from cases import RECORDS, RINGS, variants

from spuvm.kernels import arith, bits, fixed, halves, matmul, scaling, tables, warm, wide
from spuvm.kernels.warm import samples, shares

ROOT = Path(__file__).parents[2]
MODULES = (arith, bits, fixed, halves, matmul, scaling, tables, wide)

SCRIPT = """
import json
import numpy as np
from cases import RECORDS, RINGS, variants
from parties import Trio
from variant import builder
from spuvm.bytecode.types import Type
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.kernels import arith, bits, fixed, halves, matmul, scaling, tables, wide
from spuvm.ring import Ring

for width in RINGS:
    trio = Trio(Ring(width))
    fxp = Fxp(Ring(width), DEFAULT_FRAC_BITS[width])
    for dtype in ("float16", "float32", "float64"):
        x = fxp.encode(np.ones(3, dtype))
        trio.put("x", x)
        fxp.decode(trio.open("x"), dtype, 8)
    for op in RECORDS:
        for v in list(variants(op, width))[::STEP]:
            values = v.values(np.random.default_rng(0))
            trio.run(v.program(values), v.secrets(values))
    # Views of every kind as operands: broadcast (read-only), reversed, strided, transposed.
    b = builder(Ring(width))
    x = b.input(Type("a", (1, 128), 0, 0, -9, 9), "o")
    bit = b.input(Type("b", (1, 128), 0, 1), "o")
    word = b.input(Type("b", (1, 128), 0, 12), "o")
    for i, shape in enumerate(((1, 128), (3, 128))):
        views = [b.emit("broadcast", v, shape=shape, dims=(0, 1)) for v in (x, bit, word)]
        views = [b.emit("reverse", v, axes=(i,)) for v in views] if i else views
        y, bits_, words = views
        b.emit("lincomb_a", *[y] * 5, coefficients=(1, 2, 3, 4, 5))
        b.emit("sum_a", y, axes=(0,))
        b.emit("mul_aa", y, y, trunc=0, form="narrow")
        b.emit("mul_aa", y, y, trunc=2, form="narrow")
        b.emit("mul_aa", y, y, trunc=2, form="full")
        b.emit("trunc_a", y, bits=3)
        b.emit("scale_ap", y, b.constant(Ring(width).array(np.full(shape, 3))), bits=3)
        b.emit("scale_ap", y, b.constant(Ring(width).array(np.array(3))), bits=3)
        b.emit("one_hot_a", y, size=3)
        b.emit("msb_a", y, bits=8)
        b.emit("eqz_a", y, bits=8)
        b.emit("a2b", y, bits=8)
        b.emit("b2a", words)
        b.emit("and_bb", bits_, bits_)
        b.emit("mul_ba", bits_, y)
        left = b.emit("broadcast", y, shape=(2, *shape), dims=(1, 2))
        right = b.emit("transpose", left, permutation=(0, 2, 1))
        b.emit("dot_aa", left, right, trunc=0, form="narrow")
        c = b.constant(Ring(width).array(np.ones((2, 128, 9), int)))
        b.emit("scale_dot_pa", b.emit("transpose", c, permutation=(0, 2, 1)), right, bits=3)
        b.output(b.emit("dot_ap", left, c), "int64", str(i))
    zeros = np.zeros((1, 128), Ring(width).dtype)
    trio.run(b.build(), [zeros, np.zeros((1, 128), np.uint8), zeros])
    trio.close()
used = [
    [name, str(s)]
    for module in (arith, bits, fixed, halves, matmul, scaling, tables, wide)
    for name, f in vars(module).items()
    for s in getattr(f, "signatures", ())
]
print(json.dumps(used))
"""


def compiled_ahead() -> set[tuple[str, str]]:
    calls = [*samples(), *samples(128)]
    return {(f.__name__, str(tuple(numba.typeof(a) for a in args))) for f, args in calls}


def test_every_kernel_is_compiled_ahead() -> None:
    kernels = {name for m in MODULES for name, f in vars(m).items() if hasattr(f, "signatures")}
    assert {name for name, _ in compiled_ahead()} == kernels
    assert all(inspect.getdoc(getattr(m, n)) for m in MODULES for n in kernels if hasattr(m, n))


def test_runs_use_nothing_else() -> None:
    """A fresh process runs variants of every instruction, in the long profile every one.

    Then the kernels are asked.
    """
    assert RECORDS
    assert all(variants(op, bits) for op in RECORDS for bits in RINGS)
    paths = [str(ROOT), str(ROOT / "tests" / "conformance")]
    step = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 3
    code = f"import sys; sys.path[:0] = {paths!r}\nSTEP = {step}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    used = {(name, signature) for name, signature in json.loads(done.stdout)}
    assert used - compiled_ahead() == set()


def test_a_kernel_is_compiled_in_one_process() -> None:
    """Two would number its dtypes in one file of the cache alike."""
    calls = [*samples(), *samples(128)]
    for parts in (1, 2, 3, 4):
        parted = shares([64, 128], parts)
        assert len(parted) == parts
        assert sum(map(len, parted)) == len(calls)
        kernels = [{f for f, _ in part} for part in parted]
        assert sum(map(len, kernels)) == len(set.union(*kernels))
        assert all(kernels)


@pytest.mark.parametrize(("program", "here"), [("true", []), ("false", [0, 1, 2])])
def test_what_other_processes_did_not_compile_is_compiled_here(
    program: str, here: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    calls = [(made.append, (0,)), (lambda i: made.append(i), (1,)), (made.append, (2,))]
    monkeypatch.setattr(warm, "samples", lambda ring: iter(calls))
    monkeypatch.setattr(warm, "processors", lambda: 2)
    monkeypatch.setattr(sys, "executable", shutil.which(program))
    with open(tmp_path / "lock", "w") as lock:
        warm._compile([64], lambda done, total: None, lock.fileno())
    assert sorted(made) == here


def test_loading_a_kernel_loads_no_compiler() -> None:
    """What generates code is two hundred modules, which processes that only run do not import."""
    code = (
        "import sys\nfrom spuvm.kernels.warm import ensure_compiled, samples\nensure_compiled()\n"
        "function, args = next(samples())\nfunction(*args)\n"
        "assert 'numba.np.arraymath' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
