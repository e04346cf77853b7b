"""Data movement: the same elements in other places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jax import lax

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.indexing import pick
from spuvm.compiler.values import Value, kind_of, lift, public


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
    return Secret(pick(low, [x, value], index, o.dtype), o.dtype)
