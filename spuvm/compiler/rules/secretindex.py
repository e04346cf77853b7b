"""Gather, scatter and slices at secret positions.

Indices become one-hot rows; what they name is a matrix product with all that could be meant. An
index of k numbers into axes n_1 .. n_k costs the sum of n_i for reading and their product for
writing, 24 bytes each; reading adds 24 bytes per element of the result and per element in between
axes, writing 24 to 48 bytes per element of the operand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from spuvm.compiler import arith, oblivious, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.oblivious import Table
from spuvm.compiler.rules import Out
from spuvm.compiler.values import Value, kind_of, lift, public, wrap_int
from spuvm.errors import CompileError

Mode = jax.lax.GatherScatterMode
BOOL = np.dtype(np.bool_)


def mode_of(mode: Any, promised: str) -> str:
    """ "clip" or "drop"; `promised` for what is promised to be inside.

    There XLA clips when it reads, as JAX documents for x[i], and drops when it writes.
    """
    return {Mode.FILL_OR_DROP: "drop", Mode.CLIP: "clip"}.get(Mode.from_any(mode), promised)


def fill_value(dtype: np.dtype[Any], given: Any) -> Any:
    """What a gather gives outside: JAX's value; 0 for NaN, which the ring does not have."""
    if kind_of(dtype) == "float":
        return 0.0 if given is None or np.isnan(given) else given
    if given is not None:
        return given
    if kind_of(dtype) == "bool":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


def as_numbers(low: Lowering, x: Value, dtype: np.dtype[Any]) -> int:
    """A value as arithmetic shares, integers reduced."""
    made = lift(low, x, dtype).id
    if kind_of(dtype) == "bool":
        return low.emit("b2a", made)
    return wrap_int(low, made, dtype) if kind_of(dtype) == "int" else made


def back(low: Lowering, x: int, dtype: np.dtype[Any]) -> Secret:
    """Numbers 0 and 1 as bits again, where the dtype is bool."""
    return Secret(low.emit("a2b", x, bits=1) if kind_of(dtype) == "bool" else x, dtype)


@dataclass(frozen=True)
class Index:
    """Index numbers [batch, count] per indexed axis, and how their shape came about."""

    columns: tuple[int, ...]
    batch: tuple[int, ...]  # axes of the indices that go with axes of the operand
    free: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def groups(self) -> int:
        """Product of the batch axes."""
        return math.prod(self.shape[d] for d in self.batch)

    @property
    def count(self) -> int:
        """Indices per group."""
        return math.prod(self.shape[d] for d in self.free)


def index_of(low: Lowering, indices: Secret, batch: Sequence[int]) -> Index:
    shape = low.shape(indices.id)[:-1]
    free = [d for d in range(len(shape)) if d not in batch]
    made = []
    for k in range(low.shape(indices.id)[-1]):
        column = low.reshape(_column(low, indices.id, k), shape)
        column = low.transpose(wrap_int(low, column, indices.dtype), [*batch, *free])
        made.append(column)
    index = Index(tuple(made), tuple(batch), tuple(free), shape, indices.dtype)
    flat = tuple(low.reshape(c, (index.groups, index.count)) for c in made)
    return Index(flat, index.batch, index.free, index.shape, index.dtype)


def _column(low: Lowering, indices: int, k: int) -> int:
    """indices[..., k]; of several that were joined the part itself, with its own bounds."""
    made = low.builder.instruction(indices)
    last = len(low.shape(indices)) - 1
    if made is not None and made.op == "concat" and made.attrs["axis"] == last:
        for source in made.args:
            width = low.shape(source)[last]
            if k < width:
                return low.cut(source, last, k, k + 1)
            k -= width
    return low.cut(indices, last, k, k + 1)


# --- reading ---------------------------------------------------------------------------------


