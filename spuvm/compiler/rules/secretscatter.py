"""Scatter at secret positions: set, add, mul, min, max.

An index of k numbers into axes n_1 .. n_k costs a one-hot row over their product, 24 bytes per
place; the updates are then added up in one matrix product (set and add), 24 to 48 bytes per element
of the operand, or combined in a tree of as many copies of the operand as there are indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.compiler import arith, oblivious, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out
from spuvm.compiler.rules.secretindex import BOOL, Index, as_numbers, back, blend, index_of, mode_of
from spuvm.compiler.values import Value, kind_of, lift
from spuvm.errors import CompileError


def scatter(
    low: Lowering,
    o: Out,
    x: Value,
    indices: Secret,
    update: Value,
    op: str,
    *,
    dimension_numbers: Any,
    mode: Any,
    unique_indices: Any,
    **_: Any,
) -> Secret:
    """lax.scatter and its relatives at secret indices; op is set, add, mul, min or max."""
    dn = dimension_numbers
    shape = o.shape
    batching = [int(d) for d in dn.operand_batching_dims]
    axes = [int(d) for d in dn.scatter_dims_to_operand_dims]
    index = index_of(low, indices, [int(d) for d in dn.scatter_indices_batching_dims])
    inserted = [int(d) for d in dn.inserted_window_dims]
    update_window = [int(d) for d in dn.update_window_dims]
    old, new = as_numbers(low, x, o.dtype), as_numbers(low, update, o.dtype)
    if kind_of(o.dtype) == "float":
        old, new = arith.align(low, (old, new))
    if kind_of(o.dtype) == "bool" and op not in ("set", "min", "max"):
        raise CompileError(f"scatter-{op} of Booleans at secret indices", next="convert to int32")
    if not low.type(new).size:
        return back(low, old, o.dtype)
    windowed = [d for d in range(len(shape)) if d not in inserted and d not in batching]
    size_of = {d: low.shape(new)[p] for d, p in zip(windowed, update_window, strict=True)}
    sizes = [size_of.get(d, 1) for d in range(len(shape))]
    rest = [d for d in range(len(shape)) if d not in batching and d not in axes]
    for d in rest:
        if sizes[d] != shape[d]:
            raise CompileError(
                "scatter at secret indices of a part of another axis",
                got=f"{sizes[d]} of {shape[d]} along axis {d}",
                next="slice that axis first: x = x.at[:, :k].set(x[:, :k].at[i].set(u))",
            )
    # Updates as [B, N, windows of the indexed axes, rest].
    free = [p for p in range(len(low.shape(new))) if p not in update_window]
    place = dict(zip(windowed, update_window, strict=True))
    batch_first = [free[d] for d in (*index.batch, *index.free)]
    inner = [place[d] for d in (*axes, *rest) if d in place]
    new = low.transpose(new, [*batch_first, *inner])
    tail = math.prod(shape[d] for d in rest)
    spans = [sizes[d] for d in axes]
    new = low.reshape(new, (index.groups, index.count, *spans, tail))
    moved = [*batching, *axes, *rest]
    base = low.transpose(old, moved)
    extents = [shape[d] for d in axes]
    base = low.reshape(base, (index.groups, *extents, tail))
    job = _Write(low, o.dtype, index, extents, spans, tail, mode_of(mode, "drop"))
    apply = {"set": job.set, "add": job.add}.get(op)
    if apply is not None:
        made = apply(base, new, bool(unique_indices))
    else:
        made = job.combine(base, new, op)
    made = low.reshape(made, [shape[d] for d in moved])
    return back(low, low.transpose(made, [int(i) for i in np.argsort(moved)]), o.dtype)


@dataclass(frozen=True)
class _Write:
    """Updates [B, N, spans, tail] into [B, extents, tail] at secret starts."""

    low: Lowering
    dtype: np.dtype[Any]
    index: Index
    extents: Sequence[int]
    spans: Sequence[int]
    tail: int
    mode: str

    def rows(self) -> int:
        """Bits [B, N, P]: P runs over all starts."""
        made = [
            oblivious.one_hot(self.low, c, n, self.index.dtype, self.mode)
            for c, n in zip(self.index.columns, self._counts(), strict=True)
        ]
        return oblivious.outer(self.low, made, 2, 1)

    def numbers(self) -> int:
        """`rows` as numbers."""
        if len(self.spans) > 1:
            return oblivious.numbers(self.low, self.rows())
        (column,), (count,) = self.index.columns, self._counts()
        return oblivious.row(self.low, column, count, self.index.dtype, self.mode)

    def _counts(self) -> list[int]:
        return [n - s + 1 for n, s in zip(self.extents, self.spans, strict=True)]

    def add(self, base: int, new: int, unique: bool) -> int:
        """base plus everything that goes to a place."""
        rows = self.numbers()
        return arith.add(self.low, base, self._sums(rows, new, unique))

    def set(self, base: int, new: int, unique: bool) -> int:
        """The last update of a place, or what was there."""
        low = self.low
        if self.index.count == 1 or unique:
            rows = self.numbers()
        else:
            if any(s > 1 for s in self.spans):
                raise CompileError(
                    "several windows that may overlap, at secret places",
                    next="use lax.fori_loop with lax.dynamic_update_slice",
                )
            rows = oblivious.numbers(low, self._last_writers(self.rows()))
        bounds = [low.type(v).bounds for v in (base, new)]
        if self.index.count == 1 and all(s == 1 for s in self.spans):
            shape = low.shape(base)
            ones = low.reshape(rows, (self.index.groups, *self.extents, 1))
            value = low.reshape(new, (self.index.groups, *self.spans, self.tail))
            return blend(low, low.spread(ones, shape), low.spread(value, shape), base)
        with low.unchecked():
            fresh = self._sums(rows, new, True)
            one = low.spread(self._ones(low.shape(new)), (*low.shape(new)[:-1], 1))
            covered = low.narrowed(self._sums(rows, one, True), 0, 1)
            covered = low.spread(covered, low.shape(base))
            gone = low.emit("mul_aa", *sorted((covered, base)), trunc=0, form="narrow")
            made = low.emit("add_aa", low.emit("sub_aa", base, gone), fresh)
        a, b = bounds
        if a is None or b is None:
            return made
        return low.narrowed(made, min(a[0], b[0]), max(a[1], b[1]))

    def _ones(self, shape: tuple[int, ...]) -> int:
        kind = np.dtype(np.int32)
        return lift(self.low, np.ones((*shape[:-1], 1), np.int32), kind).id

    def _last_writers(self, bits: int) -> int:
        """Rows without the places that a later row names: log2(N) levels."""
        low = self.low
        count = low.shape(bits)[1]
        later = low.emit("pad", low.cut(bits, 1, 1, count), low=(0, 0, 0), high=(0, 1, 0),
                         interior=(0, 0, 0))  # fmt: skip
        step = 1
        free = low.emit("not_b", later)  # nothing later so far
        while step < count:
            head, tail = low.cut(free, 1, 0, count - step), low.cut(free, 1, step, count)
            free = low.concat([low.emit("and_bb", head, tail),
                               low.cut(free, 1, count - step, count)], 1)  # fmt: skip
            step *= 2
        return low.emit("and_bb", bits, free)

    def _sums(self, rows: int, new: int, unique: bool) -> int:
        """sum over n of rows[n] times new[n], put where the windows are."""
        low, (groups, count) = self.low, (self.index.groups, self.index.count)
        counts = [n - s + 1 for n, s in zip(self.extents, self.spans, strict=True)]
        turned = low.transpose(rows, (0, 2, 1))
        flat = low.reshape(new, (groups, count, low.type(new).size // (groups * count)))
        made = low.emit("dot_aa", turned, flat, trunc=0, form="narrow")
        bounds = low.type(new).bounds
        if bounds is not None and (unique or count == 1):
            made = low.narrowed(made, min(bounds[0], 0), max(bounds[1], 0))
        tail = low.shape(new)[-1]
        made = low.reshape(made, (groups, *counts, *self.spans, tail))
        for k in range(len(self.spans)):
            made = self._folded(made, 1 + k, 1 + len(self.spans))
        return made

    def _folded(self, x: int, axis: int, span_axis: int) -> int:
        """Starts along `axis`, windows along `span_axis`: added up where they lie."""
        low = self.low
        span, shape = low.shape(x)[span_axis], low.shape(x)
        total: int | None = None
        for j in range(span):
            piece = low.cut(x, span_axis, j, j + 1)
            piece = low.reshape(piece, shape[:span_axis] + shape[span_axis + 1 :])
            rank = len(shape) - 1
            before = [j if i == axis else 0 for i in range(rank)]
            after = [span - 1 - j if i == axis else 0 for i in range(rank)]
            if span > 1:
                piece = low.emit("pad", piece, low=before, high=after, interior=(0,) * rank)
            total = piece if total is None else low.emit("add_aa", total, piece)
        assert total is not None
        bounds = low.type(x).bounds
        if bounds is not None and self.index.count == 1:  # windows of one index do not overlap
            total = low.narrowed(total, min(bounds[0], 0), max(bounds[1], 0))
        return total

    def combine(self, base: int, new: int, op: str) -> int:
        """base op every update of a place, in a tree over the updates."""
        from spuvm.compiler.rules import indexing
        from spuvm.compiler.rules.reduce import tree

        low = self.low
        if any(s > 1 for s in self.spans):
            raise CompileError(
                f"scatter-{op} of windows at secret places",
                next="use lax.fori_loop with lax.dynamic_slice and lax.dynamic_update_slice",
            )
        groups, count = self.index.groups, self.index.count
        shape = (groups, count, *self.extents, self.tail)
        bits = low.spread(low.reshape(self.rows(), (*shape[:-1], 1)), shape)
        value = low.reshape(new, (groups, count, *[1] * len(self.extents), self.tail))
        value = low.spread(value, shape)
        if op == "mul":
            one = lift(low, np.ones((), self.dtype), self.dtype).id
            other = low.spread(one, shape)
        else:
            other = low.spread(low.reshape(base, (groups, 1, *shape[2:])), shape)
        kind = np.dtype(np.int32) if self.dtype == BOOL else self.dtype
        apply: Callable[[int, int], int] = indexing.combine(low, kind, op)
        parts = order.choose(low, bits, value, other)
        parts = low.transpose(parts, [1, 0, *range(2, len(shape))])
        return apply(base, tree(low, parts, apply))
