"""Powers of two with a secret exponent: bringing a value to [1/2, 1) and back to its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import internal_bits
from spuvm.compiler.order import Bit

FINE = 4  # exponent bits that are applied to the mantissa before it is brought to its scale


@dataclass(frozen=True, slots=True)
class Normal:
    """value = mantissa * 2^(top - shift) as integers, the mantissa's `frac` bits below 1.

    mantissa is in [1/2, 1) for value > 0 (0 for 0); scale = 2^shift, shift = sum of 2^j over the
    bits, which are filled in by `digits`.
    """

    value: int
    mantissa: int
    scale: int
    top: int
    places: int

    def digits(self, low: Lowering) -> tuple[Bit, ...]:
        """The bits of shift, lowest first."""
        return tuple(_index(low, self.places, (low.type(self.places).width - 1).bit_length()))


def normalise(low: Lowering, x: int, zero: Literal["zero", "one"] = "zero") -> Normal:
    """A nonnegative encoded x < 2^top brought to [1/2, 1); `top` comes from the bounds.

    The leading bit m by a prefix or over the bits; then x times 2^(top-1-m), which is the word with
    bit m alone in reverse order. x = 0 has shift = top, or counts as 1 unit with zero="one".
    """
    t = low.type(x)
    top = max(2, min(low.bits - 2, t.magnitude(low.bound).bit_length()))
    least = t.lo if t.lo is not None and t.lo > 0 else 0
    with low.unchecked():
        x = low.narrowed(x, least, (1 << top) - 1)
        below = low.emit("a2b", x, bits=top)
        step = 1
        while step < top:  # every bit below the leading one is set, too
            moved = low.emit("shift_b", below, by=-step, width=top)
            new = low.emit("and_bb", low.emit("not_b", below), moved)
            below = low.emit("xor_bb", below, new)
            step *= 2
        if least == 0 and zero == "one":
            some = low.emit("bits_b", below, low=0, width=1)
            none = low.emit("not_b", some)
            x = low.emit("add_aa", x, arith.retype(low, low.emit("b2a", none), low.frac(x)))
            x = low.narrowed(x, 1, (1 << top) - 1)
            least = 1
            below = low.emit("xor_bb", below, low.emit("shift_b", none, by=0, width=top))
        places = low.emit("reverse_b", _only_leading(low, below, top, least == 0))
        farthest = top - least.bit_length()
        if farthest + 1 < low.type(places).width:
            places = low.emit("bits_b", places, low=0, width=farthest + 1)
        scale = low.emit("b2a", places)
        product = low.emit("mul_aa", x, scale, trunc=0, form="narrow")
        raised = low.emit("retype_a", product, frac=top, range=(0, (1 << top) - 1))
        g = internal_bits(low)
        mantissa = low.narrowed(arith.to_frac(low, raised, g), 0, 1 << g)
    return Normal(x, mantissa, low.narrowed(scale, 0, 1 << farthest), top, places)


def _only_leading(low: Lowering, below: int, top: int, with_zero: bool) -> int:
    """The highest set bit alone; with a place more at the bottom, which stands for no bit set."""
    if not with_zero:
        return low.emit("xor_bb", below, low.emit("shift_b", below, by=-1, width=top))
    raised = low.emit("shift_b", below, by=1, width=top + 1)
    ends = low.emit("xor_bb", raised, low.emit("shift_b", below, by=0, width=top + 1))
    # Where a bit is set there is a superfluous one at the bottom, else it is missing.
    return low.emit("xor_bp", ends, low.constant(np.ones((), low.ring.dtype), 0, top + 1))


def _index(low: Lowering, word: int, digits: int) -> list[Bit]:
    """The index of the only set bit of a word, digit by digit, lowest first; local."""
    width = 1 << digits
    word = low.emit("shift_b", word, by=0, width=width)
    bits: list[Bit] = []
    while width > 1:  # the upper half decides the highest digit; then both halves are overlaid
        width //= 2
        upper = low.emit("bits_b", word, low=width, width=width)
        bits.insert(0, _parity(low, upper, width))
        word = low.emit("xor_bb", upper, low.emit("bits_b", word, low=0, width=width))
    return bits


def _parity(low: Lowering, word: int, width: int) -> int:
    while width > 1:
        width //= 2
        upper = low.emit("bits_b", word, low=width, width=width)
        word = low.emit("xor_bb", upper, low.emit("bits_b", word, low=0, width=width))
    return word


def number(low: Lowering, bits: Sequence[Bit]) -> int | None:
    """sum 2^j bit_j as an integer value; None when all bits are public zeros."""
    total: int | None = None
    with low.unchecked():
        for j, bit in enumerate(bits):
            if isinstance(bit, bool):
                if not bit:
                    continue
                raise AssertionError("public ones are not produced by comparisons with a bound")
            part = low.emit("shl_a", low.emit("b2a", bit), bits=j, frac=0)
            total = part if total is None else low.emit("add_aa", total, part)
    return total


def apply_exponent(low: Lowering, mantissa: int, bits: Sequence[Bit], base: int, frac: int) -> int:
    """mantissa * 2^(N + base) with `frac` fraction bits, N = sum 2^j bit_j.

    mantissa is nonnegative with internal_bits fraction bits and about 2 at most. What leaves the
    ring above wraps: callers keep N + base within the representable range; below it rounds to 0.
    """
    g = internal_bits(low)
    y = low.narrowed(mantissa, 0, (2 << g) + (1 << (g - 5)))
    fine, coarse = list(bits[:FINE]), list(bits[FINE:])
    with low.unchecked():
        for j, bit in enumerate(fine):
            factor = low.constant(low.ring.array(np.int64((1 << (1 << j)) - 1)))
            grown = low.emit("mul_ap", order.times(low, bit, y), factor)
            y = low.emit("add_aa", y, grown)
        y = arith.retype(low, y, g)
        variants = [
            _moved(low, y, base + frac - g + (k << FINE), frac) for k in range(1 << len(coarse))
        ]
        for bit in coarse:
            variants = [
                order.choose(low, bit, variants[i + 1], variants[i])
                for i in range(0, len(variants), 2)
            ]
        return variants[0]


def _moved(low: Lowering, y: int, up: int, frac: int) -> int:
    """y * 2^up, read with `frac` fraction bits."""
    if up >= low.bits:
        return arith.retype(low, arith.sub(low, y, y), frac)
    if up >= 0:
        return low.emit("shl_a", y, bits=up, frac=frac)
    if -up >= low.bits - 3:
        return arith.retype(low, arith.sub(low, y, y), frac)
    return arith.retype(low, low.emit("trunc_a", y, bits=-up), frac)
