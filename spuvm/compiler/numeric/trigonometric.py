"""sin, cos, tan over the whole range: the angle in turns is a ring element: whole turns wrap.

p = x 2^k / (2 pi 2^f) modulo 2^k is the angle as a signed fraction of a turn. Its quadrant costs
one comparison; what is left is a quarter turn either way, where a polynomial does.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import evaluate, internal_bits, working_bits
from spuvm.compiler.numeric.reciprocal import divide
from spuvm.compiler.numeric.symmetric import chebyshev2, even_series, odd, odd_series, odd_unit

Floats = npt.NDArray[np.float64]
TURN = Fraction("6.283185307179586476925286766559005768394338798750211641949889184615632812572418")


def _quarter_sine(u: Floats) -> Floats:
    return np.sin(math.pi / 2 * u)


def _quarter_cosine(u: Floats) -> Floats:
    return np.cos(math.pi / 2 * u)


def sin(low: Lowering, x: int) -> int:
    """sin(x) with the program's fraction bits, for every representable x; error about 2 units."""
    f = low.f
    with low.unchecked():
        x = arith.settle(low, x)
        if low.type(x).bounds is not None and low.magnitude(x) <= math.ldexp(
            math.pi / 2, low.frac(x)
        ):
            return _bounded(low, odd(low, x, np.sin, math.pi / 2, 1.0))
        u, _ = _quarter(low, _turns(low, x))
        return _bounded(low, _sine(low, u, f))


def cos(low: Lowering, x: int) -> int:
    """cos(x) = sin(x + a quarter turn); see sin."""
    with low.unchecked():
        turns = _turns(low, arith.settle(low, x))
        raised = low.emit("add_ap", turns, low.integer(1 << low.bits - 2))
        u, _ = _quarter(low, raised)
        return _bounded(low, _sine(low, u, low.f))


def tan(low: Lowering, x: int) -> int:
    """sin(x) / cos(x); its relative error is about 2^(4 - internal_bits) max(1, |tan x|)."""
    f = low.f
    with low.unchecked():
        u, far = _quarter(low, _turns(low, arith.settle(low, x)))
        g = internal_bits(low) - 1
        sine = _sine(low, u, g)
        if far is not False:  # there the cosine is negative, that of u is not
            twice = low.emit("shl_a", order.times(low, far, sine), bits=1, frac=g)
            sine = low.emit("sub_aa", sine, twice)
        series = even_series(_quarter_cosine, 1.0, 2.0 ** -(f + 6))
        cosine = evaluate(low, chebyshev2(low, u), series, g)
        # So far below 0 it may be near a pole, by roundings and by the fit.
        error = (8 << max(3, g - working_bits(low))) + (1 << max(0, g - f - 5))
        cosine = low.narrowed(cosine, -error, (1 << g) + error)
        # Scaled alike, so that nothing of them is cut before they are divided.
        sine, cosine = (arith.retype(low, v, f) for v in (sine, cosine))
        return divide(low, sine, cosine, low.shape(x))


def _bounded(low: Lowering, x: int) -> int:
    one = (1 << low.f) + 8
    return low.narrowed(x, -one, one)


def _sine(low: Lowering, u: int, frac: int) -> int:
    """sin(pi/2 u) for u in [-1, 1]."""
    series = odd_series(_quarter_sine, 1.0, 2.0 ** -(low.f + 2 + max(0, frac - low.f) // 2))
    return odd_unit(low, u, chebyshev2(low, u), series, frac)


def _turns(low: Lowering, x: int) -> int:
    """x / (2 pi) modulo 1 as a signed fraction of 2^k, right to about 2^-(f+3) of a turn."""
    exact = Fraction(1 << low.bits) / (TURN * (1 << low.frac(x)))
    factor = round(exact)
    made = low.emit("mul_ap", x, low.integer(factor))
    error = abs(exact - factor) * low.magnitude(x)
    if error > Fraction(1 << low.bits, 1 << low.f + 5):  # what the rounded factor leaves out
        cut = low.f + 4
        rest = round((exact - factor) * (1 << cut))
        coarse = low.emit("trunc_a", x, bits=cut)
        coarse = low.emit("mul_ap", coarse, low.integer(rest))
        made = low.emit("add_aa", made, arith.retype(low, coarse, low.frac(made)))
    return arith.retype(low, made, 0)


def _quarter(low: Lowering, turns: int) -> tuple[int, order.Bit]:
    """(u in [-1, 1] in quarter turns, far) with sin = sin(pi/2 u) and cos = +-cos(pi/2 u).

    More than a quarter turn away from 0 (`far`) the angle is reflected, and the cosine negative.
    """
    quarter = 1 << low.bits - 2
    far = order.negative(low, low.emit("add_ap", turns, low.integer(quarter)))
    t = low.type(turns).bounds
    if t is None or t[0] < -quarter or t[1] >= quarter:
        if isinstance(far, bool) or t is not None:
            turns = low.emit("retype_a", turns, frac=0, range=())
        far = low.emit("msb_a", low.emit("add_ap", turns, low.integer(quarter)), bits=low.bits)
        twice = low.emit("shl_a", turns, bits=1, frac=0)
        step = low.emit("sub_pa", low.integer(2 * quarter - 1), twice)
        turns = low.emit("add_aa", turns, low.emit("mul_ba", far, step))
    else:
        far = False
    turns = low.emit("retype_a", turns, frac=low.bits - 2, range=(-quarter, quarter - 1))
    return arith.to_frac(low, turns, internal_bits(low) + 2), far
