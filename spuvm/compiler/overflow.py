"""What is not proven to stay representable: listed line by line, or refused by on_overflow="error".

Warnings come from known ranges alone (Lowering.doubt): where nothing was declared there is nothing
to warn of. Who asks for errors asks for a proof, so that there a missing range is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.bytecode.program import Program, live_values
from spuvm.compiler import facts
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.values import int_bounds

# Results may be larger than every operand; the rest shrinks, chooses or saturates.
_GROWING = """
add add_any sub mul square integer_pow dot_general conv_general_dilated reduce_sum reduce_prod
cumsum cumprod scatter-add scatter_add scatter-sub scatter-mul scatter_mul reduce_window_sum
select_and_scatter_add
"""
GROWING = frozenset(_GROWING.split())
LOGARITHMS = {"log": 0, "log1p": -1}  # and the operand from which on there is none
_SCALING = "mul div square integer_pow pow dot_general add sub reduce_sum cumsum"
SCALING = frozenset(_SCALING.split())
_CHOOSING = "neg abs max min reduce_max reduce_min select_n concatenate stack"
CHOOSING = frozenset(_CHOOSING.split())
GROW = frozenset(["exp", "exp2", "expm1", "sinh", "cosh", "pow"])


def note_saturation(
    low: Lowering, name: str, operands: Sequence[Any], results: Sequence[Any]
) -> None:
    """Remember a result that declared operands can make as large as a number can be.

    What is then added to it or multiplied with it may wrap. Divisions are left out: of a range that
    has 0 in it nobody expects that it is met.
    """
    if name not in GROW or low.checked != "float":
        return
    secrets = [x.id for x in operands if isinstance(x, Secret)]
    if not any(low.undeclared(v, low.full) for v in secrets):
        low.saturated.update(
            r.id for r in results if isinstance(r, Secret) and low.magnitude(r.id) >= low.full
        )


def note_vague(low: Lowering, name: str, operands: Sequence[Any], results: Sequence[Any]) -> None:
    """Remember what has bounds although nothing was declared: they say no more than that.

    As |x| / 127 for an x without a range (a minimum with 5 is smaller, and known), a float of any
    int32, and logarithms where 0 is possible, which nobody expects that they are met.
    """
    secrets = [v for v in operands if isinstance(v, Secret)]
    made = [r.id for r in results if isinstance(r, Secret)]
    if name in LOGARITHMS:
        bounds = low.type(secrets[0].id).bounds
        least = LOGARITHMS[name] << low.frac(secrets[0].id)
        if bounds is None or bounds[0] <= least:
            low.vague.update(made)
    elif name == "convert_element_type":
        if results[0].dtype.kind == "f" and _any_integer(low, secrets[0]):
            low.vague.update(made)
    elif name in SCALING or name in CHOOSING:
        of = operands[:1] if name in ("div", "pow") else operands
        ids = [v.id for v in of if isinstance(v, Secret) and v.dtype.kind != "b"]
        sizes = [_largest(low, v) for v in ids if low.undeclared(v, low.full)]
        if sizes:
            low.vague.update(
                v for v in made if name in SCALING or min(sizes) <= _largest(low, v) <= max(sizes)
            )


def _any_integer(low: Lowering, x: Secret) -> bool:
    """Whether `x` is of 32 bits or more, of which no range is known."""
    if x.dtype.kind not in "iu" or x.dtype.itemsize < 4:
        return False
    bounds, (lo, hi) = low.type(x.id).bounds, int_bounds(x.dtype)
    return bounds is None or (bounds[0] <= lo and bounds[1] >= hi)


@dataclass(frozen=True, slots=True)
class Unproven:
    """A float result of a growing primitive that nothing shows to be representable.

    `value` is None for one inside of a loop.
    """

    value: int | None
    line: str
    name: str


def prove(low: Lowering, name: str, operands: Sequence[Any], results: Sequence[Any]) -> None:
    """Remember a float result of a growing primitive that has no proven range, or refuse it.

    Raises:
        CompileError: on_overflow="error", and nothing shows that the result is representable.
    """
    if low.checked != "float" or name not in GROWING:
        return
    doubtful = [r for r in results if isinstance(r, Secret) and _may_leave(low, r.id)]
    if not doubtful or (name == "mul" and any(_at_most_one(x) for x in operands)):
        return
    if low.config.on_overflow != "error":
        low.unproven += [Unproven(facts.root(low, r.id), low.source, name) for r in doubtful]
        return
    t = low.type(doubtful[0].id)
    low.doubt(
        "nothing proves that a value stays in the representable range",
        "no range of the operands is known"
        if t.bounds is None
        else f"values up to {_largest(low, doubtful[0].id) / 2.0**low.f:g} are possible",
        f"representable is |x| < {low.config.fxp.max_float:g}",
    )


def _may_leave(low: Lowering, value: int) -> bool:
    t = low.type(value)
    if t.kind != "a" or not t.size or value in low.totals:
        return False
    return t.bounds is None or _largest(low, value) > low.bound


def unproven(low: Lowering, program: Program) -> list[Unproven]:
    """What was remembered and is computed: of what is made in another way nothing depends on it."""
    live = live_values(program)
    return [one for one in low.unproven if one.value is None or one.value in live]


def by_line(found: Sequence[Unproven]) -> tuple[str, ...]:
    """``model.py:12 in loss: dot_general, mul``: a text per line, in the order of the program."""
    names: dict[str, list[str]] = {}
    for one in found:
        line = names.setdefault(one.line or "unknown line", [])
        if one.name not in line:
            line.append(one.name)
    return tuple(f"{line}: {', '.join(all_of_it)}" for line, all_of_it in names.items())


def _largest(low: Lowering, value: int) -> int:
    """Largest |value| with the program's fraction bits."""
    t = low.type(value)
    size = t.magnitude(low.bound)
    return size >> t.frac - low.f if t.frac >= low.f else size << low.f - t.frac


def _at_most_one(x: Any) -> bool:
    """A public factor that makes nothing larger."""
    if isinstance(x, Secret):
        return False
    table = np.asarray(getattr(x, "table", x), np.float64)
    return bool((np.abs(table) <= 1).all())
