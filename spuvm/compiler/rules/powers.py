"""e^(a log x) / x as e^(a log x - log x): the derivative of powers that are made of exponentials.

jax.scipy.special.boxcox is (e^(a log x) - 1) / a, whose derivative JAX makes of e^(a log x), which
for a small x has no digits left, divided by x. Products with e^u, and what is added to one of them,
are remembered until then, outside of functions of the compiler's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import (
    Exponential,
    ExponentialLess1,
    Logarithm,
    OneMore,
    Product,
    Refined,
    ScaledExponential,
    mark,
    root,
)
from spuvm.compiler.rules import RULES, Out, terms
from spuvm.compiler.values import Value, kind_of
from spuvm.compiler.varying import Varying


def _scaled(low: Lowering, x: Value) -> ScaledExponential | None:
    """x as a product with an exponential, if it is one."""
    if not isinstance(x, Secret):
        return None
    fact = low.facts.get(root(low, x.id))
    if isinstance(fact, OneMore):
        fact = low.facts.get(root(low, fact.source))
        return ScaledExponential(fact.source) if isinstance(fact, ExponentialLess1) else None
    if isinstance(fact, Exponential):
        return ScaledExponential(fact.source)
    return fact if isinstance(fact, ScaledExponential) else None


def exponent_of(low: Lowering, x: int) -> int | None:
    """u where x is e^u, and nothing else."""
    known = _scaled(low, Secret(x, np.dtype(np.float32)))
    plain = known is not None and (known.above, known.below, known.rest) == ((), (), None)
    return known.source if known is not None and plain else None


def product(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x y: remembered where one of them has an exponential in it."""
    if low.lines != "own" or kind_of(o.dtype) != "float":
        return made
    for one, other in ((x, y), (y, x)):
        known = _scaled(low, one)
        if known is None or known.rest is not None or isinstance(other, Varying):
            continue
        factor = _spread(low, o, other)
        below = [v for v in known.below if not _same(low, v, factor)]
        above = known.above if len(below) < len(known.below) else (*known.above, factor)
        mark(low, made.id, ScaledExponential(known.source, above, tuple(below)))
        break
    return made


def total(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x + y: remembered where one of them has an exponential in it, or is 1."""
    if low.lines != "own" or kind_of(o.dtype) != "float":
        return made
    better = terms.total(low, o, x, y)
    if better is not None:
        return better
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Secret) and _is_one(other):
            low.facts.setdefault(root(low, made.id), OneMore(low.spread(one.id, o.shape)))
        known = _scaled(low, one)
        if known is not None and known.rest is None and isinstance(other, Secret):
            rest = _spread(low, o, other)
            mark(low, made.id, ScaledExponential(known.source, known.above, known.below, rest))
            break
    return made


def _is_one(x: Value) -> bool:
    if isinstance(x, Secret | Varying):
        return False
    return np.size(x) > 0 and bool((np.asarray(x) == 1).all())


def quotient(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x / y: the power one less where x has a power of y in it, else remembered."""
    known = _scaled(low, x) if low.lines == "own" else None
    if known is None or isinstance(y, Varying):
        return made
    by = _spread(low, o, y)
    logarithm = logarithm_of(low, known.source, by)
    if logarithm is None:
        better = terms.quotient(low, o, x, y) if isinstance(x, Secret) else None
        if better is not None:
            return better
        if known.rest is None:
            more = ScaledExponential(known.source, known.above, (*known.below, by))
            mark(low, made.id, more)
        return made
    with low.unchecked():
        less = arith.sub(low, low.spread(known.source, o.shape), logarithm)
        power: Value = RULES["exp"](low, [o], Secret(low.spread(less, o.shape), o.dtype))
        above, below = _product(low, o, known.above), _product(low, o, known.below)
        if above is not None:
            power = RULES["mul"](low, [o], above, power)
        if below is not None:
            power = RULES["div"](low, [o], power, below)
        if known.rest is not None:
            rest = RULES["div"](low, [o], _value(known.rest, o), y)
            power = RULES["add"](low, [o], rest, power)
    assert isinstance(power, Secret)
    return Secret(mark(low, power.id, Refined()), o.dtype)


def logarithm_of(low: Lowering, exponent: int, x: Any) -> int | None:
    """The logarithm of x, or the one of 1 more than x - 1, if the exponent is a product with it."""
    fact = low.facts.get(root(low, exponent))
    if not isinstance(fact, Product) or not isinstance(x, int):
        return None
    for v in (fact.x, fact.y):
        known = low.facts.get(root(low, v)) if isinstance(v, int) else None
        if not isinstance(known, Logarithm) or not isinstance(v, int):
            continue
        raised = low.facts.get(root(low, x))
        if known.raised and isinstance(raised, OneMore):
            x = raised.source
        elif known.raised:
            continue
        if _same(low, low.spread(known.source, low.shape(x)), x):
            return v
    return None


def _spread(low: Lowering, o: Out, x: Value) -> Any:
    """The id of a secret with the shape of the result, or public numbers."""
    return low.spread(x.id, o.shape) if isinstance(x, Secret) else np.asarray(x)


def _same(low: Lowering, x: Any, y: Any) -> bool:
    return isinstance(x, int) and isinstance(y, int) and root(low, x) == root(low, y)


def _value(x: Any, o: Out) -> Value:
    return Secret(x, o.dtype) if isinstance(x, int) else x


def _product(low: Lowering, o: Out, factors: Iterable[Any]) -> Value | None:
    """The product of secrets and public numbers; None of nothing."""
    made: Value | None = None
    for v in sorted(factors, key=lambda v: isinstance(v, int)):  # public ones first
        if made is None:
            made = _value(v, o)
        elif isinstance(v, int):
            made = RULES["mul"](low, [o], made, _value(v, o))
        else:
            made = (np.asarray(made, np.float64) * v).astype(o.dtype)
    return made
