"""Products and sums of them that are known by how they were made: derivatives of (e^(a b) - 1) / a.

The derivative of jax.scipy.special.boxcox in a = lambda is a sum of two terms, g b e^(a b) / a and
- g (e^(a b) - 1) / a^2, of which for a small a no digits are left. It is g b^2 psi(a b). JAX makes
the terms in many forms, summed over axes or not; so both are taken apart into factors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Made, Secret
from spuvm.compiler.exponential import bend_of_growth
from spuvm.compiler.facts import (
    Exponential,
    ExponentialLess1,
    OneMore,
    Product,
    Refined,
    mark,
    root,
)
from spuvm.compiler.rules import RULES, Out
from spuvm.compiler.values import Value, kind_of
from spuvm.compiler.varying import Varying

UNSTEADY = (
    "this derivative of (e^(a b) - 1) / a in a, as boxcox has it in lambda, has no digits left for "
    "a small a: only a first derivative whose terms meet outside of loops has a form of its own; "
    "make it so, or say with sf.assume_range that a is 1/16 or more"
)
DEEPEST = 8  # products within products that are taken apart
FACTORS = ("mul", "div", "neg", "integer_pow", "broadcast_in_dim")
CHAIN = ("neg", "reduce_sum", "reshape", "squeeze", "expand_dims", "transpose")
NOTED = frozenset((*FACTORS, *CHAIN, "add", "add_any", "expm1"))
Place = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Monomial:
    """Public numbers times powers of secrets; `ids` are values for the names of the factors."""

    factor: Any
    powers: Counter[int]
    ids: dict[int, int]

    def times(self, other: Monomial, power: int = 1) -> Monomial:
        """Its product with a power of another one."""
        powers = Counter(self.powers)
        for name, p in other.powers.items():
            powers[name] += power * p
        return Monomial(
            self.factor * np.float64(other.factor) ** power,
            Counter({name: p for name, p in powers.items() if p}),
            {**self.ids, **other.ids},
        )

    def scaled(self, by: float) -> Monomial:
        """Its product with a public number."""
        return Monomial(self.factor * by, self.powers, self.ids)

    def without(self, name: int) -> Monomial:
        """Divided by one of its factors."""
        return self.times(Monomial(1.0, Counter({name: 1}), {}), -1)


@dataclass(frozen=True, slots=True)
class Bend:
    """`scale` times the derivative of (e^u - 1) / a in a, where u = a b; `power` is e^u."""

    scale: Monomial
    u: int
    a: Any
    b: Any
    power: int


def monomial(low: Lowering, x: Value, shape: tuple[int, ...]) -> Monomial | None:
    """x, broadcast to a shape, as a product; None where it varies between iterations."""
    return _taken_apart(low, x, lambda v: _spread(low, v, shape), DEEPEST)


def _taken_apart(low: Lowering, x: Value, place: Place, depth: int) -> Monomial | None:
    if isinstance(x, Varying):
        return None
    if not isinstance(x, Secret):
        return Monomial(place(np.asarray(x, np.float64)), Counter(), {})
    made = low.made.get(root(low, x.id))
    if made is None or made.name not in FACTORS or not depth:
        value = place(x.id)
        name = _name(low, value)
        return Monomial(1.0, Counter({name: 1}), {name: value})

    def inner(v: Any) -> Any:
        if made.name == "broadcast_in_dim":
            return place(_spread(low, v, made.shape, made.params["broadcast_dimensions"]))
        return place(_spread(low, v, made.shape))

    parts = [_taken_apart(low, v, inner, depth - 1) for v in made.operands]
    first = parts[0]
    if first is None or parts[-1] is None:
        return None
    with np.errstate(all="ignore"):
        one = Monomial(1.0, Counter(), {})
        if made.name in ("mul", "div"):
            return first.times(parts[1] or one, 1 if made.name == "mul" else -1)
        if made.name == "integer_pow":
            return one.times(first, made.params["y"])
        return first.scaled(-1.0 if made.name == "neg" else 1.0)


def _spread(low: Lowering, v: Any, shape: tuple[int, ...], dims: Sequence[int] = ()) -> Any:
    """A value or public numbers broadcast to a shape, their axes becoming `dims` or the last."""
    if isinstance(v, int):
        return low.broadcast(v, shape, dims) if dims else low.spread(v, shape)
    if dims:
        inner = [1] * len(shape)
        for n, d in zip(v.shape, dims, strict=True):
            inner[d] = n
        v = v.reshape(inner)
    return np.broadcast_to(v, shape)


def _name(low: Lowering, value: int) -> int:
    """The same for values that differ in fraction bits or bounds, also before a broadcast."""
    value = root(low, value)
    made = low.builder.instruction(value)
    if made is None or made.op != "broadcast":
        return value
    shape: Any = made.attrs["shape"]
    dims: Any = made.attrs["dims"]
    return low.broadcast(_name(low, made.args[0]), shape, dims)


def _base(low: Lowering, value: int) -> int:
    """What was broadcast to `value`."""
    value = root(low, value)
    made = low.builder.instruction(value)
    return value if made is None or made.op != "broadcast" else _base(low, made.args[0])


def note(
    low: Lowering, name: str, operands: Sequence[Value], params: dict[str, Any], value: Secret
) -> None:
    """Remembers how a float was made, unless it is one of the operands as it was."""
    if low.lines != "own" or value.dtype.kind != "f" or name not in NOTED:
        return
    key, secrets = root(low, value.id), [v for v in operands if isinstance(v, Secret)]
    if any(key == root(low, v.id) for v in secrets):
        return
    low.made.setdefault(key, Made(name, tuple(operands), params, low.shape(value.id)))
    if name == "expm1":
        product = low.facts.get(root(low, secrets[0].id))
        if isinstance(product, Product):
            low.grown |= {_base(low, v) for v in (product.x, product.y) if isinstance(v, int)}
    if name == "integer_pow" and params["y"] < -1:
        a = secrets[0].id
        bounds, least = low.type(a).bounds, 2.0 ** (low.frac(a) - 4)
        if bounds is None or (bounds[0] < least and bounds[1] > -least):
            low.steep[_base(low, a), params["y"]] = low.source


def through(low: Lowering, body: Lowering, held: Iterable[tuple[Any, Any]]) -> None:
    """What a loop's body has e^x - 1 of, of values (outside, inside) that it takes as they are."""
    for outer, inner in held:
        if isinstance(outer, Secret) and root(body, inner.id) in body.grown:
            low.grown.add(_base(low, outer.id))


