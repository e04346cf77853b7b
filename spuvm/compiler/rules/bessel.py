"""jax.scipy.special.bessel_jn and its derivatives, which JAX makes of a loop that divides by x."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler import integrals
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import BesselResidual, mark, root
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out
from spuvm.compiler.rules.special import in_place
from spuvm.compiler.values import Value, lift
from spuvm.errors import CompileError

_REFUSED = CompileError(
    "bessel_jn inside of vmap or of a second derivative has no form for secrets",
    next="call it on the whole array: it takes its elements one by one anyway; its slope "
    "is, with n > 0: j = bessel_jn(x, v=n + 1); slope = (j[n - 1] - j[n + 1]) / 2",
)


def bessel_jn(low: Lowering, out: Sequence[Out], jaxpr: Any, args: Sequence[Value]) -> list[Value]:
    """All orders up to the one that was asked for, or a derivative of them.

    Backwards there are two calls: the first hands its operand on, in the place of what JAX keeps.

    Raises:
        CompileError: another transformation of the function.
    """
    for v in args[:-1]:
        fact = low.facts.get(root(low, v.id)) if isinstance(v, Secret) else None
        if isinstance(fact, BesselResidual) and str(jaxpr) in fact.ways_back:
            return _backwards(low, out, fact, str(jaxpr), args[-1])
    scans = [e.params for e in jaxpr.eqns if e.primitive.name == "scan"]
    if not scans:
        raise _REFUSED
    order, steps = (out[0].shape or (1,))[0] - 1, scans[0]["length"] - 1
    call = partial(jax.scipy.special.bessel_jn, v=order, n_iter=steps)
    (x, *rest) = args
    assert isinstance(x, Secret)
    if not rest and _inner(call, jaxpr.invars[0].aval)[0] == str(jaxpr):
        return in_place(low, lambda v, _: integrals.bessel_jn(v, order, steps), x)
    aval = jax.ShapeDtypeStruct(out[0].shape[1:], out[0].dtype)
    if len(rest) == 1 and _inner(lambda v, t: jax.jvp(call, (v,), (t,)), aval, aval)[0] == str(
        jaxpr
    ):
        forwards = partial(_with_slopes, order=order, steps=steps)
        return _lowered(low, forwards, [lift(low, v, out[0].dtype) for v in args])
    cotangent = jax.ShapeDtypeStruct(out[0].shape, out[0].dtype)
    both = _inner(lambda v, c: jax.vjp(call, v)[1](c), aval, cotangent)
    if rest or len(both) != 2 or both[0] != str(jaxpr):
        raise _REFUSED
    made = in_place(low, lambda v, _: integrals.bessel_jn(v, order, steps), x)
    return _with_residual(low, out, made, x, {both[1]: (order, steps)})


def _inner(fn: Any, *shapes: Any) -> list[str]:
    """The bodies that a function calls, as text."""
    eqns = jax.make_jaxpr(fn)(*shapes).jaxpr.eqns
    return [str(e.params["jaxpr"].jaxpr) for e in eqns if "jaxpr" in e.params]


def _with_residual(
    low: Lowering, out: Sequence[Out], made: list[Value], x: Secret, way: dict[str, Any]
) -> list[Value]:
    """Zeros for what JAX keeps for the way back, but for one place, which has x."""
    rest: list[Value] = [np.zeros(o.shape, o.dtype) for o in out[1:]]
    places = [i for i, o in enumerate(out[1:]) if (o.shape, o.dtype) == (low.shape(x.id), x.dtype)]
    if not places:
        raise _REFUSED
    own = low.emit("neg_a", low.emit("neg_a", x.id))  # x under a name that nothing else has
    before = low.facts.get(own)
    ways = {**before.ways_back, **way} if isinstance(before, BesselResidual) else way
    rest[places[0]] = Secret(mark(low, own, BesselResidual(x.id, ways)), x.dtype)
    return [*made, *rest]


def _backwards(
    low: Lowering, out: Sequence[Out], known: BesselResidual, way: str, cotangent: Value
) -> list[Value]:
    """The sum of the slopes of all orders, each times its cotangent."""
    order, steps = known.ways_back[way]
    slopes = partial(_with_slopes, order=order, steps=steps)

    def weighted(x: Any, c: Any) -> Any:
        return jnp.sum(slopes(x, jnp.ones_like(x))[1] * c, 0)

    x = Secret(known.source, out[0].dtype)
    return _lowered(low, weighted, [x, lift(low, cotangent, out[0].dtype)])


def _with_slopes(x: Any, tangent: Any, *, order: int, steps: int) -> tuple[Any, Any]:
    """All orders and their slopes times the tangent: J_n' = (J_(n-1) - J_(n+1)) / 2."""
    j = integrals.bessel_jn(x, order + 1, steps)
    below = jnp.concatenate([-j[1:2], j[:order]], 0)
    return j[: order + 1], (below - j[1:]) * (0.5 * tangent)


def _lowered(low: Lowering, fn: Any, operands: Sequence[Secret]) -> list[Value]:
    shapes = [jax.ShapeDtypeStruct(low.shape(v.id), v.dtype) for v in operands]
    with low.one_line():
        return lower_closed(low, jax.make_jaxpr(fn)(*shapes), operands)
