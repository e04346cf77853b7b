"""Products with logarithms, and differences of them that JAX's functions of two distributions take.

In traces of JAX 0.10 kl_div and rel_entr are no calls (of 0.12 they are: `relative`): they are
known by how their values were made, whatever transformations made them (facts.LogProduct and what
follows it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler import entropy
from spuvm.compiler.alignment import places_of
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import LogProduct, RelativeEntropy, Remainder, mark, root
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out
from spuvm.compiler.values import Value, kind_of, lift, public
from spuvm.compiler.varying import Varying

FEW = 2  # up to there an error of a logarithm may count as often as a factor says
LOGARITHMS: dict[str, Callable[..., Any]] = {"xlogy": jnp.log, "xlog1py": jnp.log1p}


def beside(low: Lowering, jaxpr: Any, args: Sequence[Value], o: Out) -> list[Value]:
    """The operands of a function of one element of each, with the shape of the result or ()."""
    made: list[Value] = []
    for v, var, places in zip(args, jaxpr.invars, places_of(jaxpr, o.shape), strict=True):
        if places is None:
            made.append(v)
        elif isinstance(v, Secret | Varying):
            ready = lift(low, v, np.dtype(var.aval.dtype))
            made.append(Secret(low.take(ready.id, places), ready.dtype))
        else:
            made.append(public(v).ravel()[places])
    return made


def in_parts(
    low: Lowering, o: Out, function: Callable[..., Any], args: Sequence[Value]
) -> list[Value]:
    """The results of a JAX function of operands as `beside` gives them, as the user's line."""

    def ready(*operands: Any) -> Any:
        return function(*(jnp.broadcast_to(v, o.shape).astype(o.dtype) for v in operands))

    shapes = [
        jax.ShapeDtypeStruct(low.shape(v.id) if isinstance(v, Secret) else np.shape(v), v.dtype)
        for v in args
    ]
    with low.one_line():
        return lower_closed(low, jax.make_jaxpr(ready)(*shapes), args)


def times_logarithm(
    low: Lowering, name: str, o: Out, jaxpr: Any, args: Sequence[Value]
) -> list[Value]:
    """xlogy and xlog1py: right however large x is, wherever the product is representable."""
    logarithm, most = LOGARITHMS[name], low.config.fxp.log_of_zero
    x, y = beside(low, jaxpr, args, o)
    one = 1.0 if name == "xlogy" else 0.0

    def plain(x: Any, y: Any) -> Any:
        found = logarithm(y)
        least = -(low.f + 1) * np.log(2.0)
        return jnp.where(found < least, most * jnp.sign(x), x * jnp.maximum(found, least))

    def exact(x: Any, y: Any) -> Any:
        return entropy.times_log(x, y, low.f, most, logarithm, one)

    made = in_parts(low, o, plain if _few(low, x) or _same(low, x, y, o) else exact, (x, y))
    if name == "xlogy" and isinstance(made[0], Secret):
        mark(low, made[0].id, LogProduct(x, y))
    return made


def relative(low: Lowering, o: Out, jaxpr: Any, args: Sequence[Value]) -> list[Value] | None:
    """rel_entr and kl_div where JAX keeps them whole, as 0.12 does; None where that will do.

    They are one function there, with an absolute value in kl_div alone.
    """
    steps = {eqn.primitive.name for eqn in jaxpr.eqns}
    if "log1p" not in steps:
        return None
    p, q = beside(low, jaxpr, args, o)
    if _few(low, p):
        return None
    divergence = "abs" in steps

    def whole(p: Any, q: Any) -> Any:
        both = (p > 0) & (q > 0)
        a, b = jnp.where(both, p, 1.0), jnp.where(both, q, 1.0)
        form = entropy.divergence if divergence else entropy.relative_entropy
        outside = jnp.where((p == 0) & (q >= 0), q if divergence else 0.0, jnp.inf)
        return jnp.where(both, form(a, b, low.f), outside)

    return in_parts(low, o, whole, (p, q))


