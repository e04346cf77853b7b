"""Bits of integers: bitwise logic, shifts, counts, reductions, reinterpretation.

A chain of such operations stays Boolean: the bits that a result was made of are remembered, and
taken where bits are needed again. Only what arithmetic uses is converted back (8 bytes per bit in
the ring of 64 bits).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import Word
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Array, Value, kind_of, lift, public
from spuvm.errors import CompileError


def width_of(dtype: np.dtype[Any]) -> int:
    """Bits of an integer dtype."""
    return dtype.itemsize * 8


def bits_of(low: Lowering, x: int, width: int) -> int:
    """The residue of x modulo 2^width as Boolean shares; as few of them as can be set."""
    known, bounds = low.facts.get(x), low.type(x).bounds
    if isinstance(known, Word) and known.width >= width:
        return narrow(low, known.id, width)
    valid = width
    if bounds is not None and bounds[0] >= 0:
        width = min(width, max(1, bounds[1].bit_length()))
    made = low.emit("a2b", x, bits=width)
    low.facts.setdefault(x, Word(made, valid))
    return made


def narrow(low: Lowering, word: int, width: int) -> int:
    """At most the lowest `width` bits."""
    return word if low.type(word).width <= width else low.emit("bits_b", word, low=0, width=width)


def widen(low: Lowering, word: int, width: int) -> int:
    """Zeros above, up to `width` bits."""
    if low.type(word).width >= width:
        return word
    return low.emit("shift_b", word, by=0, width=width)


def from_bits(low: Lowering, word: int, dtype: np.dtype[Any]) -> Secret:
    """Boolean shares, at most as wide as the dtype, as an integer of it."""
    width, have = width_of(dtype), low.type(word).width
    if dtype.kind == "i" and have == width < low.bits:
        lifted = low.emit("b2a", flipped(low, word, width - 1))
        made = low.emit("add_ap", lifted, low.constant(low.ring.array(-(1 << (width - 1)))))
    else:
        made = low.emit("b2a", word)
    low.facts[made] = Word(word, width)
    return Secret(made, dtype)


def flipped(low: Lowering, word: int, bit: int) -> int:
    """One bit inverted."""
    return low.emit("xor_bp", word, public_bits(low, np.asarray(1 << bit, object), word))


def public_bits(low: Lowering, c: Array, like: int) -> int:
    """A public array of unsigned integers as bits that go with the secret ones of `like`."""
    t = low.type(like)
    if c.ndim and not (c.size and (c == c.ravel()[0]).all()):
        c = np.broadcast_to(c, t.shape)
    elif c.ndim:
        c = np.asarray(c.ravel()[0] if c.size else 0, object)
    mask = (1 << t.width) - 1
    made = low.ring.array(np.asarray([int(v) & mask for v in c.ravel()], object).reshape(c.shape))
    return low.constant(made.astype(np.uint8) if t.width == 1 else made, 0, t.width)


def residues(c: Value, dtype: np.dtype[Any]) -> Array:
    """Public integers modulo 2^width, as Python integers."""
    mask = (1 << width_of(dtype)) - 1
    whole = public(c)
    flat = [int(v) & mask for v in whole.ravel()]
    return np.asarray(flat, object).reshape(whole.shape)


def word_of(low: Lowering, x: Secret, shape: tuple[int, ...]) -> int:
    """Bits of a secret operand, broadcast to the shape of the result."""
    return low.spread(bits_of(low, x.id, width_of(x.dtype)), shape)


# --- logic -----------------------------------------------------------------------------------


def bitwise(low: Lowering, out: list[Out], x: Value, y: Value, op: str) -> Value:
    """x op y of integers, bit by bit: "and" and "or" one round after the conversion."""
    (o,) = out
    if not isinstance(x, Secret):
        x, y = y, x
    assert isinstance(x, Secret)
    width = width_of(o.dtype)
    if not isinstance(y, Secret):
        return _with_public(low, o, x, residues(y, o.dtype), op)
    a, b = word_of(low, x, o.shape), word_of(low, y, o.shape)
    size = (min if op == "and" else max)(low.type(a).width, low.type(b).width)
    a, b = (widen(low, narrow(low, v, size), size) for v in sorted((a, b)))
    if op == "or":
        both = low.emit("and_bb", low.emit("not_b", a), low.emit("not_b", b))
        return from_bits(low, low.emit("not_b", both), o.dtype)
    assert size <= width
    return from_bits(low, low.emit(f"{op}_bb", a, b), o.dtype)


def _with_public(low: Lowering, o: Out, x: Secret, c: Array, op: str) -> Value:
    most = max((int(v) for v in c.ravel()), default=0).bit_length()
    if op == "and":
        if not most:
            return np.zeros(o.shape, o.dtype)
        word = low.spread(bits_of(low, x.id, most), o.shape)
        return from_bits(low, low.emit("and_bp", word, public_bits(low, c, word)), o.dtype)
    if not most:
        return Secret(low.spread(x.id, o.shape), o.dtype)
    word = widen(low, word_of(low, x, o.shape), most)
    mask = public_bits(low, c, word)
    made = low.emit("xor_bp", word, mask)
    if op == "or":  # what both have is missing
        made = low.emit("xor_bb", made, low.emit("and_bp", word, mask))
    return from_bits(low, made, o.dtype)


def complement(low: Lowering, x: Secret) -> Secret:
    """All bits inverted: -x - 1."""
    made = low.emit("sub_pa", low.constant(low.ring.array(-1)), x.id)
    known, width = low.facts.get(x.id), width_of(x.dtype)
    if isinstance(known, Word) and known.width >= width:
        word = widen(low, narrow(low, known.id, width), width)
        low.facts[made] = Word(low.emit("not_b", word), width)
    return Secret(made, x.dtype)


def reduce_bits(low: Lowering, out: list[Out], x: Secret, rows: int, op: str) -> Secret:
    """and, or, xor of all rows of a value (axis 0): log2(n) rounds after the conversion."""
    from spuvm.compiler.rules.reduce import tree

    word = bits_of(low, rows, width_of(x.dtype))
    if op == "and":
        word = widen(low, word, width_of(x.dtype))
    word = low.emit("not_b", word) if op == "or" else word
    combine = "xor_bb" if op == "xor" else "and_bb"
    made = tree(low, word, lambda a, b: low.emit(combine, a, b))
    made = low.emit("not_b", made) if op == "or" else made
    return from_bits(low, made, out[0].dtype)


# --- shifts ----------------------------------------------------------------------------------


@rule("shift_left")
def shift_left(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x 2^y; 0 where y is negative or at least the width. By a public y: local."""
    (o,) = out
    width = width_of(o.dtype)
    if not isinstance(y, Secret):
        assert isinstance(x, Secret)
        powers = np.asarray(
            [1 << v if v < width else 0 for v in (int(v) for v in residues(y, o.dtype).ravel())],
            object,
        ).reshape(public(y).shape)
        if powers.ndim:
            powers = np.broadcast_to(powers, o.shape)
        if not powers.any():
            return np.zeros(o.shape, o.dtype)
        factor = low.constant(low.ring.array(_uniform(powers)))
        return Secret(low.emit("mul_ap", low.spread(x.id, o.shape), factor), o.dtype)
    made = low.spread(lift(low, x, o.dtype).id, o.shape)
    with low.unchecked():
        for i, bit in enumerate(_amount(low, o, y)):
            factor = low.constant(low.ring.array(np.asarray((1 << (1 << i)) - 1, object)))
            more = low.emit("mul_ba", bit, low.emit("mul_ap", made, factor))
            made = low.emit("add_aa", made, more)
        return Secret(_inside(low, o, y, made), o.dtype)


