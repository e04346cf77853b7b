"""Division, exponentials, logarithms, roots, the logistic function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spuvm.compiler import arith, inverses, means, moments, order, sums
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.exponential import growth, log_of_double_exponential
from spuvm.compiler.facts import (
    Exponential,
    ExponentialLess1,
    LogAddExp,
    Logarithm,
    Logistic,
    Product,
    Quotient,
    Refined,
    TanhSoftplus,
    TwiceExponential,
    grown_by,
    mark,
    negated,
    root,
)
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.numeric import (
    exponential,
    hyperbolic,
    inverse,
    logarithm,
    normal,
    roots,
    sigmoid,
    trigonometric,
)
from spuvm.compiler.numeric import reciprocal as division
from spuvm.compiler.rules import Out, intdiv, logarithms, polynomials, powers, rule, squares
from spuvm.compiler.rules.elementwise import constant, integer_pow, mul, operand, toward_zero
from spuvm.compiler.rules.special import MORE_BITS, finer_product, in_place
from spuvm.compiler.values import Value, kind_of, lift
from spuvm.compiler.varying import Varying


@rule("div")
def div(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x / y; by a public float y a product with 1 / y; x / 0 is the largest number, 0 / 0 is 0."""
    (o,) = out
    if kind_of(o.dtype) != "float":
        return intdiv.quotient(low, o, x, y)
    made = _divided(low, o, x, y)
    if not isinstance(x, Secret):
        return polynomials.over(low, x, y, made)
    if not isinstance(y, Secret | Varying):
        by = constant(low, y, o)
        polynomials.product(
            low, o, x, np.divide(1.0, by, where=by != 0, out=np.zeros(by.shape)), made
        )
    return powers.quotient(low, o, x, y, _growth(low, o, x, y, made))


def _growth(low: Lowering, o: Out, x: Secret, y: Value, made: Secret) -> Secret:
    """`made` is x / y; (e^(a b) - 1) / a, as the transformation of Box and Cox has it, is exact.

    For a small a the quotient would have the rounding of e^(a b) that many times.
    """
    by = y.id if isinstance(y, Secret) else constant(low, y, o)
    found = grown_by(low, operand(low, x, o.shape), by)
    if found is None:
        return made
    shape = jax.ShapeDtypeStruct(o.shape, o.dtype)
    closed = jax.make_jaxpr(lambda u, b, q: growth(u, b, q, low.f))(shape, shape, shape)
    ready = [Secret(arith.settle(low, v), o.dtype) for v in (*found, made.id)]
    with low.one_line(), low.unchecked():
        (better,) = lower_closed(low, closed, ready)
    assert isinstance(better, Secret)
    return Secret(mark(low, better.id, Refined()), o.dtype)


def _divided(low: Lowering, o: Out, x: Value, y: Value) -> Secret:
    if not isinstance(y, Secret):
        c = constant(low, y, o)
        factor = np.divide(1.0, c, out=np.zeros_like(c, np.float64), where=c != 0)
        a = operand(low, x, o.shape)
        part = moments.times(low, a, factor) if (c != 0).all() else None
        plain = made = means.divided(low, a, factor) if part is None else part
        same = arith.uniform(factor)
        if same.ndim == 0 and isinstance(x, Secret) and low.shape(x.id) == o.shape:
            made = squares.mean(low, x, float(same), made)
        made = inverses.scaled(low, a, factor, made)
        if (c == 0).any():
            made = arith.add(low, made, division.by_zero(low, a, c == 0))
        low.facts.setdefault(root(low, made), Product(a, factor))
        if made == plain:
            sums.divided(low, a, c, made)
        return Secret(made, o.dtype)
    numerator = x.id if isinstance(x, Secret) else np.asarray(constant(low, x, o), np.float64)
    quotient = squares.over(low, o, numerator, y)
    if quotient is None:
        quotient = division.divide(low, numerator, y.id, o.shape)
        inverses.divided_by(low, quotient, numerator, y.id)
    if low.shape(y.id) == o.shape and _sign_like(low, numerator):
        low.facts.setdefault(root(low, quotient), Quotient(x, y.id))
    return Secret(quotient, o.dtype)


def _sign_like(low: Lowering, x: Any) -> bool:
    """Whether all of x is -1, 0 or 1: products with it are exact."""
    if isinstance(x, int):
        return low.frac(x) == 0 and low.magnitude(x) <= 1
    return bool(np.isin(x, (-1, 0, 1)).all())


