"""Aggregates as results: what is opened of them without being truncated first.

A mean: the sum is what is shared, and whoever it is opened to divides it by the count. A sum over n
inputs and its mean say the same, so nothing more is disclosed.

A sum with weights keeps its place, but not its digits beyond the program's fraction bits, which
would tell its terms apart (modulo a weight, the term with that weight drops out): its components
are rounded where they are (round_a). That is off by up to 1.5 units even where truncation would be
exact, as for products of whole numbers, so these are truncated.

As operands of the next program both are divided or truncated there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from spuvm.bytecode.program import Instruction, Output, Program
from spuvm.compiler import arith, means, moments
from spuvm.compiler.config import CompileConfig, SecretSpec
from spuvm.compiler.context import Lowering
from spuvm.compiler.facts import root, squared
from spuvm.compiler.passes import optimised
from spuvm.compiler.values import type_of_input

INEXACT = 8  # fraction bits of public factors that make a product worth no exactness
_SHAPES = ("reshape", "broadcast", "transpose", "slice")
_SUMS = ("sum_a", "add_aa")
_MOVES = (*_SHAPES, "concat", "reverse", "neg_a", "sub_aa", "add_ap", "sub_pa")
_FACTORS = ("mul_ap", "shl_a", "dot_ap", "dot_pa")


def divided(low: Lowering, x: int, by: arith.Array, made: int) -> None:
    """`made` is x / by; remembered where x is a sum of at least so many inputs."""
    by = arith.uniform(by)
    if by.ndim or by < 2 or by != np.rint(by) or low.trips or low.frac(x) > low.f:
        return
    if x not in low.totals and by <= _summands(low, x):
        low.quotients[made] = x, int(by)


def _summands(low: Lowering, x: int) -> int:
    """How many elements of inputs x is the sum of; 0 if it is anything else.

    No element counts twice: with all its digits 2 a + b would tell whether b is even. So nothing
    that is no input is taken either: a protocol's result may be an input times a public number.
    """
    start = low.builder.instruction(root(low, x))
    if start is None or start.op not in _SUMS:
        return 0
    seen, parts = set[int](), dict[int, list[Instruction]]()
    waiting: list[tuple[int, Instruction, float]] = [(x, start, 1.0)]
    total = 0.0
    while waiting:
        value, user, count = waiting.pop()
        value = root(low, value)
        made = low.builder.instruction(value)
        if low.type(value).kind == "p" or value in low.public:
            continue
        if user.op == "slice" and (value in parts or value not in seen):
            parts.setdefault(value, []).append(user)
        elif value in seen:
            return 0
        is_leaf = made is None or value in low.quotients
        if is_leaf:
            total += count
        elif value not in seen:
            assert made is not None
            sizes = [low.type(v).size for v in made.args]
            repeats = made.op == "broadcast" and made.types[0].size > sizes[0]
            if made.op not in (*_SUMS, *_MOVES) or repeats:
                return 0
            if made.op in ("sum_a", "concat"):  # of parts of a row each counts for its part
                count /= max(1, made.types[0].size)
                waiting += [(v, made, count * n) for v, n in zip(made.args, sizes, strict=True)]
            else:
                waiting += [(v, made, count) for v in made.args]
        else:
            return 0
        seen.add(value)
    return round(total) if all(map(_are_apart, parts.values())) else 0


def _are_apart(slices: Sequence[Instruction]) -> bool:
    """Whether slices of a value follow each other along an axis."""
    ends: Any = [(i.attrs["start"], i.attrs["limit"]) for i in slices]
    for axis in range(len(ends[0][0])):
        along = sorted((start[axis], limit[axis]) for start, limit in ends)
        if all(limit <= start for (_, limit), (start, _) in pairwise(along)):
            return True
    return False


def as_result(low: Lowering, output: Output) -> Output:
    """A float as a program gives it away."""
    x = output.value
    if squared(low, x):
        made = moments.as_result(low, x)
        return replace(output, value=made, squares=low.frac(made) > low.f)
    mean = _mean(low, x)
    if mean is not None:
        return replace(output, value=mean[0], divisor=mean[1])
    rounded = _rounded(low, x)
    return replace(output, value=moments.as_result(low, x) if rounded is None else rounded)


def _mean(low: Lowering, x: int) -> tuple[int, int] | None:
    """The sum that x is the mean of, and the count; None where it is none, or used otherwise."""
    source, by = low.quotients.get(x, (x, 1))
    more = low.f - low.frac(source)
    if by == 1 or low.builder.used(x) or (more and low.magnitude(source) << more >= low.bound):
        return None
    return arith.to_frac(low, source, low.f), by


def _rounded(low: Lowering, x: int) -> int | None:
    """A sum with weights, rounded where it is; None if it is none, or there is no room."""
    bits = low.frac(x) - low.f
    if bits < INEXACT or low.type(x).bounds is None or not _is_weighted(low, x):
        return None
    fits = low.magnitude(x) + (3 << bits - 1) < low.bound
    return low.emit("round_a", x, bits=bits) if fits else None


def _is_weighted(low: Lowering, x: int) -> bool:
    """Whether x is a sum of terms with weights that are not exact, so that it is not either.

    Public ones are fractions; secret ones were made by a division.
    """
    made = low.builder.instruction(_still(low, x))
    if made is None:
        return False
    if made.op == "mul_ap":
        return _fraction(low, made) and _is_of_inputs(low, made.args[0])
    if made.op == "add_aa":
        return all(_is_of_inputs(low, v, fractions=True) for v in made.args)
    if made.op not in ("dot_aa", "dot_ap", "dot_pa"):
        return False
    for weights, axis in zip(made.args, (1, 2), strict=True):
        if low.shape(weights)[axis] == 1 and (
            _is_quotient(low, weights) if made.op == "dot_aa" else low.type(weights).kind == "p"
        ):
            return made.op == "dot_aa" or _fraction(low, made)
    return False


def _is_of_inputs(low: Lowering, x: int, *, fractions: bool = False) -> bool:
    """Whether x sums up inputs times public numbers, or is such a term, these all `fractions`."""
    waiting, seen, summed = [x], set[int](), fractions
    while waiting:
        value = root(low, waiting.pop())
        made = low.builder.instruction(value)
        if value in seen or low.type(value).kind == "p" or (made is None and not fractions):
            continue
        seen.add(value)
        if made is None:
            return False
        if fractions and made.op in _FACTORS:
            if not _fraction(low, made) or _still(low, made.args[0]) >= len(low.inputs):
                return False
        elif made.op in (*_SUMS, *_MOVES, *_FACTORS):
            summed = summed or made.op in _SUMS
            waiting += made.args
        else:
            return False
    return summed


def _fraction(low: Lowering, made: Instruction) -> bool:
    """Whether an instruction multiplies by public numbers of many digits."""
    return any(low.type(v).kind == "p" and low.frac(v) >= INEXACT for v in made.args)


def _is_quotient(low: Lowering, x: int) -> bool:
    made = low.made.get(root(low, _still(low, x)))
    return made is not None and made.name == "div"


def _still(low: Lowering, x: int) -> int:
    """What `x` is a part of, or repeats, in another shape."""
    x = root(low, x)
    while (made := low.builder.instruction(x)) is not None and made.op in _SHAPES:
        x = root(low, made.args[0])
    return x


def as_input(low: Lowering, spec: SecretSpec) -> int:
    """Id of what is shared of a secret leaf of the arguments: with a divisor, of the sum."""
    lo, hi, shape = spec.lo, spec.hi, tuple(spec.shape)
    if lo is not None and hi is not None:
        lo, hi = lo * spec.divisor, hi * spec.divisor
    return low.input(
        type_of_input(low, shape, np.dtype(spec.dtype), lo, hi, spec.frac), spec.origin
    )


def as_value(low: Lowering, x: int, spec: SecretSpec) -> int:
    """The leaf itself, of what is shared of it; all inputs come before."""
    if spec.divisor == 1:
        return x
    made = means.divided(low, x, np.asarray(1 / spec.divisor))
    low.quotients[made] = x, spec.divisor
    return made


def dividing(config: CompileConfig, spec: SecretSpec) -> Program:
    """The program that makes such a sum a value like any other."""
    low = Lowering(config)
    made = moments.as_result(low, as_value(low, as_input(low, spec), spec))
    low.builder.output(made, spec.dtype, "0", spec.origin.split("+"))
    return optimised(low.builder.build())
