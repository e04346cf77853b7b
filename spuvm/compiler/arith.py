"""Fixed-point arithmetic on program values: where to truncate, by how much, in which form.

A float may carry any number of fraction bits. Products keep theirs untruncated while the ranges
prove that they fit ("pending"), so that sums and scalings of products are truncated once, later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from spuvm.compiler.context import Lowering
from spuvm.compiler.varying import Varying, place
from spuvm.errors import CompileError
from spuvm.wide import elements as wide_elements

Array = npt.NDArray[Any]
Apply = Callable[[int, int], int]
Scaled = Callable[[int, int, int], int]
AnyPublic = TypeVar("AnyPublic", npt.NDArray[Any], Varying, npt.NDArray[Any] | Varying)


def to_frac(low: Lowering, x: int, frac: int) -> int:
    """`x` with exactly `frac` fraction bits: an exact shift up, or a truncation."""
    have = low.frac(x)
    if frac > have:
        return low.emit("shl_a", x, bits=frac - have, frac=frac)
    most = low.bits - 3  # a product of very small numbers can have more bits than one step cuts
    if have - frac > most:
        return to_frac(low, low.emit("trunc_a", x, bits=most), frac)
    if frac < have:
        return low.emit("trunc_a", x, bits=have - frac)
    return x


def settle(low: Lowering, x: int) -> int:
    """`x` with at most the program's fraction bits."""
    return to_frac(low, x, low.f) if low.frac(x) > low.f else x


def retype(low: Lowering, x: int, frac: int, lo: int | None = None, hi: int | None = None) -> int:
    """The same ring elements read with other fraction bits (a scaling by a power of two)."""
    t = low.type(x)
    bounds = () if lo is None or hi is None else (lo, hi)
    if t.frac == frac and bounds in ((), t.bounds):
        return x
    return low.emit("retype_a", x, frac=frac, range=bounds)


def align(low: Lowering, values: Sequence[int]) -> list[int]:
    """Equal fraction bits for all: the most that any has, if the ranges prove that all fit."""
    top = max(low.frac(x) for x in values)
    if top > low.f:
        shifted = sum(
            low.magnitude(x) << (top - low.frac(x))
            for x in values
            if low.type(x).bounds is not None
        )
        if shifted >= low.bound or any(low.type(x).bounds is None for x in values):
            values = [settle(low, x) for x in values]
            top = max(low.frac(x) for x in values)
    return [to_frac(low, x, top) for x in values]


def add(low: Lowering, x: int, y: int) -> int:
    """x + y."""
    return low.emit("add_aa", *align(low, (x, y)))


def sub(low: Lowering, x: int, y: int) -> int:
    """x - y; a value minus itself keeps no range that is not 0."""
    made = low.emit("sub_aa", *align(low, (x, y)))
    return low.narrowed(made, 0, 0) if x == y else made


def neg(low: Lowering, x: int) -> int:
    """-x."""
    return low.emit("neg_a", x)


def mul(low: Lowering, x: int, y: int) -> int:
    """x * y: pending where the ranges prove that it fits, else the full form, truncated."""
    if low.magnitude(x) * low.magnitude(y) < low.bound:
        made = low.emit("mul_aa", *sorted((x, y)), trunc=0, form="narrow")
        return low.narrowed(made, 0, low.magnitude(x) ** 2) if x == y else made
    return _full(low, "mul_aa", *sorted((settle(low, x), settle(low, y))))


def dot(low: Lowering, x: int, y: int) -> int:
    """Batched matrix product of x [B,M,K] and y [B,K,N]; as mul."""
    if low.magnitude(x) * low.magnitude(y) * low.shape(x)[2] < low.bound:
        return low.emit("dot_aa", x, y, trunc=0, form="narrow")
    return _full(low, "dot_aa", settle(low, x), settle(low, y))


def _full(low: Lowering, op: str, x: int, y: int) -> int:
    surplus, square = low.frac(x) + low.frac(y) - low.f, op == "mul_aa" and x == y
    if surplus <= 0:  # an exact product: it fits whenever the result is representable
        return low.emit(op, x, y, trunc=0, form="narrow")
    if surplus % 2:  # the full form splits in halves; one operand has fewer than f bits
        if low.frac(x) < low.f:
            x = to_frac(low, x, low.frac(x) + 1)
        else:
            y = to_frac(low, y, low.frac(y) + 1)
        surplus += 1
    terms = low.shape(x)[2] if op == "dot_aa" else 1
    narrow = low.magnitude(x) * low.magnitude(y) * terms < low.bound
    if op == "dot_aa" and not narrow:
        _doubtful(low, x, y, terms, surplus)
    made = low.emit(op, x, y, trunc=surplus, form="narrow" if narrow else "full")
    bounds = low.type(made).bounds
    # Only the narrow form keeps the sign of a square: the full one may be off by a unit.
    return low.narrowed(made, 0, bounds[1]) if square and narrow and bounds else made


