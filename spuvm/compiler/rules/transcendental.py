"""Division, exponentials, logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.elementwise import constant, operand
from spuvm.compiler.values import Value, kind_of
from spuvm.errors import CompileError


@rule("div")
def div(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x / y of floats; by a public y a product with 1 / y, and x / 0 = 0."""
    (o,) = out
    if kind_of(o.dtype) != "float":
        raise CompileError("division of secret integers is not supported")
    if isinstance(y, Secret):
        raise CompileError("not yet")
    c = constant(low, y, o)
    inverse = np.divide(1.0, c, out=np.zeros_like(c, np.float64), where=c != 0)
    return Secret(arith.mul_public(low, operand(low, x, o.shape), inverse), o.dtype)
