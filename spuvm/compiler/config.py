"""What goes into a compilation and what comes out, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from spuvm.bytecode.program import Program
from spuvm.compiler.disclosure import Disclosure
from spuvm.fxp import Fxp
from spuvm.ring import Ring


@dataclass(frozen=True)
class CompileConfig:
    """Ring, fixed-point encoding, and what to do where a range leaves what is representable.

    on_overflow  ``warn`` collects a text in Compiled.warnings, ``error`` raises CompileError.
    """

    ring: Ring
    fxp: Fxp
    on_overflow: Literal["warn", "error"] = "warn"


@dataclass(frozen=True)
class SecretSpec:
    """A secret leaf of the arguments: shape, JAX dtype, whose data it is, its declared range.

    frac: fraction bits of a float, None for the program's: some results of a program have more of
        them, and go into the next one so.
    squares: it is a mean of squares (compiler/moments.py).
    divisor: the value is what is shared over this: a mean, of which the sum is (compiler/sums.py).
    """

    shape: tuple[int, ...]
    dtype: str
    origin: str
    lo: float | None = None
    hi: float | None = None
    frac: int | None = None
    divisor: int = 1
    squares: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """An equation of the traced function that was lowered by a rule of its own.

    Operands and results are Secret or public; `source` is the user's line; `debug_info` is that of
    the function it stands in. Inside of loops with `trips` iterations, outermost first, they have a
    leading axis for each.
    """

    equation: Any
    debug_info: Any
    operands: tuple[Any, ...]
    results: tuple[Any, ...]
    source: str
    trips: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """The program and everything about it that is known before it runs.

    out_tree          JAX tree structure of the result.
    out_specs         (shape, dtype) per output, in the order of the program's outputs.
    warnings          one text per place where a range leaves the representable numbers.
    notes             one text per loop that always runs as often as it ever may.
    unproven          one text per line with floats that nothing shows to stay representable.
    disclosures       everything that will be opened, outputs included.
    public_arguments  names of the arguments that were taken as public constants.
    constants         public floats in the order in which they met secrets, as float64.
    watched           equations whose operands and results are outputs too, for debugging.
    watched_values    the ids that Watched uses, in the order of these outputs.
    """

    program: Program
    out_tree: Any
    out_specs: tuple[tuple[tuple[int, ...], str], ...]
    warnings: tuple[str, ...]
    disclosures: tuple[Disclosure, ...]
    public_arguments: tuple[str, ...]
    constants: tuple[npt.NDArray[Any], ...] = ()
    watched: tuple[Watched, ...] = ()
    watched_values: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
