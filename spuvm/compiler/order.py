"""Signs, comparisons and selection on program values, with as few bits as the ranges prove."""

from __future__ import annotations

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering

Bit = int | bool  # a bit id, or a public truth where the ranges decide


def sign_bits(low: Lowering, bounds: tuple[int, int] | None) -> int:
    """Least b >= 2 such that bit b-1 is the sign of every value within the bounds."""
    if bounds is None:
        return low.bits
    need = max(max(bounds[1], 0).bit_length(), (-min(bounds[0], 0) - 1).bit_length())
    return min(low.bits, max(2, need + 1))


def negative(low: Lowering, x: int) -> Bit:
    """x < 0."""
    bounds = low.type(x).bounds
    if bounds is not None and (bounds[1] < 0 or bounds[0] >= 0):
        return bounds[1] < 0
    return low.emit("msb_a", x, bits=sign_bits(low, bounds))


def negate(low: Lowering, bit: Bit) -> Bit:
    """not bit."""
    return not bit if isinstance(bit, bool) else low.emit("not_b", bit)


def limits(low: Lowering, x: int, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Bounds of x, or those of any value that its dtype allows."""
    bounds = low.type(x).bounds
    if bounds is not None and dtype.kind in "iub":
        return bounds
    if bounds is not None:  # of a saturated result they may lie a little beyond
        return max(bounds[0], 1 - low.bound), min(bounds[1], low.bound - 1)
    if dtype.kind == "u":
        return 0, low.ring.modulus - 1
    if dtype.kind == "i":
        return -(low.ring.modulus // 2), low.ring.modulus // 2 - 1
    return -low.bound + 1, low.bound - 1


def difference(low: Lowering, x: int, y: int, dtype: np.dtype[np.generic]) -> int | None:
    """x - y if it cannot leave the signed ring, else None."""
    x, y = arith.align(low, (x, y))
    (xl, xh), (yl, yh) = limits(low, x, dtype), limits(low, y, dtype)
    half = low.ring.modulus // 2
    if not (-half <= xl - yh and xh - yl < half):
        return None
    with low.unchecked():
        return arith.sub(low, x, y)


def less(low: Lowering, x: int, y: int, dtype: np.dtype[np.generic]) -> Bit:
    """x < y, exact over the full range of the dtype."""
    delta = difference(low, x, y, dtype)
    if delta is not None:
        return negative(low, delta)
    # Where the signs agree the difference cannot overflow; elsewhere a sign decides.
    delta = low.emit("sub_aa", x, y)
    sx, sy, sd = (low.emit("msb_a", v, bits=low.bits) for v in (x, y, delta))
    decides = sy if dtype.kind == "u" else sx
    differ = low.emit("xor_bb", sx, sy)
    wrong = low.emit("and_bb", differ, low.emit("xor_bb", decides, sd))
    return low.emit("xor_bb", sd, wrong)


def times(low: Lowering, bit: Bit, x: int) -> int:
    """bit * x."""
    if isinstance(bit, bool):
        return x if bit else arith.sub(low, x, x)
    return low.emit("mul_ba", bit, x)


def choose(low: Lowering, bit: Bit, yes: int, no: int) -> int:
    """yes where the bit is 1, else no: no + bit * (yes - no), exact."""
    yes, no = arith.align(low, (yes, no))
    if isinstance(bit, bool) or yes == no:
        return yes if bit else no
    a, b = low.type(yes).bounds, low.type(no).bounds
    if a == (0, 0):
        return low.emit("mul_ba", low.emit("not_b", bit), no)
    with low.unchecked():
        delta = low.emit("sub_aa", yes, no)
        made = low.emit("add_aa", no, low.emit("mul_ba", bit, delta))
    if a is None or b is None:
        return made
    return low.narrowed(made, min(a[0], b[0]), max(a[1], b[1]))


def maximum(low: Lowering, x: int, y: int, dtype: np.dtype[np.generic]) -> int:
    """max(x, y) = y + (x >= y) (x - y)."""
    x, y = arith.align(low, (x, y))
    delta = difference(low, x, y, dtype)
    if delta is None:
        made = choose(low, less(low, x, y, dtype), y, x)
    else:
        made = _add(low, y, times(low, negate(low, negative(low, delta)), delta))
    return _at_least(low, made, x, y, dtype)


def minimum(low: Lowering, x: int, y: int, dtype: np.dtype[np.generic]) -> int:
    """min(x, y) = y + (x < y) (x - y)."""
    x, y = arith.align(low, (x, y))
    delta = difference(low, x, y, dtype)
    if delta is None:
        made = choose(low, less(low, x, y, dtype), x, y)
    else:
        made = _add(low, y, times(low, negative(low, delta), delta))
    return _at_most(low, made, x, y, dtype)


def _add(low: Lowering, y: int, step: int) -> int:
    with low.unchecked():
        return low.emit("add_aa", y, step)


def _at_least(low: Lowering, made: int, x: int, y: int, dtype: np.dtype[np.generic]) -> int:
    bounds = [t.bounds for t in (low.type(x), low.type(y)) if t.bounds is not None]
    if not bounds or (len(bounds) == 1 and dtype.kind in "iu"):  # may be as wide as the ring
        return made
    top = max(b[1] for b in bounds) if len(bounds) == 2 else low.bound - 1
    return low.narrowed(made, max(b[0] for b in bounds), top)


def _at_most(low: Lowering, made: int, x: int, y: int, dtype: np.dtype[np.generic]) -> int:
    bounds = [t.bounds for t in (low.type(x), low.type(y)) if t.bounds is not None]
    if not bounds or (len(bounds) == 1 and dtype.kind in "iu"):
        return made
    floor = min(b[0] for b in bounds) if len(bounds) == 2 else 1 - low.bound
    return low.narrowed(made, floor, min(b[1] for b in bounds))


def absolute(low: Lowering, x: int) -> int:
    """|x| = x - 2 (x < 0) x; what is not bounded and has no fraction bits may fill the ring."""
    bounds, bit = low.type(x).bounds, negative(low, x)
    if isinstance(bit, bool):
        return low.emit("neg_a", x) if bit else x
    with low.unchecked():
        made = low.emit("lincomb_a", x, low.emit("mul_ba", bit, x), coefficients=(1, -2))
    if bounds is None and low.frac(x) == 0:
        return made
    top = low.bound - 1 if bounds is None else max(-bounds[0], bounds[1])
    return low.narrowed(made, 0, top) if top < low.ring.modulus // 2 else made
