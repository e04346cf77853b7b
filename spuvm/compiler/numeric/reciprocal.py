"""Division: both sides brought to [1/2, 1), a Newton step, the exponents put back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import evaluate, fitted, internal_bits
from spuvm.compiler.numeric.scaling import Normal, apply_exponent, normalise, number


def _inverse(m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / m


def divide(low: Lowering, x: int | None, y: int) -> int:
    """x / y (1 / y for x = None) for all representable x, y, with the program's fraction bits.

    y has the shape of x or is a scalar.

    Saturates at the largest representable number of the quotient's sign. x / 0 is x divided by the
    least positive number 2^-f, saturated too. Error: about 2^-19 relative plus one unit.
    """
    f, g = low.f, internal_bits(low)
    with low.unchecked():
        y_negative, y_size = _size(low, y)
        zero = order.negative(low, _shifted(low, y_size, -1))
        if zero is not False:
            unit = arith.retype(low, low.emit("b2a", zero), f)
            y_size = low.narrowed(low.emit("add_aa", y_size, unit), 1, low.magnitude(y_size))
        below = normalise(low, y_size)
        inverse = _mantissa_inverse(low, below)
        x_negative: order.Bit = False
        if x is None:
            # The integer 2^f is 1/2 * 2^(f + 1).
            quotient = low.emit("trunc_a", arith.retype(low, inverse, g + 1), bits=1)
            minus, top = None, f + 1
        else:
            x_negative, x_size = _size(low, x)
            # A scalar divisor is inverted once.
            inverse = low.spread(inverse, low.shape(x))
            above = normalise(low, x_size)
            quotient = low.emit("mul_aa", above.mantissa, inverse, trunc=g, form="narrow")
            minus, top = number(low, above.bits), above.top
        # x / y = quotient * 2^(top_x - shift_x) / 2^(top_y - shift_y)
        plus = number(low, below.bits)
        if x is not None:
            plus = None if plus is None else low.spread(plus, low.shape(x))
            if not isinstance(y_negative, bool):
                y_negative = low.spread(y_negative, low.shape(x))
        exponent = _difference(low, plus, minus)
        quotient = low.narrowed(quotient, 0, 2 << g)
        made = _restore(low, quotient, exponent, top - below.top)
        negative = _either(low, x_negative, y_negative)
        made = order.choose(low, negative, low.emit("neg_a", made), made)
        return arith.retype(low, made, f)


def _size(low: Lowering, v: int) -> tuple[order.Bit, int]:
    v = arith.to_frac(low, arith.settle(low, v), low.f)
    return order.negative(low, v), order.absolute(low, v)


def _difference(low: Lowering, plus: int | None, minus: int | None) -> int | None:
    if minus is None or plus is None:
        return plus if minus is None else low.emit("neg_a", minus)
    return low.emit("sub_aa", plus, minus)


def _either(low: Lowering, a: order.Bit, b: order.Bit) -> order.Bit:
    if isinstance(a, bool):
        return order.negate(low, b) if a else b
    if isinstance(b, bool):
        return order.negate(low, a) if b else a
    return a if a == b else low.emit("xor_bb", a, b)


def _mantissa_inverse(low: Lowering, y: Normal) -> int:
    """1 / m in [1, 2] for m in [1/2, 1] with internal_bits; a polynomial, then a Newton step."""
    g = internal_bits(low)
    # w = 4 m - 3 maps [1/2, 1] to [-1, 1]
    w = low.emit("shl_a", y.mantissa, bits=2, frac=g)
    w = low.emit("add_ap", w, low.constant(low.ring.array(np.int64(-(3 << g))), g))
    guess = evaluate(low, w, fitted(_inverse, 0.5, 1.0, 6 if low.bits >= 64 else 4))
    guess = low.narrowed(guess, 0, (2 << g) + (1 << (g - 6)))
    # r (2 - m r)
    error = low.emit("mul_aa", y.mantissa, guess, trunc=g, form="narrow")
    rest = low.emit("sub_pa", low.constant(low.ring.array(np.int64(2 << g)), g), error)
    rest = low.narrowed(rest, 0, 2 << g)
    made = low.emit("mul_aa", guess, rest, trunc=g, form="narrow")
    return low.narrowed(made, 0, (2 << g) + (1 << (g - 6)))


def _restore(low: Lowering, quotient: int, exponent: int | None, base: int) -> int:
    """quotient * 2^(exponent + base) with the program's fraction bits, saturating above."""
    f, g = low.f, internal_bits(low)
    if exponent is None:
        return apply_exponent(low, quotient, (), base, f)
    bounds = low.type(exponent).bounds
    assert bounds is not None
    limit = low.bits - 3 - f  # quotient < 2, so that the encoded result stays below 2^(k-2)
    if bounds[1] + base > limit:
        # Bring the quotient to [1, 2): then the exponent alone tells what can be represented.
        small = order.negative(low, _shifted(low, quotient, -(1 << g)))
        quotient = low.emit("add_aa", quotient, order.times(low, small, quotient))
        quotient = low.narrowed(quotient, 0, 2 << g)
        assert not isinstance(small, bool)
        exponent = low.emit("sub_aa", exponent, low.emit("b2a", small))
    bounds = low.type(exponent).bounds
    assert bounds is not None
    # Below 2^-(f+2) the result rounds to 0.
    first, last = max(bounds[0] + base, -(f + 2)), min(bounds[1] + base, limit)
    last = max(first, last)
    lowest, highest = (low.constant(low.ring.array(np.int64(v - base))) for v in (first, last))
    too_low = order.negative(low, _shifted(low, exponent, base - first))
    too_high = order.negative(low, low.emit("sub_pa", highest, exponent))
    clamped = exponent
    for bit, target in ((too_low, lowest), (too_high, highest)):
        if bit is not False:
            step = order.times(low, bit, low.emit("sub_pa", target, exponent))
            clamped = low.emit("add_aa", clamped, step)
    n = low.narrowed(_shifted(low, clamped, base - first), 0, last - first)
    width = max(1, (last - first).bit_length())
    word = low.emit("a2b", n, bits=width)
    digits: list[order.Bit] = [low.emit("bits_b", word, low=j, width=1) for j in range(width)]
    made = low.narrowed(apply_exponent(low, quotient, digits, first, f), 0, low.bound - 1)
    if too_high is not False:
        largest = low.constant(low.ring.array(np.int64(low.bound - 1)), f)
        step = order.times(low, too_high, low.emit("sub_pa", largest, made))
        made = low.narrowed(low.emit("add_aa", made, step), 0, low.bound - 1)
    return made


def _shifted(low: Lowering, e: int, value: int) -> int:
    return low.emit("add_ap", e, low.constant(low.ring.array(np.int64(value)), low.frac(e)))
