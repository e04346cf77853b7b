"""Rules for public operands that differ between the iterations of a loop: local where they can be.

Primitives that are not here take such operands as shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

from spuvm.compiler import arith, moments, varying
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import RULES, Out, public_rule
from spuvm.compiler.rules.elementwise import operand
from spuvm.compiler.rules.linalg import axes_left, shape_of
from spuvm.compiler.rules.shape import lifted
from spuvm.compiler.values import Value, as_number, kind_of, lift, public_bits, public_ring
from spuvm.compiler.varying import Varying, place


def _lifted(low: Lowering, name: str, out: list[Out], *args: Value, **params: Any) -> Any:
    """The rule for shares, on operands that vary as shares."""
    ready = [lift(low, v, np.dtype(v.dtype)) if isinstance(v, Varying) else v for v in args]
    return RULES[name](low, out, *ready, **params)


def _sides(x: Value, y: Value) -> tuple[Secret, Varying]:
    """The secret operand and the one that varies."""
    secret, p = (y, x) if isinstance(x, Varying) else (x, y)
    assert isinstance(secret, Secret)
    assert isinstance(p, Varying)
    return secret, p


def _spread(p: Varying, shape: tuple[int, ...]) -> Varying:
    """The one that varies, broadcast to the shape of the result (a scalar stays one)."""
    if p.shape in ((), shape):
        return p
    return p.with_(np.broadcast_to(p.table, (*p.table.shape[: p.loops], *shape)))


# --- arithmetic -------------------------------------------------------------------------------


@public_rule("add", "add_any")
def add(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x + y."""
    return _sum(low, out[0], *_sides(x, y), 1)


