"""Division: the divisor brought to [1/2, 1), inverted by a product series, and scaled back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import add_constant, internal_bits
from spuvm.compiler.numeric.scaling import normalise

Array = npt.NDArray[Any]


def divide(low: Lowering, x: int | Array, y: int, shape: tuple[int, ...]) -> int:
    """x / y for all representable x, y, of the given shape, with the program's fraction bits.

    x is a value or a public array; both broadcast to `shape`, and what is done to y alone is done
    before it is. With |y| = u 2^(top-f) / c, c a power of two and u in [1/2, 1):
    x / y = (x c 2^(f-top)) (1 / u), where the first factor is no larger than the result.

    Saturates at the largest representable number of the quotient's sign. x / 0 is x divided by the
    least positive number 2^-f. Error: about 2^-26 relative plus 6 units.
    """
    f = low.f
    with low.unchecked():
        y, again = behind_broadcast(low, arith.to_frac(low, arith.settle(low, y), f))
        sign, size = order.negative(low, y), order.absolute(low, y)
        normal = normalise(low, size, zero="one")
        inverse = _unit_inverse(low, normal.mantissa)
        factor = arith.retype(low, normal.scale, normal.top - f)

        def spread(value: int) -> int:
            return low.spread(again(value), shape)

        size = spread(normal.value)
        factor, inverse = spread(factor), spread(inverse)
        sign = sign if isinstance(sign, bool) else spread(sign)
        if isinstance(x, int):
            x = _signed(low, sign, arith.settle(low, low.spread(x, shape)))
            over = _overflow(low, order.absolute(low, x), size)
            factor = factor if over is False else order.times(low, order.negate(low, over), factor)
            part = _times(low, x, factor, f)
            made = _times(low, part, inverse, f)
            if over is not False:
                made = low.emit("add_aa", made, _largest(low, over, order.negative(low, x)))
            return _bounded(low, made, low.type(x).bounds, low.frac(x), size)
        made = _times(low, _scaled(low, factor, np.broadcast_to(x, shape)), inverse, f)
        return _signed(low, sign, made)


def _unit_inverse(low: Lowering, u: int) -> int:
    """1 / u for u in [1/2, 1]: relative error 2^-28, internal_bits + 4 fraction bits.

    w = (45 - 30 u) / 16 leaves e = 1 - u w with |e| <= 1/16, and
    1 / u = w (1 + e) (1 + e^2) (1 + e^4) / (1 - e^8), where e^8 <= 2^-32 is left out.
    """
    g = internal_bits(low)
    fine, one = g + 4, 1 << g
    square = low.narrowed(_times(low, u, u, g), 0, one)
    u, square = arith.retype(low, u, fine), arith.retype(low, square, fine)
    w = add_constant(low, low.emit("lincomb_a", u, coefficients=(-30,)), 45 / 16)
    e = add_constant(low, low.emit("lincomb_a", u, square, coefficients=(-45, 30)), 1.0)
    w, e = low.narrowed(w, 0, 45 << g), low.narrowed(e, -one - 64, one + 64)
    for power in (2, 4, 8):
        step = _times(low, w, e, fine)
        if power < 8:
            e = low.narrowed(_times(low, e, e, g), 0, one >> 4)
        w = low.narrowed(low.emit("add_aa", w, step), 0, 33 << g)
    return w


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


def _signed(low: Lowering, sign: order.Bit, x: int) -> int:
    """-x where the sign is set."""
    if isinstance(sign, bool):
        return low.emit("neg_a", x) if sign else x
    made = low.emit("lincomb_a", x, low.emit("mul_ba", sign, x), coefficients=(1, -2))
    limit = low.magnitude(x)
    return made if limit >= low.bound else low.narrowed(made, -limit, limit)


def _overflow(low: Lowering, x: int, y: int) -> order.Bit:
    """Whether x / y is at least 2^(k-2-f), for encoded x >= 0, y >= 1."""
    up = low.bits - 2 - low.f - low.frac(x) + low.f  # x >= y 2^up
    bounds = low.type(y).bounds
    least = bounds[0] if bounds is not None else 1
    if low.magnitude(x) < least << up:
        return False
    # Only a y below 2^(k-2-up) can be so small, and for these the shift is exact.
    small = order.negative(low, _minus(low, y, 1 << (low.bits - 2 - up)))
    raised = low.emit("shl_a", y, bits=up, frac=low.frac(x))
    above = low.emit("msb_a", low.emit("sub_aa", x, raised), bits=low.bits)
    above = low.emit("not_b", above)
    if isinstance(small, bool):
        return above if small else False
    return low.emit("and_bb", small, above)


def _minus(low: Lowering, x: int, value: int) -> int:
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(-value)), low.frac(x)))


def _largest(low: Lowering, over: order.Bit, sign: order.Bit) -> int:
    """The largest number of that sign where `over`, else 0."""
    assert not isinstance(over, bool)
    number = low.emit("b2a", over)
    if sign is True:
        number = low.emit("neg_a", number)
    elif sign is not False:
        minus = low.emit("b2a", low.emit("and_bb", over, sign))
        number = low.emit("lincomb_a", number, minus, coefficients=(1, -2))
    most = low.constant(low.ring.array(np.int64(low.bound - 1)), low.f)
    return low.emit("mul_ap", number, most)


def _scaled(low: Lowering, factor: int, x: Array) -> int:
    """factor * x for a public x, with the program's fraction bits."""
    x = arith.uniform(x)
    if x.ndim == 0 and abs(np.frexp(x)[0]) == 0.5:
        return arith.to_frac(low, arith.mul_public(low, factor, x), low.f)
    nothing = arith.retype(low, arith.sub(low, factor, factor), low.f)
    return _times(low, low.emit("add_ap", nothing, arith.encode(low, x, low.f)), factor, low.f)


def _bounded(low: Lowering, made: int, x: tuple[int, int] | None, frac: int, size: int) -> int:
    """The quotient with the bounds that those of x and |y| imply."""
    y = low.type(size).bounds
    if x is None or y is None or y[0] < 1:
        return made
    most = max(abs(x[0]), abs(x[1]))
    error = 2.0 ** (4 - internal_bits(low))
    limit = math.ceil(most * 2 ** (2 * low.f - frac) / y[0] * (1 + error)) + 8
    if limit >= low.bound:
        return made
    return low.narrowed(made, -limit if x[0] < 0 else -8, limit if x[1] > 0 else 8)


def behind_broadcast(low: Lowering, x: int) -> tuple[int, Callable[[int], int]]:
    """What was repeated to make `x`, and a function that repeats values of that shape likewise."""
    instruction = low.builder.instruction(x)
    if instruction is None or instruction.op != "broadcast":
        return x, lambda value: value
    inner, again = behind_broadcast(low, instruction.args[0])
    attrs = dict(instruction.attrs)
    return inner, lambda value: low.emit("broadcast", again(value), **attrs)
