"""Products with logarithms, and differences of them that JAX's functions of two distributions take.

In traces of JAX 0.10 kl_div and rel_entr are no calls (of 0.12 they are: `relative`): they are
known by how their values were made, whatever transformations made them (facts.LogProduct and what
follows it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from spuvm.compiler import entropy
from spuvm.compiler.alignment import places_of
from spuvm.compiler.context import Choice, Lowering, Secret
from spuvm.compiler.facts import LogProduct, RelativeEntropy, Remainder, mark, root
from spuvm.compiler.lower import lower_closed, lower_jaxpr
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


def relative(
    low: Lowering, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value], derivative: bool
) -> list[Value] | None:
    """rel_entr, kl_div and their derivatives where JAX keeps them whole, as 0.12 does, else None.

    What they are where an operand is not above 0 stays JAX's.
    """
    found = _forms(jaxpr)
    if found is None:
        return None
    body = jaxpr.replace(debug_info=jaxpr.debug_info._replace(arg_names=None, result_paths=None))
    given: dict[Any, Value] = {v: np.zeros(v.aval.shape, np.bool_) for v in found.choices}
    if not derivative and found.whole is not None:
        p, q = lower_jaxpr(low, body.replace(outvars=[found.p, found.q]), consts, args)
        if not _few(low, p):
            form = entropy.divergence if found.divergence else entropy.relative_entropy
            o = Out(found.whole.aval.shape, found.whole.aval.dtype)
            (made,) = in_parts(low, o, lambda p, q: form(p, q, low.f), (p, q))
            if isinstance(made, Secret):
                mark(low, made.id, RelativeEntropy(p, q, found.divergence))
            given = {found.whole: made}
    kept = [e for e in jaxpr.eqns if not given.keys() & set(e.outvars)]
    body = body.replace(eqns=kept, invars=[*given, *jaxpr.invars])
    return lower_jaxpr(low, body, consts, [*given.values(), *args])


@dataclass(frozen=True)
class _Forms:
    """What JAX 0.12 computes of p / q.

    choices: the bits by which it takes log(1 + (p - q) / q) or log(p / q), and not log p - log q:
    that is right everywhere here, while a small quotient has few digits.
    whole: p log(p / q), or with `divergence` also - p + q.
    """

    p: Any
    q: Any
    choices: tuple[Any, ...]
    whole: Any
    divergence: bool


def _forms(jaxpr: Any) -> _Forms | None:
    makers = {v: e for e in jaxpr.eqns for v in e.outvars}

    def made_by(a: Any, name: str) -> Any:
        eqn = None if isinstance(a, core.Literal) else makers.get(a)
        return eqn if eqn is not None and eqn.primitive.name == name else None

    quotient, near, choices = None, None, []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name != "and":
            continue
        above, below = made_by(eqn.invars[0], "gt"), made_by(eqn.invars[1], "lt")
        if above is not None and below is not None and above.invars[0] is below.invars[0]:
            quotient = made_by(above.invars[0], "div") or quotient
            choices.append(eqn.outvars[0])
        elif below is not None and eqn.invars[0] in choices:  # a series of (p - q) / q
            near = eqn.outvars[0]
    if quotient is None:
        return None
    p, q = quotient.invars
    products = (e for e in jaxpr.eqns if e.primitive.name == "mul" and e.invars[0] is p)
    chosen = (e for e in jaxpr.eqns if near in e.invars)
    made = next(products if near is None else chosen, None)
    whole = None if made is None else made.outvars[0]
    return _Forms(p, q, tuple(choices), whole, near is not None)


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
        choice, found = _behind(low, x)
        bit = None if choice is None else choice.bit
        if found is not None and _same(low, found.p, y, o, bit):
            mark(low, made.id, Remainder(found, choice, y))
    return made


def total(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x + y: where that is p log(p / q) - p + q that is computed instead."""
    if kind_of(o.dtype) != "float":
        return made
    for part, q in ((x, y), (y, x)):
        fact = low.facts.get(root(low, part.id)) if isinstance(part, Secret) else None
        if not isinstance(fact, Remainder):
            continue
        given, choice = fact.source, fact.choice
        if not _same(low, given.q, q, o, None if choice is None else choice.bit):
            continue
        (better,) = in_parts(
            low, o, lambda p, q: entropy.divergence(p, q, low.f), (given.p, given.q)
        )
        if choice is not None:
            other = _elsewhere(low, o, choice.no, fact.p, q)
            better = _select(low, o, choice.bit, better, other)
        assert isinstance(better, Secret)
        return Secret(mark(low, better.id, RelativeEntropy(given.p, given.q, True)), o.dtype)
    return made


def _elsewhere(low: Lowering, o: Out, x: Value, p: Value, q: Value) -> Value:
    """x - p + q, where numbers of x that are chosen to be infinite stay so."""
    choice = low.choices.get(x.id) if isinstance(x, Secret) else None
    if choice is not None and _infinite(choice.no):
        return _select(low, o, choice.bit, _elsewhere(low, o, choice.yes, p, q), choice.no)
    operands = [v if isinstance(v, Secret | Varying) else public(v) for v in (x, p, q)]
    return in_parts(low, o, lambda x, p, q: x - p + q, operands)[0]


def _infinite(x: Value) -> bool:
    return not isinstance(x, Secret | Varying) and bool(np.isposinf(public(x)).all())


def _select(low: Lowering, o: Out, bit: int, yes: Value, no: Value) -> Value:
    from spuvm.compiler.rules.compare import select

    return select(low, o, Secret(bit, np.dtype(np.bool_)), yes, no)


def _behind(low: Lowering, x: Secret) -> tuple[Choice | None, RelativeEntropy | None]:
    """(choice, what is known of x where its bit is set): None where it is known always."""
    choice = low.choices.get(x.id)
    if choice is not None and isinstance(choice.yes, Secret):
        x = choice.yes
    else:
        choice = None
    fact = low.facts.get(root(low, x.id))
    return choice, fact if isinstance(fact, RelativeEntropy) and not fact.whole else None


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
