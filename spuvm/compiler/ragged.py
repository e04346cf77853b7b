"""Products of matrices whose rows belong to groups, as JAX functions, for lowering.

Where it is public how many rows a group has, every group is a product of its own; where it is
secret, every row meets all groups and takes part in its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

Array = Any


def product(x: Array, y: Array, sizes: Array, numbers: Any, dtype: Any) -> Array:
    """lax.ragged_dot_general."""
    ((contract, y_contract), (batch, y_batch)) = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    if ragged in batch:
        return _dot(x, y, numbers.dot_dimension_numbers, dtype)
    known = isinstance(sizes, np.ndarray) and sizes.ndim == 1
    if ragged not in contract:
        (group,) = numbers.rhs_group_dimensions
        free = [i for i in range(x.ndim) if i not in contract and i not in batch]
        if known:
            inner = [d - (d > group) for d in y_contract], [d - (d > group) for d in y_batch]
            dims = ((contract, inner[0]), (batch, inner[1]))
            axis = len(batch) + free.index(ragged)
            return _by_group(x, y, sizes, (ragged, group, axis), dims, dtype)
        before = [*batch, *(i for i in free if i < ragged)]
        wide = _expanded(x, ragged, sizes, before)
        dims = (([*_up(contract), 0], [*y_contract, group]), (_up(batch), y_batch))
        return _dot(wide, y, dims, dtype)
    y_ragged = y_contract[list(contract).index(ragged)]
    if known:
        return _by_part(x, y, sizes, (ragged, y_ragged), numbers.dot_dimension_numbers, dtype)
    before = [*batch, *(i for i in contract if i < ragged)]
    y_before = [*y_batch, *(j for i, j in zip(contract, y_contract, strict=True) if i < ragged)]
    wide, y_wide = _expanded(x, ragged, sizes, before), _expanded(y, y_ragged, sizes, y_before)
    dims = ((_up(contract), _up(y_contract)), ([0, *_up(batch)], [0, *_up(y_batch)]))
    return _dot(wide, y_wide, dims, dtype)


def _dot(x: Array, y: Array, dims: Any, dtype: Any) -> Array:
    return lax.dot_general(x, y, dims, preferred_element_type=dtype)


def _up(axes: Sequence[int]) -> list[int]:
    return [i + 1 for i in axes]


def _spans(sizes: Array, length: int) -> list[tuple[int, int]]:
    ends = np.clip(np.cumsum(sizes.astype(np.int64)), 0, length)
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def _by_group(
    x: Array, y: Array, sizes: Array, axes: tuple[int, int, int], dims: Any, dtype: Any
) -> Array:
    """Rows of the result from every group's own product, then zeros."""
    ragged, group, axis = axes
    length = x.shape[ragged]
    spans = _spans(sizes, length)
    parts = [
        _dot(lax.slice_in_dim(x, a, b, axis=ragged), jnp.take(y, i, axis=group), dims, dtype)
        for i, (a, b) in enumerate(spans)
        if a < b
    ]
    rest = length - (spans[-1][1] if spans else 0)
    if rest or not parts:
        y_one = jnp.take(y, 0, axis=group)
        none = _dot(lax.slice_in_dim(x, 0, 0, axis=ragged), y_one, dims, dtype)
        shape = tuple(rest if i == axis else n for i, n in enumerate(none.shape))
        parts.append(jnp.zeros(shape, none.dtype))
    return jnp.concatenate(parts, axis)


def _by_part(
    x: Array, y: Array, sizes: Array, axes: tuple[int, int], dims: Any, dtype: Any
) -> Array:
    """Per group the product over its part of the axis that is summed."""
    cut = lax.slice_in_dim
    parts = [
        _dot(cut(x, a, b, axis=axes[0]), cut(y, a, b, axis=axes[1]), dims, dtype)
        for a, b in _spans(sizes, x.shape[axes[0]])
    ]
    return jnp.stack(parts)


def _expanded(x: Array, axis: int, sizes: Array, before: Sequence[int]) -> Array:
    """[g, *x.shape]: per group x with zeros in the rows of other groups; sizes [*before, g]."""
    sizes = jnp.asarray(sizes)
    ends = jnp.cumsum(sizes, -1, dtype=sizes.dtype)[..., None]
    starts = ends - sizes[..., None]
    place = jnp.arange(x.shape[axis], dtype=sizes.dtype)
    inside = (starts <= place) & (place < ends)  # [*before, g, n]
    inside = jnp.moveaxis(inside, -2, 0)
    axes = [0, *([i + 1 for i in before] if sizes.ndim > 1 else []), axis + 1]
    order = np.argsort(axes)
    mask = lax.broadcast_in_dim(
        inside.transpose(order), (sizes.shape[-1], *x.shape), [axes[i] for i in order]
    )
    return jnp.where(mask, x[None], jnp.zeros((), x.dtype))