def _few(low: Lowering, x: Value) -> bool:
    """Whether |x| <= FEW is known."""
    if isinstance(x, Secret):
        return low.type(x.id).kind == "b" or low.magnitude(x.id) <= FEW << low.frac(x.id)
    return bool((np.abs(np.asarray(getattr(x, "table", x), np.float64)) <= FEW).all())


def difference(low: Lowering, o: Out, x: Value, y: Value) -> Secret | None:
    """x - y where that is p log p - p log q; None if it is not. What follows is remembered."""
    if not isinstance(y, Secret) or kind_of(o.dtype) != "float":
        return None
    second = low.facts.get(root(low, y.id))
    if not isinstance(second, LogProduct) or not _is_own_log(low, o, x, second.x):
        return None
    if _few(low, second.x):
        return None
    p, q = second.x, second.y
    (made,) = in_parts(low, o, lambda p, q: entropy.relative_entropy(p, q, low.f), (p, q))
    assert isinstance(made, Secret)
    return Secret(mark(low, made.id, RelativeEntropy(p, q)), o.dtype)


def _is_own_log(low: Lowering, o: Out, x: Value, p: Value) -> bool:
    """Whether x is p log p."""
    if isinstance(x, Secret):
        first = low.facts.get(root(low, x.id))
        return isinstance(first, LogProduct) and all(
            _same(low, v, p, o) for v in (first.x, first.y)
        )
    if isinstance(x, Varying) or isinstance(p, Secret | Varying):
        return False
    own = jax.scipy.special.xlogy(p, p)
    return bool((np.asarray(own) == public(x)).all())


def remainder(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x - y: remembered where it is the relative entropy of p and q less p."""
    if isinstance(x, Secret) and kind_of(o.dtype) == "float":
        bit, found = _behind(low, x)
        if found is not None and _same(low, found.p, y, o, bit):
            mark(low, made.id, Remainder(found, bit))
    return made


def total(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x + y: where that is p log(p / q) - p + q that is computed instead."""
    if kind_of(o.dtype) != "float":
        return made
    for part, q in ((x, y), (y, x)):
        fact = low.facts.get(root(low, part.id)) if isinstance(part, Secret) else None
        if not isinstance(fact, Remainder):
            continue
        given, bit = fact.source, fact.bit
        if not _same(low, given.q, q, o, bit):
            continue
        (better,) = in_parts(
            low, o, lambda p, q: entropy.divergence(p, q, low.f), (given.p, given.q)
        )
        if bit is not None:
            from spuvm.compiler.rules.compare import select

            better = select(low, o, Secret(bit, np.dtype(np.bool_)), better, made)
        assert isinstance(better, Secret)
        return Secret(mark(low, better.id, RelativeEntropy(given.p, given.q, True)), o.dtype)
    return made


def _behind(low: Lowering, x: Secret) -> tuple[int | None, RelativeEntropy | None]:
    """(bit, what is known of x where the bit is set): the bit is None where it is known always."""
    bit: int | None = None
    choice = low.choices.get(x.id)
    if choice is not None and isinstance(choice.yes, Secret):
        bit, x = choice.bit, choice.yes
    fact = low.facts.get(root(low, x.id))
    return bit, fact if isinstance(fact, RelativeEntropy) and not fact.whole else None


def _same(low: Lowering, chosen: Value, x: Value, o: Out, bit: int | None = None) -> bool:
    """Whether two operands are the same one, or the first is the second where the bit is set."""
    if bit is not None and isinstance(chosen, Secret):
        choice = low.choices.get(chosen.id)
        if choice is None or choice.bit != bit:
            return False
        chosen = choice.yes
    if isinstance(chosen, Secret) and isinstance(x, Secret):
        a, b = (low.spread(root(low, v.id), o.shape) for v in (chosen, x))
        return root(low, a) == root(low, b)
    if any(isinstance(v, Secret | Varying) for v in (chosen, x)):
        return False
    return bool((public(chosen) == public(x)).all())
