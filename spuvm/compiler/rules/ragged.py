"""Products of matrices by groups of rows (compiler/ragged.py), lowered in place."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from spuvm.compiler import ragged
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.linalg import shape_of
from spuvm.compiler.values import Value, public
from spuvm.errors import CompileError


@rule("ragged_dot_general")
def ragged_dot_general(
    low: Lowering,
    out: list[Out],
    x: Value,
    y: Value,
    sizes: Value,
    *more: Value,
    ragged_dot_dimension_numbers: Any,
    **_: Any,
) -> Any:
    """A product per group of rows; of secret sizes, every row with all groups."""
    (o,) = out
    if more:
        raise CompileError(
            "ragged_dot with a group_offset is not supported, as it is not by JAX on the CPU",
            next="give the sizes of all groups",
        )
    known = None if isinstance(sizes, Secret) else np.asarray(public(sizes))
    args = [x, y] if known is not None else [x, y, sizes]
    shapes = [
        jax.ShapeDtypeStruct(shape_of(low, v), v.dtype if hasattr(v, "dtype") else o.dtype)
        for v in args
    ]

    def function(a: Any, b: Any, n: Any = known) -> Any:
        return ragged.product(a, b, n, ragged_dot_dimension_numbers, o.dtype)

    return lower_closed(low, jax.make_jaxpr(function)(*shapes), args)
