"""Special functions that are written in JAX (compiler/special.py), lowered in place."""

from __future__ import annotations

from typing import Any

import jax

from spuvm.compiler import arith, order, special
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out, rule


def _rule_of(name: str) -> None:
    function = special.FUNCTIONS[name]

    def lowered(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Any:
        sign = "positive" if order.negative(low, x.id) is False else "any"
        shape = jax.ShapeDtypeStruct(out[0].shape, out[0].dtype)
        closed = jax.make_jaxpr(lambda v: function(v, low.f, sign))(shape)
        ready = Secret(arith.settle(low, x.id), x.dtype)
        with low.one_line(), low.unchecked():
            (made,) = lower_closed(low, closed, [ready])
        return made

    lowered.__doc__ = function.__doc__
    rule(name)(lowered)


for _name in special.FUNCTIONS:
    _rule_of(_name)