@rule("rem")
def rem(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """The remainder with the sign of x; of floats right while |x / y| < 2^20 (2^7 for f = 8)."""
    (o,) = out
    if kind_of(o.dtype) == "int":
        return intdiv.remainder(low, o, x, y)
    a = low.spread(lift(low, x, o.dtype).id, o.shape)
    sign, size = order.negative(low, a), order.absolute(low, a)
    by: Value
    if isinstance(y, Secret):
        by = Secret(low.spread(order.absolute(low, y.id), o.shape), o.dtype)
    else:
        by = np.abs(constant(low, y, o))
    whole = toward_zero(low, arith.settle(low, div(low, out, Secret(size, o.dtype), by).id))
    divisor = low.spread(lift(low, by, o.dtype).id, o.shape)
    with low.unchecked():  # the quotient may be off by one
        rest = arith.sub(low, size, arith.mul(low, whole, divisor))
        rest = arith.add(low, rest, order.times(low, order.negative(low, rest), divisor))
        below = order.negative(low, arith.sub(low, rest, divisor))
        rest = arith.sub(low, rest, order.times(low, order.negate(low, below), divisor))
        opposite = order.times(low, sign, rest)
        made = low.emit("lincomb_a", *arith.align(low, (rest, opposite)), coefficients=(1, -2))
    top = low.magnitude(divisor)
    return Secret(low.narrowed(made, -top, top) if low.frac(made) == low.frac(divisor) else made,
                  o.dtype)  # fmt: skip


def reciprocal(low: Lowering, out: list[Out], x: Secret) -> Secret:
    """1 / x."""
    made = squares.over(low, out[0], np.ones(()), x)
    if made is None:
        made = division.divide(low, np.ones(()), x.id, out[0].shape)
    return Secret(made, x.dtype)


@rule("exp")
def exp(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """e^x."""
    from spuvm.compiler.rules.densities import beta_density

    density = beta_density(low, out[0], x.id)
    if density is not None:
        return Secret(mark(low, density.id, Refined()), x.dtype)
    made = exponential.exp(low, polynomials.within_exp(low, x.id))
    low.facts.setdefault(root(low, made), Exponential(x.id))
    return Secret(made, x.dtype)


@rule("exp2")
def exp2(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """2^x."""
    return Secret(exponential.exp2(low, x.id), x.dtype)


@rule("expm1")
def expm1(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """e^x - 1, right to the last places in absolute terms."""
    made = arith.add_public(low, exponential.exp(low, x.id), np.asarray(-1.0))
    fact = negated(low, x.id)
    if isinstance(fact, Exponential):
        low.facts[root(low, made)] = TwiceExponential(fact.source)
    else:
        low.facts.setdefault(root(low, made), ExponentialLess1(x.id))
    return Secret(made, x.dtype)


@rule("log")
def log(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Natural logarithm; that of 1 - exp(-e^x), almost x for x << 0, is known as one function."""
    fact = negated(low, x.id)
    if isinstance(fact, TwiceExponential):
        source = Secret(fact.source, x.dtype)
        whole: list[Secret] = in_place(
            low, lambda v, _: log_of_double_exponential(v, low.f), source
        )
        return whole[0]
    better = logarithms.log(low, x) or squares.logarithm(low, out[0], x)
    if better is not None:
        return better
    made = logarithm.log(low, x.id)
    low.facts.setdefault(root(low, made), Logarithm(x.id))
    return Secret(made, x.dtype)


@rule("log2")
def log2(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Logarithm to base 2; of JAX 0.12 and later, which before divides log by a constant."""
    better = logarithms.log(low, x)
    if better is not None:
        value = arith.mul_public(low, better.id, np.asarray(1 / math.log(2)))
        return Secret(mark(low, value, Refined()), x.dtype)
    return Secret(logarithm.log(low, x.id, function=np.log2), x.dtype)


@rule("log1p")
def log1p(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """log(1 + x), right to the last places in absolute terms."""
    better = logarithms.log1p(low, x) or squares.logarithm(low, out[0], x, 1.0)
    if better is not None:
        return better
    made = logarithm.log1p(low, x.id)
    low.facts.setdefault(root(low, made), Logarithm(x.id, True))
    return Secret(made, x.dtype)


@rule("logistic")
def logistic(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """1 / (1 + e^-x)."""
    made = sigmoid.logistic(low, x.id)
    low.facts[root(low, made)] = Logistic(x.id)
    return Secret(made, x.dtype)


@rule("tanh")
def tanh(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Hyperbolic tangent."""
    made = sigmoid.tanh(low, polynomials.within_tanh(low, x.id))
    fact = low.facts.get(root(low, x.id))
    if isinstance(fact, LogAddExp) and fact.x is not None and fact.y is None:
        mark(low, made, TanhSoftplus(fact.x))
    return Secret(made, x.dtype)


@rule("sqrt")
def sqrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Square root."""
    return polynomials.root(low, x)


@rule("rsqrt")
def rsqrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Reciprocal square root."""
    better = squares.inverse_root(low, out[0], x)
    return better or Secret(roots.rsqrt(low, x.id), x.dtype)


@rule("cbrt")
def cbrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Cube root, by way of the logarithm of |x|."""
    sign = order.negative(low, x.id)
    size = logarithm.log(low, order.absolute(low, x.id), 64 - low.bound)
    made = exponential.exp2(low, size, exponential.LOG2_E / 3)
    if isinstance(sign, bool):
        return Secret(arith.neg(low, made) if sign else made, x.dtype)
    opposite = order.times(low, sign, made)
    made = low.emit("lincomb_a", made, opposite, coefficients=(1, -2))
    return Secret(made, x.dtype)


@rule("pow")
def power(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x ** y: by squaring for public integers y, a root for 1/2, else exp(y log x), x > 0.

    Where y is secret, or a large integer, exp(y log |x|) with the sign of x ** y.
    """
    (o,) = out
    whole = isinstance(y, Secret) and kind_of(y.dtype) == "int"
    if not isinstance(y, Secret):
        exponents = np.unique(np.asarray(y, np.float64))
        whole = bool((exponents == np.rint(exponents)).all())
        if exponents.size == 1 and whole:
            n = int(exponents[0])
            if n == 0:
                return np.ones(o.shape, o.dtype)
            if isinstance(x, Secret):
                made = integer_pow(low, out, x, y=n)
                return Secret(low.spread(made.id, o.shape), made.dtype)
        root = {0.5: sqrt, -0.5: rsqrt}.get(float(exponents[0]))
        if exponents.size == 1 and root is not None and isinstance(x, Secret):
            of_x = root(low, [Out(low.shape(x.id), x.dtype)], x)
            return Secret(low.spread(of_x.id, o.shape), x.dtype)
        if whole and isinstance(x, Secret) and exponents.min() >= 0 and exponents.max() <= 64:
            return _small_powers(low, o, x, np.asarray(y).astype(np.int64))
    if whole and isinstance(x, Secret):
        return _whole_power(low, o, x, y)
    if isinstance(x, Secret):
        one = not isinstance(y, Secret) and exponents.size == 1 and abs(exponents[0]) <= 8
        if one:  # one factor of the exponent
            factor = exponential.LOG2_E * float(exponents[0])
            size = logarithm.log(low, x.id, 64 - low.bound)  # small exponents of 0 give 0 too
            grown = exponential.exp2(low, size, factor)
            return Secret(low.spread(grown, o.shape), o.dtype)
        if isinstance(y, Secret) and order.negative(low, x.id) is not False:
            return _signed_power(low, o, x, y)
        return exp(low, out, _times_logarithm(low, o, x.id, y))
    base = np.asarray(x, np.float64)
    if isinstance(y, Secret) and not whole and (base < 0).any():
        return _signed_power(low, o, lift(low, x, o.dtype), y)
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log(np.abs(base)), low.config.fxp.log_of_zero)
    made = exp(low, out, mul(low, out, logarithms, y))
    if not (whole and (base < 0).any() and isinstance(y, Secret)):
        return made
    odd = low.spread(low.emit("a2b", y.id, bits=1), o.shape)
    mask = np.broadcast_to(base < 0, o.shape).astype(np.uint8)
    return _negated(low, made, low.emit("and_bp", odd, low.constant(mask, 0, 1)))


def _signed_power(low: Lowering, o: Out, x: Secret, y: Secret) -> Secret:
    """|x| ** y, and its sign where y is a whole number; elsewhere x < 0 has no real power."""
    made = _power_of_size(low, o, x, y)
    exponent = arith.to_frac(low, arith.settle(low, y.id), low.f)
    word = low.emit("a2b", exponent, bits=low.f + 1)
    odd = low.emit("bits_b", word, low=low.f, width=1)
    whole = low.emit("eqz_a", exponent, bits=low.f)
    sign = order.negative(low, x.id)
    bit = low.spread(low.emit("and_bb", *sorted((odd, whole))), o.shape)
    if sign is not True:
        assert not isinstance(sign, bool)
        bit = low.emit("and_bb", *sorted((bit, low.spread(sign, o.shape))))
    return _negated(low, made, bit)


def _small_powers(low: Lowering, o: Out, x: Secret, y: Any) -> Secret:
    """x ** y for public y from 0 on, by squaring."""
    from spuvm.compiler.rules.compare import select_n

    y = np.broadcast_to(y, o.shape)
    base = Secret(low.spread(x.id, o.shape), o.dtype)
    made: Value = np.ones(o.shape, o.dtype)
    for i in range(int(y.max()).bit_length()):
        factor = select_n(low, [o], (y >> i & 1).astype(np.bool_), np.ones((), o.dtype), base)
        made = factor if i == 0 else mul(low, [o], made, factor)
        if y.max() >> i + 1:
            base = mul(low, [o], base, base)
    assert isinstance(made, Secret)
    return made


def _power_of_size(low: Lowering, o: Out, x: Secret, y: Value) -> Secret:
    """|x| ** y."""
    whole = not isinstance(y, Secret) or kind_of(y.dtype) == "int"
    # Enough for 0 ** y to be 0, or the largest number, where |y| >= 1; broken ones can be small.
    zero = -math.ceil(max(low.f + 2, low.bits - 1 - low.f) * math.log(2.0)) << low.f
    size = order.absolute(low, x.id)
    return exp(low, [o], _times_logarithm(low, o, size, y, zero if whole else None))


def _times_logarithm(low: Lowering, o: Out, x: int, y: Value, zero: int | None = None) -> Secret:
    """y log x, with more bits of the logarithm: its error counts y times; `zero` is that of 0."""
    before = low.f
    with low.finer(MORE_BITS, "small"):
        size = logarithm.log(low, x, None if zero is None else zero << low.f - before)
    by = Secret(operand(low, y, o.shape), o.dtype) if isinstance(y, Secret) else y
    return finer_product(low, [o], by, Secret(low.spread(size, o.shape), o.dtype))


def _whole_power(low: Lowering, o: Out, x: Secret, y: Value) -> Secret:
    """x ** y for whole numbers y."""
    made = _power_of_size(low, o, x, y)
    sign = order.negative(low, x.id)
    if sign is False:
        return made
    if isinstance(y, Secret):
        odd = low.spread(low.emit("a2b", y.id, bits=1), o.shape)
        if sign is not True:
            odd = low.emit("and_bb", odd, low.spread(sign, o.shape))
        return _negated(low, made, odd)
    odd_mask = np.broadcast_to(np.asarray(y).astype(np.int64) & 1, o.shape).astype(np.uint8)
    if sign is True:
        return mul(low, [o], made, 1.0 - 2.0 * odd_mask)
    bit = low.spread(sign, o.shape)
    return _negated(low, made, low.emit("and_bp", bit, low.constant(odd_mask, 0, 1)))


def _negated(low: Lowering, x: Secret, bit: int) -> Secret:
    """-x where the bit is set."""
    made = low.emit("lincomb_a", x.id, low.emit("mul_ba", bit, x.id), coefficients=(1, -2))
    bounds = low.type(x.id).bounds
    if bounds is not None:
        top = max(abs(bounds[0]), abs(bounds[1]))
        made = low.narrowed(made, -top, top)
    return Secret(made, x.dtype)


UNARY: dict[str, Callable[[Lowering, int], int]] = {
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "asin": inverse.asin,
    "acos": inverse.acos,
    "atan": inverse.atan,
    "sinh": hyperbolic.sinh,
    "cosh": hyperbolic.cosh,
    "asinh": hyperbolic.asinh,
    "acosh": hyperbolic.acosh,
    "atanh": hyperbolic.atanh,
    "erf": normal.erf,
    "erf_inv": normal.erf_inv,
}


def _unary(function: Callable[[Lowering, int], int]) -> Callable[..., Secret]:
    def lowered(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
        return Secret(function(low, x.id), x.dtype)

    lowered.__doc__ = function.__doc__
    return lowered


for _name, _function in UNARY.items():
    rule(_name)(_unary(_function))


@rule("erfc")
def erfc(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """1 - erf(x), right to the last places in absolute terms."""
    made = normal.erf(low, x.id)
    return Secret(arith.add_public(low, made, np.asarray(1.0), sign=-1), x.dtype)


@rule("atan2")
def atan2(low: Lowering, out: list[Out], y: Value, x: Value, **_: Any) -> Secret:
    """The angle of (x, y)."""
    (o,) = out
    a, b = (low.spread(lift(low, v, o.dtype).id, o.shape) for v in (y, x))
    return Secret(inverse.atan2(low, a, b), o.dtype)
