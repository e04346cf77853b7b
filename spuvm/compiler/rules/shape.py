"""Data movement: the same elements in other places. Indices must be public."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Array, Value, kind_of, lift, public
from spuvm.errors import CompileError


def lifted(low: Lowering, values: Sequence[Value], dtype: np.dtype[Any]) -> list[int]:
    """Ids of values that are to be joined: public ones as shares, equal fraction bits."""
    ids = [lift(low, v, dtype).id for v in values]
    return arith.align(low, ids) if kind_of(dtype) == "float" else ids


@rule("broadcast_in_dim")
def broadcast_in_dim(
    low: Lowering, out: list[Out], x: Secret, *, shape: Any, broadcast_dimensions: Any, **_: Any
) -> Secret:
    """Operand axis i becomes axis broadcast_dimensions[i]."""
    return Secret(low.broadcast(x.id, shape, broadcast_dimensions), x.dtype)


@rule("reshape", "squeeze", "expand_dims")
def reshape(low: Lowering, out: list[Out], x: Secret, **params: Any) -> Secret:
    """Same elements in row-major order."""
    if params.get("dimensions") is not None and "new_sizes" in params:
        x = transpose(low, out, x, permutation=params["dimensions"])
    return Secret(low.reshape(x.id, out[0].shape), x.dtype)


@rule("transpose")
def transpose(low: Lowering, out: list[Out], x: Secret, *, permutation: Any, **_: Any) -> Secret:
    """numpy.transpose."""
    return Secret(low.transpose(x.id, permutation), x.dtype)


@rule("slice")
def slice_(
    low: Lowering,
    out: list[Out],
    x: Secret,
    *,
    start_indices: Any,
    limit_indices: Any,
    strides: Any,
    **_: Any,
) -> Secret:
    """Basic slicing."""
    return Secret(low.slice(x.id, start_indices, limit_indices, strides or ()), x.dtype)


@rule("rev")
def rev(low: Lowering, out: list[Out], x: Secret, *, dimensions: Any, **_: Any) -> Secret:
    """Reverse along axes."""
    return Secret(low.emit("reverse", x.id, axes=tuple(dimensions)), x.dtype)


@rule("concatenate")
def concatenate(low: Lowering, out: list[Out], *xs: Value, dimension: int, **_: Any) -> Secret:
    """Join along an axis."""
    (o,) = out
    return Secret(low.concat(lifted(low, xs, o.dtype), dimension), o.dtype)


@rule("stack")
def stack(low: Lowering, out: list[Out], *xs: Value, axis: int, **_: Any) -> Secret:
    """Join along a new axis."""
    (o,) = out
    shape = tuple(1 if i == axis else n for i, n in enumerate(o.shape))
    parts = [low.reshape(i, shape) for i in lifted(low, xs, o.dtype)]
    return Secret(low.concat(parts, axis), o.dtype)


@rule("unstack")
def unstack(low: Lowering, out: list[Out], x: Secret, *, axis: int, **_: Any) -> Any:
    """The slices along an axis, each without it."""
    return tuple(
        Secret(low.reshape(low.cut(x.id, axis, i, i + 1), o.shape), x.dtype)
        for i, o in enumerate(out)
    )


@rule("tile")
def tile(low: Lowering, out: list[Out], x: Secret, *, reps: Any, **_: Any) -> Secret:
    """numpy.tile with one repetition count per axis."""
    shape = low.shape(x.id)
    inner = [n for size in shape for n in (1, size)]
    outer = [n for pair in zip(reps, shape, strict=True) for n in pair]
    made = low.spread(low.reshape(x.id, inner), outer)
    return Secret(low.reshape(made, out[0].shape), x.dtype)


@rule("split")
def split(low: Lowering, out: list[Out], x: Secret, *, sizes: Any, axis: int, **_: Any) -> Any:
    """Cut along an axis into parts of given sizes."""
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(Secret(low.cut(x.id, axis, a, b), x.dtype) for a, b in pairwise(ends))


@rule("pad")
def pad(
    low: Lowering, out: list[Out], x: Value, value: Value, *, padding_config: Any, **_: Any
) -> Secret:
    """lax.pad; a padding that is not zero is added where the zeros came."""
    (o,) = out
    before, after, inside = (tuple(int(p[i]) for p in padding_config) for i in range(3))
    if not isinstance(value, Secret) and not public(value).any():
        assert isinstance(x, Secret)
        made = low.emit("pad", x.id, low=before, high=after, interior=inside)
        return Secret(made, o.dtype)
    shape = low.shape(x.id) if isinstance(x, Secret) else public(x).shape
    size = math.prod(shape)
    places = np.arange(size, dtype=np.int32).reshape(shape)
    index = np.asarray(lax.pad(places, np.int32(size), padding_config))
    return Secret(_pick(low, [x, value], index, o.dtype), o.dtype)


def _pick(low: Lowering, sources: Sequence[Value], index: Array, dtype: np.dtype[Any]) -> int:
    """Elements of several sources, flattened one after the other, by public index."""
    ids = lifted(low, sources, dtype)
    flat = [low.reshape(i, (low.type(i).size,)) for i in ids]
    return low.take(low.concat(flat, 0), index)


# --- public indices: JAX moves positions, the program moves what is there ---------------------


def _public_index(name: str, *indices: Value) -> None:
    if any(isinstance(i, Secret) for i in indices):
        raise CompileError(
            f"{name} with a secret index is not supported",
            next="compare with jnp.arange and select: (jnp.arange(n) == i) @ x, or use jnp.where",
        )


def _places(low: Lowering, x: Value, first: int = 0) -> Any:
    shape = low.shape(x.id) if isinstance(x, Secret) else public(x).shape
    return jax.numpy.arange(first, first + math.prod(shape), dtype=np.int32).reshape(shape)


@rule("gather")
def gather(low: Lowering, out: list[Out], x: Value, indices: Value, **params: Any) -> Secret:
    """Elements at public indices; JAX's own rules for clipping and modes."""
    _public_index("gather", indices)
    (o,) = out
    params["fill_value"] = -1
    index = np.asarray(primitives.gather_p.bind(_places(low, x), indices, **params))
    if (index < 0).any():
        raise CompileError(
            "gather out of bounds would give NaN", next='use x.at[i].get(mode="clip")'
        )
    assert isinstance(x, Secret)
    return Secret(low.take(x.id, index), o.dtype)


