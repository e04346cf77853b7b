"""The derivative of jax.scipy.linalg.expm by reverse mode.

expm is a quotient of polynomials in a matrix whose coefficients are up to 2^24, or 2^56 for
float64. Going forwards they are divided by each other; going backwards a cotangent is first divided
by them, which leaves nothing of it in fixed point, and then multiplied. It is linear in the
cotangent, so that it can be computed of one that is as much larger.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_jaxpr
from spuvm.compiler.rules import Out
from spuvm.compiler.rules.elementwise import mul
from spuvm.compiler.values import Value, lift
from spuvm.errors import CompileError

COEFFICIENTS = {4: 24, 8: 56}  # bits, by the size of the dtype
_CALLED = re.compile(r"expm(?:_frechet)? at .*jax._src.scipy.linalg\.py")


def backward(
    low: Lowering, out: Sequence[Out], jaxpr: Any, consts: Any, args: Sequence[Value]
) -> list[Value] | None:
    """The results of a call that carries a cotangent back through expm; None of any other.

    Raises:
        CompileError: the coefficients are too large, or it is a derivative of a derivative.
    """
    if not _CALLED.match(jaxpr.debug_info.func_src_info or ""):
        return None
    bits = COEFFICIENTS.get(out[0].dtype.itemsize, 24)
    if 2.0**bits > low.config.fxp.max_float:
        raise CompileError(
            f"expm of {out[0].dtype} has coefficients up to 2^{bits}",
            expected=f"|x| < {low.config.fxp.max_float:g}",
            next="take expm(x.astype(jnp.float32)), which only has smaller ones, up to 2^24"
            if bits > 24
            else "take sf.Config(ring=64)",
        )
    names = set(_names(jaxpr))
    if "lu" in names or "triangular_solve" not in names:  # forwards, its factors are made
        return None
    given, shape = args[-1], tuple(jaxpr.invars[-1].aval.shape)
    if len(out) != 1 or out[0].shape[-len(shape) :] != shape or len(shape) < 2:  # may be batched
        raise CompileError(
            "this derivative of expm by reverse mode loses its digits",
            next="take it by forward mode: jax.jacfwd(f), or jax.jacfwd(jax.jacfwd(f)) for a "
            "second derivative",
        )
    more = 2.0**bits
    ready = lift(low, given, out[0].dtype)
    large = mul(low, [Out(shape, out[0].dtype)], ready, np.asarray(more, out[0].dtype))
    with low.unchecked():
        (made,) = lower_jaxpr(low, jaxpr, consts, [*args[:-1], large])
    result = lift(low, made, out[0].dtype)
    settled = Secret(arith.settle(low, result.id), out[0].dtype)
    return [mul(low, list(out), settled, np.asarray(1 / more, out[0].dtype))]


def _names(jaxpr: Any) -> Sequence[str]:
    """The primitives of a jaxpr and of those inside it."""
    made = []
    for eqn in jaxpr.eqns:
        made.append(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    made += _names(inner)
    return made