def gather(
    low: Lowering,
    o: Out,
    x: Value,
    indices: Secret,
    *,
    dimension_numbers: Any,
    slice_sizes: Any,
    mode: Any,
    fill_value: Any,
    **_: Any,
) -> Secret:
    """lax.gather at secret indices, axis after axis."""
    dn = dimension_numbers
    batching = [int(d) for d in dn.operand_batching_dims]
    axes = [int(d) for d in dn.start_index_map]
    index = index_of(low, indices, [int(d) for d in dn.start_indices_batching_dims])
    shape = low.shape(x.id) if isinstance(x, Secret) else public(x).shape
    if not math.prod(o.shape) or not axes:
        raise CompileError("gather of nothing at secret indices", next="leave it out")
    table: Table = as_numbers(low, x, o.dtype) if isinstance(x, Secret) else public(x)
    rest = [d for d in range(len(shape)) if d not in batching and d not in axes]
    for d in rest:
        table = oblivious.part(low, table, d, 0, slice_sizes[d])
    table = oblivious.moved(low, table, [*batching, *axes, *rest])
    table = oblivious.shaped(
        low, table, (index.groups, *oblivious.shape_of(low, table)[len(batching) :])
    )
    wide = [d for d in axes if slice_sizes[d] > 1]
    for k, d in enumerate(axes):
        if slice_sizes[d] > 1:
            table = oblivious.windows(low, table, 1 + k, slice_sizes[d])
    counts = [shape[d] - slice_sizes[d] + 1 for d in axes]
    made = _read(low, o, index, table, counts, mode_of(mode, "clip"), fill_value)
    sizes = [*(slice_sizes[d] for d in rest), *(slice_sizes[d] for d in wide)]
    batch_sizes = [index.shape[d] for d in (*index.batch, *index.free)]
    made = low.reshape(made, (*batch_sizes, *sizes))
    labels = [*(("i", d) for d in (*index.batch, *index.free)), *(("w", d) for d in (*rest, *wide))]
    return back(low, _arranged(low, made, labels, dn, len(shape), o), o.dtype)


