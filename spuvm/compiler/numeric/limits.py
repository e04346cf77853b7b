"""A value kept between public limits, both sides in the same rounds."""

from __future__ import annotations

from dataclasses import dataclass

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering


@dataclass(frozen=True, slots=True)
class Masked:
    """value = x between the limits and 0 outside; the bits say on which side it was."""

    value: int
    under: order.Bit
    above: order.Bit
    outside: order.Bit


def clamped(low: Lowering, x: int, least: int, most: int) -> int:
    """Encoded `x` limited to least <= x <= most; what its bounds decide is not compared."""
    with low.unchecked():
        under, above = _outside(low, x, least, most)
        made = x
        if under is not False:
            made = low.emit("add_aa", made, order.times(low, under, minus(low, least, x)))
        if above is not False:
            made = low.emit("add_aa", made, order.times(low, above, minus(low, most, x)))
    return low.narrowed(made, *_within(low, x, least, most))


def masked(low: Lowering, x: int, least: int, most: int) -> Masked:
    """Encoded `x` where least <= x <= most, else 0 (0 is between the limits)."""
    with low.unchecked():
        under, above = _outside(low, x, least, most)
        if isinstance(under, bool):
            outside = above if under is False else under
        else:
            outside = under if isinstance(above, bool) else low.emit("xor_bb", under, above)
        made = order.times(low, order.negate(low, outside), x)
        lo, hi = _within(low, x, least, most)
        if outside is not False:
            lo, hi = min(lo, 0), max(hi, 0)
        return Masked(low.narrowed(made, lo, hi), under, above, outside)


def side(low: Lowering, m: Masked) -> int | None:
    """1 above the limits, -1 under them, 0 between, as an integer; None if always between."""
    with low.unchecked():
        if True in (m.above, m.under):  # always
            nothing = arith.retype(low, arith.sub(low, m.value, m.value), 0)
            return plus(low, nothing, 1 if m.above is True else -1)
        above = None if isinstance(m.above, bool) else low.emit("b2a", m.above)
        under = None if isinstance(m.under, bool) else low.emit("b2a", m.under)
        if above is not None and under is not None:
            return low.emit("sub_aa", above, under)
        return above if under is None else low.emit("neg_a", under)


def _outside(low: Lowering, x: int, least: int, most: int) -> tuple[order.Bit, order.Bit]:
    return order.negative(low, plus(low, x, -least)), order.negative(low, minus(low, most, x))


def _within(low: Lowering, x: int, least: int, most: int) -> tuple[int, int]:
    t = low.type(x)
    if t.lo is not None and t.hi is not None:
        return max(least, min(t.lo, most)), min(most, max(t.hi, least))
    return least, most


def plus(low: Lowering, x: int, value: int) -> int:
    """x + value for an encoded public scalar."""
    return low.emit("add_ap", x, low.integer(value, low.frac(x)))


def minus(low: Lowering, value: int, x: int) -> int:
    """value - x for an encoded public scalar."""
    return low.emit("sub_pa", low.integer(value, low.frac(x)), x)
