"""Matrix products in every layout, as batched [B,M,K] @ [B,K,N]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith, means
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Array, Value, as_factor, kind_of, public
from spuvm.compiler.varying import Varying


@rule("dot_general")
def dot_general(
    low: Lowering, out: list[Out], x: Value, y: Value, *, dimension_numbers: Any, **_: Any
) -> Secret:
    """Contract and batch axes moved into place, one batched product, reshaped to the result."""
    (o,) = out
    (cx, cy), (bx, by) = dimension_numbers
    left, right = axes_left(shape_of(low, x), bx, cx), axes_left(shape_of(low, y), by, cy)
    sx, sy = shape_of(low, x), shape_of(low, y)
    batch = math.prod(sx[i] for i in bx)
    inner = math.prod(sx[i] for i in cx)
    rows, columns = (math.prod(s[i] for i in free) for s, free in ((sx, left), (sy, right)))
    a = _arrange(low, x, [*bx, *left, *cx], (batch, rows, inner), o.dtype)
    b = _arrange(low, y, [*by, *cy, *right], (batch, inner, columns), o.dtype)
    if not inner:
        from spuvm.compiler.values import zeros

        kind = "b" if kind_of(o.dtype) == "bool" else "a"
        return Secret(zeros(low, o.shape, kind), o.dtype)
    total = product(low, a, b, inner, kind_of(o.dtype))
    made = low.reshape(total, o.shape)
    if total in low.totals:
        low.totals[made] = low.totals[total]
    if kind_of(o.dtype) == "bool":  # of Booleans: whether any pair is both
        made = low.emit("not_b", low.emit("eqz_a", made, bits=inner.bit_length()))
    return Secret(made, o.dtype)


def shape_of(low: Lowering, x: Value) -> tuple[int, ...]:
    """Shape of a secret, public or varying operand."""
    if isinstance(x, Varying):
        return x.shape
    return low.shape(x.id) if isinstance(x, Secret) else tuple(public(x).shape)


def axes_left(shape: Sequence[int], batch: Sequence[int], contract: Sequence[int]) -> list[int]:
    """Axes that are neither batch nor contracted."""
    return [i for i in range(len(shape)) if i not in batch and i not in contract]


def _arrange(
    low: Lowering, x: Value, order: Sequence[int], shape: tuple[int, ...], dtype: Any
) -> int | Array:
    if isinstance(x, Secret):
        return low.reshape(low.transpose(as_factor(low, x, dtype), order), shape)
    return public(x).transpose(order).reshape(shape)


def product(low: Lowering, a: int | Array, b: int | Array, inner: int, kind: str) -> int:
    """[B,M,K] @ [B,K,N] where at least one side is secret (an id)."""
    if isinstance(a, int) and isinstance(b, int):
        if kind == "float":
            split = means.split_dot(low, a, b, low.divisor) if low.divisor else None
            return arith.dot(low, a, b) if split is None else split
        return low.emit("dot_aa", a, b, trunc=0, form="narrow")
    if isinstance(a, int):
        secret, constant = a, np.asarray(b)
        op, swap = "dot_ap", False
    else:
        assert isinstance(b, int)
        secret, constant = b, np.asarray(a)
        op, swap = "dot_pa", True

    def apply(x: int, p: int) -> int:
        return low.emit(op, p, x) if swap else low.emit(op, x, p)

    if kind != "float":
        return apply(secret, low.constant(low.ring.array(constant)))
    wide = arith.finite(low, constant)

    def scaled(x: int, p: int, bits: int) -> int:
        if swap:
            return low.emit("scale_dot_pa", p, x, bits=bits)
        left, right = (low.transpose(v, (0, 2, 1)) for v in (p, x))
        return low.transpose(low.emit("scale_dot_pa", left, right, bits=bits), (0, 2, 1))

    return arith.linear(low, secret, wide, apply, inner, scaled)
