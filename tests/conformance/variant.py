"""One way to use an instruction: operand types, attributes, random operands, exact results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.ring import Ring
from spuvm.wide import elements

Values = list[np.ndarray]


@dataclass(frozen=True)
class Variant:
    """One way to use an instruction.

    `units` is the declared error class: 0 is exact; otherwise the result differs from the exact
    quotient by less than so many units. `adapt` makes random operands meet a joint precondition.
    """

    ring: Ring
    op: str
    types: tuple[Type, ...]
    attrs: Mapping[str, Any]
    units: int = 0
    adapt: Callable[[Ring, Values], Values] | None = None

    def __str__(self) -> str:
        shapes = ",".join(f"{t.kind}{list(t.shape)}{t.width or ''}" for t in self.types)
        return f"{self.op} {shapes} {dict(self.attrs)}"

    def values(self, rng: np.random.Generator) -> Values:
        """Random encoded operands: magnitudes spaced logarithmically, both signs, borders."""
        made = [fill(t, self.ring, rng) for t in self.types]
        return self.adapt(self.ring, made) if self.adapt else made

    def program(self, values: Sequence[np.ndarray]) -> Program:
        """The instruction alone; public operands become constants."""
        b = builder(self.ring)
        secret = {i: b.input(t, "o") for i, t in enumerate(self.types) if t.kind != "p"}
        ids = [
            secret[i] if i in secret else b.constant(values[i], t.frac, t.width)
            for i, t in enumerate(self.types)
        ]
        out = ids[0] if self.op == "const" else b.emit(self.op, *ids, **self.attrs)
        b.output(out, "bool" if b.type(out).width == 1 else f"int{self.ring.bits}", "out")
        return b.build()

    def secrets(self, values: Sequence[np.ndarray]) -> Values:
        """The operands that are inputs of the program."""
        return [v for v, t in zip(values, self.types, strict=True) if t.kind != "p"]

    def quotient(self, values: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
        """For rounding instructions: (exact result as Python integers, bits to divide it by)."""
        signed = [to_ints(self.ring, v) for v in values]
        if self.op == "round_a":
            return signed[0], 0
        if self.op in ("trunc_sum_a", "round_sum_a"):
            terms = zip(signed, self.attrs["coefficients"], strict=True)
            bits = self.attrs["bits"] if self.op == "trunc_sum_a" else 0
            return np.asarray(sum(x * c for x, c in terms), object), bits
        if self.op == "scale_sum_a":
            terms = zip(signed, self.attrs["coefficients"], strict=True)
            total = np.asarray(sum(x * c for x, c in terms), object)
            return total * self.attrs["factor"], self.attrs["bits"]
        if self.op == "scale_dot_pa":
            return np.asarray(signed[0] @ signed[1], object), self.attrs["bits"]
        if self.op == "scale_ap":
            return np.asarray(signed[0] * signed[1], object), self.attrs["bits"]
        if self.op == "trunc_a":
            return signed[0], self.attrs["bits"]
        made = signed[0] * signed[1] if self.op == "mul_aa" else signed[0] @ signed[1]
        return np.asarray(made, object), self.attrs["trunc"]


def builder(ring: Ring) -> Builder:
    """An empty program with the ring's default fraction bits."""
    return Builder(ring, Fxp(ring, DEFAULT_FRAC_BITS[ring.bits]))


def to_ints(ring: Ring, x: np.ndarray) -> np.ndarray:
    """Signed Python integers."""
    flat = [ring.to_signed(int(v)) for v in elements(x).reshape(-1)]
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(np.shape(x))


def fill(t: Type, ring: Ring, rng: np.random.Generator) -> np.ndarray:
    """Random encoded values of a type."""
    bits = t.width or ring.bits
    half = 1 << (bits - 1)
    lo, hi = t.bounds or ((0, 2 * half - 1) if t.width else (-half, half - 1))
    borders = [b for b in (lo, lo + 1, hi, hi - 1, 0, 1, -1, 2, -2) if lo <= b <= hi]
    flat = []
    for _ in range(t.size):
        if rng.random() < 0.2:
            flat.append(borders[rng.integers(len(borders))])
            continue
        e = int(rng.integers(0, bits))
        v = (1 << e) + int(rng.integers(0, 1 << min(e, 62), endpoint=True))
        flat.append(min(hi, max(lo, v if rng.random() < 0.5 else -v)))
    if t.width == 1:
        return np.array(flat, np.uint8).reshape(t.shape)
    return ring.array(np.array(flat, object)).reshape(t.shape)
