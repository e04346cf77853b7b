"""Second moments of gradients, as optimisers keep them, and the roots that divide by them.

v = b v + (1 - b) g^2 is far below a unit where gradients are small, and sqrt(v) then is not. So
where the range of g is known (clipped gradients, declared inputs), such values keep about twice the
program's fraction bits: in products with public factors, as carries of loops, as results that go
into the next program, up to the root. An epsilon below a unit that is added to such a root counts
as a unit: it is there against 0. Where no range is known, and a root is taken of means that would
otherwise have the digits, g is limited in g^2, and a warning says so.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.compiler import arith, facts
from spuvm.compiler.arith import Array
from spuvm.compiler.context import Lowering
from spuvm.compiler.moment_facts import FineRoot, Squared
from spuvm.compiler.varying import Varying

CUT = "a root of means of squares that were cut to"  # the warning's beginning
DIGITS = 20  # of public factors
ENOUGH = 36  # fraction bits with which moments can be cut
LEAST_LIMIT = 4  # log2: values of squares are not limited to less
SPARE = 14  # bits: a sign, and factors of up to 1000 that correct the bias of young means
PARTNER = 10
SEARCH = 14  # fraction bits with which bounds are searched


def times(low: Lowering, x: int, c: Array | Varying) -> int | None:
    """x * c where x is a square or the sum of parts of squares; None if it is not."""
    fact = facts.squared(low, x)
    sizes = np.abs(arith.elements(c))
    largest = float(sizes.max(initial=0))
    if not fact or c.shape or not largest:
        return None
    if fact.form == "whole" and largest >= 0.5 and not isinstance(c, Varying):  # an ordinary factor
        return None
    origins = fact.origins
    if fact.form == "whole":
        number, low.cut_squares.count = low.cut_squares.count, low.cut_squares.count + 1
        if fact.source is not None:
            limited = number in low.cut_squares.limited
            if limited or low.frac(x) < _least(low):
                source = _limited(low, fact.source) if limited else fact.source
                x = _square(low, source, fact.more) or x
            origins = frozenset() if _limit(low) is None else frozenset([number])
    if fact.form == "cut" or low.type(x).bounds is None or low.frac(x) < _least(low):
        return _made(low, "cut", arith.mul_public(low, x, c), origins)
    grows, bits = int(np.frexp(largest)[1]), DIGITS - int(np.frexp(largest)[1])
    size = low.magnitude(x).bit_length()
    if bits >= 0 and size + DIGITS <= low.bits - 3:
        made = low.emit("mul_ap", x, arith.encode(low, c, bits))
    else:  # no room for the digits of both
        x = arith.to_frac(low, x, min(low.frac(x), low.frac(x) + low.bits - 3 - size - grows))
        if low.frac(x) < _least(low):
            return _made(low, "cut", arith.mul_public(low, x, c), origins)
        bits = min(DIGITS + 4 - int(np.frexp(sizes.min())[1]), (low.bits - 4 - grows) // 2)
        made = low.emit("scale_ap", x, arith.encode(low, c, bits), bits=bits)
    return _made(low, "parts", made, origins)


def _made(low: Lowering, form: Literal["parts", "cut"], x: int, origins: frozenset[int]) -> int:
    return facts.mark(low, x, Squared(form, origins=origins))


def _least(low: Lowering) -> int:
    """Fraction bits that roots of squares ask for."""
    return 2 * low.f - 4


def _limit(low: Lowering) -> int | None:
    """log2 of what squares with twice the fraction bits have room for, with 2^14 times as much."""
    most = min((low.bits - 2 * low.f - SPARE) // 2, low.bits // 2 - low.f)
    return most if most >= LEAST_LIMIT else None


def _square(low: Lowering, x: int, more: float) -> int | None:
    """x^2 + more with twice the fraction bits; None if there is no room."""
    x = arith.settle(low, x)
    if low.magnitude(x) ** 2 >= low.bound >> 1:
        return None
    square = arith.mul(low, x, x)
    return arith.add_public(low, square, np.asarray(more)) if more else square


def _limited(low: Lowering, x: int) -> int:
    """x, of which nothing says that it is small, limited to what its square has room for."""
    from spuvm.compiler.numeric.limits import clamped  # which imports the roots that import this

    power = _limit(low)
    assert power is not None
    low.doubt(
        "a root of means of squares has digits for small values only where large ones are excluded",
        "the root of a mean of squares, as in Adam, of values of any size",
        f"in these squares they count as at most {2**power}",
    )
    with low.one_line():
        return clamped(low, arith.settle(low, x), -1 << power + low.f, 1 << power + low.f)


def plus(low: Lowering, x: int, c: Array | Varying, sign: int = 1) -> int:
    """sign * x + c; c may be an epsilon that keeps a divisor from 0."""
    if sign > 0 and not isinstance(c, Varying):
        if isinstance(low.facts.get(facts.root(low, x)), FineRoot):
            unit = 2.0**-low.f
            return arith.add_public(low, x, np.where((c > 0) & (c < unit), unit, c))
        if fine(low, x):
            return facts.mark(low, arith.add_public(low, x, c), low.facts[facts.root(low, x)])
    exact, c = c, c if sign < 0 or isinstance(c, Varying) else _kept(low, c)
    arith.vanishing(low, c)
    made = arith.add_public(low, x, c, sign)
    fact = facts.squared(low, x)
    if fact is None or float(np.abs(arith.elements(c)).max(initial=0)) >= 2.0 ** (-low.f / 2):
        return made
    if fact.form == "whole":
        if isinstance(exact, Varying) or arith.uniform(exact).ndim or sign < 0:
            return facts.mark(low, made, Squared("whole"))
        more = fact.more + float(arith.uniform(exact))
        return facts.mark(low, made, Squared("whole", fact.source, more))
    return _made(low, "cut", made, fact.origins)


def _kept(low: Lowering, c: Array) -> Array:
    """A scalar from a quarter of a unit on as one unit, which is less than a unit off.

    The 1e-6 of normalisations is such a number for f = 18: as 0 it would let a variance of 0 give
    the reciprocal root of 0; as a unit it is right within the rounding of any variance.
    """
    number, unit = arith.uniform(c), 2.0**-low.f
    return np.where(c < unit, unit, c) if number.ndim == 0 and number >= unit / 4 else c


def sum_of(low: Lowering, x: int, y: int) -> int:
    """x + y; with parts of squares, at as many fraction bits as the ranges have room for."""
    found = {v: fact for v in (x, y) if (fact := facts.squared(low, v))}
    if all(fact.form == "whole" for fact in found.values()):
        return arith.add(low, x, y)
    origins = frozenset[int]().union(*(fact.origins for fact in found.values()))
    plain = [v for v in (x, y) if v not in found and v not in low.public and low.magnitude(v)]
    whole = not plain and all(fact.form != "cut" for fact in found.values())
    if plain and not low.trips:  # in a loop more may be found of it
        origins = frozenset()
    if not whole or low.type(x).bounds is None or low.type(y).bounds is None:
        return _made(low, "cut", arith.add(low, x, y), origins)
    sizes = [low.magnitude(v).bit_length() - low.frac(v) for v in (x, y)]
    most = max(low.frac(x), low.frac(y))
    frac = max(min(most, low.bits - 5 - max(sizes)), min(most, low.f))
    made = low.emit("add_aa", *(arith.to_frac(low, v, frac) for v in (x, y)))
    return _made(low, "parts", made, origins)


def one_of(low: Lowering, x: int, y: int, made: int) -> int:
    """`made` is x or y, element by element: a sum of parts of squares where both are."""
    found = [facts.squared(low, v) for v in (x, y) if low.magnitude(v)]
    forms = {fact.form for fact in found if fact}
    if not forms & {"parts", "cut"}:
        return made
    origins = frozenset[int]().union(*(fact.origins for fact in found if fact))
    fine_enough = all(found) and "cut" not in forms and low.frac(made) >= _least(low)
    return _made(low, "parts" if fine_enough else "cut", made, origins)


def fine(low: Lowering, x: int) -> bool:
    """Whether x is made of parts of squares, and has about twice the program's fraction bits."""
    fact = facts.squared(low, x)
    known = fact is not None and fact.form == "parts" and low.type(x).bounds is not None
    return known and low.frac(x) >= _least(low)


def as_result(low: Lowering, x: int) -> int:
    """`x` as a program gives it away: with the program's fraction bits, or with twice as many."""
    return arith.to_frac(low, x, min(low.frac(x), 2 * low.f) if fine(low, x) else low.f)


def for_root(low: Lowering, x: int) -> int:
    """`x` as roots take it: with the program's fraction bits, or with twice as many."""
    fact = facts.squared(low, x)
    if fact and fact.form != "whole" and not fine(low, x) and low.f < ENOUGH:
        low.cut_squares.below_roots |= fact.origins
        low.warn(
            f"{CUT} {low.f} fraction bits, as in Adam: where "
            f"gradients are below {2.0 ** (-low.f / 2):.1g} it is wrong; clip gradients to a range "
            "(optax.clip), make their state on the SPU, or take Config(ring=128, frac_bits=40)"
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
    size = ((max(-known[0], known[1]) >> t.frac) + 1).bit_length()
    roomy = min(low.bits - 4 - DIGITS - size, 2 * low.f + 12)
    return max(low.f, roomy, min(low.bits - 4 - size, 2 * low.f))
