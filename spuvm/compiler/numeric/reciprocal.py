"""Division: the divisor brought to [1/4, 1], inverted by a polynomial, and scaled back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.types import Type
from spuvm.compiler import arith, inverses, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.counts import by_table
from spuvm.compiler.numeric.limits import plus
from spuvm.compiler.numeric.polynomial import (
    add_constant,
    evaluate,
    internal_bits,
    shortest,
)
from spuvm.compiler.numeric.quotient import by_few
from spuvm.compiler.numeric.scaling import normalise

Array = npt.NDArray[Any]


Quotients = Literal["any", "representable"]


def divide(
    low: Lowering, x: int | Array, y: int, shape: tuple[int, ...], quotients: Quotients = "any"
) -> int:
    """x / y for all representable x, y, of the given shape, with the program's fraction bits.

    x is a value or a public array; both broadcast to `shape`, and what is done to y alone is done
    before it is. With |y| = u 2^(top-f) / c, c a power of two and u in [1/4, 1]:
    x / y = (x c 2^(f-top)) (1 / u), where the first factor is no larger than the result.

    Saturates at the largest representable number of the quotient's sign: so x / 0 is that number
    with the sign of x, and 0 / 0 is 0. Error: about 2^-22 relative plus 6 units. Of a value x,
    where `quotients` says that all are representable, nothing saturates, and x / 0 is 0.
    """
    g = internal_bits(low)
    with low.unchecked():
        y, again = behind_broadcast(low, arith.settle(low, y))
        given = low.type(y)
        if given.lo is not None and given.lo < 0 and given.hi == 0:  # both signs: 0 has none
            y = low.emit("retype_a", y, frac=given.frac, range=(given.lo, 1))
        sign = order.negative(low, y)
        if isinstance(x, int):
            x = arith.settle(low, low.spread(x, shape))
        made = by_table(low, x, y, shape, again)
        if made is None and isinstance(x, int):
            made = by_few(low, x, y, shape, again)
        if made is not None:
            few = Fraction(1, 1 << 21)  # these ways may be above the quotient by 2^-22 of it
            return _bounded(low, made, low.type(x), given, few) if isinstance(x, int) else made
        y = low.emit("neg_a", y) if sign is True else y
        signs = "positive" if isinstance(sign, bool) else "both"
        normal = normalise(low, y, g, signs=signs)
        inverse = _unit_inverse(low, normal.mantissa, normal.least)
        scale = normal.scale(low)
        factor = _one(low, y) if scale is None else scale
        factor = low.emit("neg_a", factor) if sign is True else factor
        factor = arith.retype(low, factor, normal.top - low.frac(y))

        def spread(value: int) -> int:
            return low.spread(again(value), shape)

        divisor = _Divisor(y, sign, normal.zero, normal.missing(low), spread)
        inverse, factor = spread(inverse), spread(factor)
        if not isinstance(x, int):
            return _public(low, np.broadcast_to(x, shape), divisor, factor, inverse)
        if quotients == "representable":
            return _times(low, _times(low, x, factor, low.f), inverse, low.f)
        made = _secret(low, x, divisor, factor, inverse)
        return _bounded(low, made, low.type(x), given) if normal.zero is None else made


def ratio(low: Lowering, n: int, d: int) -> int:
    """n / d for 0 <= n <= d with equal fraction bits: in [0, 1], 0 / 0 is 0; error about 1 unit."""
    f, g = low.f, internal_bits(low)
    normal = normalise(low, d, g)
    inverse = _unit_inverse(low, normal.mantissa, normal.least)
    scale = normal.scale(low)
    part = n if scale is None else low.emit("mul_aa", *sorted((n, scale)), trunc=0, form="narrow")
    part = low.emit("retype_a", part, frac=normal.top, range=(0, 1 << normal.top))
    part = low.narrowed(arith.to_frac(low, part, g), 0, (1 << g) + 1)
    return low.narrowed(_times(low, part, inverse, f), 0, (1 << f) + 4)


@dataclass(frozen=True)
class _Divisor:
    """|y|, or y with its sign where that is secret; where it is 0 (None: nowhere); its repetition.

    `missing` is `zero` as a number.
    """

    y: int
    sign: order.Bit
    zero: int | None
    missing: int
    spread: Callable[[int], int]

    def negative(self, low: Lowering, numerator: order.Bit) -> order.Bit:
        """Whether a quotient is negative; for y = 0, whether its numerator is."""
        if isinstance(self.sign, bool):
            return order.negate(low, numerator) if self.sign else numerator
        return _differ(low, numerator, self.spread(self.sign))

    def size(self, low: Lowering) -> int:
        """|y|."""
        if isinstance(self.sign, bool):
            return self.y
        # The sign is a number already, for the scale: a product with that sends less than mul_ba.
        factors = sorted((low.emit("b2a", self.sign), self.y))
        negative = low.emit("mul_aa", *factors, trunc=0, form="narrow")
        size = low.emit("lincomb_a", self.y, negative, coefficients=(1, -2))
        return low.narrowed(size, 0, low.bound - 1)


def _secret(low: Lowering, x: int, divisor: _Divisor, factor: int, inverse: int) -> int:
    """A value divided; `factor` is 0 where the divisor is."""
    over = _overflow(low, x, divisor)
    if over is not None:
        factor = order.times(low, order.negate(low, over), factor)
    made = _times(low, _times(low, x, factor, low.f), inverse, low.f)
    if over is not None:
        negative = divisor.negative(low, order.negative(low, x))
        return low.emit("add_aa", made, _largest(low, over, negative))
    if divisor.zero is None:
        return made
    for bit, sign in sides(low, x):
        zero = divisor.spread(divisor.zero)
        where = zero if bit is True else low.emit("and_bb", zero, bit)
        made = low.emit("add_aa", made, _largest(low, where, sign))
    return made


def sides(low: Lowering, x: int) -> Iterator[tuple[order.Bit, bool]]:
    """Where x is positive, and where it is negative (sign True), as far as that is possible."""
    for value, sign in ((low.emit("neg_a", x), False), (x, True)):
        bit = order.negative(low, value)
        if bit is not False:
            yield bit, sign


def by_zero(low: Lowering, x: int, where: Array) -> int:
    """x / 0 at public places, 0 elsewhere: the largest number with the sign of x, 0 for 0."""
    with low.unchecked():
        made = arith.retype(low, arith.sub(low, x, x), low.f)
        for bit, sign in sides(low, x):
            number = _one(low, x) if bit is True else low.emit("b2a", bit)
            most = _most(low, where * (-1 if sign else 1))
            made = low.emit("add_aa", made, low.emit("mul_ap", number, most))
        return made


def _public(low: Lowering, c: Array, divisor: _Divisor, factor: int, inverse: int) -> int:
    """A public array divided; `factor` is 0 where the divisor is."""
    y = divisor.y
    least = np.floor(np.abs(np.ldexp(c, low.f + low.frac(y) - low.bits + 2)))
    if not c.size or least.max() < _smallest(low.type(y)):
        most = float(np.abs(c).max(initial=0)) * 2.0 ** low.frac(y)
        made = _small(low, c, divisor, factor, inverse, low.f)
        if not most:
            return made
        return inverses.note(
            low, made, most, lambda frac: _small(low, c, divisor, factor, inverse, frac)
        )
    least = np.where(c == 0, -1, least)  # 0 / y is 0, everywhere
    limit = low.constant(arith.ring_array(low, arith.uniform(least + 1), 0), low.frac(y))
    over = low.emit("sub_pa", limit, divisor.spread(divisor.size(low)))  # > 0
    over = order.negative(low, low.emit("neg_a", over))
    factor = order.times(low, order.negate(low, over), factor)
    made = _times(low, _scaled(low, factor, c, low.f), inverse, low.f)
    negative = divisor.negative(low, False)
    assert not isinstance(over, bool)
    step = low.emit("b2a", over)
    if negative is True:
        step = low.emit("neg_a", step)
    elif negative is not False:
        minus = low.emit("b2a", low.emit("and_bb", over, negative))
        step = low.emit("lincomb_a", step, minus, coefficients=(1, -2))
    step = low.emit("mul_ap", step, _most(low, np.sign(c)))
    return low.emit("add_aa", made, step)


def _small(low: Lowering, c: Array, divisor: _Divisor, factor: int, inverse: int, frac: int) -> int:
    """A quotient that only a divisor of 0 makes too large, with `frac` fraction bits."""
    with low.unchecked():
        made = _times(low, _scaled(low, factor, c, frac), inverse, frac)
        if divisor.zero is None:
            return made
        step = low.emit("mul_ap", divisor.spread(divisor.missing), _most(low, np.sign(c), frac))
        return low.emit("add_aa", made, step)


def _most(low: Lowering, sign: Array, frac: int | None = None) -> int:
    """The largest numbers of public signs, with the program's or `frac` fraction bits."""
    signs = arith.uniform(sign).astype(np.int64)  # a float would round the bound up
    large = signs.astype(object) * (low.bound - 1)
    return low.constant(low.ring.array(np.asarray(large, object)), frac or low.f)


