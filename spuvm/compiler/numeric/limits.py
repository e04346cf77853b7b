"""A value kept between public limits, both sides in the same rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spuvm.compiler import order
from spuvm.compiler.context import Lowering


@dataclass(frozen=True, slots=True)
class Clamped:
    """value = x + raised + lowered: what had to be added below and above the limits, or None."""

    value: int
    raised: int | None
    lowered: int | None


def clamped(low: Lowering, x: int, least: int, most: int) -> Clamped:
    """Encoded `x` limited to least <= x <= most; what its bounds decide is not compared."""
    with low.unchecked():
        under = order.negative(low, plus(low, x, -least))
        above = order.negative(low, minus(low, most, x))
        raised = None if under is False else order.times(low, under, minus(low, least, x))
        lowered = None if above is False else order.times(low, above, minus(low, most, x))
        made = x
        for step in (raised, lowered):
            made = made if step is None else low.emit("add_aa", made, step)
        t = low.type(x)
        if t.lo is not None and t.hi is not None:
            least, most = max(least, min(t.lo, most)), min(most, max(t.hi, least))
    return Clamped(low.narrowed(made, least, most), raised, lowered)


def plus(low: Lowering, x: int, value: int) -> int:
    """x + value for an encoded public scalar."""
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(value)), low.frac(x)))


def minus(low: Lowering, value: int, x: int) -> int:
    """value - x for an encoded public scalar."""
    return low.emit("sub_pa", low.constant(low.ring.array(np.int64(value)), low.frac(x)), x)
