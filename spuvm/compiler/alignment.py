"""How operands of different shapes meet in the result of a function of one element of each.

Under jax.vmap a batch may be any axis of an operand, and what was not batched lacks it: how they
are laid beside each other is in the body of the function alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jax.extend import core

from spuvm.compiler.calls import body_of
from spuvm.errors import CompileError

LAYOUT = frozenset(["broadcast_in_dim", "transpose", "reshape", "squeeze", "expand_dims"])
Places = npt.NDArray[np.int32]


def places_of(jaxpr: Any, shape: tuple[int, ...], result: int = 0) -> list[Places | None]:
    """Per operand of `jaxpr` which of its elements, counted flat, each one of a result is made of.

    `shape` is that of the result, which is counted from 0.

    None for operands that are scalars or have the shape of the result and its order.

    Raises:
        CompileError: the body does not say it.
    """
    avals = [v.aval for v in jaxpr.invars]
    if all(a.shape in ((), shape) for a in avals) and len(shape) < 2:
        return [None] * len(avals)
    found: list[Places | None] = []
    for i, aval in enumerate(avals):
        if aval.shape == ():
            found.append(None)
            continue
        given: list[Places | None] = [None] * len(avals)
        given[i] = np.arange(aval.size, dtype=np.int32).reshape(aval.shape)
        made = _follow(jaxpr, given)[result]
        if made is None or made.shape != shape:
            raise CompileError(
                "how the operands of this function meet inside of vmap is not known",
                next="call it on whole arrays: it takes their elements one by one anyway",
            )
        same = aval.shape == shape and bool((made == given[i]).all())
        found.append(None if same else made)
    return found


def _follow(jaxpr: Any, given: Sequence[Places | None]) -> list[Places | None]:
    """Places in the results, from those in the operands, of an open or closed jaxpr."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    known = {v: p for v, p in zip(jaxpr.invars, given, strict=True) if p is not None}

    def of(atom: Any) -> Places | None:
        return None if isinstance(atom, core.Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        operands = [of(a) for a in eqn.invars]
        if all(p is None for p in operands):
            continue
        name, results = eqn.primitive.name, eqn.outvars
        body = body_of(eqn.params)
        made: list[Places | None]
        if name in LAYOUT:
            made = [np.asarray(eqn.primitive.bind(operands[0], **eqn.params))]
        elif body is not None:
            made = _follow(body, operands)
        else:
            made = [_beside(operands, v.aval.shape) for v in results]
        known.update((v, p) for v, p in zip(results, made, strict=True) if p is not None)
    return [of(a) for a in jaxpr.outvars]


def _beside(operands: Sequence[Places | None], shape: tuple[int, ...]) -> Places | None:
    """The places of one of the operands of an operation on elements."""
    for p in operands:
        if p is not None and (p.ndim == len(shape) or p.ndim == 0):
            try:
                return np.broadcast_to(p, shape)
            except ValueError:
                continue
    return None
