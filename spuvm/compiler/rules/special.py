"""Special functions that are written in JAX (compiler/special.py), lowered in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from spuvm.compiler import arith, betas, gammas, order, special, zetas
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import LogGamma, root
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.numeric.polynomial import basis, evaluate
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.compare import select_n
from spuvm.compiler.rules.elementwise import mul
from spuvm.compiler.values import Value, lift, public
from spuvm.errors import CompileError

MORE_BITS = 4  # more fraction bits inside of functions that add up the roundings of many parts


@rule("chebyshev")
def chebyshev(low: Lowering, out: list[Out], w: Secret, *, series: tuple[float, ...]) -> Secret:
    """A series of Chebyshev polynomials in w, which is in [-1, 1]."""
    return Secret(evaluate(low, arith.settle(low, w.id), series, low.f), w.dtype)


@rule("chebyshev_basis")
def chebyshev_basis(low: Lowering, out: list[Out], w: Secret, *, degree: int) -> Secret:
    """The Chebyshev polynomials up to a degree, of w in [-1, 1], stacked."""
    made = basis(low, arith.settle(low, w.id), degree)
    row = (1, *low.shape(w.id))
    first = lift(low, np.ones(row), w.dtype).id
    parts = [first, *(low.reshape(x, row) for x in made)]
    return Secret(low.concat(arith.align(low, parts), 0), w.dtype)


@rule("finer_product")
def finer_product(low: Lowering, out: list[Out], x: Value, y: Value) -> Secret:
    """x y = x (h + l): h is y with the program's fraction bits, l is the rest, about a unit."""
    if not isinstance(x, Secret) or not isinstance(y, Secret):
        return mul(low, out, x, y)
    more, a, high = low.frac(y.id) - low.f, arith.settle(low, x.id), arith.settle(low, y.id)
    made = arith.mul(low, a, high)
    if more > 0:
        rest = arith.retype(low, arith.sub(low, y.id, high), low.f)  # times 2^more
        part = arith.mul(low, a, low.narrowed(rest, -2 << more, 2 << more))
        made = arith.add(low, made, arith.retype(low, part, low.frac(part) + more))
    return Secret(made, x.dtype)


@lru_cache(maxsize=512)
def _traced(
    function: Callable[..., Any],
    shapes: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    wide: bool,
    *rest: int | str,
) -> Any:
    """The equations of a function of arrays and of `rest`; JAX makes others where it is `wide`."""
    given = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.make_jaxpr(lambda *vs: function(*vs, *rest))(*given)


def in_place(low: Lowering, function: Callable[[Any, str], Any], x: Secret) -> list[Any]:
    """The results of a JAX function of one array and its known sign, as one line of the user's."""
    shape = jax.ShapeDtypeStruct(low.shape(x.id), np.dtype(x.dtype))
    sign = _sign(low, x)
    return _in_place(low, jax.make_jaxpr(lambda v: function(v, sign))(shape), x)


def _sign(low: Lowering, x: Secret) -> str:
    return "positive" if order.negative(low, x.id) is False else "any"


def _in_place(low: Lowering, closed: Any, x: Secret) -> list[Any]:
    ready = Secret(arith.settle(low, x.id), x.dtype)
    with low.one_line(), low.unchecked():
        made = lower_closed(low, closed, [ready])
    return [Secret(arith.settle(low, v.id), v.dtype) if isinstance(v, Secret) else v for v in made]


def of_many(
    low: Lowering,
    function: Callable[..., Any],
    o: Out,
    *operands: Value,
    finer: int = 0,
    rest: tuple[int, ...] | None = None,
) -> Secret:
    """A JAX function of arrays of one shape, traced for float64 so that public ones keep digits.

    It is computed with up to `finer` more fraction bits. One that takes `rest` as well is a
    function of these alone, and traced once.
    """
    wide = np.dtype(np.float64)
    ready: list[Value] = []
    for v in operands:
        if isinstance(v, Secret):
            ready.append(Secret(low.spread(arith.settle(low, v.id), o.shape), wide))
        else:
            ready.append(np.broadcast_to(public(v).astype(wide), o.shape))
    with jax.enable_x64(True), low.one_line(), low.unchecked(), low.finer(finer):
        shapes = tuple(tuple(o.shape) for _ in ready)
        trace = _traced if rest is not None else _traced.__wrapped__
        closed = trace(function, shapes, wide, True, *(rest or ()))
        (made,) = lower_closed(low, closed, ready)
        result = lift(low, made, o.dtype).id
    return Secret(arith.settle(low, result), o.dtype)


MANY: dict[str, Callable[..., Any]] = {
    **gammas.FUNCTIONS,
    "zeta": zetas.zeta,
    "regularized_incomplete_beta": betas.betainc,
}


def _rule_of_many(name: str) -> None:
    function = MANY[name]

    def lowered(low: Lowering, out: list[Out], *operands: Value, **_: Any) -> Secret:
        f = low.f
        finer = MORE_BITS if name == "regularized_incomplete_beta" else 0  # a and b are bounded
        return of_many(low, function, out[0], *operands, finer=finer, rest=(f,))

    lowered.__doc__ = function.__doc__
    rule(name)(lowered)


@rule("polygamma")
def polygamma(low: Lowering, out: list[Out], n: Value, x: Value, **_: Any) -> Value:
    """Derivatives of digamma, of public orders."""
    (o,) = out
    if isinstance(n, Secret) or not isinstance(x, Secret):
        raise CompileError(
            "polygamma of a secret order is not supported",
            next="give the order as a public number, or choose among a few orders with jnp.where",
        )
    number = np.broadcast_to(np.asarray(public(n)), o.shape)
    sign = "positive" if order.negative(low, x.id) is False else "any"
    made: Value | None = None
    for m in map(int, np.unique(number)):
        if m:
            one: Value = of_many(low, lambda v, m=m: zetas.polygamma(m, v, low.f, sign), o, x)
        else:
            (one,) = in_place(low, lambda v, sign: special.digamma(v, low.f, sign), x)
            one = Secret(low.spread(one.id, o.shape), o.dtype)
        made = one if made is None else select_n(low, out, number == m, made, one)
    return np.zeros(o.shape, o.dtype) if made is None else made


def _rule_of(name: str) -> None:
    function = special.FUNCTIONS[name]

    def lowered(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Any:
        wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
        shape, dtype = low.shape(x.id), np.dtype(x.dtype)
        closed = _traced(function, (shape,), dtype, wide, low.f, _sign(low, x))
        (made,) = _in_place(low, closed, x)
        if name == "lgamma":
            low.facts.setdefault(root(low, made.id), LogGamma(x.id))
        return made

    lowered.__doc__ = function.__doc__
    rule(name)(lowered)


for _name in special.FUNCTIONS:
    _rule_of(_name)
for _name in MANY:
    _rule_of_many(_name)