def doubt(low: Lowering) -> None:
    """Warns of derivatives of (e^(a b) - 1) / a that stayed sums of terms that may cancel."""
    for (a, y), source in low.steep.items():
        if a in low.grown and (y < -2 or a not in low.bent):
            low.source = source
            low.warn(UNSTEADY)


def total(low: Lowering, o: Out, x: Value, y: Value) -> Secret | None:
    """x + y where it is the derivative of (e^(a b) - 1) / a, in a or also in b; else None."""
    if not low.grown or low.lines != "own" or kind_of(o.dtype) != "float":
        return None
    if not isinstance(x, Secret) or not isinstance(y, Secret):
        return None
    (x, sign, chain), (y, other, same) = _peeled(low, x), _peeled(low, y)
    shape = low.shape(x.id) if chain else o.shape
    if [(m.name, str(m.params)) for m in chain] != [(m.name, str(m.params)) for m in same]:
        return None
    if chain and low.shape(y.id) != shape:
        return None
    first, second = monomial(low, x, shape), monomial(low, y, shape)
    if first is None or second is None:
        return None
    inner = Out(shape, o.dtype)
    first, second = first.scaled(sign), second.scaled(other)
    made = _sum_of(low, inner, first, second) or _sum_of(low, inner, second, first)
    if made is None:
        return None
    with low.unchecked():
        for step in reversed(chain):
            made = RULES[step.name](low, [Out(step.shape, o.dtype)], made, **step.params)
            assert isinstance(made, Secret)
    return Secret(mark(low, made.id, Refined()), o.dtype)


def _peeled(low: Lowering, x: Secret) -> tuple[Secret, float, list[Made]]:
    """(v, sign, steps): x is the sign times what linear steps, the last first, make of v."""
    sign, steps = 1.0, []
    while (made := low.made.get(root(low, x.id))) is not None and made.name in CHAIN:
        if not isinstance(made.operands[0], Secret):
            break
        if made.name == "neg":
            sign = -sign
        else:
            steps.append(made)
        x = made.operands[0]
    return x, sign, steps


def _sum_of(low: Lowering, o: Out, less: Monomial, more: Monomial) -> Secret | None:
    """The sum of a product with e^u - 1 and one with e^u, of which a factor may be a sum itself."""
    found = _bend(low, o.shape, less, more)
    if found is not None:
        return _bent(low, o, found)
    for name, p in more.powers.items():
        made = low.made.get(name)
        if made is None or p != 1 or made.name not in ("add", "add_any"):
            continue
        rest, parts = more.without(name), [monomial(low, v, o.shape) for v in made.operands]
        for part, other in (parts, parts[::-1]):
            if part is None or other is None:
                continue
            found = _bend(low, o.shape, less, rest.times(part))
            if found is None:
                continue
            beside = rest.times(other)
            with low.unchecked():
                second = power(low, o, beside) or _value(low, o, beside)
                made_of = RULES["add"](low, [o], _bent(low, o, found), second)
            assert isinstance(made_of, Secret)
            return made_of
    return None


