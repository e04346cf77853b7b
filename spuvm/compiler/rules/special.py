"""Special functions that are written in JAX (compiler/special.py), lowered in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spuvm.compiler import arith, order, special
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.numeric.polynomial import evaluate
from spuvm.compiler.rules import Out, rule


@rule("chebyshev")
def chebyshev(low: Lowering, out: list[Out], w: Secret, *, series: tuple[float, ...]) -> Secret:
    """A series of Chebyshev polynomials in w, which is in [-1, 1]."""
    return Secret(evaluate(low, arith.settle(low, w.id), series, low.f), w.dtype)


def in_place(low: Lowering, function: Callable[[Any, str], Any], x: Secret) -> list[Any]:
    """The results of a JAX function of one array and its known sign, as one line of the user's."""
    sign = "positive" if order.negative(low, x.id) is False else "any"
    shape = jax.ShapeDtypeStruct(low.shape(x.id), np.dtype(x.dtype))
    closed = jax.make_jaxpr(lambda v: function(v, sign))(shape)
    ready = Secret(arith.settle(low, x.id), x.dtype)
    with low.one_line(), low.unchecked():
        return lower_closed(low, closed, [ready])


def _rule_of(name: str) -> None:
    function = special.FUNCTIONS[name]

    def lowered(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Any:
        (made,) = in_place(low, lambda v, sign: function(v, low.f, sign), x)
        return made

    lowered.__doc__ = function.__doc__
    rule(name)(lowered)


for _name in special.FUNCTIONS:
    _rule_of(_name)