@rule("dynamic_slice")
def dynamic_slice(
    low: Lowering, out: list[Out], x: Value, *starts: Value, slice_sizes: Any, **_: Any
) -> Secret:
    """A slice at a public start, clipped so that it fits."""
    _public_index("dynamic_slice", *starts)
    assert isinstance(x, Secret)
    first = [
        int(np.clip(int(public(s)), 0, n - m))
        for s, n, m in zip(starts, low.shape(x.id), slice_sizes, strict=True)
    ]
    last = [a + m for a, m in zip(first, slice_sizes, strict=True)]
    return Secret(low.slice(x.id, first, last), x.dtype)


@rule("dynamic_update_slice")
def dynamic_update_slice(
    low: Lowering, out: list[Out], x: Value, update: Value, *starts: Value, **_: Any
) -> Secret:
    """`x` with a slice at a public start replaced."""
    _public_index("dynamic_update_slice", *starts)
    (o,) = out
    places = _places(low, x)
    new = _places(low, update, places.size)
    index = np.asarray(lax.dynamic_update_slice(places, new, [int(public(s)) for s in starts]))
    return Secret(_pick(low, [x, update], index, o.dtype), o.dtype)


@rule("scatter")
def scatter(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Secret:
    """`x` with elements at public indices replaced."""
    _public_index("scatter", indices)
    (o,) = out
    places = _places(low, x)
    new = _places(low, update, places.size)
    index = np.asarray(primitives.scatter_p.bind(places, indices, new, **params))
    return Secret(_pick(low, [x, update], index, o.dtype), o.dtype)


@rule("scatter-add", "scatter_add")
def scatter_add(
    low: Lowering, out: list[Out], x: Value, indices: Value, update: Value, **params: Any
) -> Secret:
    """`x` with updates added at public indices: gathered layer by layer, one per collision."""
    _public_index("scatter_add", indices)
    (o,) = out
    shape = low.shape(x.id) if isinstance(x, Secret) else public(x).shape
    params = dict(params, update_jaxpr=None, update_consts=())
    targets = _targets(math.prod(shape), shape, indices, update, low, params)
    size = math.prod(shape)
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
    total, (fresh,) = lifted(low, [x], o.dtype)[0], lifted(low, [update], o.dtype)
    flat = low.reshape(fresh, (low.type(fresh).size,))
    padded = low.emit("pad", flat, low=(0,), high=(1,), interior=(0,))
    for layer in layers:
        index = np.where(layer < 0, low.type(flat).size, layer).reshape(shape)
        total = arith.add(low, total, low.take(padded, index))
    return Secret(total, o.dtype)


def _targets(
    size: int, shape: Any, indices: Value, update: Value, low: Lowering, params: Any
) -> Array:
    """Flat position in the operand that each update element goes to, -1 where it is dropped.

    Bit i of the answer is read from a scatter-add of the bit's mask by its transpose, a gather.
    """
    updates = low.shape(update.id) if isinstance(update, Secret) else public(update).shape
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
