"""Division: the divisor brought to [1/4, 1], inverted by a polynomial, and scaled back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.types import Type
from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import plus
from spuvm.compiler.numeric.polynomial import (
    add_constant,
    evaluate,
    internal_bits,
    shortest,
)
from spuvm.compiler.numeric.scaling import Normal, normalise

Array = npt.NDArray[Any]


def divide(low: Lowering, x: int | Array, y: int, shape: tuple[int, ...]) -> int:
    """x / y for all representable x, y, of the given shape, with the program's fraction bits.

    x is a value or a public array; both broadcast to `shape`, and what is done to y alone is done
    before it is. With |y| = u 2^(top-f) / c, c a power of two and u in [1/4, 1]:
    x / y = (x c 2^(f-top)) (1 / u), where the first factor is no larger than the result.

    Saturates at the largest representable number of the quotient's sign. x / 0 is x divided by the
    least positive number 2^-f. Error: about 2^-22 relative plus 6 units.
    """
    f, g = low.f, internal_bits(low)
    with low.unchecked():
        y, again = behind_broadcast(low, arith.settle(low, y))
        given, sign = low.type(y), order.negative(low, y)
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

        inverse = spread(inverse)
        if not isinstance(x, int):
            return _times(low, _scaled(low, spread(factor), np.broadcast_to(x, shape)), inverse, f)
        x = arith.settle(low, low.spread(x, shape))
        over = _overflow(low, x, y, normal, spread)
        if over is None:
            made = _times(low, _times(low, x, spread(factor), f), inverse, f)
        else:
            factor = order.times(low, order.negate(low, over), spread(factor))
            made = _times(low, _times(low, x, factor, f), inverse, f)
            negative: order.Bit = order.negative(low, x)
            if sign is True:
                negative = order.negate(low, negative)
            elif sign is not False:
                negative = _differ(low, negative, spread(sign))
            made = low.emit("add_aa", made, _largest(low, over, negative))
        return _bounded(low, made, low.type(x), given)


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
        return arith.to_frac(low, _times(low, x, y, frac + 1), frac)
    return low.emit("mul_aa", a, b, trunc=cut, form="full")


def _overflow(
    low: Lowering, x: int, y: int, normal: Normal, spread: Callable[[int], int]
) -> int | None:
    """Whether |x / y| is at least 2^(k-2-f); None where the ranges exclude it."""
    up = low.bits - 2 - low.f - low.frac(x) + low.frac(y)  # |x| >= |y| 2^up
    if low.magnitude(x) < _smallest(low.type(y)) << up:
        return None
    size = low.narrowed(order.absolute(low, y), 0, low.bound - 1)
    if normal.stages and normal.stages[0].positive is not None:
        gap = plus(low, low.emit("neg_a", normal.stages[0].positive), 1)
        size = low.emit("add_aa", size, arith.retype(low, gap, low.frac(y)))
    # Only a y below 2^(k-2-up) can be so small, and for these the shift is exact.
    small = order.negative(low, plus(low, size, -(1 << (low.bits - 2 - up))))
    raised = spread(low.emit("shl_a", size, bits=up, frac=low.frac(x)))
    below = low.emit("sub_aa", order.absolute(low, x), raised)
    above = low.emit("not_b", low.emit("msb_a", below, bits=low.bits))
    if isinstance(small, bool):
        return above if small else None
    return low.emit("and_bb", spread(small), above)


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
    most = low.integer(low.bound - 1, low.f)
    return low.emit("mul_ap", number, most)


def _scaled(low: Lowering, factor: int, x: Array) -> int:
    """factor * x for a public x, with the program's fraction bits."""
    x = arith.uniform(x)
    if x.ndim == 0 and abs(np.frexp(x)[0]) == 0.5:
        return arith.to_frac(low, arith.mul_public(low, factor, x), low.f)
    nothing = arith.retype(low, arith.sub(low, factor, factor), low.f)
    return _times(low, low.emit("add_ap", nothing, arith.encode(low, x, low.f)), factor, low.f)


def _bounded(low: Lowering, made: int, x: Type, y: Type) -> int:
    """The quotient with the bounds that those of x and y imply."""
    if x.lo is None or x.hi is None:
        return made
    most = max(abs(x.lo), abs(x.hi))
    error = 2.0 ** (4 - internal_bits(low))
    limit = math.ceil(most * 2 ** (low.f + y.frac - x.frac) / _smallest(y) * (1 + error)) + 16
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
