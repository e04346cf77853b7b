"""Records of functions of one element: the domain over which the accuracy contract holds.

One record is one function of secret operands: its accuracy is swept over its whole domain, in every
ring, with and without declared ranges (test_functions_accuracy.py), and docs/ops.md lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from jax import lax

from spuvm.ring import WIDTHS

MOST = float("inf")


@dataclass(frozen=True)
class Domain:
    """The interval an operand is taken from, as far as |x| <= (the largest number) ** power."""

    lo: float = -MOST
    hi: float = MOST
    power: float = 1.0


@dataclass(frozen=True)
class Function:
    """A function, the domain of each operand, and what else must hold.

    fn      also gives the truth, in float64 on the encoded operands, unless `truth` does.
    holds   at which points of the domain the accuracy is promised, where not at all.
    course  a rising or falling function may not turn back by more than 8 units anywhere.
    exact   the result is that of JAX, to the last bit.
    """

    primitive: str
    fn: Callable[..., Any]
    args: tuple[Domain, ...] = (Domain(),)
    name: str = ""
    course: Literal["rising", "falling", "any"] = "any"
    rings: tuple[int, ...] = WIDTHS
    truth: Callable[..., Any] | None = None
    holds: Callable[..., Any] = lambda *xs: np.ones(np.shape(xs[0]), np.bool_)
    exact: bool = False

    @property
    def id(self) -> str:
        """Name in test reports."""
        return f"{self.primitive}-{self.name}" if self.name else self.primitive


ALL, POSITIVE, UNIT = Domain(), Domain(lo=0.0), Domain(-1.0, 1.0)
ROOT = Domain(power=0.499)  # products of two are representable
BELOW = Domain(lo=0.0, power=0.9)
FACTOR, AMOUNT = Domain(power=0.75), Domain(lo=0.0, power=0.75)  # times a logarithm: representable
HYPER, BELOW_1 = Domain(hi=60.0, power=0.7), Domain(hi=1.0, power=0.7)
SHAPE, PART = Domain(0.0, 2.0**20, 0.85), Domain(0.0, 1.0)  # of a beta distribution
FEWER = Domain(0.0, 2.0**20, 0.3)  # of its density: up to 100 in the ring of 2^32


def _trigamma(x: Any) -> Any:
    """By the recurrence: JAX's is wrong below -9."""
    return scipy.special.polygamma(1, x + 51) + sum((x + k) ** -2.0 for k in range(51))


def _share(u: Any) -> Any:
    """(1 - e^-u) / u up to u = 1, then 1 - e^-u."""
    u = np.maximum(u, 1e-300)
    return -np.expm1(-u) / np.minimum(u, 1)


def _moderate(x: Any, y: Any) -> Any:
    """Where powers x ** y hold."""
    return np.abs(y * np.log(np.maximum(x, 1e-300))) <= 24


