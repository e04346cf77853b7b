"""Polynomials of a value with public coefficients, and functions of them that are flat far out.

x^3 inside of tanh (gelu) and x^2 inside of exp (a normal density) or of a root (squareplus) leave
the ring where x is large, though what is asked for is known there. So products and sums are
remembered as polynomials of the value that they were made of, up to degree 3, and such a function
of one is made from an x that is kept where the function is not flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.compiler import arith, facts, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.numeric import roots
from spuvm.compiler.numeric.limits import clamped, masked
from spuvm.compiler.numeric.reciprocal import divide
from spuvm.compiler.rules import RULES, Out, squares
from spuvm.compiler.values import Value, kind_of

DEGREE = 3
DEPTH = 6  # of products that are looked through for a factor


@dataclass(frozen=True, slots=True)
class Polynomial:
    """c_0 + c_1 x + c_2 x^2 + c_3 x^3 of the value `source` as x, without zeros at the end."""

    source: int
    coefficients: tuple[float, ...]

    @property
    def degree(self) -> int:
        """The largest power."""
        return len(self.coefficients) - 1


@dataclass(frozen=True, slots=True)
class Hypotenuse:
    """The value is sqrt(source^2 + offset), offset > 0."""

    source: int
    offset: float


@dataclass(frozen=True, slots=True)
class OverRoot:
    """The value is scale / root, the latter a Hypotenuse."""

    scale: float
    root: int


def of(low: Lowering, value: int) -> Polynomial:
    """A value as a polynomial; what nothing is known of is one of itself."""
    value = facts.root(low, value)
    known: Polynomial | None = low.polynomials.get(value)
    return known or Polynomial(value, (0.0, 1.0))


def _public(value: Value) -> float | None:
    """A finite public number that is the same for all elements."""
    c = squares.public_number(value)
    return c if c is not None and math.isfinite(c) else None


def _coefficients(low: Lowering, x: Value, y: Value) -> tuple[int, Any, Any] | None:
    """The source of which both are polynomials, and their coefficients."""
    source: int | None = None
    made: list[tuple[float, ...]] = []
    for v in (x, y):
        if isinstance(v, Secret):
            p = of(low, v.id)
            if source not in (None, p.source):
                return None
            source = p.source
            made.append(p.coefficients)
        else:
            c = _public(v)
            if c is None:
                return None
            made.append((c,))
    return None if source is None else (source, made[0], made[1])


def _noted(low: Lowering, made: Secret, source: int, c: Any) -> None:
    coefficients = tuple(float(v) for v in np.trim_zeros(np.asarray(c, np.float64), "b"))
    trivial = facts.root(low, made.id) == source
    if 1 < len(coefficients) <= DEGREE + 1 and not trivial and np.isfinite(coefficients).all():
        low.polynomials[facts.root(low, made.id)] = Polynomial(source, coefficients)


def product(low: Lowering, o: Out, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x y: remembered if it is a polynomial."""
    found = _coefficients(low, x, y) if _tracked(low, o) else None
    if found is not None:
        source, a, b = found
        if len(a) + len(b) <= DEGREE + 2:
            _noted(low, made, source, np.convolve(a, b))
    return made


def total(low: Lowering, o: Out, x: Value, y: Value, made: Secret, sign: int = 1) -> Secret:
    """`made` is x + y, or x - y: remembered if it is a polynomial; x + sqrt(x^2 + c) is better."""
    if not _tracked(low, o):
        return made
    if sign > 0 and isinstance(x, Secret) and isinstance(y, Secret):
        for one, other in ((x, y), (y, x)):
            better = _beside_root(low, o, one, other)
            if better is not None:
                return better
    found = _coefficients(low, x, y)
    if found is not None:
        source, a, b = found
        c = np.zeros(max(len(a), len(b)))
        c[: len(a)] += a
        c[: len(b)] += np.multiply(sign, b)
        _noted(low, made, source, c)
    return made


def _tracked(low: Lowering, o: Out) -> bool:
    return low.lines == "own" and kind_of(o.dtype) == "float"


def _parabola(low: Lowering, value: int) -> tuple[int, float, float, float] | None:
    """(x, h, a, c) where the value is a (x - h)^2 + c."""
    p = of(low, value)
    if p.degree != 2 or facts.root(low, value) == p.source:
        return None
    c0, c1, c2 = p.coefficients
    return p.source, -c1 / (2 * c2), c2, c0 - c1 * c1 / (4 * c2)


def _flat_exp(low: Lowering, value: int) -> tuple[int, float, float, float, float] | None:
    """(x, h, a, c, reach) where e^value is e^(a (x - h)^2 + c), and 0 where |x - h| > reach."""
    found = _parabola(low, value)
    if found is None or found[2] >= 0:
        return None
    x, h, a, c = found
    reach = math.sqrt(max(0.0, math.log(2.0) * (low.f + 3) + c) / -a)
    return x, h, a, c, reach


