"""Draws arguments for a case, compiles it, and says what the right answer is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from jax_cases import Arg, Case

from spuvm.bytecode.program import Program
from spuvm.compiler import CompileConfig, Compiled, SecretSpec, compile_function
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring


@dataclass(frozen=True)
class Drawn:
    """Arguments for one run: plain arrays and the specs that are compiled."""

    config: CompileConfig
    arrays: tuple[np.ndarray, ...]
    specs: tuple[SecretSpec, ...]


def configuration(bits: int, overflow: Any = "warn") -> CompileConfig:
    """The default configuration of a ring."""
    ring = Ring(bits)
    return CompileConfig(ring, Fxp(ring, DEFAULT_FRAC_BITS[bits]), overflow)


@st.composite
def drawn(draw: Any, case: Case) -> Drawn:
    """Arguments of every dtype, shape and magnitude a case allows, with ranges declared or not."""
    config = configuration(draw(st.sampled_from(case.rings)))
    shapes = draw(st.sampled_from(case.shapes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    declared = draw(st.sampled_from(["declared", "open"]))
    fitting = [d for d in case.args[0].dtypes if np.dtype(d).itemsize * 8 <= config.ring.bits]
    integer = draw(st.sampled_from(fitting))
    arrays, specs = [], []
    for arg, shape in zip(case.args, shapes, strict=True):
        fill = draw(st.sampled_from(["uniform", "small", "log", "zeros", "edge"]))
        array, lo, hi = sample(arg, shape, config, rng, fill, integer)
        bounds = (lo, hi) if declared == "declared" and arg.kind == "float" else (None, None)
        arrays.append(array)
        specs.append(SecretSpec(shape, str(array.dtype), draw(st.sampled_from("ab")), *bounds))
    return Drawn(config, tuple(arrays), tuple(specs))


def sample(
    arg: Arg, shape: Any, config: CompileConfig, rng: Any, fill: str, integer: str
) -> tuple[np.ndarray, float, float]:
    """One array of encodable values and the range it lies in."""
    if arg.kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_), 0, 1
    if arg.kind == "int":
        info = np.iinfo(integer)
        lo, hi = (info.min, info.max) if fill != "small" else (max(-3, info.min), 3)
        made = rng.integers(lo, hi, shape, np.int64, endpoint=True).astype(integer)
        if fill == "edge":
            made = rng.choice(np.array([info.min, 0, 1, info.max], integer), shape)
        return np.asarray(made), 0, 0
    hi = arg.limit if arg.limit is not None else config.fxp.max_float**arg.power
    lo = -hi if arg.lo is None else arg.lo
    near = 4 * 2.0**-config.fxp.frac_bits
    low, high = lo, hi  # where values are drawn; what is declared stays
    if fill == "small":
        low, high = (lo, min(hi, lo + near)) if lo > 0 else (max(lo, -near), min(hi, near))
    x = rng.uniform(low, high, shape)
    if fill == "log":
        x = np.copysign(np.exp2(rng.uniform(-config.fxp.frac_bits, np.log2(hi), shape)), x)
    if fill == "zeros":
        x = x * rng.integers(0, 2, shape)
    if fill == "edge":
        x = rng.choice([lo, hi, 0.0], shape)
    x = np.clip(x, lo, hi)
    grid = 2.0**-config.fxp.frac_bits
    encoded = np.asarray(np.rint(x / grid) * grid)
    ends = [np.trunc(v / grid * (1 - 2.0**-22)) * grid for v in (lo, hi)]  # float32 rounds outward
    return np.asarray(np.clip(encoded, *ends), np.float32), lo, hi


def decode_all(compiled: Compiled, outs: list[np.ndarray], config: CompileConfig) -> list[Any]:
    """Encoded outputs as float64, int64 or bool arrays."""
    made = []
    for out, value in zip(compiled.program.outputs, outs, strict=True):
        t = compiled.program.types[value_of(out)]
        dtype = "float64" if np.dtype(out.dtype).kind not in "biu" else out.dtype
        made.append(config.fxp.decode(value, dtype, t.frac, out.divisor))
    return made


def value_of(out: Any) -> int:
    """Value id of an output."""
    return int(out.value)


def encode_all(compiled: Compiled, arrays: Any, config: CompileConfig) -> list[np.ndarray]:
    """Plain arguments as the program's inputs."""
    return [np.asarray(config.fxp.encode(a)) for a in arrays]


def compile_case(case: Case, d: Drawn) -> Compiled:
    """Compile a case for drawn arguments."""
    compiled = compile_function(case.fn, d.specs, config=d.config)
    assert_truncations_are_proven(compiled.program)
    return compiled


def assert_truncations_are_proven(program: Program) -> None:
    """Where something is known of what is truncated, it is that |x| is at most 2^(k-2)."""
    most = 1 << program.ring - 2
    for i in program.instructions:
        if i.body is not None:
            assert_truncations_are_proven(i.body)
        elif i.op == "trunc_a":
            assert program.types[i.args[0]].magnitude(0) <= most, str(i)


def expected(case: Case, d: Drawn, encoded: list[np.ndarray]) -> list[np.ndarray]:
    """What JAX says in float64 on the values that were encoded; integers in their own dtype."""
    plain = []
    for array, code in zip(d.arrays, encoded, strict=True):
        if array.dtype.kind == "f":
            plain.append(d.config.fxp.decode(code, "float64", d.config.fxp.frac_bits))
        else:
            plain.append(array)
    with jax.enable_x64(True):
        results = jax.jit(case.fn)(*plain)  # one compilation, not one of each operation
        return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(results)]


def tolerance(config: CompileConfig) -> float:
    """2^-4 at 8 fraction bits, otherwise 2^-(f-6)."""
    f = config.fxp.frac_bits
    return 2.0**-4 if f == 8 else 2.0 ** -(f - 6)


def check(case: Case, d: Drawn, compiled: Compiled, got: list[Any], want: list[Any]) -> None:
    """Compare decoded results with the reference."""
    assert len(got) == len(want)
    for g, w, spec in zip(got, want, compiled.out_specs, strict=True):
        assert g.shape == w.shape == spec[0]
        if case.exact == "exact":
            np.testing.assert_array_equal(g, w.astype(g.dtype))
            continue
        error = np.abs(g.astype(np.float64) - w.astype(np.float64))
        allowed = tolerance(d.config) * np.maximum(1, np.abs(w.astype(np.float64)))
        assert (error <= allowed).all(), (g, w, error.max())


def run_case(case: Case, d: Drawn, seed: int = 0) -> tuple[Compiled, list[Any], list[Any]]:
    """Compile and run on the plaintext protocol with random rounding and range checks."""
    compiled = compile_case(case, d)
    encoded = encode_all(compiled, d.arrays, d.config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(seed), "ranges")
    return compiled, decode_all(compiled, outs, d.config), expected(case, d, encoded)
