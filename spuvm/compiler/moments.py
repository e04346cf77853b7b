"""Second moments of gradients, as optimisers keep them, and the roots that divide by them.

v = b v + (1 - b) g^2 is far below a unit where gradients are small, and sqrt(v) then is not. So
where the range of g is known (clipped gradients, declared inputs), such values keep about twice the
program's fraction bits: in products with public factors, as carries of loops, up to the root. An
epsilon below a unit that is added to such a root counts as a unit: it is there against 0.
"""

from __future__ import annotations

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.compiler import arith, facts
from spuvm.compiler.arith import Array
from spuvm.compiler.context import Lowering
from spuvm.compiler.varying import Varying

CUT = "a root of means of squares that were cut to"  # the warning's beginning
DIGITS = 20  # of public factors
ENOUGH = 36  # fraction bits with which moments can be cut
PARTNER = 10
SEARCH = 14  # fraction bits with which bounds are searched


def times(low: Lowering, x: int, c: Array | Varying) -> int | None:
    """x * c where x is a square or the sum of parts of squares; None if it is not."""
    form = facts.squared(low, x)
    largest = float(np.abs(arith.elements(c)).max(initial=0))
    if not form or c.shape or not largest:
        return None
    if form == "whole" and largest >= 0.5 and not isinstance(c, Varying):  # an ordinary factor
        return None
    spare = low.bits - 3 - DIGITS - low.magnitude(x).bit_length()
    bits = DIGITS - int(np.frexp(largest)[1])
    known = form != "cut" and low.type(x).bounds is not None
    if not known or bits < 0 or low.frac(x) + min(0, spare) < low.f:
        return facts.mark(low, arith.mul_public(low, x, c), facts.Squared("cut"))
    x = arith.to_frac(low, x, low.frac(x) + min(0, spare))
    made = low.emit("mul_ap", x, arith.encode(low, c, bits))
    return facts.mark(low, made, facts.Squared("parts"))


def plus(low: Lowering, x: int, c: Array | Varying, sign: int = 1) -> int:
    """sign * x + c; c may be an epsilon that keeps a divisor from 0."""
    if sign > 0 and not isinstance(c, Varying):
        if isinstance(low.facts.get(facts.root(low, x)), facts.FineRoot):
            unit = 2.0**-low.f
            return arith.add_public(low, x, np.where((c > 0) & (c < unit), unit, c))
        if fine(low, x):
            made = arith.add_public(low, x, c)
            return facts.mark(low, made, facts.Squared("parts"))
        c = _kept(low, c)
    arith.vanishing(low, c)
    made = arith.add_public(low, x, c, sign)
    small = float(np.abs(arith.elements(c)).max(initial=0)) < 2.0 ** (-low.f / 2)
    form = facts.squared(low, x)
    if small and form == "whole":
        return facts.mark(low, made, facts.Squared("whole"))
    return facts.mark(low, made, facts.Squared("cut")) if small and form else made


def _kept(low: Lowering, c: Array) -> Array:
    """A scalar from a quarter of a unit on as one unit, which is less than a unit off.

    The 1e-6 of normalisations is such a number for f = 18: as 0 it would let a variance of 0 give
    the reciprocal root of 0; as a unit it is right within the rounding of any variance.
    """
    number, unit = arith.uniform(c), 2.0**-low.f
    return np.where(c < unit, unit, c) if number.ndim == 0 and number >= unit / 4 else c


def sum_of(low: Lowering, x: int, y: int) -> int:
    """x + y; with parts of squares, at as many fraction bits as the ranges have room for."""
    forms = {facts.squared(low, x), facts.squared(low, y)}
    if not forms & {"parts", "cut"}:
        return arith.add(low, x, y)
    whole = all(facts.squared(low, v) in ("parts", "whole") or v in low.public for v in (x, y))
    if not whole or low.type(x).bounds is None or low.type(y).bounds is None:
        return facts.mark(low, arith.add(low, x, y), facts.Squared("cut"))
    sizes = [low.magnitude(v).bit_length() - low.frac(v) for v in (x, y)]
    most = max(low.frac(x), low.frac(y))
    frac = max(min(most, low.bits - 5 - max(sizes)), min(most, low.f))
    made = low.emit("add_aa", *(arith.to_frac(low, v, frac) for v in (x, y)))
    return facts.mark(low, made, facts.Squared("parts"))


def fine(low: Lowering, x: int) -> bool:
    """Whether x is made of parts of squares, and has about twice the program's fraction bits."""
    known = low.type(x).bounds is not None and facts.squared(low, x) == "parts"
    return known and low.frac(x) >= 2 * low.f - 4


def for_root(low: Lowering, x: int) -> int:
    """`x` as roots take it: with the program's fraction bits, or with twice as many."""
    if facts.squared(low, x) in ("parts", "cut") and not fine(low, x) and low.f < ENOUGH:
        low.warn(
            f"{CUT} {low.f} fraction bits, as in Adam: where "
            f"gradients are below {2.0 ** (-low.f / 2):.1g} it is wrong; clip gradients to a range "
            "(optax.clip) and run the steps in one loop, or take Config(ring=128, frac_bits=40)"
        )
    if fine(low, x):
        return arith.to_frac(low, x, min(low.frac(x), 2 * low.f + 4))
    if low.type(x).bounds is None or low.frac(x) <= low.f:
        return arith.settle(low, x)
    # Of what is known to be far below 1 as many bits as of what is not.
    size = low.frac(x) - low.magnitude(x).bit_length()
    return arith.to_frac(low, x, min(low.frac(x), low.f + max(0, min(size, low.f))))


def partner_bits(low: Lowering, t: Type, known: tuple[int, int] | None) -> int:
    """Fraction bits for a carry beside second moments, as first ones: 10 more if there is room."""
    if known is None or t.frac != low.f:
        return t.frac
    room = low.bits - 4 - DIGITS - max(-known[0], known[1]).bit_length()
    return low.f + max(0, min(PARTNER, room))


def carry_bits(low: Lowering, t: Type, known: tuple[int, int] | None, search: bool) -> int:
    """Fraction bits for a carry of type `t` that is made of parts of squares.

    `known` are the bounds that it was found to keep to. Where none were found, more bits to search
    with: how fast slow averages contract shows in what is far below a unit.
    """
    if known is None:
        return low.f + SEARCH if search and t.frac == low.f and t.bounds is not None else t.frac
    size = (max(-known[0], known[1]) >> t.frac) + 1
    return max(low.f, min(low.bits - 4 - DIGITS - size.bit_length(), 2 * low.f + 12))
