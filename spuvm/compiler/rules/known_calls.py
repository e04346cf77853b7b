"""Calls recognised by what they compute, lowered as one function instead of by their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import LogAddExp, root
from spuvm.compiler.numeric import sigmoid
from spuvm.compiler.rules import Out
from spuvm.compiler.values import Value, public

# The equations of jnp.logaddexp(x, y), x and y being values 0 and 1.
LOGADDEXP = (
    ("max", 0, 1),
    ("sub", 0, 1),
    ("ne", 3, 3),
    ("add", 0, 1),
    ("abs", 3),
    ("neg", 6),
    ("exp", 7),
    ("log1p", 8),
    ("add", 2, 9),
    ("select_n", 4, 10, 5),
)


def known(low: Lowering, out: list[Out], jaxpr: Any, args: Sequence[Value]) -> list[Value] | None:
    """The results of a call to a function that is known, else None."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    if len(jaxpr.eqns) == len(LOGADDEXP) and _wiring(jaxpr) == LOGADDEXP:
        return [_logaddexp(low, out[0], *args)]
    return None


def _wiring(jaxpr: Any) -> tuple[tuple[Any, ...], ...] | None:
    """Per equation its primitive and the numbers of its operands; None if not only those."""
    numbers = {v: i for i, v in enumerate(jaxpr.invars)}
    rows = []
    for eqn in jaxpr.eqns:
        if any(isinstance(a, core.Literal) or a not in numbers for a in eqn.invars):
            return None
        rows.append((eqn.primitive.name, *(numbers[a] for a in eqn.invars)))
        for v in eqn.outvars:
            numbers[v] = len(numbers)
    last = jaxpr.eqns[-1].outvars
    return tuple(rows) if list(jaxpr.outvars) == list(last) else None


def _logaddexp(low: Lowering, o: Out, x: Value, y: Value) -> Value:
    """log(e^x + e^y) = y + softplus(x - y); the difference is remembered for the derivative."""
    a, b = (_operand(low, v, o) for v in (x, y))
    with low.unchecked():
        if a is None or b is None:
            value = b if a is None else a
            assert value is not None
            difference = value if b is None else arith.neg(low, value)
            made = sigmoid.softplus(low, value)
        else:
            difference = arith.sub(low, a, b)
            made = arith.add(low, sigmoid.softplus(low, difference), b)
    low.facts[root(low, made)] = LogAddExp(a, b, difference)
    return Secret(made, o.dtype)


def _operand(low: Lowering, value: Value, o: Out) -> int | None:
    """A secret operand, settled; a public one as shares, or None if it is 0."""
    from spuvm.compiler.values import lift

    if not isinstance(value, Secret):
        if not public(value).any():
            return None
        value = lift(low, np.broadcast_to(public(value), o.shape), o.dtype)
    return arith.settle(low, low.spread(value.id, o.shape))
