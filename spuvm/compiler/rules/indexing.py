"""Indexing: gather, scatter and dynamic slices, each position public or secret.

Public positions only move data. Secret ones are oblivious in every position; see oblivious.py and
secretindex.py for what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out, rule, secretindex, secretscatter
from spuvm.compiler.rules.compare import select_n
from spuvm.compiler.rules.reduce import times
from spuvm.compiler.values import Array, Value, kind_of, lift, public, wrap_int
from spuvm.errors import CompileError


def shape_of(low: Lowering, x: Value) -> tuple[int, ...]:
    """Shape of a secret or public value."""
    return low.shape(x.id) if isinstance(x, Secret) else public(x).shape


def pick(low: Lowering, sources: Sequence[Value], index: Array, dtype: np.dtype[Any]) -> int:
    """Elements of several sources, flattened one after the other, by public index."""
    ids = [lift(low, v, dtype).id for v in sources]
    ids = arith.align(low, ids) if kind_of(dtype) == "float" else ids
    flat = [low.reshape(i, (low.type(i).size,)) for i in ids]
    return low.take(low.concat(flat, 0), index)


def _places(low: Lowering, x: Value, first: int = 0) -> Any:
    shape = shape_of(low, x)
    return jax.numpy.arange(first, first + math.prod(shape), dtype=np.int32).reshape(shape)


@rule("gather")
def gather(low: Lowering, out: list[Out], x: Value, indices: Value, **params: Any) -> Secret:
    """Elements at indices; JAX's own rules for clipping and modes.

    Where JAX fills with NaN, a secret index gives 0 and a public one is refused.
    """
    (o,) = out
    if isinstance(indices, Secret):
        return secretindex.gather(low, o, x, indices, **params)
    filled = params["fill_value"]
    params["fill_value"] = -1
    index = np.asarray(primitives.gather_p.bind(_places(low, x), indices, **params))
    if (index < 0).any():
        if kind_of(o.dtype) == "float" and (filled is None or np.isnan(filled)):
            raise CompileError(
                "gather out of bounds would give NaN", next='use x.at[i].get(mode="clip")'
            )
        other = np.asarray([secretindex.fill_value(o.dtype, filled)], o.dtype)
        index = np.where(index < 0, math.prod(shape_of(low, x)), index)
        return Secret(pick(low, [x, other], index, o.dtype), o.dtype)
    assert isinstance(x, Secret)
    return Secret(low.take(x.id, index), o.dtype)


@rule("dynamic_slice")
def dynamic_slice(
    low: Lowering, out: list[Out], x: Value, *starts: Value, slice_sizes: Any, **_: Any
) -> Value:
    """A slice at a start that is clipped so that it fits, axis by axis, the public ones first."""
    (o,) = out
    first, last = [], []
    for s, n, m in zip(starts, shape_of(low, x), slice_sizes, strict=True):
        known = not isinstance(s, Secret)
        start = int(np.clip(int(public(s)), 0, n - m)) if known else 0
        first.append(start)
        last.append(start + m if known else n)
    secret = [(i, s) for i, s in enumerate(starts) if isinstance(s, Secret)]
    if not isinstance(x, Secret):
        x = public(x)[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        return secretindex.slice_of_public(low, o, x, secret, slice_sizes) if secret else x
    made = Secret(low.slice(x.id, first, last), x.dtype)
    return secretindex.slice_at(low, made, secret, slice_sizes)


@rule("dynamic_update_slice")
def dynamic_update_slice(
    low: Lowering, out: list[Out], x: Value, update: Value, *starts: Value, **_: Any
) -> Secret:
    """`x` with a slice replaced at a start that is clipped so that it fits."""
    (o,) = out
    old, new = lift(low, x, o.dtype).id, lift(low, update, o.dtype).id
    if kind_of(o.dtype) == "float":
        old, new = arith.align(low, (old, new))
    first, last = [], []
    for s, n, m in zip(starts, o.shape, low.shape(new), strict=True):
        known = not isinstance(s, Secret)
        start = int(np.clip(int(public(s)), 0, n - m)) if known else 0
        first.append(start)
        last.append(start + m if known else n)
    secret = [(i, s) for i, s in enumerate(starts) if isinstance(s, Secret)]
    if secret:
        region = low.slice(old, first, last)
        new = secretindex.replaced(low, o.dtype, region, new, secret)
    return Secret(_put(low, old, new, first, last, 0), o.dtype)


def _put(
    low: Lowering, x: int, new: int, first: Sequence[int], last: Sequence[int], axis: int
) -> int:
    """`x` with x[first:last] replaced, from `axis` on; before it both have one shape."""
    if axis == len(first):
        return new
    n = low.shape(x)[axis]
    middle = low.cut(x, axis, first[axis], last[axis])
    middle = _put(low, middle, new, first, last, axis + 1)
    before, after = low.cut(x, axis, 0, first[axis]), low.cut(x, axis, last[axis], n)
    return low.concat([before, middle, after], axis)


@rule("scatter")
def scatter(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Secret:
    """`x` with elements replaced; of several updates of one place the last counts."""
    (o,) = out
    if params["update_jaxpr"] is not None:
        return applied(low, o, x, indices, update, params)
    if isinstance(indices, Secret):
        return secretscatter.scatter(low, o, x, indices, update, "set", **params)
    places = _places(low, x)
    new = _places(low, update, places.size)
    index = np.asarray(primitives.scatter_p.bind(places, indices, new, **params))
    return Secret(pick(low, [x, update], index, o.dtype), o.dtype)


def applied(
    low: Lowering, o: Out, x: Value, indices: Value, update: Value, params: dict[str, Any]
) -> Secret:
    """x.at[i].apply(f): f of all of x, and a choice; f is applied once to what is named once."""
    places = np.zeros((2, 1)) if isinstance(indices, Secret) else public(indices)
    rows = places.reshape(-1, places.shape[-1])
    distinct = len(np.unique(rows, axis=0)) == len(rows)
    many = math.prod(shape_of(low, indices)[:-1]) > 1
    if many and not params["unique_indices"] and not distinct:
        raise CompileError(
            "x.at[i].apply(f) applies f as often as i names a place",
            next="say unique_indices=True, or write jnp.where(mask, f(x), x)",
        )
    x = lift(low, x, o.dtype)
    ready = Secret(arith.settle(low, x.id) if kind_of(o.dtype) == "float" else x.id, x.dtype)
    scalar = core.ClosedJaxpr(params["update_jaxpr"], list(params["update_consts"]))
    fn = core.jaxpr_as_fun(scalar)

    def each(v: Any) -> Any:
        return jax.vmap(lambda e: fn(e, e)[0])(v.ravel()).reshape(v.shape)

    closed = jax.make_jaxpr(each)(jax.ShapeDtypeStruct(o.shape, o.dtype))
    (made,) = lower_closed(low, closed, [ready])
    params = dict(params, update_jaxpr=None, update_consts=())
    bits, ones = Out(o.shape, np.dtype(np.bool_)), np.ones(shape_of(low, update), np.bool_)
    none = np.zeros(o.shape, np.bool_)
    if isinstance(indices, Secret):
        mask: Value = scatter(low, [bits], none, indices, ones, **params)
    else:
        mask = np.asarray(
            primitives.scatter_p.bind(jax.numpy.asarray(none), indices, ones, **params)
        )
    result = select_n(low, [o], mask, ready, made)
    return lift(low, result, o.dtype)


@rule("scatter-sub")
def scatter_sub(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Secret:
    """`x` with updates subtracted."""
    if isinstance(update, Secret):
        update = Secret(arith.neg(low, update.id), update.dtype)
    else:
        update = np.negative(public(update))
    return scatter_with(low, out, x, indices, update, **dict(params, update_jaxpr=None))


@rule("scatter-add", "scatter_add", "scatter-mul", "scatter_mul")
@rule("scatter-min", "scatter_min", "scatter-max", "scatter_max")
def scatter_with(low: Lowering, out: list[Out], x: Value, *rest: Value, **params: Any) -> Secret:
    """`x` with updates added, multiplied, or the smaller or larger one kept."""
    (o,) = out
    indices, update = rest
    op = params["update_jaxpr"].eqns[0].primitive.name if params["update_jaxpr"] else "add"
    op = "add" if op == "add_any" else op
    if isinstance(indices, Secret):
        return secretscatter.scatter(low, o, x, indices, update, op, **params)
    return _in_layers(low, o, x, indices, update, op, params)


def combine(low: Lowering, dtype: np.dtype[Any], op: str) -> Callable[[int, int], int]:
    """x op y of two values of a dtype: "add", "mul", "min", "max"."""
    if op == "add":
        return lambda a, b: arith.add(low, a, b)
    if op == "mul":
        return lambda a, b: arith.settle(low, times(low, a, b, dtype))
    pick_one = order.maximum if op == "max" else order.minimum
    return lambda a, b: pick_one(low, a, b, dtype)


def _in_layers(
    low: Lowering, o: Out, x: Value, indices: Value, update: Value, op: str, params: dict[str, Any]
) -> Secret:
    """Updates at public places layer by layer, one per collision."""
    size = math.prod(o.shape)
    params = dict(params, update_jaxpr=None, update_consts=())
    targets = _targets(size, o.shape, indices, shape_of(low, update), params)
    layers: list[Array] = []
    for place, target in enumerate(targets):
        if target < 0:
            continue
        for layer in layers:
            if layer[target] < 0:
                layer[target] = place
                break
        else:
            layers.append(np.full(size, -1))
            layers[-1][target] = place
    total, fresh = (_reduced(low, lift(low, v, o.dtype).id, o.dtype, op) for v in (x, update))
    flat = low.reshape(fresh, (low.type(fresh).size,))
    apply = combine(low, o.dtype, op)
    if op == "add":
        padded = low.emit("pad", flat, low=(0,), high=(1,), interior=(0,))
        for layer in layers:
            index = np.where(layer < 0, low.type(flat).size, layer).reshape(o.shape)
            total = apply(total, low.take(padded, index))
        return Secret(total, o.dtype)
    for layer in layers:
        where = np.flatnonzero(layer >= 0)
        made = apply(low.take(total, where), low.take(flat, layer[where]))
        index = np.arange(size)
        index[where] = size + np.arange(where.size)
        sources = [Secret(v, o.dtype) for v in (total, made)]
        total = pick(low, sources, index.reshape(o.shape), o.dtype)
    return Secret(total, o.dtype)


def _reduced(low: Lowering, x: int, dtype: np.dtype[Any], op: str) -> int:
    return wrap_int(low, x, dtype) if op in ("min", "max") and kind_of(dtype) == "int" else x


def _targets(size: int, shape: Any, indices: Value, updates: Any, params: Any) -> Array:
    """Flat position in the operand that each update element goes to, -1 where it is dropped.

    Bit i of the answer is read from a scatter-add of the bit's mask by its transpose, a gather.
    """
    zero = jax.numpy.zeros(shape, np.float32)

    def put(u: Any) -> Any:
        return lax.scatter_add(
            zero,
            jax.numpy.asarray(indices),
            u,
            params["dimension_numbers"],
            indices_are_sorted=params["indices_are_sorted"],
            unique_indices=params["unique_indices"],
            mode=params["mode"],
        )

    back = jax.linear_transpose(put, jax.ShapeDtypeStruct(updates, np.float32))
    high, low_part = divmod(np.arange(1, size + 1), 1 << 12)  # exact in float32, 0 means dropped
    parts = [np.asarray(back(jax.numpy.asarray(p.reshape(shape), np.float32))[0])
             for p in (high, low_part)]  # fmt: skip
    made = parts[0].astype(np.int64) * (1 << 12) + parts[1].astype(np.int64) - 1
    return made.ravel()
