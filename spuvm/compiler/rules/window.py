"""Windows that slide: sums and extremes over them (pooling), and the gradients of these.

Everything is done axis by axis, the last axis first. An extreme is a tournament of neighbours in
which the left one wins ties, so that the first of equal elements in row-major order is the one that
a gradient goes to, as in JAX. The same comparisons serve a pooling and its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import Relu
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.combine import combiner, fold, shape_of, spread
from spuvm.compiler.rules.compare import maximum
from spuvm.compiler.rules.shape import pad as pad_rule
from spuvm.compiler.values import Value, kind_of, lift, wrap_int
from spuvm.errors import CompileError


@dataclass(frozen=True, slots=True)
class Slide:
    """Windows along one axis of a padded array."""

    at: int
    size: int
    stride: int
    dilation: int
    count: int

    def cut(self, low: Lowering, x: int, place: int) -> int:
        """The elements at one place of every window."""
        first = place * self.dilation
        last = first + (self.count - 1) * self.stride + 1
        return low.cut(x, self.at, first, last, self.stride)

    def spread(self, low: Lowering, x: int, place: int, length: int) -> int:
        """The reverse of `cut`: elements put back to an axis of that length, zeros elsewhere."""
        rank = len(low.shape(x))
        before = place * self.dilation
        after = length - before - (self.count - 1) * self.stride - 1
        put = [[0] * rank for _ in range(3)]
        put[0][self.at], put[1][self.at], put[2][self.at] = before, after, self.stride - 1
        return low.emit("pad", x, low=put[0], high=put[1], interior=put[2])


@dataclass(frozen=True, slots=True)
class Windows:
    """The parameters of one equation: how an array is padded, and a Slide per axis that slides."""

    padding: tuple[tuple[int, int, int], ...]
    slides: tuple[Slide, ...]

    @property
    def padded(self) -> bool:
        """Whether padding adds or removes anything."""
        return any(map(any, self.padding))


def windows(shape: Sequence[int], out: Sequence[int], params: Any) -> Windows:
    """Windows of an array of that shape from the parameters of an equation."""
    rank = len(shape)
    base = params.get("base_dilation") or (1,) * rank
    dilation = params.get("window_dilation") or (1,) * rank
    padding = tuple((a, b, d - 1) for (a, b), d in zip(params["padding"], base, strict=True))
    sizes, strides = params["window_dimensions"], params["window_strides"]
    slides = [Slide(i, sizes[i], strides[i], dilation[i], out[i]) for i in reversed(range(rank))]
    lengths = [n + a + b + max(0, n - 1) * i for n, (a, b, i) in zip(shape, padding, strict=True)]
    moving = tuple(s for s in slides if s.size > 1 or s.stride > 1 or s.count != lengths[s.at])
    return Windows(padding, moving)


def _refuse_empty(o: Out) -> None:
    if 0 in o.shape:
        raise CompileError("no window fits", next="pad the array, or take a smaller window")


# --- sums ------------------------------------------------------------------------------------


@rule("reduce_window_sum")
def reduce_window_sum(low: Lowering, out: list[Out], x: Secret, **params: Any) -> Secret:
    """Sums over windows: local."""
    (o,) = out
    _refuse_empty(o)
    w = windows(low.shape(x.id), o.shape, params)
    value = arith.settle(low, x.id) if kind_of(o.dtype) == "float" else x.id
    if w.padded:
        before, after, inside = (tuple(p[i] for p in w.padding) for i in range(3))
        value = low.emit("pad", value, low=before, high=after, interior=inside)
    for slide in w.slides:
        parts = [slide.cut(low, value, k) for k in range(slide.size)]
        value = _sum(low, parts)
    return Secret(value, o.dtype)


def _sum(low: Lowering, parts: Sequence[int]) -> int:
    if len(parts) == 1:
        return parts[0]
    return low.emit("lincomb_a", *parts, coefficients=(1,) * len(parts))


# --- extremes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Duel:
    """Winners of pairs of neighbours: `bit` says that the right one won."""

    bit: order.Bit
    winner: int


def _duel(low: Lowering, a: int, b: int, dtype: np.dtype[Any], op: str) -> Duel:
    if op == "max":
        return Duel(order.less(low, a, b, dtype), order.maximum(low, a, b, dtype))
    return Duel(order.less(low, b, a, dtype), order.minimum(low, a, b, dtype))


def _pairs(low: Lowering, x: int) -> tuple[int, int, list[int]]:
    """Even rows, odd rows, and the last row if their number is odd."""
    n = low.shape(x)[0]
    even = n - n % 2
    rest = [low.cut(x, 0, even, n)] if n % 2 else []
    return low.cut(x, 0, 0, even, 2), low.cut(x, 0, 1, even, 2), rest


def _tournament(
    low: Lowering, x: int, slide: Slide, dtype: np.dtype[Any], op: str
) -> tuple[int, list[order.Bit]]:
    """Extremes of all windows along an axis, and per level who won."""
    rows = _rows(low, x, slide)
    bits = []
    while low.shape(rows)[0] > 1:
        a, b, rest = _pairs(low, rows)
        duel = _duel(low, a, b, dtype, op)
        bits.append(duel.bit)
        rows = low.concat([duel.winner, *rest], 0)
    return low.reshape(rows, low.shape(rows)[1:]), bits


def _rows(low: Lowering, x: int, slide: Slide) -> int:
    parts = [slide.cut(low, x, k) for k in range(slide.size)]
    return low.concat([low.reshape(p, (1, *low.shape(p))) for p in parts], 0)


@rule("reduce_window_max")
def reduce_window_max(low: Lowering, out: list[Out], x: Secret, **params: Any) -> Value:
    """Maxima over windows."""
    return _extreme(low, out, x, "max", params)


@rule("reduce_window_min")
def reduce_window_min(low: Lowering, out: list[Out], x: Secret, **params: Any) -> Value:
    """Minima over windows."""
    return _extreme(low, out, x, "min", params)


def _extreme(low: Lowering, out: list[Out], x: Secret, op: str, params: Any) -> Secret:
    (o,) = out
    fact = low.facts.get(x.id) if x.id in low.spent else None
    if op == "max" and isinstance(fact, Relu):  # fewer numbers are left to compare with 0
        inner = _extreme(low, out, Secret(fact.source, x.dtype), op, params)
        made = maximum(low, out, inner, np.zeros((), x.dtype))
        assert isinstance(made, Secret)
        return made
    value, w, bounds = _contestants(low, o, x, op, params)
    for slide in w.slides:
        value, _ = _tournament(low, value, slide, x.dtype, op)
    value = low.narrowed(value, *bounds) if bounds is not None else value
    return Secret(value, o.dtype)


def _contestants(
    low: Lowering, o: Out, x: Secret, op: str, params: Any
) -> tuple[int, Windows, tuple[int, int] | None]:
    """The operand, padded with what never wins; and bounds of the extremes, if known."""
    _refuse_empty(o)
    if kind_of(x.dtype) == "bool":
        raise CompileError("windows over secret Booleans: convert to int32 first")
    w = windows(low.shape(x.id), o.shape, params)
    value = arith.settle(low, x.id)
    if kind_of(x.dtype) == "int":
        value = wrap_int(low, value, x.dtype)
    if not w.padded:
        return value, w, None
    bounds = low.type(value).bounds if _all_see_data(low.shape(value), w) else None
    return _padded(low, value, x.dtype, op, w), w, bounds


def _padded(low: Lowering, x: int, dtype: np.dtype[Any], op: str, w: Windows) -> int:
    """`x` minus a bound of it, padded with 0, plus that bound: no element loses to padding."""
    bounds = low.type(x).bounds
    if kind_of(dtype) == "int":
        info = np.iinfo(dtype)
        worst = int(info.min if op == "max" else info.max)
    elif bounds is not None and _all_see_data(low.shape(x), w):
        worst = bounds[0] - 1 if op == "max" else bounds[1] + 1
    else:
        worst = 1 - low.bound if op == "max" else low.bound - 1
    before, after, inside = (tuple(p[i] for p in w.padding) for i in range(3))
    with low.unchecked():
        shift, back = (
            low.constant(low.ring.array(np.array(v, object)), low.frac(x)) for v in (-worst, worst)
        )
        raised = low.emit("add_ap", x, shift) if worst else x
        raised = low.emit("pad", raised, low=before, high=after, interior=inside)
        made = low.emit("add_ap", raised, back) if worst else raised
    if bounds is None:
        return made
    return low.narrowed(made, min(worst, bounds[0]), max(worst, bounds[1]))


def _all_see_data(shape: Sequence[int], w: Windows) -> bool:
    """Whether no window lies in the padding alone."""
    for slide in w.slides:
        a, b, inside = w.padding[slide.at]
        n = shape[slide.at]
        size = n + max(0, n - 1) * inside
        data = np.zeros(max(0, a) + size + max(0, b), bool)
        data[max(0, a) : max(0, a) + size : inside + 1] = True
        data = data[max(0, -a) : len(data) + min(0, b)]
        first = np.arange(slide.count) * slide.stride
        places = first[:, None] + np.arange(slide.size) * slide.dilation
        if not data[places].any(1).all():
            return False
    return True


# --- where the extreme was: gradients --------------------------------------------------------


def _op_of(select_prim: Any) -> str:
    return "max" if select_prim.name == "ge" else "min"


@rule("select_and_gather_add")
def select_and_gather_add(
    low: Lowering, out: list[Out], source: Value, operand: Value, *, select_prim: Any, **params: Any
) -> Secret:
    """Per window the element of `source` where `operand` is extreme (tangents of pooling)."""
    (o,) = out
    op = _op_of(select_prim)
    x = lift(low, operand, o.dtype)
    value, w, _ = _contestants(low, o, x, op, params)
    tangent = arith.settle(low, lift(low, source, o.dtype).id)
    if w.padded:
        before, after, inside = (tuple(p[i] for p in w.padding) for i in range(3))
        tangent = low.emit("pad", tangent, low=before, high=after, interior=inside)
    for slide in w.slides:
        rows = _rows(low, tangent, slide)
        value, bits = _tournament(low, value, slide, x.dtype, op)
        for bit in bits:
            a, b, rest = _pairs(low, rows)
            rows = low.concat([order.choose(low, bit, b, a), *rest], 0)
        tangent = low.reshape(rows, low.shape(rows)[1:])
    return Secret(tangent, o.dtype)


@rule("select_and_scatter_add")
def select_and_scatter_add(
    low: Lowering, out: list[Out], source: Value, operand: Value, *, select_prim: Any, **params: Any
) -> Secret:
    """`source` added where `operand` is the extreme of the source's window (pooling's gradient)."""
    (o,) = out
    op = _op_of(select_prim)
    x = lift(low, operand, o.dtype)
    given = lift(low, source, o.dtype)
    shape = low.shape(given.id)
    value, w, _ = _contestants(low, Out(shape, o.dtype), x, op, params)
    lengths, levels = [], []
    for slide in w.slides:
        lengths.append(low.shape(value)[slide.at])
        value, bits = _tournament(low, value, slide, x.dtype, op)
        levels.append(bits)
    made = arith.settle(low, given.id)
    for slide, length, bits in reversed(list(zip(w.slides, lengths, levels, strict=True))):
        rows = low.reshape(made, (1, *low.shape(made)))
        for level in reversed(range(len(bits))):
            rows = _down(low, rows, bits[level], slide, level)
        parts = [
            slide.spread(low, low.reshape(low.cut(rows, 0, k, k + 1), low.shape(rows)[1:]), k,
                         length)
            for k in range(slide.size)
        ]  # fmt: skip
        made = _sum(low, parts)
    if w.padded:  # what went to the padding is dropped
        first = [max(0, a) for a, _, _ in w.padding]
        made = low.slice(made, first, [a + n for a, n in zip(first, o.shape, strict=True)])
    return Secret(made, o.dtype)


def _down(low: Lowering, rows: int, bit: order.Bit, slide: Slide, level: int) -> int:
    """One level of a tournament backwards: each winner's share goes to the one that had won."""
    n = slide.size
    for _ in range(level):
        n -= n // 2
    half = n // 2
    winners = low.cut(rows, 0, 0, half)
    rest = [low.cut(rows, 0, half, half + 1)] if n % 2 else []
    if isinstance(bit, bool):
        none = low.emit("sub_aa", winners, winners)
        left, right = (none, winners) if bit else (winners, none)
    else:
        with low.unchecked():
            right = low.emit("mul_ba", bit, winners)
            left = low.emit("sub_aa", winners, right)
        bounds = low.type(right).bounds
        left = low.narrowed(left, *bounds) if bounds else left
    shape = low.shape(winners)
    both = [low.reshape(v, (half, 1, *shape[1:])) for v in (left, right)]
    mixed = low.reshape(low.concat(both, 1), (2 * half, *shape[1:]))
    return low.concat([mixed, *rest], 0)