def _read(
    low: Lowering,
    o: Out,
    index: Index,
    table: Table,
    counts: Sequence[int],
    mode: str,
    given: Any,
) -> int:
    """[B, n_1, .., n_K, ...] at indices [B, N] -> [B, N, ...], flat behind."""
    lead, made = index.groups, table
    doubtful: list[int] = []
    valid: order.Bit = True
    for k, (column, count) in enumerate(zip(index.columns, counts, strict=True)):
        if lead == 1 and not isinstance(made, int):
            rest = made.size // count
            whole = made.reshape(count, rest)
            found = oblivious.read(low, column, whole, o.dtype, index.dtype, mode)
            if found is not None:
                lead, made = index.count, low.reshape(found[0], (index.count, rest))
                valid = found[1]
                continue
        within = oblivious.inside(low, column, count)
        row = oblivious.row(low, column, count, index.dtype, mode)
        if mode == "drop" and not within:
            doubtful.append(low.emit("sum_a", row, axes=(2,)))
        rows = row if k == 0 else low.reshape(row, (lead, 1, count))
        size = math.prod(oblivious.shape_of(low, made)) // lead
        flat = oblivious.shaped(low, made, (lead, count, size // count))
        made = oblivious.contracted(low, rows, flat, o.dtype, mode == "clip" or within)
        lead = index.groups * index.count
        made = low.reshape(made, (lead, size // count))
    assert isinstance(made, int)
    fill = fill_value(o.dtype, given)
    if not isinstance(valid, bool):
        made = order.times(low, low.spread(low.reshape(valid, (lead, 1)), low.shape(made)), made)
        if fill:
            doubtful.append(oblivious.numbers(low, valid))
    if not doubtful or not fill:
        return made
    valid = low.narrowed(doubtful[0], 0, 1)
    for other in doubtful[1:]:
        valid = low.emit("mul_aa", *sorted((valid, low.narrowed(other, 0, 1))), trunc=0,
                         form="narrow")  # fmt: skip
    valid = low.spread(low.reshape(valid, (lead, 1)), low.shape(made))
    return _filled(low, made, valid, fill, o.dtype)


def _filled(low: Lowering, x: int, valid: int, fill: Any, dtype: np.dtype[Any]) -> int:
    """x where valid is 1, else `fill`; x is 0 there already."""
    if kind_of(dtype) == "float":
        frac = min(low.f, arith.fraction_bits(np.asarray(float(fill))))
        c = arith.ring_array(low, np.asarray(float(fill)), frac)
    else:
        c, frac = low.ring.array(np.asarray(int(fill), object)), 0
    missing = low.emit("sub_pa", low.constant(low.ring.array(1)), valid)
    return arith.add(low, x, low.emit("mul_ap", missing, low.constant(c, frac)))


def _arranged(
    low: Lowering, x: int, labels: list[tuple[str, int]], dn: Any, rank: int, o: Out
) -> int:
    """Axes in the order of lax.gather's result; collapsed ones, of size 1, drop out."""
    gone = (*dn.collapsed_slice_dims, *dn.operand_batching_dims)
    kept = iter([d for d in range(rank) if d not in gone])
    batch = iter(sorted(d for kind, d in labels if kind == "i"))
    wanted = [
        ("w", next(kept)) if p in [int(d) for d in dn.offset_dims] else ("i", next(batch))
        for p in range(len(o.shape))
    ]
    order_ = [labels.index(w) for w in wanted if w in labels]
    others = [i for i in range(len(labels)) if i not in order_]
    return low.reshape(low.transpose(x, [*order_, *others]), o.shape)


def slice_at(
    low: Lowering, x: Secret, starts: Sequence[tuple[int, Secret]], sizes: Sequence[int]
) -> Secret:
    """A dynamic slice at secret starts, the axis with the largest gain first."""
    made = as_numbers(low, x, x.dtype)
    shape = low.shape(made)
    for axis, start in sorted(starts, key=lambda s: sizes[s[0]] / max(1, shape[s[0]])):
        index = wrap_int(low, start.id, start.dtype)
        made = oblivious.window(low, made, axis, sizes[axis], index, start.dtype)
    return back(low, made, x.dtype)


def slice_of_public(
    low: Lowering, o: Out, x: Any, starts: Sequence[tuple[int, Secret]], sizes: Sequence[int]
) -> Secret:
    """A dynamic slice of a public array: the first axis is a product with public windows."""
    (axis, start), *others = starts
    size, rank = sizes[axis], x.ndim
    table = oblivious.windows(low, x, axis, size)
    table = np.asarray(oblivious.moved(low, table, [axis, rank, *(i for i in range(rank)
                                                                  if i != axis)]))  # fmt: skip
    index = wrap_int(low, start.id, start.dtype)
    flat = table.reshape(len(table), -1)
    found = oblivious.read(low, index, flat, o.dtype, start.dtype, "clip")
    if found is None:  # few places: a one-hot row takes less
        row = oblivious.row(low, index, len(table), start.dtype, "clip")
        row = low.reshape(row, (1, 1, len(table)))
        made = oblivious.contracted(low, row, flat[None], o.dtype, True)
    else:
        made, _ = found
    made = low.reshape(made, table.shape[1:])
    made = low.transpose(made, [int(i) for i in np.argsort([axis, *(i for i in range(rank)
                                                                    if i != axis)])])  # fmt: skip
    return slice_at(low, back(low, made, o.dtype), others, sizes)


# --- writing ---------------------------------------------------------------------------------


def replaced(
    low: Lowering, dtype: np.dtype[Any], x: int, new: int, starts: Sequence[tuple[int, Secret]]
) -> int:
    """x with a slice at secret starts replaced by `new`, which is as wide in all other axes."""
    x, new = (as_numbers(low, Secret(v, dtype), dtype) for v in (x, new))
    shape = low.shape(x)
    masks = []
    for axis, start in starts:
        width = low.shape(new)[axis]
        count = shape[axis] - width + 1
        index = wrap_int(low, start.id, start.dtype)
        row = oblivious.one_hot(low, index, count, start.dtype, "clip")
        masks.append(oblivious.covered(low, row, width))
        if width == 1:
            new = low.spread(new, tuple(shape[axis] if i == axis else n
                                        for i, n in enumerate(low.shape(new))))  # fmt: skip
        else:
            new = oblivious.placed(low, new, axis, shape[axis], oblivious.numbers(low, row))
    mask = oblivious.outer(low, masks, 0, len(masks))
    axes = [axis for axis, _ in starts]
    mask = low.transpose(mask, [int(i) for i in np.argsort(axes)])
    mask = low.reshape(mask, [n if i in axes else 1 for i, n in enumerate(shape)])
    made = _chosen(low, mask, new, x)
    return back(low, made, dtype).id


def _chosen(low: Lowering, mask: int, yes: int, no: int) -> int:
    """yes where the mask is set, else no; the mask broadcasts."""
    shape, few = low.shape(no), low.type(mask).size
    if oblivious.DOT_BYTES * few + oblivious.DOT_BYTES * math.prod(shape) >= (
        oblivious.NETWORK_BYTES * math.prod(shape)
    ):
        return order.choose(low, low.spread(mask, shape), yes, no)
    ones = low.spread(oblivious.numbers(low, mask), shape)
    return blend(low, ones, yes, no)


def blend(low: Lowering, ones: int, yes: int, no: int) -> int:
    """no + ones (yes - no) for numbers 0 and 1."""
    a, b = low.type(yes).bounds, low.type(no).bounds
    with low.unchecked():
        delta = low.emit("sub_aa", yes, no)
        step = low.emit("mul_aa", *sorted((ones, delta)), trunc=0, form="narrow")
        made = low.emit("add_aa", no, step)
    if a is None or b is None:
        return made
    return low.narrowed(made, min(a[0], b[0]), max(a[1], b[1]))
