"""The upper half of a product of two integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.compiler import order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.integer import bits_of, from_bits, narrow, width_of
from spuvm.compiler.values import Value, lift, wrap_int


@rule("mulhi")
def mulhi(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """The bits of x y above those that the dtype keeps.

    One product where the ring is twice as wide as the dtype, else four of halves.
    """
    (o,) = out
    width = width_of(o.dtype)
    a, b = (low.spread(wrap_int(low, lift(low, v, o.dtype).id, o.dtype), o.shape) for v in (x, y))
    with low.unchecked():
        if 2 * width > low.bits:
            return Secret(_of_halves(low, a, b, o.dtype), o.dtype)
        word = bits_of(low, _times(low, a, b), 2 * width)
        above = low.type(word).width - width
        if above <= 0:  # what is known of the operands says so
            return np.zeros(o.shape, o.dtype)
        return from_bits(low, low.emit("bits_b", word, low=width, width=above), o.dtype)


def _times(low: Lowering, x: int, y: int) -> int:
    return low.emit("mul_aa", *sorted((x, y)), trunc=0, form="narrow")


def _of_halves(low: Lowering, x: int, y: int, dtype: np.dtype[Any]) -> int:
    """Long multiplication with digits of half a width: no sum reaches 2^width.

    Ref: Warren, Hacker's Delight, section 8-2. Less y where x is negative as a signed integer,
    which as an unsigned one is 2^width more, and less x where y is.
    """
    (x0, x1), (y0, y1) = (_halves(low, v) for v in (x, y))
    lower = _times(low, x0, y0)
    middle = low.emit("add_aa", _times(low, x1, y0), _halves(low, lower)[1])
    rest, carry = _halves(low, middle)
    other = low.emit("add_aa", _times(low, x0, y1), rest)
    made = low.emit("add_aa", low.emit("add_aa", _times(low, x1, y1), carry),
                    _halves(low, other)[1])  # fmt: skip
    if dtype.kind == "i":
        for one, factor in ((x, y), (y, x)):
            sign = order.negative(low, one)
            if not isinstance(sign, bool):
                made = low.emit("sub_aa", made, low.emit("mul_ba", sign, factor))
            elif sign:
                made = low.emit("sub_aa", made, factor)
    return wrap_int(low, made, dtype)


def _halves(low: Lowering, x: int) -> tuple[int, int]:
    """The lower and the upper half of the ring's bits, as numbers."""
    half = low.bits // 2
    word = bits_of(low, x, low.bits)
    lower = low.emit("b2a", narrow(low, word, half))
    if low.type(word).width <= half:
        return lower, low.emit("sub_aa", x, x)
    upper = low.type(word).width - half
    return lower, low.emit("b2a", low.emit("bits_b", word, low=half, width=upper))
