"""Quotients by few whole numbers of a known range, such as counts: reciprocals from a table.

A divisor y in [lo, hi] names a row of the table of 2^u / y, which takes two rounds and 8 bytes per
number in the range, or three rounds for large ranges; then one product: protocol/aby3/lookup.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.compiler.context import Lowering

Array = npt.NDArray[Any]

TABLE_ROWS = 1 << 17
"""Of a table, which is a constant of the program."""

LOOKED_AT = 1 << 20
"""Rows of tables that are multiplied for all divisors: about a millisecond."""

DIGITS, SPARE = 22, 4
"""Relative precision of reciprocals at the least, in bits; and more than that, where it fits."""


def by_table(
    low: Lowering,
    x: int | Array,
    y: int,
    shape: tuple[int, ...],
    again: Callable[[int], int],
) -> int | None:
    """x / y of the given shape with the program's fraction bits; None where this way is not open.

    A secret x has the shape, a public one is one number; `again` and a broadcast bring y to it.
    Needs few whole y of a known positive range, and products that fit. Error: 2^-22 relative, or 1
    unit, plus 1 unit for rounding; 1 unit where x is public, which is rounded itself.
    """
    t = low.type(y)
    if t.frac or t.bounds is None or t.bounds[0] < 1 or t.bounds[0] == t.bounds[1]:
        return None
    lo, hi = t.bounds
    if not t.size or not has_room(t.size, hi - lo + 1):
        return None
    if not isinstance(x, int):
        numerator = np.unique(x)
        if numerator.size != 1 or not np.isfinite(numerator[0]):
            return None
        scaled = float(numerator[0]) * 2.0**low.f
        if not abs(scaled) / lo < low.bound or abs(scaled) >= 2**53:
            return None
        return low.spread(again(_looked_up(low, y, round(scaled), low.f)), shape)
    most = low.magnitude(x)
    room = (low.bound * lo // (most + 1)).bit_length() - 2  # x 2^room / y fits
    unit = min(room, hi.bit_length() + max(DIGITS, low.f) + SPARE)
    unit = min(unit, low.bits - 3 + low.f - low.frac(x))  # what can be truncated
    cut = low.frac(x) + unit - low.f
    few_units = most << low.f <= 1 << max(0, low.frac(x) + unit + 1)
    if cut < 0 or unit < 1 or not (few_units or unit >= hi.bit_length() + DIGITS):
        return None
    inverse = low.spread(again(_looked_up(low, y, 1 << unit, unit)), shape)
    return low.emit("mul_aa", *sorted((x, inverse)), trunc=cut, form="narrow")


def has_room(size: int, rows: int) -> bool:
    """Whether a table of so many rows is worth its rounds for `size` divisors."""
    places = 1 << (rows - 1).bit_length()
    return places <= TABLE_ROWS and size * places <= LOOKED_AT


def _looked_up(low: Lowering, y: int, numerator: int, frac: int) -> int:
    """numerator / y, rounded to the nearest, with `frac` fraction bits."""
    lo, hi = low.type(y).bounds or (1, 1)
    rows = [(2 * numerator + v) // (2 * v) for v in range(lo, hi + 1)]
    table = low.constant(low.ring.array(np.array(rows, object).reshape(-1, 1)), frac)
    shape = low.shape(y)
    place = low.emit("add_ap", y, low.constant(low.ring.array(-lo)))
    return low.reshape(low.emit("lookup_pa", table, place, bits=0), shape)
