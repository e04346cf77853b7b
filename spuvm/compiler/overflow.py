"""on_overflow="error": what is not proven to stay representable is refused, equation by equation.

Warnings come from known ranges alone (Lowering.doubt): where nothing was declared there is nothing
to warn of. Who asks for errors asks for a proof, so that there a missing range is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler.context import Lowering, Secret

# Results may be larger than every operand; the rest shrinks, chooses or saturates.
_GROWING = """
add add_any sub mul square integer_pow dot_general conv_general_dilated reduce_sum reduce_prod
cumsum cumprod scatter-add scatter_add scatter-sub scatter-mul scatter_mul reduce_window_sum
select_and_scatter_add
"""
GROWING = frozenset(_GROWING.split())


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
    full = low.bound - (low.bound >> 6)
    secrets = [x.id for x in operands if isinstance(x, Secret)]
    if all(low.magnitude(v) < full for v in secrets):
        low.saturated.update(
            r.id for r in results if isinstance(r, Secret) and low.magnitude(r.id) >= full
        )


def prove(low: Lowering, name: str, operands: Sequence[Any], results: Sequence[Any]) -> None:
    """Nothing, or the error that a float result of a growing primitive has no proven range.

    Raises:
        CompileError: on_overflow="error", and nothing shows that the result is representable.
    """
    if low.config.on_overflow != "error" or low.checked != "float" or name not in GROWING:
        return
    if name == "mul" and any(_at_most_one(x) for x in operands):
        return
    for result in results:
        if isinstance(result, Secret) and low.type(result.id).kind == "a":
            if result.id in low.totals:
                continue
            t = low.type(result.id)
            if t.size and (t.bounds is None or _largest(low, result.id) > low.bound):
                low.doubt(
                    "nothing proves that a value stays in the representable range",
                    "no range of the operands is known"
                    if t.bounds is None
                    else f"values up to {_largest(low, result.id) / 2.0**low.f:g} are possible",
                    f"representable is |x| < {low.config.fxp.max_float:g}",
                )


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