FUNCTIONS = [
    Function("exp", jnp.exp, course="rising"),
    Function("exp2", jnp.exp2, course="rising"),
    Function("expm1", jnp.expm1, course="rising"),
    Function("log", jnp.log, (POSITIVE,), course="rising", holds=lambda x: x > 0),
    Function("log", lambda x: jax.scipy.stats.gumbel_l.logcdf(x), name="gumbel", course="rising",
             truth=lambda x: np.minimum(x, 0) + np.log(_share(np.exp(np.minimum(x, 9))))),
    Function("log1p", jnp.log1p, (POSITIVE,), course="rising"),
    Function("logistic", jax.nn.sigmoid, course="rising"),
    Function("logistic", lambda x: jax.nn.sigmoid(jnp.clip(x, -4, 4)), name="clipped"),
    Function("logistic", jax.nn.silu, name="silu"),
    Function("logistic", lambda x: jax.nn.sigmoid(x) * x, name="times-x"),
    Function("logistic", jax.vmap(jax.grad(jax.nn.silu)), name="silu-slope"),
    Function("logistic", lambda x, g: jax.vjp(jax.nn.silu, x)[1](g)[0], (ALL, Domain(-1, 1)),
             name="silu-vjp"),
    Function("tanh", jnp.tanh, course="rising"),
    Function("log1p", jax.nn.softplus, name="softplus", course="rising"),
    Function("sqrt", jnp.sqrt, (POSITIVE,), course="rising"),
    Function("rsqrt", lax.rsqrt, (POSITIVE,), course="falling"),
    Function("cbrt", jnp.cbrt, course="rising"),
    Function("div", lambda x, y: x / y, (ALL, ALL)),
    Function("div", lambda y: 1 / y, name="inverse"),
    Function("div", lambda y: -1e5 / y, name="public-numerator"),
    Function("div", lambda x: x / 3e-4, (Domain(-100, 100),), "public-divisor"),
    Function("sin", jnp.sin),
    Function("sin", lambda x: jnp.sin(jnp.clip(x, -1, 1)), name="clipped"),
    Function("cos", jnp.cos),
    Function("cos", lambda x: jnp.cos(jnp.clip(x, -3, 10)), name="clipped"),
    Function("tan", jnp.tan, holds=lambda x: np.abs(np.cos(x)) >= 0.06),
    Function("asin", jnp.arcsin, (UNIT,), course="rising"),
    Function("acos", jnp.arccos, (UNIT,), course="falling"),
    Function("atan", jnp.arctan, course="rising"),
    Function("atan", lambda x: jnp.arctan(jnp.clip(x, -1, 1)), name="clipped"),
    Function("atan2", jnp.arctan2, (ALL, ALL)),
    Function("atan2", lambda x: jnp.arctan2(x, -2.0), name="public"),
    Function("sinh", jnp.sinh, course="rising"),
    Function("cosh", jnp.cosh),
    Function("asinh", jnp.arcsinh, course="rising"),
    Function("acosh", jnp.arccosh, (Domain(lo=1.0),), course="rising"),
    Function("atanh", jnp.arctanh, (UNIT,), course="rising", holds=lambda x: np.abs(x) < 1),
    Function("erf", jax.scipy.special.erf, course="rising"),
    Function("erfc", jax.scipy.special.erfc, course="falling"),
    Function("erf_inv", jax.scipy.special.erfinv, (UNIT,), course="rising",
             holds=lambda x: np.abs(x) < 1),
    Function("lgamma", jax.scipy.special.gammaln, (Domain(lo=0.0, power=0.8),),
             holds=lambda x: x > 0),
    Function("lgamma", jax.scipy.special.gammaln, (Domain(-50, 0),), "negative",
             holds=lambda x: np.abs(x - np.rint(x)) > 0.1),
    Function("lgamma", jax.scipy.special.poch, (Domain(0.125, 30), Domain(-0.0625, 3)), "poch"),
    Function("lgamma", jax.scipy.special.comb, (Domain(3, 30), Domain(0, 3)), "comb"),
    Function("digamma", jax.scipy.special.digamma, (POSITIVE,), holds=lambda x: x > 0),
    Function("digamma", jax.scipy.special.digamma, (Domain(-50, 0),), "negative",
             holds=lambda x: np.abs(x - np.rint(x)) > 0.1),
    Function("igamma", jax.scipy.special.gammainc, (BELOW, BELOW), truth=scipy.special.gammainc,
             holds=lambda a, x: a > 0),
    Function("igammac", jax.scipy.special.gammaincc, (BELOW, BELOW), truth=scipy.special.gammaincc,
             holds=lambda a, x: a > 0),
    Function("igamma", lambda x: jax.scipy.special.gammainc(2.5, x), (BELOW,), "public",
             course="rising", truth=lambda x: scipy.special.gammainc(2.5, x)),
    Function("igamma", lambda x: jax.scipy.special.gammainc(15.75, x), (Domain(0.0, 60.0),),
             "rising", course="rising", truth=lambda x: scipy.special.gammainc(15.75, x)),
    Function("regularized_incomplete_beta", jax.scipy.special.betainc, (SHAPE, SHAPE, PART),
             truth=scipy.special.betainc, holds=lambda a, b, x: (a > 0) & (b > 0)),
    Function("regularized_incomplete_beta", lambda x: jax.scipy.special.betainc(7.75, 30.0, x),
             (PART,), "public", course="rising",
             truth=lambda x: scipy.special.betainc(7.75, 30.0, x)),
    Function("regularized_incomplete_beta", jax.vmap(jax.grad(jax.scipy.special.betainc, 2)),
             (FEWER, FEWER, PART), "slope", truth=lambda a, b, x: scipy.stats.beta.pdf(x, a, b),
             holds=lambda a, b, x: (a > 0) & (b > 0) & (x > 0) & (x < 1)),
    Function("zeta", jax.scipy.special.zeta, (Domain(1.0, 100.0), BELOW),
             truth=scipy.special.zeta, holds=lambda s, q: (s > 1) & (q > 0)),
    Function("zeta", lambda q: jax.scipy.special.zeta(2.5, q), (BELOW,), "public",
             truth=lambda q: scipy.special.zeta(2.5, q), holds=lambda q: q > 0),
    Function("polygamma", lambda x: jax.scipy.special.polygamma(1, x),
             (Domain(2.0**-7, power=0.9),), "first", truth=lambda x: scipy.special.polygamma(1, x)),
    Function("polygamma", lambda x: jax.scipy.special.polygamma(3, x),
             (Domain(0.125, power=0.9),), "third", truth=lambda x: scipy.special.polygamma(3, x)),
    Function("polygamma", lambda x: jax.scipy.special.polygamma(1, x), (Domain(-50, -0.0625),),
             "negative", truth=_trigamma, holds=lambda x: np.abs(x - np.rint(x)) > 0.2),
    Function("igamma_grad_a", lax.igamma_grad_a, (Domain(2.0**-4, 60.0), Domain(0.0, 120.0))),
    Function("bessel_i0e", jax.scipy.special.i0e),
    Function("bessel_i1e", jax.scipy.special.i1e),
    Function("chebyshev", jax.scipy.special.erfcx, name="erfcx", holds=lambda x: x > -5,
             truth=scipy.special.erfcx),  # JAX's own is 0 at 26.6
    Function("chebyshev", jax.scipy.special.log_ndtr, name="log_ndtr", course="rising",
             truth=scipy.special.log_ndtr),  # JAX's own has three terms below -20
    Function("chebyshev", jax.scipy.special.dawsn, name="dawsn"),
    Function("chebyshev", jax.scipy.special.expi, name="expi", truth=scipy.special.expi,
             holds=lambda x: x != 0),
    Function("chebyshev", jax.scipy.special.exp1, (POSITIVE,), name="exp1",
             truth=scipy.special.exp1, holds=lambda x: x > 0),
    Function("chebyshev", lambda x: jax.scipy.special.expn(3, x), (POSITIVE,), name="expn",
             truth=lambda x: scipy.special.expn(3, x)),
    Function("chebyshev", lambda x: sum(jax.scipy.special.fresnel(x)) / 2, name="fresnel"),
    Function("chebyshev", lambda x: sum(jax.scipy.special.sici(x)) / 2, name="sici",
             holds=lambda x: x != 0),
    Function("chebyshev", lambda x: jax.scipy.special.hyp1f1(0.5, 1.5, x), (HYPER,), "hyp1f1",
             course="rising", truth=lambda x: scipy.special.hyp1f1(0.5, 1.5, x)),
    Function("chebyshev", lambda x: jax.scipy.special.hyp1f1(3.0, 1.25, x), (HYPER,), "hyp1f1-3",
             truth=lambda x: scipy.special.hyp1f1(3.0, 1.25, x)),
    Function("chebyshev", lambda x: jax.scipy.special.hyp2f1(0.5, 0.75, 2.25, x), (BELOW_1,),
             "hyp2f1", course="rising", truth=lambda x: scipy.special.hyp2f1(0.5, 0.75, 2.25, x)),
    Function("chebyshev", lambda x: jax.scipy.special.hyp2f1(1.0, 1.0, 2.0, x), (BELOW_1,),
             "hyp2f1-log", course="rising", holds=lambda x: x < 1,
             truth=lambda x: np.where(x == 0, 1, -np.log1p(-x) / np.where(x == 0, 1, x))),
    Function("floor", jnp.floor, course="rising", exact=True),
    Function("ceil", jnp.ceil, course="rising", exact=True),
    Function("round", jnp.round, course="rising", exact=True),
    Function("round", lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), name="away",
             course="rising", exact=True),
    Function("sign", jnp.sign, course="rising", exact=True),
    Function("abs", jnp.abs, exact=True),
    Function("custom_jvp_call", lambda x: jnp.frexp(x)[0], name="frexp"),
    Function("custom_jvp_call", lambda x: jnp.frexp(x)[1], name="frexp-exponent", exact=True),
    Function("max", jnp.maximum, (ALL, ALL), exact=True),
    Function("min", jnp.minimum, (ALL, ALL), exact=True),
    Function("clamp", lambda x: jnp.clip(x, -3, 1e4), exact=True),
    Function("clamp", lambda x: jnp.maximum(jnp.minimum(x, 7.5), -2.25), name="max-of-min",
             exact=True),
    Function("clamp", lambda x: jnp.clip(x, 3, -3), name="crossed", exact=True),
    Function("lt", lambda x, y: (x < y) + 2 * (x <= y) + 4.0 * (x == y), (ALL, ALL), exact=True),
    Function("select_n", lambda x, y: jnp.where(x > 0, y, -x), (ALL, ALL), exact=True),
    Function("convert_element_type", lambda x: x.astype(jnp.int32), (Domain(-2e9, 2e9),),
             name="truncated", course="rising", exact=True),
    Function("log1p", jnp.logaddexp, (Domain(-4e5, 4e5), Domain(-4e5, 4e5)), name="logaddexp2"),
    Function("log", lambda x: jnp.log2(x), (POSITIVE,), name="log2", course="rising",
             holds=lambda x: x > 0),
    Function("mul", lambda x, y: x * y, (ROOT, ROOT)),
    Function("square", jnp.square, (ROOT,)),
    Function("integer_pow", lambda x: x**-3, name="inverse"),
    Function("pow", lambda x, y: x**y, (Domain(2.0**-6, 64.0), Domain(-4.0, 4.0)), name="powers"),
    Function("pow", lambda x, y: x**y, (Domain(0.75, 1.25), Domain(-64.0, 64.0)), name="large"),
    Function("pow", lambda x: x**60.5, (Domain(0.75, 1.25),), name="public-large"),
    Function("pow", lambda x: x**1.75, (Domain(0.0, 1e6),), name="public", course="rising"),
    Function("rem", jnp.fmod, (Domain(-500, 500), Domain(lo=16)), name="domain"),
    Function("tanh", jax.nn.gelu, (Domain(-100, 100),), name="gelu"),
    Function("exp", lambda x: jax.nn.elu(x), name="elu", course="rising"),
    Function("log", jax.scipy.special.entr, (AMOUNT,), name="entr"),
    Function("log", lambda x: jax.vmap(jax.grad(jax.scipy.special.entr))(x), (POSITIVE,),
             name="entr-slope", holds=lambda x: x > 0),
    Function("log", lambda x, y: jax.scipy.special.xlogy(x, y), (FACTOR, POSITIVE), name="xlogy",
             holds=lambda x, y: y > 0),
    Function("log1p", lambda x, y: jax.scipy.special.xlog1py(x, y), (FACTOR, Domain(lo=-1)),
             name="xlog1py", truth=scipy.special.xlog1py, holds=lambda x, y: y > -1),
    Function("log", jax.scipy.special.rel_entr, (AMOUNT, AMOUNT), "rel_entr",
             truth=scipy.special.rel_entr, holds=lambda p, q: q > 0),
    Function("log", jax.scipy.special.kl_div, (AMOUNT, AMOUNT), "kl_div",
             truth=scipy.special.kl_div, holds=lambda p, q: q > 0),
    Function("log", lambda p, q: jax.vmap(jax.grad(jax.scipy.special.kl_div))(p, q),
             (BELOW, BELOW), "kl_div-slope", truth=lambda p, q: np.log(p) - np.log(q),
             holds=lambda p, q: (p > 0) & (q > 0)),
    Function("div", lambda p, q: jax.vmap(jax.grad(jax.scipy.special.kl_div, 1))(p, q),
             (BELOW, BELOW), "kl_div-slope", truth=lambda p, q: 1 - p / q,
             holds=lambda p, q: (p > 0) & (q > 0)),
    Function("expm1", jax.scipy.special.boxcox, (POSITIVE, Domain(-1, 1)), "boxcox",
             truth=scipy.special.boxcox, holds=lambda x, y: (x > 0) & _moderate(x, y)),
    Function("expm1", lambda x: jax.scipy.special.boxcox(x, 0.015625), (POSITIVE,),
             "boxcox-public", truth=lambda x: scipy.special.boxcox(x, 0.015625), course="rising",
             holds=lambda x: x > 0),
    Function("expm1", jax.scipy.special.boxcox1p, (Domain(lo=-1), Domain(-1, 1)), "boxcox1p",
             truth=scipy.special.boxcox1p, holds=lambda x, y: (x > -1) & _moderate(1 + x, y)),
    Function("sqrt", lambda x, y: jnp.hypot(x, y), (Domain(-1e3, 1e3), Domain(-1e3, 1e3)),
             name="hypot"),
]  # fmt: skip