def _near(low: Lowering, x: int, h: float, reach: float) -> int | None:
    """x - h, kept within the reach; None if it always is, or if the reach has no limit here."""
    x = arith.to_frac(low, arith.settle(low, x), low.f)
    limit = math.ceil(math.ldexp(reach, low.f)) + 1
    far = low.bound >> 3
    with low.unchecked():
        moved = arith.add_public(low, x, np.asarray(-h)) if h else x
        if limit >= far or low.frac(moved) != low.f or low.magnitude(moved) <= limit:
            return None
        if abs(h) > math.ldexp(1.0, -low.f) * far:
            return None
        return clamped(low, moved, -limit, limit)


def within_exp(low: Lowering, value: int) -> int:
    """`value`, or where its square may overflow what gives the same exponential."""
    found = _flat_exp(low, value) if low.type(value).bounds is None else None
    if found is None:
        return value
    x, h, a, c, reach = found
    near = _near(low, x, h, reach)
    if near is None:
        return value
    scaled = arith.mul_public(low, near, np.asarray(math.sqrt(-a)))
    made = arith.neg(low, arith.mul(low, scaled, scaled))
    return arith.add_public(low, made, np.asarray(c)) if c else made


def within_tanh(low: Lowering, value: int) -> int:
    """`value`, or where its cube may overflow what gives the same hyperbolic tangent."""
    p = of(low, value)
    if low.type(value).bounds is not None or p.degree != 3 or facts.root(low, value) == p.source:
        return value
    c0, a, c2, b = p.coefficients
    if c0 or c2 or a * b < 0:
        return value
    flat = math.log(2.0) * (low.f + 3) / 2 + 1  # where tanh is 1
    reach = min((flat / abs(b)) ** (1 / 3), flat / abs(a) if a else math.inf)
    near = _near(low, p.source, 0.0, reach)
    if near is None:
        return value
    cube = arith.mul(low, arith.mul(low, near, near), near)
    made = arith.mul_public(low, cube, np.asarray(b))
    return arith.add(low, made, arith.mul_public(low, near, np.asarray(a))) if a else made


# --- products with what is small far out ----------------------------------------------------------


def beside(low: Lowering, o: Out, x: Secret, y: Secret) -> Secret | None:
    """x y where one has a factor that is small far out, and the other one what it is a function of.

    Of e^(a (v - h)^2 + c), a < 0, only rounding is left there, and of 1 / sqrt(v^2 + c) few digits;
    a large v would multiply these.
    """
    if not _tracked(low, o) or x.id == y.id:
        return None
    for small, other in ((x, y), (y, x)):
        made = _beside_density(low, o, small, other) or _beside_inverse(low, o, small, other)
        if made is not None:
            return made
    return None


def _beside_density(low: Lowering, o: Out, density: Secret, other: Secret) -> Secret | None:
    exponential = _factor(low, density.id, (facts.Exponential, facts.ScaledExponential), DEPTH)
    if exponential is None or getattr(exponential[0], "rest", None) is not None:
        return None
    found = _flat_exp(low, exponential[0].source)
    if found is None:
        return None
    v, h, _, _, reach = found
    parted = _parted(low, o, other, v, DEPTH)
    near = None if parted is None or low.shape(v) != o.shape else _near(low, v, h, reach)
    if parted is None or near is None:
        return None
    coefficients, rest = parted
    moved = np.polynomial.Polynomial(coefficients)(np.polynomial.Polynomial([h, 1.0])).coef
    u, factor = Secret(near, o.dtype), moved[-1]
    for c in moved[-2::-1]:
        factor = RULES["mul"](low, [o], u, factor)
        if c:
            factor = RULES["add"](low, [o], factor, np.asarray(c))
    return _times(low, o, _secret(RULES["mul"](low, [o], density, factor)), rest)


def waits(low: Lowering, x: Secret, y: Secret) -> bool:
    """Whether a factor is the inverse of such a root, which waits for what it divides."""
    return any(_factor(low, v.id, OverRoot, DEPTH) is not None for v in (x, y))


def _beside_inverse(low: Lowering, o: Out, inverse: Secret, other: Secret) -> Secret | None:
    found = _factor(low, inverse.id, OverRoot, DEPTH)
    if found is None:
        return None
    fact, rest = found
    v = low.facts[facts.root(low, fact.root)].source
    parted = _parted(low, o, other, v, DEPTH)
    if parted is None or not low.shape(v) == low.shape(fact.root) == o.shape:
        return None
    coefficients, more = parted
    if len(coefficients) != 2 or coefficients[0]:
        return None
    ratio = divide(low, arith.settle(low, v), arith.settle(low, fact.root), o.shape)
    one = (1 << low.frac(ratio)) + 8
    ready = Secret(low.narrowed(ratio, -one, one), o.dtype)
    numbers = [Secret(r, o.dtype) if isinstance(r, int) else r for r in rest]
    return _times(low, o, ready, [np.asarray(fact.scale * coefficients[1]), *numbers, *more])


