"""Runs a function record on thousands of points at once and measures its error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
from function_cases import Domain, Function

from spuvm.compiler import CompileConfig, Compiled, SecretSpec, compile_function
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

POINTS = 1024
SIZES = (1, 4, 32)  # of programs for few elements
FRACS = {32: (8, 10), 64: (18, 10, 26), 128: (26, 40, 32)}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Setting:
    """A ring, its fraction bits, the declared range of each operand (or None).

    `size` is the number of elements that a program is for: fewer take other ways.
    """

    ring: int
    frac: int
    declared: tuple[Interval, ...] | None = None
    size: int = POINTS

    @property
    def fxp(self) -> Fxp:
        """The encoding."""
        return Fxp(Ring(self.ring), self.frac)

    @property
    def dtype(self) -> str:
        """float64 where float32 has fewer digits than the encoding."""
        return "float64" if self.frac > 28 else "float32"

    @property
    def tolerance(self) -> float:
        """The contract: 2^-4 at 8 fraction bits, else 2^-(f-6), for float32 at least 2^-22."""
        if self.frac == 8:
            return 2.0**-4
        return max(2.0 ** -(self.frac - 6), 2.0**-22 if self.dtype == "float32" else 0.0)

    def clip(self, domain: Domain) -> Interval:
        """The representable part of a domain."""
        top = self.fxp.max_float**domain.power * (1 - 2.0**-30)
        return max(domain.lo, -top), min(domain.hi, top)


@cache
def compiled(function: Function, setting: Setting) -> Compiled:
    """The program on as many points as the setting says."""
    ranges = setting.declared or ((None, None),) * len(function.args)
    specs = [SecretSpec((setting.size,), setting.dtype, "alice", lo, hi) for lo, hi in ranges]
    config = CompileConfig(Ring(setting.ring), setting.fxp)
    with jax.enable_x64(setting.dtype == "float64"):
        return compile_function(function.fn, specs, config=config)


def points(lo: float, hi: float, frac: int, rng: np.random.Generator) -> np.ndarray:
    """Multiples of 2^-frac in [lo, hi]: every magnitude, both signs, ends, ties, powers of two."""
    unit = 2.0**-frac
    top = max(abs(lo), abs(hi), 2 * unit)
    sizes = np.exp2(rng.uniform(-frac, np.log2(top), POINTS)) * rng.choice([-1, 1], POINTS)
    borders = np.ldexp(1.0, rng.integers(-frac, int(np.log2(top)) + 1, POINTS // 8))
    turns = rng.choice([np.log(2), np.pi / 2], borders.size) * rng.integers(0, 64, borders.size)
    borders = np.where(rng.random(borders.size) < 0.7, borders, turns)  # of exponents, of quadrants
    borders = borders * rng.choice([-1, 1], borders.size) + rng.integers(-2, 3, borders.size) * unit
    ties = rng.integers(-40, 41, POINTS // 8) / 2
    near = rng.normal(scale=min(8.0, top), size=POINTS // 4)
    even = rng.uniform(lo, hi, POINTS // 8)
    special = [0, unit, -unit, lo, hi, lo + unit, hi - unit, 1, -1, 0.5, -0.5, 16, 1 + unit]
    made = np.concatenate([special, borders, ties, near, even, sizes])[:POINTS]
    made = np.where((made < lo) | (made > hi), -made, made)
    grid = np.rint(made / unit) * unit
    return 0.0 + rng.permutation(
        np.clip(grid, np.ceil(lo / unit) * unit, np.floor(hi / unit) * unit)
    )


def operands(
    function: Function, setting: Setting, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """POINTS points of each operand's domain or declared range; a third are close pairs."""
    ends = setting.declared or tuple(setting.clip(d) for d in function.args)
    made = [points(lo, hi, setting.frac, rng) for lo, hi in ends]
    if len(made) == 2:
        third = POINTS // 3
        near = made[0][:third] + rng.integers(-2, 3, third) * 2.0**-setting.frac
        near = near * rng.choice([-1, 1], third)
        inside = (near >= ends[1][0]) & (near <= ends[1][1])
        made[1][:third] = 0.0 + np.where(inside, near, made[1][:third])
    return tuple(made)


def run(
    function: Function, setting: Setting, xs: tuple[np.ndarray, ...], rng: np.random.Generator
) -> np.ndarray:
    """The results in float64, on the plaintext protocol with random rounding and range checks."""
    made = compiled(function, setting)
    encoded = [np.asarray(setting.fxp.encode(x)).reshape(-1, setting.size) for x in xs]
    output = made.program.outputs[0]
    frac = made.program.types[output.value].frac
    wide = output.dtype if np.dtype(output.dtype).kind in "iub" else "float64"
    results = []
    for part in zip(*encoded, strict=True):
        (out,) = run_plain(made.program, list(part), rng, "ranges")
        decoded = setting.fxp.decode(out, wide, frac, output.divisor)
        results.append(np.asarray(decoded).astype(np.float64))
    return np.concatenate(results)


def exact(function: Function, xs: tuple[np.ndarray, ...]) -> np.ndarray:
    """What JAX says in float64."""
    with jax.enable_x64(True), np.errstate(all="ignore"):
        return np.asarray((function.truth or function.fn)(*xs), np.float64)


def truth(function: Function, setting: Setting, xs: tuple[np.ndarray, ...]) -> np.ndarray:
    """The right results; infinite ones are the largest number, 0 / 0 is 0."""
    want = exact(function, xs)
    return np.where(np.isnan(want), 0, np.clip(want, -limit(setting), limit(setting)))


def limit(setting: Setting) -> float:
    """Results that large count as saturated."""
    return float(setting.fxp.max_float * (1 - 2.0**-12))


def errors(setting: Setting, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| / max(1, |want|)."""
    got = np.clip(got, -limit(setting), limit(setting))
    return np.asarray(np.abs(got - want) / np.maximum(1, np.abs(want)))


def measure(function: Function, setting: Setting, seed: int) -> tuple[float, Any]:
    """The worst error over one draw of points, and where it is."""
    rng = np.random.default_rng(seed)
    xs = operands(function, setting, rng)
    most = setting.size * -(-16 // setting.size)  # 16 or more, in runs of a few elements each
    xs = tuple(x[:most] for x in xs)
    got, want = run(function, setting, xs, rng), truth(function, setting, xs)
    found = np.where(function.holds(*xs), errors(setting, got, want), 0)
    if function.exact:
        assert np.array_equal(got, exact(function, xs)), function.id
    worst = int(found.argmax())
    return float(found[worst]), [float(x[worst]) for x in xs]
