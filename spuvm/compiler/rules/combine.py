"""Reductions by any associative function of scalars, given as a jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Value, lift, public
from spuvm.errors import CompileError

Combine = Callable[[Lowering, Sequence[Value], Sequence[Value]], list[Value]]


def combiner(jaxpr: Any, consts: Sequence[Any], dtypes: Sequence[np.dtype[Any]]) -> Combine:
    """The scalar function of a reduction, on arrays of equal shape."""
    fn = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, list(consts)))

    def combine(low: Lowering, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        shape = shape_of(low, a[0])
        flat = [jax.ShapeDtypeStruct((int(np.prod(shape)),), d) for d in dtypes]
        many = jax.make_jaxpr(jax.vmap(lambda *xs: fn(*xs)))(*flat, *flat)
        operands = [_flat(low, v) for v in (*a, *b)]
        return [_shaped(low, v, shape) for v in lower_closed(low, many, operands)]

    return combine


def shape_of(low: Lowering, x: Value) -> tuple[int, ...]:
    """Shape of a secret or public value."""
    return low.shape(x.id) if isinstance(x, Secret) else tuple(public(x).shape)


def _flat(low: Lowering, x: Value) -> Value:
    return _shaped(low, x, (int(np.prod(shape_of(low, x))),))


def _shaped(low: Lowering, x: Value, shape: tuple[int, ...]) -> Value:
    if isinstance(x, Secret):
        made = arith.settle(low, x.id) if low.type(x.id).kind == "a" else x.id
        return Secret(low.reshape(made, shape), x.dtype)
    return public(x).reshape(shape)


def spread(low: Lowering, x: Value, o: Out) -> Value:
    """A scalar repeated to the shape of a result."""
    if isinstance(x, Secret):
        return Secret(low.spread(x.id, o.shape), x.dtype)
    return np.broadcast_to(public(x), o.shape)


def fold(low: Lowering, rows: Sequence[Sequence[Value]], combine: Combine) -> Sequence[Value]:
    """Rows combined by neighbours in order; log2(n) levels."""
    rows = list(rows)
    while len(rows) > 1:
        paired = [combine(low, rows[i], rows[i + 1]) for i in range(0, len(rows) - 1, 2)]
        rows = paired + rows[len(rows) - len(rows) % 2 :]
    return rows[0]


@rule("reduce")
def reduce(
    low: Lowering, out: list[Out], *operands: Value, dimensions: Any, jaxpr: Any, **_: Any
) -> list[Value]:
    """lax.reduce with any associative function, of one or several arrays at once."""
    count = len(operands) // 2
    values, initial = operands[:count], operands[count:]
    shape = shape_of(low, values[0])
    combine = combiner(jaxpr, (), [o.dtype for o in out])
    kept = [i for i in range(len(shape)) if i not in dimensions]
    size = int(np.prod([shape[d] for d in dimensions]))
    if not size:
        raise CompileError("a reduction of nothing", next="reduce over at least one element")
    columns = []
    for v, o in zip(values, out, strict=True):
        x = lift(low, v, o.dtype)
        moved = low.transpose(x.id, [*dimensions, *kept])
        columns.append(low.reshape(moved, (size, *o.shape)))
    rows = [
        [
            Secret(low.reshape(low.cut(c, 0, i, i + 1), o.shape), o.dtype)
            for c, o in zip(columns, out, strict=True)
        ]
        for i in range(size)
    ]
    wide = [spread(low, v, o) for v, o in zip(initial, out, strict=True)]
    return combine(low, wide, fold(low, rows, combine))
