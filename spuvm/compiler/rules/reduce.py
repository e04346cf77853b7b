"""Reductions, cumulative ones, arg-extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith, means, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import Maximum, sum_bounds
from spuvm.compiler.numeric import sigmoid
from spuvm.compiler.rules import Out, integer, rule
from spuvm.compiler.values import Value, as_number, kind_of, wrap_int
from spuvm.errors import CompileError

Combine = Callable[[int, int], int]


@rule("reduce_sum", "psum")
def reduce_sum(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Secret:
    """Sum over axes; pending products are truncated first only if their sum would not fit."""
    (o,) = out
    axes = _positions(axes)
    value = x.id
    count = math.prod(low.shape(value)[a] for a in axes)
    if count == 1 and low.type(value).kind == "a":  # derivatives of broadcasts have such sums
        return Secret(low.reshape(value, o.shape), o.dtype)
    if low.divisor and kind_of(o.dtype) == "float":
        total = means.split_sum(low, value, axes, count, low.divisor)
        if total is not None:
            return Secret(total, o.dtype)
    if low.frac(value) > low.f and low.magnitude(value) * count >= low.bound:
        value = arith.settle(low, value)
    made = low.emit("sum_a", value, axes=tuple(axes))
    return Secret(sum_bounds(low, x.id, axes, made), o.dtype)


def _positions(axes: Any) -> tuple[int, ...]:
    """Axes as numbers, which jax.vmap(..., axis_name=...) makes of names."""
    if not all(isinstance(a, int | np.integer) for a in axes):
        raise CompileError(
            "a collective over devices", got=f"axes {axes}", next="name the axis in jax.vmap"
        )
    return tuple(int(a) for a in axes)


def leading(low: Lowering, x: int, axes: Sequence[int]) -> int:
    """The axes made one leading axis."""
    shape = low.shape(x)
    rest = [i for i in range(len(shape)) if i not in axes]
    moved = low.transpose(x, [*axes, *rest])
    return low.reshape(moved, (math.prod(shape[a] for a in axes), *(shape[i] for i in rest)))


def tree(low: Lowering, x: int, combine: Combine) -> int:
    """Combine along axis 0 by halves: log2(n) levels of whole slices."""
    n = low.shape(x)[0]
    while n > 1:
        half = n // 2
        made = combine(low.cut(x, 0, 0, half), low.cut(x, 0, half, 2 * half))
        x = _joined(low, made, low.cut(x, 0, 2 * half, n)) if n % 2 else made
        n = low.shape(x)[0]
    return low.reshape(x, low.shape(x)[1:])


def _joined(low: Lowering, x: int, y: int) -> int:
    """Two parts along axis 0, of which one may have been truncated."""
    return low.concat(arith.align(low, (x, y)) if low.type(x).kind == "a" else [x, y], 0)


def _is_empty(low: Lowering, x: int, axes: Sequence[int]) -> bool:
    return not math.prod(low.shape(x)[a] for a in axes)


def _least(dtype: np.dtype[Any]) -> Any:
    """What no value of a dtype is below."""
    return -np.inf if kind_of(dtype) == "float" else np.iinfo(dtype).min


def _largest(dtype: np.dtype[Any]) -> Any:
    """What no value of a dtype is above."""
    return np.inf if kind_of(dtype) == "float" else np.iinfo(dtype).max


def _extreme(low: Lowering, out: list[Out], x: Secret, axes: Any, op: str) -> Value:
    (o,) = out
    if kind_of(o.dtype) == "bool":
        return _bits(low, out, x, axes, "or" if op == "max" else "and")
    if _is_empty(low, x.id, axes):
        return np.full(o.shape, (_least if op == "max" else _largest)(o.dtype), o.dtype)
    value = wrap_int(low, x.id, x.dtype) if kind_of(x.dtype) == "int" else x.id
    value = arith.align(low, (value, value))[0]  # once for all: what is subtracted is this value
    pick = order.maximum if op == "max" else order.minimum
    made = tree(low, leading(low, value, axes), lambda a, b: pick(low, a, b, x.dtype))
    if op == "max" and made != value:
        low.facts[made] = Maximum(value, tuple(axes))
    return Secret(made, o.dtype)


@rule("reduce_max", "pmax")
def reduce_max(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """Maximum over axes."""
    axes = _positions(axes)
    return _extreme(low, out, x, axes, "max")


@rule("reduce_min", "pmin")
def reduce_min(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """Minimum over axes."""
    axes = _positions(axes)
    return _extreme(low, out, x, axes, "min")


def _bits(low: Lowering, out: list[Out], x: Secret, axes: Any, op: str) -> Value:
    if _is_empty(low, x.id, axes):
        return np.full(out[0].shape, -1 if op == "and" else 0).astype(out[0].dtype)
    value = leading(low, x.id, axes)
    if kind_of(x.dtype) != "bool":
        return integer.reduce_bits(low, out, x, value, op)
    value = low.emit("not_b", value) if op == "or" else value
    made = tree(low, value, lambda a, b: low.emit("and_bb", a, b))
    return Secret(low.emit("not_b", made) if op == "or" else made, out[0].dtype)


@rule("reduce_and")
def reduce_and(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """All, over axes; of integers bit by bit."""
    return _bits(low, out, x, axes, "and")


@rule("reduce_or")
def reduce_or(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """Any, over axes; of integers bit by bit."""
    return _bits(low, out, x, axes, "or")


@rule("reduce_xor")
def reduce_xor(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """Parity over axes; of integers bit by bit."""
    if _is_empty(low, x.id, axes):
        return np.zeros(out[0].shape, out[0].dtype)
    if kind_of(x.dtype) != "bool":
        return integer.reduce_bits(low, out, x, leading(low, x.id, axes), "xor")
    made = tree(low, leading(low, x.id, axes), lambda a, b: low.emit("xor_bb", a, b))
    return Secret(made, out[0].dtype)


def times(low: Lowering, a: int, b: int, dtype: np.dtype[Any]) -> int:
    """a * b for a dtype."""
    if kind_of(dtype) == "float":
        return arith.mul(low, a, b)
    return low.emit("mul_aa", *sorted((a, b)), trunc=0, form="narrow")


@rule("reduce_prod")
def reduce_prod(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Value:
    """Product over axes."""
    if _is_empty(low, x.id, axes):
        return np.ones(out[0].shape, out[0].dtype)

    def combine(a: int, b: int) -> int:
        made = times(low, a, b, x.dtype)
        return arith.settle(low, made) if kind_of(x.dtype) == "float" else made

    return Secret(tree(low, leading(low, x.id, axes), combine), x.dtype)


# --- cumulative ------------------------------------------------------------------------------


def scan(low: Lowering, x: int, axis: int, backward: bool, combine: Combine) -> int:
    """Inclusive scan along an axis in log2(n) steps: y[i] = y[i-s] o y[i], s = 1, 2, 4, ..."""
    if backward:
        return low.emit(
            "reverse", scan(low, low.emit("reverse", x, axes=(axis,)), axis, False, combine),
            axes=(axis,),
        )  # fmt: skip
    n, step = low.shape(x)[axis], 1
    while step < n:
        made = combine(low.cut(x, axis, 0, n - step), low.cut(x, axis, step, n))
        first = low.cut(x, axis, 0, step)
        if low.type(x).kind == "a":
            first, made = arith.align(low, (first, made))
        x = low.concat([first, made], axis)
        step *= 2
    return x


@rule("cumsum")
def cumsum(
    low: Lowering, out: list[Out], x: Secret, *, axis: int, reverse: bool, **_: Any
) -> Secret:
    """Cumulative sum: local."""
    made = scan(low, x.id, axis, reverse, lambda a, b: low.emit("add_aa", a, b))
    return Secret(made, x.dtype)


@rule("cumprod")
def cumprod(
    low: Lowering, out: list[Out], x: Secret, *, axis: int, reverse: bool, **_: Any
) -> Secret:
    """Cumulative product."""

    def combine(a: int, b: int) -> int:
        made = times(low, a, b, x.dtype)
        return arith.settle(low, made) if kind_of(x.dtype) == "float" else made

    return Secret(scan(low, x.id, axis, reverse, combine), x.dtype)


@rule("cummax")
def cummax(
    low: Lowering, out: list[Out], x: Secret, *, axis: int, reverse: bool, **_: Any
) -> Secret:
    """Cumulative maximum."""
    value = wrap_int(low, x.id, x.dtype) if kind_of(x.dtype) == "int" else x.id
    pick: Combine = lambda a, b: order.maximum(low, a, b, x.dtype)  # noqa: E731
    return Secret(scan(low, value, axis, reverse, pick), x.dtype)


@rule("cummin")
def cummin(
    low: Lowering, out: list[Out], x: Secret, *, axis: int, reverse: bool, **_: Any
) -> Secret:
    """Cumulative minimum."""
    value = wrap_int(low, x.id, x.dtype) if kind_of(x.dtype) == "int" else x.id
    pick: Combine = lambda a, b: order.minimum(low, a, b, x.dtype)  # noqa: E731
    return Secret(scan(low, value, axis, reverse, pick), x.dtype)


@rule("cumlogsumexp")
def cumlogsumexp(
    low: Lowering, out: list[Out], x: Secret, *, axis: int, reverse: bool, **_: Any
) -> Secret:
    """Cumulative log(sum(exp(x))): log(e^a + e^b) = b + softplus(a - b) at every step."""

    def combine(a: int, b: int) -> int:
        return arith.add(low, sigmoid.softplus(low, arith.sub(low, a, b)), b)

    with low.unchecked():
        made = scan(low, arith.settle(low, x.id), axis, reverse, combine)
    return Secret(made, x.dtype)


@rule("argmax")
def argmax(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Secret:
    """Index of the first maximum along one axis."""
    return _arg(low, out, x, axes, "max")


@rule("argmin")
def argmin(low: Lowering, out: list[Out], x: Secret, *, axes: Any, **_: Any) -> Secret:
    """Index of the first minimum along one axis."""
    return _arg(low, out, x, axes, "min")


def _arg(low: Lowering, out: list[Out], x: Secret, axes: Any, op: str) -> Secret:
    """A tournament of neighbours; the left one, of lower index, wins ties."""
    (o,) = out
    if _is_empty(low, x.id, axes):
        raise CompileError(f"arg{op} of nothing", next="reduce over at least one element")
    number = as_number(low, x)
    if kind_of(x.dtype) == "int":
        number = wrap_int(low, number, x.dtype)
    value = leading(low, arith.align(low, (number, number))[0], axes)
    n = low.shape(value)[0]
    shape = low.shape(value)
    zero = low.emit("retype_a", low.emit("sub_aa", value, value), frac=0, range=(0, 0))
    places = np.broadcast_to(np.arange(n).reshape(-1, *[1] * (len(shape) - 1)), shape)
    index = low.emit("add_ap", zero, low.constant(low.ring.array(places)))
    while n > 1:
        even = n - n % 2
        (a, b), (i, j) = (
            (low.cut(v, 0, 0, even, 2), low.cut(v, 0, 1, even, 2)) for v in (value, index)
        )
        left, right = (a, b) if op == "max" else (b, a)
        bit = order.less(low, left, right, x.dtype)
        parts = [order.choose(low, bit, b, a), order.choose(low, bit, j, i)]
        if n % 2:
            last = [low.cut(v, 0, even, n) for v in (value, index)]
            parts = [_joined(low, p, q) for p, q in zip(parts, last, strict=True)]
        value, index = parts
        n = low.shape(value)[0]
    return Secret(low.reshape(index, o.shape), o.dtype)
