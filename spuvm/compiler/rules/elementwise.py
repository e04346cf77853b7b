"""Arithmetic, one element at a time: sums, products, powers, conversions between dtypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spuvm.compiler import arith, facts, inverses, means, moments, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.mish import mish
from spuvm.compiler.moment_facts import Squared
from spuvm.compiler.numeric.sigmoid import silu, silu_bend
from spuvm.compiler.rules import Out, fractions, rule
from spuvm.compiler.values import (
    Array,
    Value,
    as_number,
    encoded_range,
    int_bounds,
    kind_of,
    lift_whole,
    public,
    wrap_int,
)
from spuvm.errors import CompileError


def operand(low: Lowering, value: Value, shape: tuple[int, ...]) -> int:
    """Id of a secret operand, broadcast to the shape of the result."""
    assert isinstance(value, Secret)
    return low.spread(value.id, shape)


def constant(low: Lowering, value: Value, out: Out) -> Array:
    """A public operand broadcast to the shape of the result (a scalar stays one)."""
    c = public(value)
    c = arith.finite(low, c) if kind_of(out.dtype) == "float" else c
    return c if c.ndim == 0 else np.broadcast_to(c, out.shape)


@rule("add", "add_any")
def add(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x + y; integers modulo the ring."""
    from spuvm.compiler.rules import polynomials, powers

    made = polynomials.total(low, out[0], x, y, _add(low, out, x, y))
    return powers.total(low, out[0], x, y, made)


def _add(low: Lowering, out: list[Out], x: Value, y: Value) -> Secret:
    from spuvm.compiler.rules import entropy

    (o,) = out
    if not isinstance(x, Secret):
        x, y = y, x
    a = operand(low, x, o.shape)
    if isinstance(y, Secret):
        made = Secret(moments.sum_of(low, a, operand(low, y, o.shape)), o.dtype)
        return entropy.total(low, o, x, y, made)
    c = constant(low, y, o)
    if not c.any():
        return Secret(a, o.dtype)
    if kind_of(o.dtype) == "int":
        return Secret(low.emit("add_ap", a, _ring(low, c)), o.dtype)
    return entropy.total(low, o, x, y, Secret(moments.plus(low, a, c), o.dtype))