@public_rule("sub")
def sub(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x - y."""
    secret, p = _sides(x, y)
    if p is x:
        return _sum(low, out[0], secret, p, -1)
    return _sum(low, out[0], secret, p.with_(np.negative(p.table)), 1)


def _sum(low: Lowering, o: Out, x: Secret, p: Varying, sign: int) -> Secret:
    """sign * x + p."""
    a, p = operand(low, x, o.shape), _spread(p, o.shape)
    if kind_of(o.dtype) == "float":
        return Secret(moments.plus(low, a, arith.varying(low, p), sign), o.dtype)
    c = public_ring(low, p)
    made = low.emit("add_ap", a, c) if sign > 0 else low.emit("sub_pa", c, a)
    return Secret(made, o.dtype)


@public_rule("mul")
def mul(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x * y."""
    (o,) = out
    secret, p = _sides(x, y)
    a, p = operand(low, secret, o.shape), _spread(p, o.shape)
    if kind_of(o.dtype) == "int":
        return Secret(low.emit("mul_ap", a, public_ring(low, p)), o.dtype)
    made = moments.times(low, a, arith.varying(low, p))
    return Secret(
        arith.mul_public(low, a, arith.varying(low, p)) if made is None else made, o.dtype
    )


@public_rule("div")
def div(low: Lowering, out: list[Out], x: Value, y: Value, **params: Any) -> Any:
    """x / y of floats by a public divisor that is never 0: a product."""
    if (
        not isinstance(y, Varying)
        or kind_of(out[0].dtype) != "float"
        or not np.asarray(y.table).all()
    ):
        return _lifted(low, "div", out, x, y, **params)
    return mul(low, out, x, y.with_(1.0 / np.asarray(y.table).astype(np.float64)))


@public_rule("dot_general")
def dot_general(
    low: Lowering, out: list[Out], x: Value, y: Value, *, dimension_numbers: Any, **params: Any
) -> Any:
    """A batched matrix product with a public matrix, as for one that is constant."""
    (o,) = out
    (cx, cy), (bx, by) = dimension_numbers
    sx, sy = shape_of(low, x), shape_of(low, y)
    inner = math.prod(sx[i] for i in cx)
    if not inner or kind_of(x.dtype) == "bool" or kind_of(y.dtype) == "bool":
        return _lifted(low, "dot_general", out, x, y, dimension_numbers=dimension_numbers, **params)
    left, right = axes_left(sx, bx, cx), axes_left(sy, by, cy)
    batch = math.prod(sx[i] for i in bx)
    rows, columns = (math.prod(s[i] for i in free) for s, free in ((sx, left), (sy, right)))
    swap = isinstance(x, Varying)
    secret, p = _sides(x, y)
    orders = [*bx, *left, *cx], [*by, *cy, *right]
    shapes = (batch, rows, inner), (batch, inner, columns)
    first = as_number(low, secret)
    a = low.reshape(low.transpose(first, orders[swap]), shapes[swap])
    b = _arranged(p, orders[not swap], shapes[not swap])

    def apply(v: int, c: int) -> int:
        return low.emit("dot_pa", c, v) if swap else low.emit("dot_ap", v, c)

    if kind_of(o.dtype) == "int":
        made = apply(a, public_ring(low, b))
    else:
        made = arith.linear(low, a, arith.varying(low, b), apply, inner)
    return Secret(low.reshape(made, o.shape), o.dtype)


def _arranged(p: Varying, order: Sequence[int], shape: tuple[int, ...]) -> Varying:
    n = p.loops
    table = np.transpose(p.table, [*range(n), *(n + i for i in order)])
    return p.with_(table.reshape((*table.shape[:n], *shape)))


# --- selection --------------------------------------------------------------------------------


@public_rule("select_n")
def select_n(low: Lowering, out: list[Out], which: Value, *cases: Value, **params: Any) -> Any:
    """cases[which]; a public choice of two is local."""
    if not isinstance(which, Varying) or len(cases) != 2:
        return _lifted(low, "select_n", out, which, *cases, **params)
    return select_public(low, out[0], which, cases[1], cases[0])


def select_public(low: Lowering, o: Out, which: Varying, yes: Value, no: Value) -> Value:
    """yes where the public `which` (a scalar or of the result's shape) is set, else no."""
    if not isinstance(yes, Secret) and not isinstance(no, Secret):
        aval = jax.ShapeDtypeStruct(o.shape, o.dtype)
        return varying.evaluate(
            "where", lambda w, a, b: (jnp.where(w, a, b),), [which, yes, no], [aval]
        )[0]
    flag = which.with_(np.asarray(which.table).astype(np.bool_))
    if kind_of(o.dtype) == "bool":
        a, b = (low.spread(lift(low, v, o.dtype).id, o.shape) for v in (yes, no))
        differ = low.emit("and_bp", low.emit("xor_bb", a, b), public_bits(low, flag))
        return Secret(low.emit("xor_bb", differ, b), o.dtype)
    a, b = (low.spread(i, o.shape) for i in lifted(low, (yes, no), o.dtype))
    bounds = [low.type(v).bounds for v in (a, b)]
    bit = place(low, flag.with_(low.ring.array(flag.table.astype(np.uint8))))
    with low.unchecked():
        step = low.emit("mul_ap", low.emit("sub_aa", a, b), bit)
        made = low.emit("add_aa", b, step)
    if bounds[0] is not None and bounds[1] is not None:
        lo, hi = (f(x[i] for x in bounds if x) for i, f in ((0, min), (1, max)))
        made = low.narrowed(made, lo, hi)
    return Secret(made, o.dtype)


# --- data movement ----------------------------------------------------------------------------


@public_rule("dynamic_slice")
def dynamic_slice(
    low: Lowering, out: list[Out], x: Value, *starts: Value, slice_sizes: Any, **params: Any
) -> Any:
    """A slice at a public start."""
    if not isinstance(x, Secret) or any(isinstance(s, Secret) for s in starts):
        return _lifted(low, "dynamic_slice", out, x, *starts, slice_sizes=slice_sizes, **params)
    start = _starts(low, starts, low.shape(x.id), slice_sizes)
    return Secret(low.emit("window", x.id, start, sizes=tuple(slice_sizes)), x.dtype)


@public_rule("dynamic_update_slice")
def dynamic_update_slice(
    low: Lowering, out: list[Out], x: Value, update: Value, *starts: Value, **params: Any
) -> Any:
    """`x` with a slice at a public start replaced."""
    if any(isinstance(s, Secret) for s in starts):
        return _lifted(low, "dynamic_update_slice", out, x, update, *starts, **params)
    (o,) = out
    a, b = lifted(low, (x, update), o.dtype)
    start = _starts(low, starts, o.shape, low.shape(b))
    return Secret(low.emit("put", a, b, start), o.dtype)


def _starts(
    low: Lowering, starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]
) -> int:
    """Id of the vector of starts, clipped so that the slice fits."""
    trips = varying.common(starts)
    columns = []
    for s, n, m in zip(starts, shape, sizes, strict=True):
        table = s.table if isinstance(s, Varying) else np.asarray(s)
        columns.append(np.broadcast_to(np.clip(table.astype(np.int64), 0, n - m), trips))
    return place(low, Varying(low.ring.array(np.stack(columns, -1)), len(trips)))


