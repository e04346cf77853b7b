"""The derivative of betainc in x, known by what JAX makes of it, and computed as one function.

JAX takes exp of a difference of logarithms that are as large as a and b, and no digits are left.
Operands are found by what is known of the values that went into the exponent; whether it is the
exponent of these operands is seen by lowering that again: equal instructions are the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.compiler import arith, betas
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import Logarithm, LogGamma, Product, root
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out
from spuvm.compiler.rules.special import MORE_BITS, of_many
from spuvm.compiler.values import Value

STEPS = 16  # instructions between the exponent and what it is made of
PARTS = frozenset(["add_aa", "sub_aa", "add_ap", "sub_pa", "neg_a", "broadcast", "reshape"])


def beta_density(low: Lowering, o: Out, exponent: int) -> Secret | None:
    """The density where the exponent is that of a beta distribution, else None."""
    points, shapes = _found(low, exponent)
    if not points or not shapes:
        return None
    for a, b in product(shapes, shapes):
        if not _added(low, o, a, b):
            continue
        for x in points:
            operands = [_operand(o, v) for v in (a, b, x)]
            if _exponent(low, o, operands) == _bare(low, exponent):
                return _density(low, o, operands)
    return None


def _density(low: Lowering, o: Out, operands: list[Value]) -> Secret:
    """betas.density; in the ring of 2^32, where a and b are small, with more fraction bits."""
    with low.finer(MORE_BITS if low.bits == 32 else 0, "small"):
        made = of_many(low, betas.density, o, *operands, rest=(low.f,))
    return Secret(arith.settle(low, made.id), o.dtype)


def _operand(o: Out, found: Any) -> Value:
    return Secret(found, o.dtype) if isinstance(found, int) else found


def _added(low: Lowering, o: Out, a: Any, b: Any) -> bool:
    """Whether lgamma(a + b) was taken, as in the exponent; seen far sooner than all of that."""
    if not isinstance(a, int) and not isinstance(b, int):
        return True
    operands = [_operand(o, a), _operand(o, b)]
    shapes = _shapes(low, o, operands)
    with low.one_line(), low.unchecked():
        (made,) = lower_closed(low, jax.make_jaxpr(lambda u, v: u + v)(*shapes), operands)
    taken = {_bare(low, f.source) for f in low.facts.values() if isinstance(f, LogGamma)}
    return _bare(low, made.id) in taken


def _exponent(low: Lowering, o: Out, operands: list[Value]) -> int:
    """What JAX takes exp of."""

    def formula(a: Any, b: Any, x: Any) -> Any:
        norm = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
        return (b - 1) * jnp.log1p(-x) + (a - 1) * jnp.log(x) - norm

    shapes = _shapes(low, o, operands)
    with low.one_line(), low.unchecked():
        (made,) = lower_closed(low, jax.make_jaxpr(formula)(*shapes), operands)
    return _bare(low, low.spread(made.id, o.shape))


def _shapes(low: Lowering, o: Out, operands: list[Value]) -> list[Any]:
    return [
        jax.ShapeDtypeStruct(low.shape(v.id) if isinstance(v, Secret) else v.shape, o.dtype)
        for v in operands
    ]


def _bare(low: Lowering, value: int) -> int:
    """What the value is with other fraction bits, bounds and axes of size 1."""
    made = low.builder.instruction(root(low, value))
    if made is not None and made.op == "reshape":
        return _bare(low, made.args[0])
    return root(low, value)


def _found(low: Lowering, exponent: int) -> tuple[list[Any], list[Any]]:
    """Arguments of logarithms, and of gamma functions, that the exponent is made of."""
    points: list[Any] = []
    shapes: list[Any] = []
    for value in _terms(low, exponent):
        fact = low.facts.get(value)
        if isinstance(fact, LogGamma):
            shapes.append(fact.source)
        elif isinstance(fact, Product):
            for factor, other in ((fact.x, fact.y), (fact.y, fact.x)):
                known = low.facts.get(root(low, factor)) if isinstance(factor, int) else None
                if not isinstance(known, Logarithm):
                    continue
                if not known.raised:
                    points.append(known.source)
                if not isinstance(other, int):
                    shapes.append(np.asarray(other + 1, np.float32))
    return points, shapes


def _terms(low: Lowering, exponent: int) -> Iterator[int]:
    """Values of which the exponent is the sum, up to signs and public numbers."""
    left = [exponent]
    for _ in range(STEPS):
        if not left:
            return
        value = root(low, left.pop())
        yield value
        made = low.builder.instruction(value)
        if made is not None and made.op in PARTS and not isinstance(low.facts.get(value), LogGamma):
            secret = [a for a in made.args if low.type(a).kind == "a"]
            left += secret