@rule("sub")
def sub(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x - y; integers modulo the ring."""
    from spuvm.compiler.rules import entropy, polynomials, squares

    (o,) = out
    known = entropy.difference(low, o, x, y) or squares.deviation(low, o, x, y)
    made = entropy.remainder(low, o, x, y, known or _sub(low, out, x, y))
    return polynomials.total(low, o, x, y, made, -1)


def _sub(low: Lowering, out: list[Out], x: Value, y: Value) -> Secret:
    (o,) = out
    if isinstance(x, Secret) and isinstance(y, Secret):
        a, b = operand(low, x, o.shape), operand(low, y, o.shape)
        return Secret(facts.above_whole(low, a, b, arith.sub(low, a, b)), o.dtype)
    if isinstance(x, Secret):
        return add(low, out, x, -public(y))
    c, b = constant(low, x, o), operand(low, y, o.shape)
    if not c.any():
        return Secret(arith.neg(low, b), o.dtype)
    if kind_of(o.dtype) == "int":
        return Secret(low.emit("sub_pa", _ring(low, c), b), o.dtype)
    arith.vanishing(low, c)
    made = arith.add_public(low, b, c, sign=-1)
    fact = low.facts.get(facts.root(low, b))
    if isinstance(fact, facts.Logistic) and (c == 1).all():
        facts.mark(low, made, facts.Complement(fact.source))
    return Secret(made, o.dtype)


@rule("neg")
def neg(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """-x."""
    from spuvm.compiler.rules import polynomials

    made = Secret(arith.neg(low, x.id), x.dtype)
    return polynomials.product(low, out[0], x, np.asarray(-1.0), made)


@rule("mul")
def mul(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x * y; integers modulo the ring, floats as arith.mul and arith.mul_public say."""
    from spuvm.compiler.rules import polynomials, powers

    made = polynomials.product(low, out[0], x, y, _mul(low, out, x, y))
    return powers.product(low, out[0], x, y, made)


def _mul(low: Lowering, out: list[Out], x: Value, y: Value) -> Secret:
    from spuvm.compiler.rules import polynomials

    (o,) = out
    if not isinstance(x, Secret):
        x, y = y, x
    a = operand(low, x, o.shape)
    if isinstance(y, Secret):
        b = operand(low, y, o.shape)
        if kind_of(o.dtype) == "int":
            return Secret(low.emit("mul_aa", *sorted((a, b)), trunc=0, form="narrow"), o.dtype)
        known = polynomials.beside(low, o, Secret(a, o.dtype), Secret(b, o.dtype))
        if known is None and not polynomials.waits(low, x, y):
            known = fractions.product(low, o, x, y)
        return known or Secret(_product(low, a, b), o.dtype)
    c = constant(low, y, o)
    if c.size and (c == 1).all():
        return Secret(a, o.dtype)
    if kind_of(o.dtype) == "int":
        return Secret(low.emit("mul_ap", a, _ring(low, arith.uniform(c))), o.dtype)
    part = moments.times(low, a, c)
    if part is None:
        part = means.divided(low, a, c) if means.among(low, [x]) else arith.mul_public(low, a, c)
    made = inverses.scaled(low, a, c, part)
    low.facts.setdefault(facts.root(low, made), facts.Product(a, c))
    return Secret(made, o.dtype)


def _product(low: Lowering, a: int, b: int) -> int:
    """The product of two floats, as what is known of it; silu and its derivative are functions.

    Products with logistic(v) and its derivative would multiply their errors, which are constant
    beyond their limits, by v.
    """
    if a == b:
        return facts.mark(low, arith.mul(low, a, b), Squared("whole", a))
    v = facts.of_itself(low, a, b, facts.Logistic)
    if v is not None:
        return silu(low, v)
    v = facts.of_itself(low, a, b, facts.TanhSoftplus)
    if v is not None:
        from spuvm.compiler.rules.special import in_place

        (made,) = in_place(low, lambda x, _: mish(x, low.f), Secret(v, np.dtype(np.float32)))
        return int(made.id)
    bent = facts.slope_times(low, a, b)
    if bent is not None:
        v, g = bent
        bend = silu_bend(low, v)
        return arith.mul(low, bend, g) if isinstance(g, int) else arith.mul_public(low, bend, g)
    v = facts.slope_source(low, a, b)
    product = inverses.times(low, a, b)
    fact = facts.Product(a, b) if v is None else facts.LogisticSlope(v)
    low.facts.setdefault(facts.root(low, product), fact)
    return product


def _ring(low: Lowering, c: Array) -> int:
    return low.constant(low.ring.array(arith.uniform(np.asarray(c))))


@rule("square")
def square(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """x * x."""
    return mul(low, out, x, x)


@rule("one_minus_square")
def one_minus_square(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """1 - x * x."""
    return sub(low, out, np.ones((), x.dtype), square(low, out, x))


@rule("integer_pow")
def integer_pow(low: Lowering, out: list[Out], x: Secret, *, y: int, **_: Any) -> Secret:
    """x to a public integer power, by squaring; a negative power saturates."""
    made: Secret | None = None
    if y < 0:
        from spuvm.compiler.numeric.limits import clamped
        from spuvm.compiler.rules.transcendental import reciprocal

        # This way round: x^n may leave the range where x^-n is small and representable.
        inverse = reciprocal(low, out, x).id
        if y < -1:
            end = low.config.fxp.max_float ** (-1 / y) * (1 - 2.0**-30)  # roundings stay below
            most = math.floor(math.ldexp(end, low.frac(inverse))) - 2
            inverse = clamped(low, inverse, -most, most)
        made = integer_pow(low, out, Secret(inverse, x.dtype), y=-y)
        return fractions.note_power(low, x, made, -y)
    if y == 0:
        raise CompileError("power 0 has no secret part")
    base = x
    while y:
        if y & 1:
            made = base if made is None else mul(low, out, made, base)
        y >>= 1
        if y:
            base = mul(low, out, base, base)
    assert made is not None
    return made


@rule("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")
@rule("device_put", "sharding_constraint", "name", "reshard", "layout_constraint", "relayout")
def same(low: Lowering, out: list[Out], *xs: Value, **_: Any) -> Any:
    """The operands as they are."""
    return tuple(xs)


@rule("convert_element_type")
def convert(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Between dtypes: integers wrap, floats go toward zero and saturate, bool is (x != 0)."""
    (o,) = out
    old, new = kind_of(x.dtype), kind_of(o.dtype)
    if old == new == "float" or x.dtype == o.dtype:
        return Secret(x.id, o.dtype)
    if new == "bool":
        from spuvm.compiler.rules.compare import not_equal

        return not_equal(low, out, x, np.zeros((), np.int8))
    if old == "bool":
        return Secret(as_number(low, x), o.dtype)
    if new == "float":
        largest = (low.bound >> low.f) - 1  # what is larger could not be represented as a float
        bounds, whole = low.type(x.id).bounds, int_bounds(x.dtype)
        if bounds is None or bounds[0] < whole[0] or bounds[1] > whole[1]:  # it wraps first
            bounds = whole
        known = bounds != whole or low.config.on_overflow == "error"
        if known and max(-bounds[0], bounds[1]) > largest:
            low.doubt(
                "an integer may leave the representable range of floats",
                f"integers from {bounds[0]:g} to {bounds[1]:g} are possible",
                f"representable is |x| < {largest + 1:g}",
            )
        return Secret(low.narrowed(wrap_int(low, x.id, x.dtype), -largest, largest), o.dtype)
    if o.dtype.itemsize * 8 > low.bits:
        raise CompileError(f"{o.dtype} is wider than the ring", next="use Config(ring=64)")
    if old == "float":
        return Secret(toward_zero(low, _saturated(low, x, o.dtype)), o.dtype)
    same_residue = o.dtype.itemsize <= x.dtype.itemsize
    return Secret(x.id if same_residue else wrap_int(low, x.id, x.dtype), o.dtype)


def _saturated(low: Lowering, x: Secret, dtype: np.dtype[Any]) -> int:
    """A float clipped to what an integer dtype holds; nothing where ranges prove that it is."""
    first, last = (v << low.frac(x.id) for v in int_bounds(dtype))
    made, limit, bounds = x.id, low.bound, low.type(x.id).bounds
    for pick, edge in ((order.minimum, last), (order.maximum, first)):
        inside = -limit < edge < limit
        if bounds is not None:
            inside &= bounds[0] < edge < bounds[1]
        if inside:
            c = lift_whole(low, edge >> low.frac(x.id))
            made = pick(low, made, low.spread(c, low.shape(made)), x.dtype)
    return made


def floor(low: Lowering, x: int) -> int:
    """The largest integers not above x, with the fraction bits of x: exact."""
    frac = low.frac(x)
    if frac <= 0:
        return x
    part = low.emit("b2a", low.emit("a2b", x, bits=frac))
    made = low.emit("sub_aa", x, arith.retype(low, part, frac))
    t = low.type(x)
    if t.bounds is None:
        return made
    unit = 1 << frac
    return low.narrowed(made, t.bounds[0] // unit * unit, t.bounds[1] // unit * unit)


def toward_zero(low: Lowering, x: int) -> int:
    """The integer part of x with frac 0, exact: floor of x, or of x + 1 - ulp where negative."""
    frac = low.frac(x)
    if frac <= 0:
        return x
    bounds, bit, almost = low.type(x).bounds, order.negative(low, x), (1 << frac) - 1
    scale = low.constant(low.ring.array(almost))
    if bit is True:
        x = low.emit("add_ap", x, arith.encode(low, np.asarray(1 - 2.0**-frac), frac))
    elif bit is not False:
        bump = low.emit("mul_ap", low.emit("b2a", bit), scale)
        with low.unchecked():
            x = low.emit("add_aa", x, arith.retype(low, bump, frac))
        if bounds is not None:
            x = low.narrowed(x, bounds[0], max(bounds[1], almost))
    whole = low.narrowed(floor(low, x), -low.bound, low.bound)  # bounds of quotients may be wider
    return low.emit("trunc_a", whole, bits=frac)


@rule("floor")
def floor_rule(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """The largest integer not above x: exact."""
    return _rounded(low, x, floor(low, x.id), 0.0, 1.0)


def _rounded(low: Lowering, x: Secret, made: int, least: float, most: float) -> Secret:
    return Secret(facts.mark(low, made, facts.Whole(x.id, least, most)), x.dtype)


@rule("ceil")
def ceil(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """The least integer not below x: exact."""
    return _rounded(low, x, arith.neg(low, floor(low, arith.neg(low, x.id))), -1.0, 0.0)


@rule("round")
def round_(low: Lowering, out: list[Out], x: Secret, *, rounding_method: Any, **_: Any) -> Secret:
    """The nearest integer, ties to even or away from zero: exact."""
    frac = low.frac(x.id)
    if frac <= 0:
        return x
    half = arith.encode(low, np.asarray(0.5), frac)  # at the fraction bits of x: nothing is cut
    raised = low.emit("add_ap", x.id, half)
    down = floor(low, raised)
    word = low.emit("a2b", raised, bits=frac + 1)
    tie = low.emit("eqz_a", raised, bits=frac)
    if int(rounding_method) == 1:  # a tie was rounded up: to odd, if bit `frac` is set
        wrong = low.emit("and_bb", tie, low.emit("bits_b", word, low=frac, width=1))
    else:  # a tie was rounded up: away from zero only if positive
        sign = order.negative(low, x.id)
        if sign is False:
            return _rounded(low, x, down, -0.5, 0.5)
        wrong = tie if sign is True else low.emit("and_bb", tie, sign)
    step = arith.to_frac(low, low.emit("b2a", wrong), frac)
    return _rounded(low, x, low.emit("sub_aa", down, step), -0.5, 0.5)


@rule("assume_range")
def assume_range(low: Lowering, out: list[Out], x: Secret, *, lo: float, hi: float) -> Secret:
    """The promise lo <= x <= hi as bounds; rounding of x to a unit stays allowed."""
    if kind_of(x.dtype) == "int":
        return Secret(low.narrowed(x.id, int(np.ceil(lo)), int(np.floor(hi))), x.dtype)
    if kind_of(x.dtype) == "bool":
        return x
    bounds = encoded_range(low, lo, hi, low.frac(x.id))
    if bounds is None:
        return x
    slack = 1 << max(0, low.frac(x.id) - low.f)
    return Secret(low.narrowed(x.id, bounds[0] - slack, bounds[1] + slack), x.dtype)