def _times(low: Lowering, o: Out, made: Secret, factors: list[Value]) -> Secret:
    for factor in factors:
        made = _secret(RULES["mul"](low, [o], made, factor))
    return made


def over(low: Lowering, x: Value, y: Value, made: Secret) -> Secret:
    """`made` is x / y of a public x: remembered where y is such a root."""
    c = _public(x) if isinstance(y, Secret) and low.lines == "own" else None
    if c is None or not isinstance(y, Secret):
        return made
    if isinstance(low.facts.get(facts.root(low, y.id)), Hypotenuse):
        low.facts[facts.root(low, made.id)] = OverRoot(c, y.id)
    return made


def _factor(
    low: Lowering, value: int, kind: type | tuple[type, ...], depth: int
) -> tuple[Any, list[Any]] | None:
    """(the fact of a factor of a value, the other factors), if there is a factor of that kind."""
    value = facts.root(low, value)
    fact = low.facts.get(value)
    if isinstance(fact, kind):
        return fact, []
    if isinstance(fact, facts.Product) and depth:
        for part, other in ((fact.x, fact.y), (fact.y, fact.x)):
            found = _factor(low, part, kind, depth - 1) if isinstance(part, int) else None
            if found is not None:
                return found[0], [*found[1], other]
    made = low.builder.instruction(value)
    if made is None or made.op != "neg_a" or not depth:
        return None
    found = _factor(low, made.args[0], kind, depth - 1)
    return None if found is None else (found[0], [*found[1], np.asarray(-1.0)])


def _parted(
    low: Lowering, o: Out, x: Value, v: int, depth: int
) -> tuple[tuple[float, ...], list[Value]] | None:
    """(coefficients of a polynomial of v, other factors) of x; None if it has no such factor."""
    if not isinstance(x, Secret):
        return None
    p = of(low, x.id)
    if p.source == v:
        return p.coefficients, []
    fact = low.facts.get(facts.root(low, x.id))
    if not isinstance(fact, facts.Product) or not depth:
        return None
    parts: list[Value] = [
        Secret(part, o.dtype) if isinstance(part, int) else part for part in (fact.x, fact.y)
    ]
    for part, other in (parts, parts[::-1]):
        found = _parted(low, o, part, v, depth - 1)
        if found is not None:
            return found[0], [*found[1], other]
    return None


# --- roots of x^2 + c -----------------------------------------------------------------------------


def root(low: Lowering, x: Secret) -> Secret:
    """sqrt(x); of v^2 + c it is |v| where c is nothing beside v^2, which may be out of range."""
    found = _parabola(low, x.id) if low.lines == "own" else None
    if found is None or found[1] or found[2] != 1.0 or found[3] <= 0:
        whole = squares.root(low, x)
        return Secret(roots.sqrt(low, x.id) if whole is None else whole, x.dtype)
    v, _, _, c = found
    far = math.ceil(math.ldexp(max(1.0, math.sqrt(c)), low.f // 2 + 3))
    wide = far * far >= low.bound >> low.f + 1
    if low.type(x.id).bounds is not None or wide:
        made = roots.sqrt(low, x.id)
    else:
        size = order.absolute(low, arith.to_frac(low, arith.settle(low, v), low.f))
        size = low.narrowed(size, 0, low.bound - 1)
        near = masked(low, size, 0, far << low.f)
        square = arith.settle(low, arith.mul(low, near.value, near.value))
        inner = arith.add_public(low, square, np.asarray(c))
        made = order.choose(low, near.outside, size, roots.sqrt(low, inner))
    low.facts[facts.root(low, made)] = Hypotenuse(v, c)
    return Secret(made, x.dtype)


def _beside_root(low: Lowering, o: Out, x: Secret, y: Secret) -> Secret | None:
    """x + y where y is sqrt(x^2 + c): of a negative x it is c / (|x| + y), which keeps digits."""
    fact = low.facts.get(facts.root(low, y.id))
    if not isinstance(fact, Hypotenuse) or facts.root(low, x.id) != facts.root(low, fact.source):
        return None
    if low.shape(x.id) != o.shape or order.negative(low, x.id) is False:
        return None
    value = arith.settle(low, x.id)
    size = order.absolute(low, value)
    with low.unchecked():  # halves: the whole sum may leave the range
        halves = [low.emit("trunc_a", v, bits=1) for v in (size, arith.settle(low, y.id))]
        whole = arith.retype(low, arith.add(low, *halves), low.f)
        twice = arith.add(low, size, value)
    far = divide(low, np.asarray(fact.offset / 2), low.narrowed(whole, 1, low.bound - 1), o.shape)
    return Secret(arith.add(low, twice, far), o.dtype)


def _secret(value: Value) -> Secret:
    assert isinstance(value, Secret)
    return value
