"""What docs/ops.md measures: every record of this folder in every ring, with fixed seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "compiler"))

import jax
import numpy as np
from array_cases import ARRAY_CASES
from function_cases import FUNCTIONS, Function
from integer_cases import OPS, Op
from integer_cases import sample as whole_numbers
from jax_cases import CASES, SAME, Case
from linalg_cases import CHECKS, SMALL
from loop_cases import LOOP_CASES
from reference import decode_all, encode_all, sample
from sweep import Setting, compiled, measure

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.compiler.rules import RULES
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

SEEDS = (1, 2)
FILLS = ("uniform", "log", "small", "zeros", "edge")
MANY = (64,)  # the shape of records of one element
FLOATS = "float"  # float16, bfloat16, float32 and float64 make the same program
SETTINGS = ((32, 8), (64, 18), (128, 26), (128, 40))


@dataclass(frozen=True)
class Cell:
    """One ring: rounds, bits per element, worst error; or why there is nothing."""

    rounds: int = 0
    bits: int = 0
    error: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        return f"{self.rounds} · {self.bits:,} · {rounded_up(self.error)}"


@dataclass(frozen=True)
class Record:
    """What is measured: `cell(dtype, ring, frac)` for every dtype of a record."""

    primitive: str
    name: str
    shape: str
    dtypes: tuple[str, ...]
    cell: Callable[[str, int, int], Cell]

    @property
    def id(self) -> str:
        """Name in reports and for --only."""
        return f"{self.primitive}-{self.name}"


def rounded_up(error: float | None) -> str:
    """One significant digit, upwards; integers and bits are right or the measurement fails."""
    if error is None:
        return "exact"
    if error == 0:
        return "0"
    exponent = math.floor(math.log10(error))
    digit = math.ceil(error / 10.0**exponent * (1 - 1e-9))
    return f"{digit}e{exponent}" if digit < 10 else f"1e{exponent + 1}"


# --- measurements ------------------------------------------------------------------------------


def config_of(ring: int, frac: int) -> CompileConfig:
    """A ring with given fraction bits."""
    return CompileConfig(Ring(ring), Fxp(Ring(ring), frac))


def cell_of(
    fn: Callable[..., Any],
    args: Sequence[Any],
    public: Sequence[bool],
    draws: Iterator[Sequence[Any]],
    config: CompileConfig,
) -> Cell:
    """Compile for `args`, run on every one of `draws`, compare with JAX in 64 bits."""
    wide = config.fxp.frac_bits > 28  # float32 has fewer digits than that
    specs = [a if p else SecretSpec(a.shape, str(a.dtype), "o")
             for a, p in zip(args, public, strict=True)]  # fmt: skip
    if wide:
        specs = [replace(s, dtype="float64") if isinstance(s, SecretSpec) and s.dtype == "float32"
                 else s for s in specs]  # fmt: skip
    with jax.enable_x64(True) if wide else nullcontext():
        made = compile_function(fn, specs, config=config)
    program, worst = made.program, None
    for seed, arrays in enumerate(draws):
        secret = [a for a, p in zip(arrays, public, strict=True) if not p]
        encoded = encode_all(made, secret, config)
        outs = run_plain(program, encoded, np.random.default_rng(seed), "ranges")
        for got, want in zip(
            decode_all(made, outs, config), truth(fn, arrays, config), strict=True
        ):
            error = difference(got, want)
            worst = error if worst is None or (error or 0) > worst else worst
    cost = static_cost(program)
    outputs = [math.prod(shape) for shape, _ in made.out_specs]
    largest = max([*(a.size for a in args), *outputs, 1])
    return Cell(cost.rounds, -(-max(cost.bytes_sent) * 8 // largest), worst)


def truth(fn: Callable[..., Any], arrays: Sequence[Any], config: CompileConfig) -> list[Any]:
    """JAX in float64 on what was encoded; integers in their own dtype."""
    fxp = config.fxp
    with jax.enable_x64(True):
        plain = [
            fxp.decode(np.asarray(fxp.encode(a)), "float64", fxp.frac_bits)
            if a.dtype.kind == "f"
            else a
            for a in arrays
        ]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(jitted(fn)(*plain))]


@cache
def jitted(fn: Callable[..., Any]) -> Callable[..., Any]:
    """One compilation for all draws and rings."""
    return jax.jit(fn)


def difference(got: Any, want: Any) -> float | None:
    """|got - want| / max(1, |want|); of integers and bits None, and they have to be equal."""
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return None
    if not got.size:
        return 0.0
    return float((np.abs(got - want) / np.maximum(1, np.abs(want.astype(np.float64)))).max())


# --- records of every table ----------------------------------------------------------------------


def of_case(case: Case) -> Record:
    """A record of jax_cases, array_cases or loop_cases."""
    alternatives = case.shapes
    if (
        all(len(set(s)) == 1 and s[0] in SAME for s in alternatives)
        and ((),) * len(case.args) in alternatives
    ):
        shapes = (MANY,) * len(case.args)
    else:
        shapes = max(alternatives, key=lambda s: sum(math.prod(x) for x in s))
    kinds = {arg.kind for arg in case.args}
    if "float" in kinds:
        dtypes: tuple[str, ...] = (FLOATS,)
    elif "int" in kinds:
        dtypes = tuple(next(a for a in case.args if a.kind == "int").dtypes)
    else:
        dtypes = ("bool",)
    text = " ".join(str(s).replace(" ", "").replace(",)", ")") for s in shapes)
    return Record(case.primitive, case.name, text, dtypes, partial(case_cell, case, shapes))


def case_cell(case: Case, shapes: Any, dtype: str, ring: int, frac: int) -> Cell:
    """A case on some draws of each kind of operands."""
    if ring not in case.rings:
        return Cell(reason=case.why)
    config = config_of(ring, frac)
    whole = next((a.dtypes[min(2, len(a.dtypes) - 1)] for a in case.args if a.kind == "int"), "i4")
    whole = dtype if np.dtype("bool" if dtype == FLOATS else dtype).kind in "iu" else whole
    if np.dtype(whole).itemsize * 8 > ring:
        return Cell(reason="wider than the ring")

    def draw(fill: str, seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [
            sample(arg, shape, config, rng, fill, whole)[0]
            for arg, shape in zip(case.args, shapes, strict=True)
        ]

    draws = (draw(fill, seed) for seed in SEEDS for fill in FILLS)
    return cell_of(case.fn, draw("uniform", 0), [False] * len(shapes), draws, config)


def of_function(function: Function) -> Record:
    """A record of function_cases: thousands of points of its whole domain."""
    return Record(function.primitive, function.name, "", (FLOATS,), partial(swept, function))


def swept(function: Function, dtype: str, ring: int, frac: int) -> Cell:
    """Cost and worst error over the sweeps of all seeds."""
    setting = Setting(ring, frac)
    program = compiled(function, setting).program
    cost = static_cost(program)
    size = program.inputs[0].type.size
    worst = max(measure(function, setting, seed)[0] for seed in SEEDS)
    return Cell(cost.rounds, -(-max(cost.bytes_sent) * 8 // size), worst)


PLUMBING = ("jit", "convert_element_type", "broadcast_in_dim", "reshape", "squeeze", "slice")


def of_integers(op: Op) -> Record:
    """A record of integer_cases; its primitives are read from what JAX traces."""
    args = [jax.ShapeDtypeStruct((24,), op.dtypes[0])] * len(op.operands)
    with jax.enable_x64(True):
        names = [e.primitive.name for e in jax.make_jaxpr(op.fn)(*args).jaxpr.eqns]
    names = [n for n in dict.fromkeys(names) if n not in PLUMBING] or names[:1]
    return Record(
        " ".join(names[:4]), "int-" + op.name, "(24)", op.dtypes, partial(integer_cell, op)
    )


def integer_cell(op: Op, dtype: str, ring: int, frac: int) -> Cell:
    """Exact in every dtype that fits."""
    if np.dtype(dtype).itemsize * 8 > ring:
        return Cell(reason="wider than the ring")
    public = [k not in "xs" for k in op.operands]

    def draw(seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [whole_numbers(rng, dtype, k) for k in op.operands]

    first = draw(SEEDS[0])
    draws = iter([first, *([] if any(public) else [draw(seed) for seed in SEEDS[1:]])])
    with jax.enable_x64(True):
        return cell_of(op.fn, first, public, draws, config_of(ring, frac))


def of_matrices(name: str) -> Record:
    """A record of linalg_cases."""
    _, *arrays = CHECKS[name]
    text = " ".join(str(a.shape).replace(" ", "").replace(",)", ")") for a in arrays)

    def cell(dtype: str, ring: int, frac: int) -> Cell:
        fn, *given = (SMALL if frac == 8 else CHECKS)[name]
        return cell_of(fn, given, [False] * len(given), iter([given]), config_of(ring, frac))

    words = [w for w in name.split() if w in RULES]
    return Record(" ".join(words) or "(jnp.linalg)", "matrix-" + name, text, (FLOATS,), cell)


@cache
def records() -> list[Record]:
    """All of them, in the order of the table."""
    swept_ids = {f.id for f in FUNCTIONS}
    cases = [c for c in (*CASES, *ARRAY_CASES, *LOOP_CASES) if c.id not in swept_ids]
    made = [*map(of_case, cases), *map(of_function, FUNCTIONS)]
    made += [*map(of_integers, OPS), *map(of_matrices, CHECKS)]
    return sorted(made, key=lambda r: (r.primitive.lower(), r.name))