@rule("shift_right_logical")
def shift_right_logical(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """Bits moved down, zeros from above; 0 where y is negative or at least the width."""
    return _shift_right(low, out[0], x, y, "logical")


@rule("shift_right_arithmetic")
def shift_right_arithmetic(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """Bits moved down, the sign from above; all sign where y is negative or at least the width."""
    return _shift_right(low, out[0], x, y, "arithmetic")


def _shift_right(low: Lowering, o: Out, x: Value, y: Value, fill: str) -> Value:
    x = lift(low, x, o.dtype)
    width = width_of(o.dtype)
    if not isinstance(y, Secret) and not residues(y, o.dtype).any():
        return Secret(low.spread(x.id, o.shape), o.dtype)
    word = word_of(low, x, o.shape)
    if fill == "logical" or low.type(word).width < width:
        made = _down(low, o, word, y)
        return np.zeros(o.shape, o.dtype) if made is None else from_bits(low, made, o.dtype)
    sign = repeated(low, low.emit("bits_b", word, low=width - 1, width=1), width)
    moved = _down(low, o, low.emit("xor_bb", word, sign), y)  # complement of what is negative
    made = sign if moved is None else low.emit("xor_bb", widen(low, moved, width), sign)
    return _sign_extended(low, o, y, made)


def _sign_extended(low: Lowering, o: Out, y: Value, word: int) -> Secret:
    """The integer of a word whose upper bits are its sign: the lower ones are enough."""
    width = width_of(o.dtype)
    least = 0 if isinstance(y, Secret) else min(int(v) for v in residues(y, o.dtype).ravel())
    kept = width - min(least, width - 1)
    if kept == width:
        return from_bits(low, word, o.dtype)
    lower = flipped(low, low.emit("bits_b", word, low=0, width=kept), kept - 1)
    half = low.constant(low.ring.array(-(1 << (kept - 1))))
    made = low.emit("add_ap", low.emit("b2a", lower), half)
    low.facts[made] = Word(word, width)
    return Secret(made, o.dtype)


def _down(low: Lowering, o: Out, word: int, y: Value) -> int | None:
    """Bits moved down by y; None where nothing is left."""
    have = low.type(word).width
    if isinstance(y, Secret):
        for i, bit in enumerate(_amount(low, o, y)):
            if 1 << i >= have:
                word = _cleared(low, word, bit)
                continue
            moved = low.emit("shift_b", word, by=-(1 << i), width=have)
            change = low.emit("xor_bb", word, moved)
            chosen = low.emit("and_bb", change, repeated(low, bit, have))
            word = low.emit("xor_bb", word, chosen)
        far = _far(low, o, y)
        return word if far is None else _cleared(low, word, far)
    amounts = residues(y, o.dtype)
    distinct = sorted({int(v) for v in amounts.ravel()})
    made = None
    for amount in distinct:
        if amount >= have:
            continue
        part = low.emit("shift_b", word, by=-amount, width=have - min(distinct))
        if len(distinct) > 1:
            here = (amounts == amount).astype(object) * ((1 << have) - 1)
            part = low.emit("and_bp", part, public_bits(low, here, part))
        made = part if made is None else low.emit("xor_bb", made, part)
    return made


def _cleared(low: Lowering, word: int, bit: int) -> int:
    """`word` where the bit is 0, else 0."""
    keep = low.emit("not_b", bit)
    return low.emit("and_bb", word, repeated(low, keep, low.type(word).width))


def repeated(low: Lowering, bit: int, width: int) -> int:
    """One bit in all places of a word: local."""
    made, have = low.emit("shift_b", bit, by=0, width=width), 1
    while have < width:
        made = low.emit("xor_bb", made, low.emit("shift_b", made, by=have, width=width))
        have *= 2
    return made


def _amount(low: Lowering, o: Out, y: Secret) -> list[int]:
    """The low bits of a secret shift amount, enough for the width."""
    count = (width_of(o.dtype) - 1).bit_length()
    word = low.spread(bits_of(low, y.id, count), o.shape)
    have = low.type(word).width
    return [low.emit("bits_b", word, low=i, width=1) for i in range(have)]


def _far(low: Lowering, o: Out, y: Secret) -> int | None:
    """1 where the amount is negative or at least the width; None if it never is."""
    width, bounds = width_of(o.dtype), low.type(y.id).bounds
    if bounds is not None and bounds[0] >= 0 and bounds[1] < width:
        return None
    count = (width - 1).bit_length()
    lowest = low.emit("b2a", low.emit("a2b", y.id, bits=count))
    rest = low.emit("sub_aa", y.id, lowest)
    near = low.emit("eqz_a", rest, bits=width_of(y.dtype))
    return low.spread(low.emit("not_b", near), o.shape)


def _inside(low: Lowering, o: Out, y: Secret, made: int) -> int:
    far = _far(low, o, y)
    return made if far is None else order.times(low, low.emit("not_b", far), made)


def _uniform(c: Array) -> Array:
    if c.ndim and c.size and (c == c.ravel()[0]).all():
        return np.asarray(c.ravel()[0], object)
    return c


# --- counts ----------------------------------------------------------------------------------


@rule("population_count")
def population_count(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """How many bits are 1: one conversion per bit, no product."""
    return Secret(_count(low, word_of(low, x, out[0].shape)), out[0].dtype)


@rule("clz")
def clz(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """How many bits above the highest 1: the complement's prefix and, counted."""
    width = width_of(x.dtype)
    word = _filled(low, word_of(low, x, out[0].shape))
    total = low.constant(low.ring.array(width))
    return Secret(low.emit("sub_pa", total, _count(low, word)), out[0].dtype)


def _filled(low: Lowering, word: int) -> int:
    """Every place takes the or of all places above it."""
    have, step = low.type(word).width, 1
    while step < have:
        moved = low.emit("shift_b", word, by=-step, width=have)
        both = low.emit("and_bb", low.emit("not_b", word), low.emit("not_b", moved))
        word, step = low.emit("not_b", both), 2 * step
    return word


def _count(low: Lowering, word: int) -> int:
    return low.emit("sum_a", _numbers(low, word), axes=(0,))


def _numbers(low: Lowering, word: int) -> int:
    """[width, ...]: the bits as numbers 0 and 1, the lowest first."""
    t = low.type(word)
    ones = [low.emit("bits_b", word, low=i, width=1) for i in range(t.width)]
    rows = low.concat([low.reshape(b, (1, *t.shape)) for b in ones], 0)
    return low.emit("b2a", rows)


def mantissa_and_exponent(low: Lowering, x: int) -> tuple[int, int]:
    """m in [1/2, 1) or (-1, -1/2] and an integer e with x = m 2^e, rounded; 0 and 0 of 0.

    The places up to the leading bit, as numbers, add up to its place, and weighted to the power of
    two that is missing: one product.
    """
    frac, shape = low.frac(x), low.shape(x)
    width = max(2, min(low.magnitude(x).bit_length(), low.bits - 2))
    filled = _filled(low, low.emit("a2b", order.absolute(low, x), bits=width))
    rows = _numbers(low, filled)
    parts = [low.reshape(low.cut(rows, 0, i, i + 1), shape) for i in range(width)]
    with low.unchecked():
        powers = [1 << width - 1 - i for i in range(width)]  # minus what the place below had
        steps = [powers[0], *(b - a for a, b in pairwise(powers))]
        missing = low.emit("lincomb_a", *parts, coefficients=tuple(steps))
        missing = low.narrowed(missing, 0, powers[0])
        product = low.emit("mul_aa", *sorted((x, missing)), trunc=0, form="narrow")
        scaled = low.emit("retype_a", product, frac=width, range=(-(1 << width), 1 << width))
        weights = (1 - frac, *(1 for _ in parts[1:]))
        exponent = low.emit("lincomb_a", *parts, coefficients=weights)
        most = max(0, width - frac)  # 0 has exponent 0
        return arith.settle(low, scaled), low.narrowed(exponent, -frac, most)


# --- reinterpretation ------------------------------------------------------------------------


@rule("bitcast_convert_type")
def bitcast(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Between integer dtypes of one width: the same residues."""
    (o,) = out
    alike = kind_of(x.dtype) == kind_of(o.dtype) == "int" and x.dtype.itemsize == o.dtype.itemsize
    if not alike:
        raise CompileError(
            f"the bits of {x.dtype} cannot be read as {o.dtype}: floats are kept in fixed point, "
            "integers as residues",
            expected="integer dtypes of one width",
            next="use .astype(...) for the value, or shifts and masks for parts of an integer",
        )
    return Secret(x.id, o.dtype)