def _doubtful(low: Lowering, x: int, y: int, terms: int, surplus: int) -> None:
    """The full form of a dot product adds up parts of its operands, which have to fit as well.

    Where nothing is known of an operand that is no reason for a warning, but for an error.
    """
    limit = low.bound - (terms << surplus // 2 + 1)
    known = all(low.magnitude(v) < low.full for v in (x, y))
    if (low.magnitude(x) + low.magnitude(y)) * terms < limit:
        return
    if known or low.config.on_overflow == "error":
        sizes = [low.magnitude(v) / 2.0 ** low.frac(v) for v in (x, y)]
        low.doubt(
            "a matrix product may be wrong",
            f"{terms} products of |x| up to {sizes[0]:g} and |y| up to {sizes[1]:g}",
            f"their sum of |x| + |y| has to stay below {limit / 2.0**low.f:g}",
        )


# --- public operands -------------------------------------------------------------------------


def fraction_bits(c: Array) -> int:
    """Least n such that every c * 2^n is an integer."""
    mantissa, exponent = np.frexp(np.asarray(c, np.float64))
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64), where=whole != 0, out=np.zeros(c.shape))
    need = np.where(whole != 0, 53 - exponent - trailing.astype(np.int64), 0)
    return max(0, int(need.max(initial=0)))


def elements(c: Array | Varying) -> Array:
    """All elements of a public array, of all iterations."""
    return np.asarray(c.table) if isinstance(c, Varying) else c


def vanishing(low: Lowering, c: Array | Varying) -> None:
    """Warn of a public number, such as an epsilon against division by 0, that rounds to 0.

    Of an array only where all of it does, in some iteration: single small elements are data.
    """
    if low.lines != "own":
        return
    sizes = np.abs(elements(c).astype(np.float64))
    loops = c.loops if isinstance(c, Varying) else 0
    most = sizes.reshape((*sizes.shape[:loops], -1)).max(-1, initial=0)
    lost = most[(most > 0) & (most < 2.0 ** -(low.f + 1))]
    if lost.size:
        low.warn(
            f"{lost.max():g} is 0 with {low.f} fraction bits: a constant has to be at least "
            f"{2.0**-low.f:.2g}, or choose a Config with more fraction bits (ring=128: up to 40)"
        )


def finite(low: Lowering, c: Array) -> Array:
    """A public float array as float64; infinities become the largest representable numbers."""
    wide = np.asarray(c).astype(np.float64)
    if np.isnan(wide).any():
        raise CompileError(
            "a public constant contains NaN, which the ring cannot represent",
            next="keep NaN out of secret arithmetic: use jnp.where on public data first",
        )
    top = low.config.fxp.max_float * (1 - 2.0**-20)
    return np.where(np.isinf(wide), np.copysign(top, wide), wide)


def varying(low: Lowering, value: Varying) -> Varying:
    """As finite; what is NaN in some iteration is 0, and a warning says so."""
    table = np.asarray(value.table)
    if np.isnan(table.astype(np.float64)).any():
        low.warn("NaN cannot be represented: in iterations where this takes it, it counts as 0")
        table = np.where(np.isnan(table.astype(np.float64)), np.zeros((), table.dtype), table)
    return value.with_(finite(low, table))


def saturated(low: Lowering, c: Array) -> Array:
    """A public float array for choices and comparisons: what is too large counts as infinite.

    NaN, which some functions of JAX choose where nothing is left to compute with, becomes 0, and
    a warning says so.
    """
    wide = np.asarray(c).astype(np.float64)
    if np.isnan(wide).any():
        low.warn("NaN cannot be represented: where this choice takes it the result is 0")
        wide = np.where(np.isnan(wide), 0.0, wide)
    top = low.config.fxp.max_float
    return finite(low, np.where(np.abs(wide) >= top, np.copysign(np.inf, wide), wide))


def encode(low: Lowering, c: Array | Varying, frac: int) -> int:
    """Id of a finite public float64 array with `frac` fraction bits."""
    if isinstance(c, Varying):
        return place(low, c.with_(ring_array(low, elements(c), frac)), frac)
    return low.constant(ring_array(low, c, frac), frac)


def ring_array(low: Lowering, c: Array, frac: int) -> Array:
    """A finite float64 array as ring elements with `frac` fraction bits."""
    scaled = np.rint(np.ldexp(c, frac))
    if scaled.size and np.abs(scaled).max() >= low.bound:
        raise CompileError(
            "a public constant is out of range",
            expected=f"|x| < {low.config.fxp.max_float:g}",
            next="scale the data, or take fewer fraction bits",
        )
    if low.bits <= 64:
        return low.ring.whole(scaled)
    return low.ring.array(np.array([int(v) for v in scaled.ravel()], object).reshape(c.shape))


def uniform(c: AnyPublic) -> AnyPublic:
    """`c` as a scalar if all its elements are equal, in every iteration."""
    if isinstance(c, Varying):
        rows = c.table.reshape((*c.table.shape[: c.loops], -1))
        if c.shape and rows.shape[-1] and (rows == rows[..., :1]).all():
            return c.with_(rows[..., 0])
        return c
    if c.ndim and c.size and (c == c.ravel()[0]).all():
        return wide_elements(np.asarray(c.ravel()[0]))
    return c


