"""Division, exponentials, logarithms, roots, the logistic function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering, Secret
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
from spuvm.compiler.rules import Out, intdiv, rule
from spuvm.compiler.rules.elementwise import constant, integer_pow, mul, operand
from spuvm.compiler.values import Value, kind_of, lift
from spuvm.errors import CompileError


@rule("div")
def div(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """x / y; by a public float y a product with 1 / y; x / 0 is the largest number, 0 / 0 is 0."""
    (o,) = out
    if kind_of(o.dtype) != "float":
        return intdiv.quotient(low, o, x, y)
    if not isinstance(y, Secret):
        c = constant(low, y, o)
        factor = np.divide(1.0, c, out=np.zeros_like(c, np.float64), where=c != 0)
        a = operand(low, x, o.shape)
        made = arith.mul_public(low, a, factor)
        if (c == 0).any():
            made = arith.add(low, made, division.by_zero(low, a, c == 0))
        return Secret(made, o.dtype)
    numerator = x.id if isinstance(x, Secret) else np.asarray(constant(low, x, o), np.float64)
    return Secret(division.divide(low, numerator, y.id, o.shape), o.dtype)


@rule("rem")
def rem(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Secret:
    """The remainder of integers, with the sign of x."""
    if kind_of(out[0].dtype) != "int":
        raise CompileError(
            "remainders of secret floats are not supported",
            next="use x - y * jnp.trunc(x / y)",
        )
    return intdiv.remainder(low, out[0], x, y)


def reciprocal(low: Lowering, out: list[Out], x: Secret) -> Secret:
    """1 / x."""
    return Secret(division.divide(low, np.ones(()), x.id, out[0].shape), x.dtype)


@rule("exp")
def exp(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """e^x."""
    return Secret(exponential.exp(low, x.id), x.dtype)


@rule("exp2")
def exp2(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """2^x."""
    return Secret(exponential.exp2(low, x.id), x.dtype)


@rule("expm1")
def expm1(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """e^x - 1, right to the last places in absolute terms."""
    return Secret(arith.add_public(low, exponential.exp(low, x.id), np.asarray(-1.0)), x.dtype)


@rule("log")
def log(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Natural logarithm."""
    return Secret(logarithm.log(low, x.id), x.dtype)


@rule("log1p")
def log1p(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """log(1 + x), right to the last places in absolute terms."""
    return Secret(logarithm.log1p(low, x.id), x.dtype)


@rule("logistic")
def logistic(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """1 / (1 + e^-x)."""
    return Secret(sigmoid.logistic(low, x.id), x.dtype)


@rule("tanh")
def tanh(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Hyperbolic tangent."""
    return Secret(sigmoid.tanh(low, x.id), x.dtype)


@rule("sqrt")
def sqrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Square root."""
    return Secret(roots.sqrt(low, x.id), x.dtype)


@rule("rsqrt")
def rsqrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Reciprocal square root."""
    return Secret(roots.rsqrt(low, x.id), x.dtype)


@rule("cbrt")
def cbrt(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """Cube root, by way of the logarithm of |x|."""
    sign = order.negative(low, x.id)
    size = logarithm.log(low, order.absolute(low, x.id))
    made = exponential.exp2(low, size, exponential.LOG2_E / 3)
    if isinstance(sign, bool):
        return Secret(arith.neg(low, made) if sign else made, x.dtype)
    opposite = order.times(low, sign, made)
    made = low.emit("lincomb_a", made, opposite, coefficients=(1, -2))
    return Secret(made, x.dtype)


@rule("pow")
def power(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x ** y: by squaring for a public integer y, a root for 1/2, else exp(y log x), x > 0."""
    if not isinstance(y, Secret):
        exponents = np.unique(np.asarray(y, np.float64))
        if exponents.size == 1 and float(exponents[0]).is_integer():
            n = int(exponents[0])
            if n == 0:
                return np.ones(out[0].shape, out[0].dtype)
            if isinstance(x, Secret):
                made = integer_pow(low, out, x, y=n)
                return Secret(low.spread(made.id, out[0].shape), made.dtype)
        root = {0.5: roots.sqrt, -0.5: roots.rsqrt}.get(float(exponents[0]))
        if exponents.size == 1 and root is not None and isinstance(x, Secret):
            return Secret(low.spread(root(low, x.id), out[0].shape), x.dtype)
    base = log(low, out, x) if isinstance(x, Secret) else np.log(np.asarray(x, np.float64))
    return exp(low, out, mul(low, out, base, y))


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