def _bend(low: Lowering, shape: tuple[int, ...], less: Monomial, more: Monomial) -> Bend | None:
    """What the sum of the two is, if they are - g (e^u - 1) / a^2 and g b e^u / a."""
    for name, p in less.powers.items():
        fact = low.facts.get(name)
        if p != 1 or not isinstance(fact, ExponentialLess1):
            continue
        whole = [e for e, q in more.powers.items() if q == 1 and _is_one_more(low, e, name, shape)]
        product = low.facts.get(root(low, fact.source))
        if not whole or not isinstance(product, Product):
            continue
        first, second = less.without(name), more.without(whole[0])
        for a, b in ((product.y, product.x), (product.x, product.y)):
            with np.errstate(all="ignore"):
                found = _scale(low, shape, first, second, a, b)
            if found is not None:
                low.bent.add(_base(low, a) if isinstance(a, int) else name)
                return Bend(found, fact.source, a, b, more.ids[whole[0]])
    return None


def _is_one_more(low: Lowering, value: int, name: int, shape: tuple[int, ...]) -> bool:
    fact = low.facts.get(value)
    if isinstance(fact, Exponential):  # JAX 0.12 takes e^u itself
        less = low.facts.get(name)
        assert isinstance(less, ExponentialLess1)
        sources = (low.spread(v, shape) for v in (fact.source, less.source))
        return len({_name(low, v) for v in sources}) == 1
    return isinstance(fact, OneMore) and _name(low, low.spread(fact.source, shape)) == name


def _scale(
    low: Lowering, shape: tuple[int, ...], first: Monomial, second: Monomial, a: Any, b: Any
) -> Monomial | None:
    """g where the two are - g / a^2 and g b / a."""
    by_a, by_b = (_as_monomial(low, v, shape) for v in (a, b))
    scale = first.times(by_a, 2).scaled(-1.0)
    wanted = scale.times(by_b).times(by_a, -1)
    if wanted.powers != second.powers or any(n in scale.powers for n in by_a.powers):
        return None
    if any(scale.powers[n] < 0 for n in by_b.powers):  # the other one of the two is a
        return None
    if not np.allclose(wanted.factor, second.factor, rtol=1e-4, atol=0):
        return None
    return scale


def _as_monomial(low: Lowering, v: Any, shape: tuple[int, ...]) -> Monomial:
    if not isinstance(v, int):
        return Monomial(_spread(low, np.asarray(v, np.float64), shape), Counter(), {})
    value = low.spread(v, shape)
    name = _name(low, value)
    return Monomial(1.0, Counter({name: 1}), {name: value})


def _bent(low: Lowering, o: Out, found: Bend) -> Secret:
    from spuvm.compiler.lower import lower_closed

    shape = jax.ShapeDtypeStruct(o.shape, o.dtype)
    closed = jax.make_jaxpr(lambda u, a, b, e: bend_of_growth(u, a, b, e, low.f))(*[shape] * 4)
    ready: list[Value] = []
    for v in (found.u, found.a, found.b, found.power):
        if isinstance(v, int):
            ready.append(Secret(arith.settle(low, low.spread(v, o.shape)), o.dtype))
        else:
            ready.append(np.broadcast_to(np.asarray(v, o.dtype), o.shape))
    with low.one_line(), low.unchecked():
        (made,) = lower_closed(low, closed, ready)
        made = RULES["mul"](low, [o], made, _value(low, o, found.scale))
    assert isinstance(made, Secret)
    return made


def _value(low: Lowering, o: Out, m: Monomial) -> Value:
    """The product itself."""
    made: Value = np.broadcast_to(np.asarray(m.factor, o.dtype), o.shape)
    for name, p in m.powers.items():
        for _ in range(abs(p)):
            rule = RULES["mul" if p > 0 else "div"]
            made = rule(low, [o], made, Secret(m.ids[name], o.dtype))
    return made


def power(low: Lowering, o: Out, m: Monomial) -> Secret | None:
    """A product with e^(a log x) / x, made as e^(a log x - log x); None if there is none in it."""
    from spuvm.compiler.rules.powers import exponent_of, logarithm_of

    for name, p in m.powers.items():
        u = exponent_of(low, name) if p == 1 else None
        for x in (n for n, q in m.powers.items() if q == -1 and u is not None):
            assert u is not None
            logarithm = logarithm_of(low, u, m.ids[x])
            if logarithm is None:
                continue
            rest = m.without(name)
            rest = rest.times(Monomial(1.0, Counter({x: 1}), {}))
            with low.unchecked():
                less = arith.sub(low, low.spread(u, o.shape), low.spread(logarithm, o.shape))
                made = RULES["exp"](low, [o], Secret(less, o.dtype))
                made = RULES["mul"](low, [o], made, _value(low, o, rest))
            assert isinstance(made, Secret)
            return Secret(mark(low, made.id, Refined()), o.dtype)
    return None


def quotient(low: Lowering, o: Out, x: Secret, y: Value) -> Secret | None:
    """x / y where a power e^(a log x) / x is in it, as forward derivatives have it; else None."""
    if not low.grown or low.lines != "own":
        return None
    above, below = monomial(low, x, o.shape), monomial(low, y, o.shape)
    if above is None or below is None:
        return None
    with np.errstate(all="ignore"):
        return power(low, o, above.times(below, -1))
