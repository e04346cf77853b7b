"""Between what JAX means and what a program has: dtypes, public operands, lifting, integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.types import Type
from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.varying import Varying, place
from spuvm.errors import CompileError

Array = npt.NDArray[Any]
Value = Secret | Any  # Any: a public array of numpy or JAX


def public(value: Any) -> Array:
    """A public operand as a numpy array."""
    return np.asarray(value)


def kind_of(dtype: Any) -> str:
    """ "float", "int" or "bool"; other dtypes have no encoding.

    Raises:
        CompileError: complex numbers, keys, strings.
    """
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return "bool"
    if dtype.kind in "iu":
        return "int"
    if dtype.kind == "f" or dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return "float"
    raise CompileError(f"dtype {dtype} cannot be secret", expected="bool, integer or float dtypes")


def int_bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Least and largest integer of a dtype."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def type_of_input(
    low: Lowering,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    lo: Any,
    hi: Any,
    frac: int | None = None,
) -> Type:
    """Program type of a secret leaf with an optional declared range and fraction bits."""
    kind = kind_of(dtype)
    if kind == "bool":
        return Type("b", shape, 0, 1)
    if kind == "int":
        if dtype.itemsize * 8 > low.bits:
            raise CompileError(
                f"{dtype} is wider than the ring",
                expected=f"at most {low.bits} bits",
                next="use Config(ring=64), or convert to a narrower dtype first",
            )
        first, last = int_bounds(dtype)
        if lo is not None and hi is not None:
            first, last = max(first, int(np.ceil(lo))), min(last, int(np.floor(hi)))
        fits = last < 1 << (low.bits - 1)
        return Type("a", shape, 0, 0, first, last) if fits else Type("a", shape)
    frac = low.f if frac is None else frac
    bounds = encoded_range(low, lo, hi, frac)
    return Type("a", shape, frac, 0, *bounds) if bounds else Type("a", shape, frac)


def encoded_range(low: Lowering, lo: Any, hi: Any, frac: int) -> tuple[int, int] | None:
    """A float range as bounds of encoded values; None where it says nothing."""
    if lo is None or hi is None:
        return None
    limit = low.config.fxp.max_float
    if lo > hi:
        raise CompileError("empty range", got=f"lo={lo:g}, hi={hi:g}", expected="lo <= hi")
    if lo <= -limit or hi >= limit:
        return None
    # What is encoded inside [lo, hi] is rounded to the nearest unit.
    return round(lo * 2.0**frac), round(hi * 2.0**frac)


def lift(low: Lowering, value: Any, dtype: np.dtype[Any]) -> Secret:
    """A public array as shares (zero shares plus the constant); a Secret is returned as it is."""
    if isinstance(value, Secret):
        return value
    kind = kind_of(dtype)
    if isinstance(value, Varying):
        return _lift_varying(low, value, dtype, kind)
    c = public(value)
    zero = zeros(low, c.shape, "b" if kind == "bool" else "a")
    if kind == "bool":
        return Secret(xor_public(low, zero, c), dtype)
    if kind == "int":
        ring = arith.uniform(low.ring.array(c))
        made = low.emit("add_ap", zero, low.constant(ring))
        low.public[made] = ring
        return Secret(made, dtype)
    wide = arith.uniform(arith.finite(low, c))
    arith.vanishing(low, wide)
    frac = min(low.f, arith.fraction_bits(wide))
    zero = arith.retype(low, zero, frac)
    p, ring = arith.encode(low, wide, frac), arith.ring_array(low, wide, frac)
    made = low.emit("add_ap", zero, p)
    low.public[made] = ring
    return Secret(made, dtype)


def _lift_varying(low: Lowering, value: Varying, dtype: np.dtype[Any], kind: str) -> Secret:
    zero = zeros(low, value.shape, "b" if kind == "bool" else "a")
    if kind == "bool":
        return Secret(low.emit("xor_bp", zero, public_bits(low, value)), dtype)
    if kind == "int":
        return Secret(low.emit("add_ap", zero, public_ring(low, value)), dtype)
    wide = arith.varying(low, value)
    arith.vanishing(low, wide)
    frac = min(low.f, arith.fraction_bits(wide.table))
    zero = arith.retype(low, zero, frac)
    return Secret(low.emit("add_ap", zero, arith.encode(low, wide, frac)), dtype)


def public_bits(low: Lowering, value: Varying) -> int:
    """Id of public Booleans of the present iteration."""
    return place(low, value.with_(np.asarray(value.table, np.uint8)), 0, 1)


def public_ring(low: Lowering, value: Varying) -> int:
    """Id of public integers of the present iteration."""
    return place(low, value.with_(low.ring.array(value.table)))


def lift_whole(low: Lowering, number: int) -> int:
    """Shares of one public integer, exactly: more digits than a float has are kept."""
    ring = low.ring.array(np.array(number, object))
    made = low.emit("add_ap", zeros(low, (), "a"), low.constant(ring))
    low.public[made] = ring
    return made


def public_result(low: Lowering, value: Any, dtype: np.dtype[Any]) -> int:
    """A result of a program without secrets: a public constant, that machines keep as shares."""
    c, kind = public(value), kind_of(dtype)
    if kind == "bool":
        return low.constant(np.asarray(c, np.uint8), width=1)
    if kind == "int":
        return low.constant(low.ring.array(c))
    return arith.encode(low, arith.finite(low, c), low.f)


def zeros(low: Lowering, shape: tuple[int, ...], kind: str) -> int:
    """Shares of zeros: an empty slice of some input, padded."""
    candidates = [i for i, t in enumerate(low.inputs) if t.kind == kind]
    if candidates:
        source = candidates[0]
    elif any(t.kind != "p" for t in low.inputs):
        source = _first_of_other_kind(low, kind)
    else:
        raise CompileError(
            "no argument is secret", next="call the function without spuvm, or pass a secret"
        )
    flat = low.reshape(source, (low.type(source).size,))
    empty = low.emit("slice", flat, start=(0,), limit=(0,), stride=(1,))
    empty = low.emit("retype_a", empty, frac=0, range=(0, 0)) if kind == "a" else empty
    one = low.emit("pad", empty, low=(1,), high=(0,), interior=(0,))
    return low.spread(low.reshape(one, ()), shape)


def _first_of_other_kind(low: Lowering, kind: str) -> int:
    first = next(i for i, t in enumerate(low.inputs) if t.kind != "p")
    flat = low.reshape(first, (low.inputs[first].size,))
    empty = low.emit("slice", flat, start=(0,), limit=(0,), stride=(1,))
    return low.emit("b2a", empty) if kind == "a" else low.emit("a2b", empty, bits=1)


def xor_public(low: Lowering, x: int, c: Array) -> int:
    """Secret bits xor public ones."""
    bits = np.broadcast_to(np.asarray(c, np.bool_), low.shape(x))
    if not bits.any():
        return x
    if bits.all():
        return low.emit("not_b", x)
    return low.emit("xor_bp", x, low.constant(bits.astype(np.uint8), 0, 1))


def wrap_int(low: Lowering, x: int, dtype: np.dtype[Any]) -> int:
    """An integer reduced to the values of its dtype, if its bounds do not prove that it is."""
    width = dtype.itemsize * 8
    first, last = int_bounds(dtype)
    bounds = low.type(x).bounds
    if bounds is not None and first <= bounds[0] and bounds[1] <= last:
        return x
    if width == low.bits:
        return x if bounds is None else without_bounds(low, x)
    offset = low.constant(low.ring.array(-first))
    raised = low.emit("add_ap", x, offset) if first else x
    reduced = low.emit("b2a", low.emit("a2b", raised, bits=width))
    if not first:
        return reduced
    return low.emit("add_ap", reduced, low.constant(low.ring.array(first)))


def without_bounds(low: Lowering, x: int) -> int:
    """The same residues; their signed reading says nothing about an unsigned dtype as wide."""
    half = low.constant(low.ring.array(np.array(1 << (low.bits - 1), object)))
    with low.unchecked():
        while low.type(x).bounds is not None:  # the sum leaves the signed range
            x = low.emit("add_ap", low.emit("add_ap", x, half), half)
    return x


def as_factor(low: Lowering, value: Secret, dtype: np.dtype[Any]) -> int:
    """as_number for a product of `dtype`: integers that it widens are reduced to their own."""
    if kind_of(value.dtype) == "int" and dtype.itemsize > value.dtype.itemsize:
        return wrap_int(low, value.id, value.dtype)
    return as_number(low, value)


def as_number(low: Lowering, value: Secret) -> int:
    """Id of kind ``a`` for any dtype: bits become 0 and 1."""
    if low.type(value.id).kind == "b":
        return low.emit("b2a", value.id)
    return value.id