@public_rule("gather")
def gather(low: Lowering, out: list[Out], x: Value, indices: Value, **params: Any) -> Any:
    """Elements at public indices."""
    (o,) = out
    if not isinstance(x, Secret) or not isinstance(indices, Varying):
        return _lifted(low, "gather", out, x, indices, **params)
    start = _single(low, indices, params["dimension_numbers"], low.shape(x.id),
                    params["slice_sizes"])  # fmt: skip
    if start is not None:
        made = low.emit("window", x.id, start, sizes=tuple(params["slice_sizes"]))
        return Secret(low.reshape(made, o.shape), o.dtype)
    params = dict(params, fill_value=-1)
    shape = low.shape(x.id)
    places = jnp.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    table = _moved(low, lambda i: primitives.gather_p.bind(places, i, **params), indices, o)
    if (np.asarray(table.table) < 0).any():
        return _lifted(low, "gather", out, x, indices, **params)
    index = place(low, table.with_(low.ring.array(table.table)))
    return Secret(low.emit("take", x.id, index, shape=o.shape), o.dtype)


def _moved(low: Lowering, function: Any, indices: Varying, o: Out) -> Varying:
    """Flat positions that an indexing function takes, for all iterations."""
    aval = jax.ShapeDtypeStruct(o.shape, np.int32)
    (made,) = varying.evaluate("positions", lambda i: (function(i),), [indices], [aval])
    if isinstance(made, Varying):
        return made
    return Varying(made.reshape((*(1,) * indices.loops, *made.shape)), indices.loops)


def _single(
    low: Lowering, indices: Varying, numbers: Any, shape: Sequence[int], sizes: Sequence[int]
) -> int | None:
    """Start of the one window that an index vector means; None if there are several windows.

    None too where some iteration's window is not inside: how that ends depends on the mode.
    """
    gathers = hasattr(numbers, "start_index_map")
    axes = numbers.start_index_map if gathers else numbers.scatter_dims_to_operand_dims
    if indices.shape != (len(axes),) or numbers.operand_batching_dims:
        return None
    table = np.asarray(indices.table).astype(np.int64)
    columns = np.zeros((*table.shape[:-1], len(shape)), np.int64)
    for j, axis in enumerate(axes):
        columns[..., axis] = table[..., j]
    room = np.array([n - m for n, m in zip(shape, sizes, strict=True)])
    if (columns < 0).any() or (columns > room).any():
        return None
    return place(low, Varying(low.ring.array(columns), indices.loops))


@public_rule("scatter")
def scatter(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Any:
    """`x` with one window at a public place replaced."""
    (o,) = out
    found = _window(low, o, indices, update, params)
    if found is None:
        return _lifted(low, "scatter", out, x, indices, update, **params)
    start, sizes = found
    a, b = lifted(low, (x, update), o.dtype)
    return Secret(low.emit("put", a, low.reshape(b, sizes), start), o.dtype)


@public_rule("scatter-add", "scatter_add")
def scatter_add(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Any:
    """`x` with a window at a public place increased."""
    (o,) = out
    found = _window(low, o, indices, update, params)
    if found is None:
        return _lifted(low, "scatter_add", out, x, indices, update, **params)
    start, sizes = found
    a, b = lifted(low, (x, update), o.dtype)
    total = arith.add(low, low.emit("window", a, start, sizes=sizes), low.reshape(b, sizes))
    if low.frac(total) != low.frac(a):
        total = arith.to_frac(low, total, low.frac(a))
    return Secret(low.emit("put", a, total, start), o.dtype)


def _window(
    low: Lowering, o: Out, indices: Value, update: Value, params: dict[str, Any]
) -> tuple[int, tuple[int, ...]] | None:
    """Start and size of the one window of a scatter."""
    if not isinstance(indices, Varying) or kind_of(o.dtype) == "bool":
        return None
    numbers = params["dimension_numbers"]
    if numbers.operand_batching_dims:
        return None
    window = iter(shape_of(low, update))
    sizes = tuple(
        1 if i in numbers.inserted_window_dims else next(window, 0) for i in range(len(o.shape))
    )
    start = _single(low, indices, numbers, o.shape, sizes)
    return None if start is None else (start, sizes)
