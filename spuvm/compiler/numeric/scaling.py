"""Powers of two with a secret exponent: bringing a value to [1/2, 1) and back to its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import internal_bits
from spuvm.compiler.order import Bit

FINE = 4  # exponent bits that are applied to the mantissa before it is brought to its scale


@dataclass(frozen=True, slots=True)
class Normal:
    """x = mantissa * 2^(top - shift) as integers, the mantissa's `frac` bits below 1.

    mantissa is in [1/2, 1) for x > 0 (0 for x = 0); shift = sum of 2^j over the bits.
    """

    mantissa: int
    top: int
    bits: tuple[Bit, ...]


def normalise(low: Lowering, x: int) -> Normal:
    """The leading bit of a nonnegative encoded x < 2^top by comparison with powers of two.

    One comparison and one selection per exponent bit, largest first; `top` comes from the bounds.
    """
    t = low.type(x)
    top = min(low.bits - 2, max(1, t.magnitude(low.bound).bit_length()))
    least = max(1, t.lo if t.lo is not None else 1)
    steps = max(1, (top - least.bit_length()).bit_length())
    bits: list[Bit] = []
    with low.unchecked():
        x = low.narrowed(x, 0, (1 << top) - 1)
        for j in reversed(range(steps)):
            step = 1 << j
            if step >= top:
                bits.insert(0, False)
                continue
            small = order.negative(low, _minus(low, x, 1 << (top - step)))
            if isinstance(small, bool):
                moved = low.emit("shl_a", x, bits=step, frac=low.frac(x)) if small else x
            else:
                # x (2^step - 1) is exact in the ring wherever the bit is set
                grown = low.emit("mul_ba", small, low.narrowed(x, 0, (1 << (top - step)) - 1))
                factor = low.constant(low.ring.array(np.int64((1 << step) - 1)))
                moved = low.emit("add_aa", x, low.emit("mul_ap", grown, factor))
            x = low.narrowed(moved, 0, (1 << top) - 1)
            bits.insert(0, small)
        g = internal_bits(low)
        frac = top - g
        if frac > 0:
            low_part = low.emit("trunc_a", arith.retype(low, x, top), bits=frac)
            mantissa = low.narrowed(low_part, 0, 1 << g)
        else:
            mantissa = arith.retype(low, x, top)
            mantissa = low.emit("shl_a", mantissa, bits=-frac, frac=g) if frac else mantissa
    return Normal(mantissa, top, tuple(bits))


def _minus(low: Lowering, x: int, value: int) -> int:
    return low.emit("add_ap", x, low.constant(low.ring.array(np.int64(-value)), low.frac(x)))


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

    mantissa is nonnegative with internal_bits fraction bits and less than 2. What leaves the ring
    above wraps: callers keep N + base within the representable range. What falls below rounds to 0.
    """
    g = internal_bits(low)
    y = low.narrowed(mantissa, 0, 2 << g)
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
