"""jax.scipy.special.bessel_jn and its derivatives, which JAX makes of a loop that divides by x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    "this derivative of bessel_jn has no form for secrets",
    next="its slope is, with n > 0: j = bessel_jn(x, v=n + 1); slope = (j[n - 1] - j[n + 1]) / 2",
)


def bessel_jn(low: Lowering, out: Sequence[Out], jaxpr: Any, args: Sequence[Value]) -> list[Value]:
    """All orders up to the one that was asked for, or a derivative; forwards inside of vmap too.

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
    for maps in range(len(out[0].shape)):
        call = Call(out[0].shape[maps] - 1, scans[0]["length"] - 1, maps)
        made = _made(low, out, jaxpr, args, call)
        if made is not None:
            return made
    raise _REFUSED


@dataclass(frozen=True, slots=True)
class Call:
    """bessel_jn inside of `maps` calls of vmap; the axis of the orders comes after theirs."""

    order: int
    steps: int
    maps: int

    def __call__(self, x: Any) -> Any:
        """JAX's own, of what is inside of the calls of vmap."""
        return jax.scipy.special.bessel_jn(x, v=self.order, n_iter=self.steps)

    def mapped(self, fn: Any) -> Any:
        """`fn` inside of the calls of vmap."""
        for _ in range(self.maps):
            fn = jax.vmap(fn)
        return fn

    def values(self, x: Any) -> Any:
        """All orders."""
        return jnp.moveaxis(integrals.bessel_jn(x, self.order, self.steps), 0, self.maps)

    def slopes(self, x: Any) -> Any:
        """Those of all orders: J_n' = (J_(n-1) - J_(n+1)) / 2."""
        j = integrals.bessel_jn(x, self.order + 1, self.steps)
        below = jnp.concatenate([-j[1:2], j[: self.order]], 0)
        return jnp.moveaxis((below - j[1:]) * 0.5, 0, self.maps)

    def in_place(self, x: Any) -> Any:
        """What is given for each x where all orders are."""
        return jnp.expand_dims(x, self.maps)


def _made(
    low: Lowering, out: Sequence[Out], jaxpr: Any, args: Sequence[Value], call: Call
) -> list[Value] | None:
    """The results if this is the call, forwards or on its way back, else None."""
    wanted, x, dtype = str(jaxpr), args[0], out[0].dtype
    assert isinstance(x, Secret)
    shape = low.shape(x.id)

    def is_it(fn: Any, *shapes: tuple[int, ...]) -> bool:
        found = _inner(call.mapped(fn), *(jax.ShapeDtypeStruct(s, dtype) for s in shapes))
        return found[:1] == [wanted]

    def along(v: Any, t: Any) -> Any:
        return jax.jvp(call, (v,), (t,))

    if out[0].shape != (*shape[: call.maps], call.order + 1, *shape[call.maps :]):
        return None
    if len(args) == 1 and is_it(call, shape):
        return in_place(low, lambda v, _: call.values(v), x)
    if len(args) == 2:
        tangent = args[1].shape if not isinstance(args[1], Secret) else low.shape(args[1].id)
        operands = [lift(low, v, dtype) for v in args]
        if tangent == shape and is_it(along, shape, shape):
            return _lowered(
                low, lambda v, t: (call.values(v), call.slopes(v) * call.in_place(t)), operands
            )
        # Several tangents of one point, as jacfwd has them.
        several = jax.vmap(along, (None, 0), (None, 0))
        if len(tangent) == len(shape) + 1 and is_it(several, shape, tangent):

            def each(v: Any, t: Any) -> tuple[Any, Any]:
                slopes = jnp.expand_dims(call.slopes(v), call.maps)
                return call.values(v), slopes * jnp.expand_dims(t, call.maps + 1)

            return _lowered(low, each, operands)
        return None
    if len(args) > 1 or call.maps:
        return None
    both = _inner(
        lambda v, c: jax.vjp(call, v)[1](c),
        jax.ShapeDtypeStruct(shape, dtype),
        jax.ShapeDtypeStruct(out[0].shape, dtype),
    )
    if len(both) != 2 or both[0] != wanted:
        return None
    made = in_place(low, lambda v, _: call.values(v), x)
    return _with_residual(low, out, made, x, {both[1]: call})


def _inner(fn: Any, *shapes: Any) -> list[str]:
    """The bodies that a function calls, as text."""
    eqns = jax.make_jaxpr(fn)(*shapes).jaxpr.eqns
    return [str(e.params["jaxpr"].jaxpr) for e in eqns if "jaxpr" in e.params]


def _with_residual(
    low: Lowering, out: Sequence[Out], made: list[Value], x: Secret, way: dict[str, Call]
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
    call = known.ways_back[way]

    def weighted(x: Any, c: Any) -> Any:
        return jnp.sum(call.slopes(x) * c, call.maps)

    x = Secret(known.source, out[0].dtype)
    return _lowered(low, weighted, [x, lift(low, cotangent, out[0].dtype)])


def _lowered(low: Lowering, fn: Any, operands: Sequence[Secret]) -> list[Value]:
    shapes = [jax.ShapeDtypeStruct(low.shape(v.id), v.dtype) for v in operands]
    with low.one_line():
        return lower_closed(low, jax.make_jaxpr(fn)(*shapes), operands)
