"""Convolution in every layout: windows laid out side by side (local), then one matrix product.

Windows are cut axis by axis with public slices, so a program grows with the sum of the window's
sizes, not with their product, and only the small results of the product are communicated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.linalg import product
from spuvm.compiler.values import Array, Value, as_factor, kind_of, public, zeros

Operand = int | Array  # a secret value's id, or a public array


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis: how many, their size, the steps between them and inside them."""

    count: int
    size: int
    stride: int
    dilation: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of one convolution, batch first and features second, `groups` of products.

    by  ``features``: the groups divide the input's features, ``batch``: its batch.
    """

    groups: int
    by: str
    padding: tuple[tuple[int, int, int], ...]
    axes: tuple[Axis, ...]

    def windows(self, low: Lowering, x: Operand) -> Operand:
        """[batch, features, *spatial] -> [groups, batch * windows, features * window]."""
        x = _padded(low, x, self.padding)
        for i, axis in enumerate(self.axes):
            x = unfold(low, x, 2 + 2 * i, axis)
        batch, features, *rest = _shape(low, x)
        n, g = len(self.axes), self.groups
        counts = [3 + 2 * i for i in range(n)]
        sizes = [4 + 2 * i for i in range(n)]
        if self.by == "batch":
            x = _reshape(low, x, (g, batch // g, features, *rest))
            x = _transpose(low, x, [0, 1, *counts, 2, *sizes])
        else:
            x = _reshape(low, x, (batch, g, features // g, *rest))
            x = _transpose(low, x, [1, 0, *counts, 2, *sizes])
        shape = _shape(low, x)
        return _reshape(low, x, (g, math.prod(shape[1 : 2 + n]), math.prod(shape[2 + n :])))

    def kernel(self, low: Lowering, y: Operand) -> Operand:
        """[outputs, features, *window] -> [groups, features * window, outputs / groups]."""
        outputs, *inner = _shape(low, y)
        y = _reshape(low, y, (self.groups, outputs // self.groups, math.prod(inner)))
        return _transpose(low, y, (0, 2, 1))


@rule("conv_general_dilated")
def conv_general_dilated(
    low: Lowering,
    out: list[Out],
    x: Value,
    y: Value,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> Secret:
    """lax.conv_general_dilated: 1-D to any number of axes, groups, dilation of both sides."""
    (o,) = out
    kind = kind_of(o.dtype)
    left = _transpose(low, _operand(low, x, out[0].dtype), dimension_numbers.lhs_spec)
    right = _transpose(low, _operand(low, y, out[0].dtype), dimension_numbers.rhs_spec)
    window = _shape(low, right)[2:]
    counts = [o.shape[i] for i in dimension_numbers.out_spec[2:]]
    layout = Layout(
        max(feature_group_count, batch_group_count),
        "batch" if batch_group_count > 1 else "features",
        tuple((a, b, d - 1) for (a, b), d in zip(padding, lhs_dilation, strict=True)),
        tuple(map(Axis, counts, window, window_strides, rhs_dilation)),
    )
    terms = math.prod(_shape(low, right)[1:])
    if not terms or not math.prod(o.shape):
        return Secret(zeros(low, o.shape, "a"), o.dtype)
    made = _contract(low, layout, left, right, terms, kind)
    batch = _shape(low, left)[0] // (layout.groups if layout.by == "batch" else 1)
    each = low.shape(made)[2]
    made = low.reshape(made, (layout.groups, batch, *counts, each))
    last = len(counts) + 2
    made = low.transpose(made, [1, 0, last, *range(2, last)])
    made = low.reshape(made, (batch, layout.groups * each, *counts))
    back = [int(i) for i in np.argsort(dimension_numbers.out_spec)]
    return Secret(low.transpose(made, back), o.dtype)


def _contract(
    low: Lowering, layout: Layout, left: Operand, right: Operand, terms: int, kind: str
) -> int:
    """The product of all windows with the kernel; what talks is done before windows multiply it."""
    if not isinstance(left, int):
        return product(low, layout.windows(low, left), layout.kernel(low, right), terms, kind)
    if isinstance(right, int):
        if kind == "float":
            left, right = arith.settle(low, left), arith.settle(low, right)
            narrow = low.magnitude(left) * low.magnitude(right) * terms < low.bound
            if not narrow and low.frac(left) + low.frac(right) > low.f:
                return _full(low, layout, left, right)
        return product(low, layout.windows(low, left), layout.kernel(low, right), terms, kind)

    def apply(v: int, p: int) -> int:
        windows = layout.windows(low, v)
        assert isinstance(windows, int)
        return low.emit("dot_ap", windows, p)

    c = np.asarray(layout.kernel(low, right))
    if kind != "float":
        return apply(left, low.constant(low.ring.array(c)))
    return arith.linear(low, left, arith.finite(low, c), apply, terms)


def _full(low: Lowering, layout: Layout, x: int, y: int) -> int:
    """The full form of a product (see the instruction dot_aa), split before windows are cut.

    x y / 2^m = xh yh + (xh yl + xl yh) / 2^h with h = m / 2 and x = 2^h xh + xl, y likewise.
    """
    cut = low.frac(x) + low.frac(y) - low.f
    if cut % 2:
        x, cut = arith.to_frac(low, x, low.frac(x) + 1), cut + 1
    half = cut // 2
    halves = []
    with low.unchecked():
        for v in (x, y):
            high = low.emit("trunc_a", v, bits=half)
            raised = low.emit("shl_a", high, bits=half, frac=low.frac(v))
            rest = low.narrowed(low.emit("sub_aa", v, raised), -(1 << half), 1 << half)
            halves.append((high, rest))
    (xh, xl), (yh, yl) = halves
    wh, wl = (_windows(low, layout, v) for v in (xh, xl))
    kh, kl = (_kernel(low, layout, v) for v in (yh, yl))
    upper = low.emit("dot_aa", wh, kh, trunc=0, form="narrow")
    with low.unchecked():
        # Side by side: one product for both mixed terms. Fraction bits of the parts differ.
        wl, kl = (arith.retype(low, v, low.frac(like)) for v, like in ((wl, wh), (kl, kh)))
        mixed = low.emit(
            "dot_aa",
            low.concat([wh, wl], 2),
            low.concat([kl, kh], 1),
            trunc=0,
            form="narrow",
        )
        mixed = arith.retype(low, mixed, low.frac(upper) + half)
        mixed = low.emit("trunc_a", mixed, bits=half)
    return low.emit("add_aa", upper, mixed)


def _windows(low: Lowering, layout: Layout, x: int) -> int:
    made = layout.windows(low, x)
    assert isinstance(made, int)
    return made


def _kernel(low: Lowering, layout: Layout, y: int) -> int:
    made = layout.kernel(low, y)
    assert isinstance(made, int)
    return made


# --- shapes of secret and public operands ----------------------------------------------------


def unfold(low: Lowering, x: Operand, at: int, axis: Axis) -> Operand:
    """Axis `at` becomes two: windows, and places inside a window; whichever is fewer is stacked."""
    span = (axis.count - 1) * axis.stride + 1
    reach = (axis.size - 1) * axis.dilation + 1
    if axis.size <= axis.count:
        parts = [
            _cut(low, x, at, k * axis.dilation, k * axis.dilation + span, axis.stride)
            for k in range(axis.size)
        ]
        return _stack(low, parts, at + 1)
    parts = [
        _cut(low, x, at, i * axis.stride, i * axis.stride + reach, axis.dilation)
        for i in range(axis.count)
    ]
    return _stack(low, parts, at)


def _operand(low: Lowering, x: Value, dtype: np.dtype[Any]) -> Operand:
    return as_factor(low, x, dtype) if isinstance(x, Secret) else public(x)


def _shape(low: Lowering, x: Operand) -> tuple[int, ...]:
    return low.shape(x) if isinstance(x, int) else x.shape


def _reshape(low: Lowering, x: Operand, shape: Sequence[int]) -> Operand:
    return low.reshape(x, shape) if isinstance(x, int) else x.reshape(shape)


def _transpose(low: Lowering, x: Operand, order: Sequence[int]) -> Operand:
    return low.transpose(x, order) if isinstance(x, int) else x.transpose(order)


def _cut(low: Lowering, x: Operand, at: int, start: int, limit: int, step: int) -> Operand:
    if isinstance(x, int):
        return low.cut(x, at, start, limit, step)
    index = [slice(None)] * at
    return np.asarray(x[(*index, slice(start, limit, step))])


def _stack(low: Lowering, parts: Sequence[Operand], at: int) -> Operand:
    shape = _shape(low, parts[0])
    rows = [_reshape(low, p, (*shape[:at], 1, *shape[at:])) for p in parts]
    secrets = [p for p in rows if isinstance(p, int)]
    if secrets:
        return low.concat(secrets, at)
    return np.concatenate([np.asarray(p) for p in rows], at)


def _padded(low: Lowering, x: Operand, padding: Sequence[tuple[int, int, int]]) -> Operand:
    """lax.pad with zeros along the axes after the first two."""
    full = [(0, 0, 0), (0, 0, 0), *padding]
    if not any(map(any, full)):
        return x
    if isinstance(x, int):
        before, after, between = (tuple(p[i] for p in full) for i in range(3))
        return low.emit("pad", x, low=before, high=after, interior=between)
    for at, (a, b, gap) in enumerate(full):
        size = x.shape[at] + max(0, x.shape[at] - 1) * gap
        shape = list(x.shape)
        shape[at] = max(0, a) + size + max(0, b)
        wide = np.zeros(shape, x.dtype)
        lead: list[Any] = [slice(None)] * at
        first = max(0, a)
        wide[(*lead, slice(first, first + size, gap + 1))] = x
        x = wide[(*lead, slice(max(0, -a), wide.shape[at] + min(0, b)))]
    return x
