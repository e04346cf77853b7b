"""The body of an equation that calls a function."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax

BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call", "callee")


def body_of(params: dict[str, Any]) -> Any:
    """The jaxpr, closed or open, that an equation with these params calls; None if it calls none.

    JAX keeps some functions of its own (searchsorted, nonzero, frexp from 0.12 on) whole while it
    traces and opens them when it compiles: here they are opened when something asks for a body.
    """
    if "_prim" in params:
        prim = params["_prim"]
        try:
            hash(prim)
        except TypeError:  # one of its parameters is a list
            return _open(prim, prim.in_avals_flat)
        return _opened(prim, tuple(prim.in_avals_flat))
    return next((params[name] for name in BODIES if params.get(name) is not None), None)


def _open(prim: Any, avals: Sequence[Any]) -> Any:
    def flat(*leaves: Any) -> list[Any]:
        made = prim.expand(*jax.tree.unflatten(prim.in_tree, leaves))
        leaves_of_it: list[Any] = jax.tree.leaves(made)
        return leaves_of_it

    shapes = [
        jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=getattr(a, "weak_type", False))
        for a in avals
    ]
    return jax.make_jaxpr(flat)(*shapes)


_opened = lru_cache(1024)(_open)
