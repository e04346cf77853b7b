"""Division of integers with JAX's values: toward zero; x / 0 = -1 (all bits set), rem(x, 0) = x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spuvm.compiler import order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out
from spuvm.compiler.rules.integer import bits_of, width_of
from spuvm.compiler.values import Array, Value, int_bounds, lift, public, wrap_int

MOST_CORRECTIONS = 4


def quotient(low: Lowering, o: Out, x: Value, y: Value) -> Secret:
    """x / y, rounded toward zero.

    By a public y: a product with its inverse, corrected by comparing the remainder with multiples
    of y (two or three comparisons of log2(y) + 2 bits). By a secret y, or where the ring is too
    narrow for that product: long division, one comparison per bit of x, about 300 rounds for 32.
    """
    dtype = o.dtype
    n = low.spread(wrap_int(low, lift(low, x, dtype).id, dtype), o.shape)
    with low.unchecked():
        if isinstance(y, Secret):
            d = low.spread(wrap_int(low, y.id, dtype), o.shape)
            made = _by_secret(low, n, d, dtype)
        else:
            made = _by_public(low, n, public(y), dtype)
    return Secret(made, dtype)


def remainder(low: Lowering, o: Out, x: Value, y: Value) -> Secret:
    """x - y (x / y): the sign of x."""
    dtype = o.dtype
    q = quotient(low, o, x, y).id
    n = low.spread(wrap_int(low, lift(low, x, dtype).id, dtype), o.shape)
    with low.unchecked():
        if isinstance(y, Secret):
            d = low.spread(wrap_int(low, y.id, dtype), o.shape)
            product = low.emit("mul_aa", *sorted((q, d)), trunc=0, form="narrow")
            most = low.magnitude(d) if low.type(d).bounds is not None else None
        else:
            c = _whole(public(y), dtype)
            product = low.emit("mul_ap", q, low.constant(low.ring.array(_fit(c, o.shape))))
            most = max((abs(int(v)) for v in c.ravel()), default=0) if c.all() else None
        made = low.emit("sub_aa", n, product)
    bounds = low.type(n).bounds
    if bounds is None:
        return Secret(made, dtype)
    size = low.magnitude(n)
    if most is not None and not isinstance(y, Secret):
        size = min(size, max(0, most - 1))
    inside = max(min(bounds[0], 0), -size), min(max(bounds[1], 0), size)
    return Secret(low.narrowed(made, *inside), dtype)


# --- signs -----------------------------------------------------------------------------------


def _size(low: Lowering, x: int, dtype: np.dtype[Any]) -> tuple[int, order.Bit, int]:
    """(|x|, x < 0, the largest |x|); |x| may fill the ring as an unsigned integer."""
    bounds = low.type(x).bounds
    if dtype.kind == "u":
        top = bounds[1] if bounds is not None and bounds[0] >= 0 else int_bounds(dtype)[1]
        return x, False, top
    top = low.magnitude(x) if bounds is not None else -int_bounds(dtype)[0]
    return order.absolute(low, x), order.negative(low, x), top


def _signed(low: Lowering, x: int, negative: order.Bit) -> int:
    """-x where `negative`, else x."""
    if isinstance(negative, bool):
        return low.emit("neg_a", x) if negative else x
    made = low.emit("lincomb_a", x, low.emit("mul_ba", negative, x), coefficients=(1, -2))
    bounds = low.type(x).bounds
    return made if bounds is None else low.narrowed(made, -bounds[1], bounds[1])


def _either(low: Lowering, x: order.Bit, y: order.Bit) -> order.Bit:
    if isinstance(x, bool):
        return order.negate(low, y) if x else y
    if isinstance(y, bool):
        return order.negate(low, x) if y else x
    return low.emit("xor_bb", x, y)


# --- public divisors -------------------------------------------------------------------------


def _whole(c: Array, dtype: np.dtype[Any]) -> Array:
    return np.asarray([int(v) for v in c.astype(dtype).ravel()], object).reshape(c.shape)


def _fit(c: Array, shape: tuple[int, ...]) -> Array:
    if c.size and (c == c.ravel()[0]).all():
        return np.asarray(c.ravel()[0], object)
    return np.broadcast_to(c, shape)


def _by_public(low: Lowering, n: int, y: Array, dtype: np.dtype[Any]) -> int:
    whole = _fit(_whole(y, dtype), low.shape(n))
    zero = whole == 0
    c = np.where(zero, 1, np.abs(whole)).astype(object)
    size, sign, top = _size(low, n, dtype)
    made = _magnitude_by_public(low, size, c, top)
    negative = np.asarray(whole < 0)
    if not negative.any():
        made = _signed(low, made, sign)
    elif negative.all():
        made = _signed(low, made, order.negate(low, sign))
    else:
        signs = np.where(negative, -1, 1).astype(object)
        turned = low.emit("mul_ap", made, low.constant(low.ring.array(signs)))
        made = _signed(low, turned, sign) if sign is not False else turned
    if not np.asarray(zero).any():
        return made
    keep = low.constant(low.ring.array(np.where(zero, 0, 1).astype(object)))
    fill = low.constant(low.ring.array(np.where(zero, -1, 0).astype(object)))
    return low.emit("add_ap", low.emit("mul_ap", made, keep), fill)


def _magnitude_by_public(low: Lowering, n: int, c: Array, top: int) -> int:
    """floor(n / c) for 0 <= n <= top, c > 0."""
    values = [int(v) for v in c.ravel()]
    if not values or max(values) == 1:
        return n
    shift, factors = _inverse(low, values, top)
    powers = all(v & (v - 1) == 0 for v in values)
    wrong = 0.0 if powers else top / 2 ** (shift + 1)
    below = 1 if powers else 1 + math.ceil(wrong)  # the estimate is less than this too large
    if shift < 1 and powers and len(set(values)) == 1:
        word = bits_of(low, n, top.bit_length())
        down, have = values[0].bit_length() - 1, low.type(word).width
        if down >= have:
            return low.narrowed(low.emit("sub_aa", n, n), 0, 0)
        return low.emit("b2a", low.emit("shift_b", word, by=-down, width=have - down))
    if shift < 1 or below > MOST_CORRECTIONS or max(values) * (below + 1) >= low.bound:
        d = low.spread(low.emit("add_ap", low.emit("sub_aa", n, n),
                                low.constant(low.ring.array(c))), low.shape(n))  # fmt: skip
        return _long(low, n, low.narrowed(d, min(values), max(values)), top)
    n = low.narrowed(n, 0, top)
    scale = low.constant(low.ring.array(np.asarray(factors, object).reshape(c.shape)))
    first = low.emit("trunc_a", low.emit("mul_ap", n, scale), bits=shift)
    first = low.emit("retype_a", first, frac=0, range=())
    by = low.constant(low.ring.array(c))
    rest = low.emit("sub_aa", n, low.emit("mul_ap", first, by))
    reach = below * max(values)
    rest = low.narrowed(rest, -reach, reach)
    terms, surely = [first], 0
    for k in range(1 - below, below if below > 1 else 1):
        edge = low.constant(low.ring.array(np.asarray(-k * c, object)))
        under = order.negative(low, low.emit("add_ap", rest, edge))
        if isinstance(under, bool):
            surely += not under
        else:
            terms.append(low.emit("b2a", low.emit("not_b", under)))
    made = low.emit("lincomb_a", *terms, coefficients=[1] * len(terms))
    if surely != below:
        made = low.emit("add_ap", made, low.constant(low.ring.array(surely - below)))
    return low.narrowed(made, 0, top // min(values))


def _inverse(low: Lowering, values: list[int], top: int) -> tuple[int, list[int]]:
    """(shift, round(2^shift / c) for each c), as exact as the ring allows for n <= top."""
    shift, least = low.bits - 3, 0
    if all(v & (v - 1) == 0 for v in values):  # exact, or not at all
        shift = least = max(values).bit_length() - 1
    while shift > max(0, least - 1):
        factors = [((1 << shift + 1) + v) // (2 * v) for v in values]
        if max(factors) * top < low.bound:
            return shift, factors
        shift -= 1
    return 0, values


# --- secret divisors -------------------------------------------------------------------------


def _by_secret(low: Lowering, n: int, d: int, dtype: np.dtype[Any]) -> int:
    size, sign, top = _size(low, n, dtype)
    by, other, _ = _size(low, d, dtype)
    made = _signed(low, _long(low, size, by, top), _either(low, sign, other))
    bounds = low.type(d).bounds
    if bounds is not None and (bounds[0] > 0 or bounds[1] < 0):
        return made
    zero = low.emit("eqz_a", d, bits=min(low.bits, width_of(dtype)))
    ones = low.emit("add_ap", low.emit("sub_aa", n, n), low.constant(low.ring.array(-1)))
    return order.choose(low, zero, ones, made)


def _long(low: Lowering, n: int, d: int, top: int) -> int:
    """floor(n / d) of unsigned integers, n <= top, bit by bit from above; d = 0 gives ones."""
    steps = max(1, top.bit_length())
    word = bits_of(low, n, steps)
    steps = low.type(word).width
    dtype = np.dtype(f"u{min(low.bits, 64) // 8}")
    bound = low.type(d).bounds
    most = bound[1] if bound is not None and bound[0] >= 0 else None
    rest, made = low.emit("sub_aa", n, n), None
    rest = low.narrowed(rest, 0, 0)
    for i in range(steps - 1, -1, -1):
        digit = low.emit("b2a", low.emit("bits_b", word, low=i, width=1))
        full: order.Bit = False  # doubling may carry out of the ring
        if most is None and low.type(rest).bounds is None:
            full = low.emit("msb_a", rest, bits=low.bits)
        raised = low.emit("lincomb_a", rest, digit, coefficients=(2, 1))
        fits = order.negate(low, order.less(low, raised, d, dtype))
        if not isinstance(full, bool):
            assert not isinstance(fits, bool)
            keep = low.emit("and_bb", low.emit("not_b", full), low.emit("not_b", fits))
            fits = low.emit("not_b", keep)
        rest = low.emit("sub_aa", raised, order.times(low, fits, d))
        high = low.type(raised).bounds
        if high is not None:  # below d, or d is 0 and nothing was taken off
            rest = low.narrowed(rest, 0, high[1])
        if isinstance(fits, bool):
            step = low.emit("add_ap", low.emit("sub_aa", n, n),
                            low.constant(low.ring.array(int(fits))))  # fmt: skip
        else:
            step = low.emit("b2a", fits)
        made = step if made is None else low.emit("lincomb_a", made, step, coefficients=(2, 1))
    assert made is not None
    most = (1 << steps) - 1  # by 0 all digits are 1
    return low.narrowed(made, 0, most) if most < low.ring.modulus // 2 else made