# --- any associative function ----------------------------------------------------------------


@rule("reduce_window")
def reduce_window(
    low: Lowering, out: list[Out], *operands: Value, jaxpr: Any, consts: Any, **params: Any
) -> list[Value]:
    """Any associative function over windows, one or several arrays at once."""
    _refuse_empty(out[0])
    count = len(operands) // 2
    dtypes = [o.dtype for o in out]
    combine = combiner(jaxpr, consts, dtypes)
    initial = operands[count:]
    w = windows(shape_of(low, operands[0]), out[0].shape, params)
    values: list[Value] = []
    for x, start, o in zip(operands, initial, out, strict=False):
        lifted = lift(low, x, o.dtype)
        shape = low.shape(lifted.id)
        padded = tuple(
            n + a + b + max(0, n - 1) * i for n, (a, b, i) in zip(shape, w.padding, strict=True)
        )
        made = pad_rule(low, [Out(padded, o.dtype)], lifted, start, padding_config=w.padding)
        values.append(made)
    for slide in w.slides:
        rows = [
            [Secret(slide.cut(low, lift(low, v, o.dtype).id, k), o.dtype) for v, o in
             zip(values, out, strict=True)]
            for k in range(slide.size)
        ]  # fmt: skip
        values = list(fold(low, rows, combine))
    wide = [spread(low, v, o) for v, o in zip(initial, out, strict=True)]
    return combine(low, wide, values)