def _differ(low: Lowering, a: order.Bit, b: int) -> order.Bit:
    if isinstance(a, bool):
        return order.negate(low, b) if a else b
    return low.emit("xor_bb", a, b)


def _unit_inverse(low: Lowering, u: int, least: float) -> int:
    """1 / u for u in [least, 1]: relative error 2^-22, internal_bits + 2 fraction bits.

    A polynomial w leaves e = 1 - u w with |e| <= 2^-11, and 1 / u = w (1 + e) / (1 - e^2).
    """
    g = internal_bits(low)
    slope = math.floor(16 / (1 - least))  # in eighths
    middle = (1 + least) / 2
    t = low.emit("lincomb_a", u, coefficients=[slope])
    t = add_constant(low, arith.retype(low, t, g + 3), -middle * slope / 8)
    error = 2.0 ** (3 - g // 2)
    series = shortest(_inverse, middle - 8 / slope, middle + 8 / slope, error, "relative")
    w = low.narrowed(evaluate(low, t, series, g), 7 << g - 3, math.ceil(1.01 / least * 2**g))
    e = low.emit("neg_a", _times(low, u, w, g))
    e = low.narrowed(add_constant(low, e, 1.0), -round(2**g * 2 * error), round(2**g * 2 * error))
    w = arith.to_frac(low, w, g + 2)
    made = low.emit("add_aa", w, _times(low, w, e, g + 2))
    return low.narrowed(made, 0, math.ceil(1.01 / least * 2 ** (g + 2)))


def _inverse(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / u


def _times(low: Lowering, x: int, y: int, frac: int) -> int:
    """x * y with `frac` fraction bits: narrow where the ranges prove it, else full."""
    a, b = sorted((x, y))
    cut = low.frac(x) + low.frac(y) - frac
    if cut <= 0:
        return arith.to_frac(low, low.emit("mul_aa", a, b, trunc=0, form="narrow"), frac)
    if low.magnitude(x) * low.magnitude(y) < low.bound:
        return low.emit("mul_aa", a, b, trunc=cut, form="narrow")
    if cut % 2:  # the full form cuts an even number of bits
        for v, other in ((x, y), (y, x)):
            if 2 * low.magnitude(v) < low.bound:
                return _times(low, arith.to_frac(low, v, low.frac(v) + 1), other, frac)
        return arith.to_frac(low, _times(low, x, y, frac + 1), frac)
    return low.emit("mul_aa", a, b, trunc=cut, form="full")


def _overflow(low: Lowering, x: int, divisor: _Divisor) -> int | None:
    """Whether |x / y| is at least 2^(k-2-f), x / 0 included; None where the ranges exclude it."""
    y = divisor.y
    up = low.bits - 2 - low.f + low.frac(x) - low.frac(y)  # |x| >= |y| 2^up
    if low.magnitude(x) < _smallest(low.type(y)) << up:
        return None
    size = divisor.size(low)
    # Only a y below 2^(k-2-up) can be so small, and for these the shift is exact.
    small = order.negative(low, plus(low, size, -(1 << (low.bits - 2 - up))))
    raised = divisor.spread(low.emit("shl_a", size, bits=up, frac=low.frac(x)))
    if divisor.zero is not None:  # 0 / 0 is not large
        gap = arith.retype(low, divisor.spread(divisor.missing), low.frac(x))
        raised = low.emit("add_aa", raised, gap)
    below = low.emit("sub_aa", order.absolute(low, x), raised)
    above = low.emit("not_b", low.emit("msb_a", below, bits=low.bits))
    if isinstance(small, bool):
        return above if small else None
    return low.emit("and_bb", divisor.spread(small), above)


def _smallest(t: Type) -> int:
    """The least |value| that is not 0."""
    if t.lo is None or t.hi is None:
        return 1
    return max(1, t.lo, -t.hi)


def _one(low: Lowering, like: int) -> int:
    """The public 1 as shares of the shape of another value."""
    zero = low.emit("lincomb_a", arith.retype(low, like, 0), coefficients=[0])
    return low.narrowed(plus(low, zero, 1), 1, 1)


def _largest(low: Lowering, over: order.Bit, sign: order.Bit) -> int:
    """The largest number of that sign where `over`, else 0."""
    assert not isinstance(over, bool)
    number = low.emit("b2a", over)
    if sign is True:
        number = low.emit("neg_a", number)
    elif sign is not False:
        minus = low.emit("b2a", low.emit("and_bb", over, sign))
        number = low.emit("lincomb_a", number, minus, coefficients=(1, -2))
    return low.emit("mul_ap", number, _most(low, np.ones(())))


def _scaled(low: Lowering, factor: int, x: Array, frac: int) -> int:
    """factor * x for a public x, with `frac` fraction bits."""
    x = arith.uniform(x)
    if x.ndim == 0 and abs(np.frexp(x)[0]) == 0.5:
        return arith.to_frac(low, arith.mul_public(low, factor, x), frac)
    nothing = arith.retype(low, arith.sub(low, factor, factor), low.f)
    return _times(low, low.emit("add_ap", nothing, arith.encode(low, x, low.f)), factor, frac)


def _bounded(low: Lowering, made: int, x: Type, y: Type, error: Fraction = Fraction(0)) -> int:
    """The quotient with the bounds that those of x and y and its relative error imply."""
    if x.lo is None or x.hi is None:
        return made
    most = max(abs(x.lo), abs(x.hi))
    # Exact: in the ring of 2^128 the error is below the rounding of a float.
    largest = Fraction(most, _smallest(y)) * Fraction(2) ** (low.f + y.frac - x.frac)
    limit = math.ceil(largest * (1 + max(error, Fraction(16, 1 << internal_bits(low))))) + 16
    if limit >= low.bound:
        return made
    signs = {-1 if bound < 0 else 1 for bound in (y.lo, y.hi) if bound is not None} or {-1, 1}
    lowest = -limit if x.lo < 0 or -1 in signs else -16
    return low.narrowed(made, lowest, limit if x.hi > 0 or -1 in signs else 16)


def behind_broadcast(low: Lowering, x: int) -> tuple[int, Callable[[int], int]]:
    """What was repeated to make `x`, and a function that repeats values of that shape likewise."""
    instruction = low.builder.instruction(x)
    if instruction is None or instruction.op != "broadcast":
        return x, lambda value: value
    inner, again = behind_broadcast(low, instruction.args[0])
    attrs = dict(instruction.attrs)
    return inner, lambda value: low.emit("broadcast", again(value), **attrs)