def add_public(low: Lowering, x: int, c: Array | Varying, sign: int = 1) -> int:
    """sign * x + c for a finite float64 array `c` of shape () or of the shape of x."""
    c = uniform(c)
    exact = fraction_bits(elements(c))
    frac = low.frac(x)
    if exact > frac:
        frac = max(frac, min(exact, low.f))
    top = int(np.abs(elements(c)).max(initial=0) * 2.0**frac) + 1
    if frac > low.f and top + low.magnitude(x) >= low.bound:
        frac = low.f
    x = to_frac(low, x, frac)
    p = encode(low, c, frac)
    return low.emit("add_ap", x, p) if sign > 0 else low.emit("sub_pa", p, x)


def mul_public(low: Lowering, x: int, c: Array | Varying) -> int:
    """x * c for a finite float64 array `c` of shape () or of the shape of x."""
    c = uniform(c)
    if not isinstance(c, Varying) and c.ndim == 0 and c and abs(np.frexp(c)[0]) == 0.5:
        return _power_of_two(low, x, int(np.frexp(c)[1]) - 1, bool(c < 0))

    def scaled(v: int, p: int, bits: int) -> int:
        return low.emit("scale_ap", v, p, bits=bits)

    return linear(low, x, c, lambda v, p: low.emit("mul_ap", v, p), 1, scaled)


def _power_of_two(low: Lowering, x: int, exponent: int, negative: bool) -> int:
    if negative:
        x = neg(low, x)
    if exponent >= low.bits - 2:
        raise CompileError("a public factor is out of range", got=f"2^{exponent}")
    if exponent > 0:  # a pending value has bits to spare: it is only read differently
        spare = min(exponent, max(0, low.frac(x) - low.f))
        x = retype(low, x, low.frac(x) - spare)
        exponent -= spare
        return low.emit("shl_a", x, bits=exponent, frac=low.frac(x)) if exponent else x
    if low.frac(x) - exponent - low.f >= low.bits - 2:
        return low.emit("mul_ap", x, low.constant(low.ring.array(0)))
    return retype(low, x, low.frac(x) - exponent)


def linear(
    low: Lowering,
    x: int,
    c: Array | Varying,
    apply: Apply,
    terms: int,
    scaled: Scaled | None = None,
) -> int:
    """apply(x, encoded c), where apply sums `terms` products of ring elements per result.

    scaled(x, encoded c, bits) is apply(x, encoded c) / 2^bits for x of any size, if there is that.

    The fraction bits of `c` are chosen so that each element keeps 24 (at least 20) significant
    bits, more where the program has more than 28 fraction bits, or is right to the last place of
    the result where the range of x shows that fewer do.
    """
    digits = max(24, low.f - 4)
    every = elements(c)
    sizes = np.abs(every[every != 0]) if every.ndim else np.abs(every)
    if not sizes.size or not sizes.any():
        return apply(x, encode(low, c, 0))
    smallest, largest = int(np.frexp(sizes.min())[1]), int(np.frexp(sizes.max())[1])
    exact = fraction_bits(every)
    if exact == 0 and largest < low.bits - 2 and low.frac(x) <= low.f:
        return apply(x, encode(low, c, 0))
    log_terms = max(0, (terms - 1).bit_length())
    for first in ("keep", "settle"):
        y = settle(low, x) if first == "settle" and low.type(x).bounds is not None else x
        t = low.type(y)
        if t.bounds is None:
            continue
        absolute = low.f + 2 + log_terms + t.magnitude(0).bit_length() - t.frac
        for significant in (digits, max(20, low.f - 5)):
            bits = min(exact, max(0, significant - smallest), max(0, absolute))
            top = int(np.ldexp(sizes.max(), bits)) + 1
            if t.magnitude(0) * top * terms < low.bound:
                return apply(y, encode(low, c, bits))
    cap = min((low.bits - 4 - largest - log_terms) // 2, low.bits - 4)
    bits = min(exact, max(0, digits - smallest), cap)
    x = to_frac(low, x, low.f)  # of integers the parts, too
    if bits <= 0:
        return apply(x, encode(low, c, 0))
    p = encode(low, c, bits)
    if scaled is not None and terms * low.type(p).magnitude(low.bound) << bits < low.bound:
        return scaled(x, p, bits)
    return _split(low, x, p, bits, apply)


def _split(low: Lowering, x: int, p: int, bits: int, apply: Apply) -> int:
    """apply(x, p) for any representable x: the high part exactly, the low part truncated."""
    with low.unchecked():
        high = low.emit("trunc_a", x, bits=bits)
        rest = low.emit("sub_aa", x, low.emit("shl_a", high, bits=bits, frac=low.frac(x)))
        rest = low.narrowed(rest, -(1 << bits), 1 << bits)
        lower = low.emit("trunc_a", apply(rest, p), bits=bits)
    return low.emit("add_aa", apply(high, p), lower)
