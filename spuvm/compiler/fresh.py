"""``fresh``, ``shuffled``: what no party knows, drawn when the program runs, as primitives of JAX.

The primitives have an effect, so that JAX neither drops nor repeats them: `jax.checkpoint`, which
would draw twice what must be one value, refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax._src import core as core_internals
from jax._src import effects
from jax._src import source_info_util as source_internals
from jax._src.interpreters.partial_eval import DynamicJaxprTrace
from jax.extend import core
from jax.interpreters import ad, batching

from spuvm.errors import UsageError


class Fresh(effects.Effect):
    """The effect of drawing: two draws are two values."""

    __str__ = lambda self: "Fresh"  # noqa: E731


FRESH = Fresh()
effects.control_flow_allowed_effects.add_type(Fresh)
effects.custom_derivatives_allowed_effects.add_type(Fresh)

fresh_p = core.Primitive("fresh")
shuffled_p = core.Primitive("shuffled")
shuffled_p.multiple_results = True


@fresh_p.def_effectful_abstract_eval  # type: ignore[untyped-decorator]
def _shape(*like: Any, shape: Any, dtype: Any, kind: str, below: int) -> Any:
    return jax.core.ShapedArray(shape, np.dtype(dtype)), {FRESH}


@shuffled_p.def_effectful_abstract_eval  # type: ignore[untyped-decorator]
def _same_shapes(*operands: Any, count: int, lead: int) -> Any:
    return [x.update(weak_type=False) for x in operands[:count]], {FRESH}


@shuffled_p.def_impl  # type: ignore[untyped-decorator]
@fresh_p.def_impl  # type: ignore[untyped-decorator]
def _refuse(*like: Any, **params: Any) -> Any:
    raise UsageError(
        "sf.random draws shares, and there are none in plain JAX",
        next="call the function under sf.simulate or an SPU; in plaintext use jax.random",
    )


def _batched(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Any:
    """Every member of a batch draws its own, whatever the draw depends on."""
    params["shape"] = (axis.size, *params["shape"])
    return fresh_p.bind(*args, **params), 0


batching.fancy_primitive_batchers[fresh_p] = _batched  # called without batched operands, too


def _shuffled_batch(
    axis: Any, args: Sequence[Any], dims: Sequence[Any], *, count: int, lead: int
) -> Any:
    """Every member of a batch gets an order of its own."""
    moved = [
        jax.numpy.broadcast_to(a, (axis.size, *a.shape)) if d is None
        else jax.numpy.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    ]  # fmt: skip
    return shuffled_p.bind(*moved, count=count, lead=lead + 1), [0] * count


batching.fancy_primitive_batchers[shuffled_p] = _shuffled_batch


def _no_slope(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    """A draw depends on its operands, but not on their values."""
    made = fresh_p.bind(*primals, **params)
    return made, ad.Zero(jax.typeof(made).to_tangent_aval())


ad.primitive_jvps[fresh_p] = _no_slope


def surroundings() -> tuple[Any, ...]:
    """The arguments of the function that is traced: the state of a loop, in its body.

    A draw that depends on them stays in the loop when JAX differentiates it and moves out what is
    the same in every step.
    """
    trace = core_internals.trace_ctx.trace
    while trace is not None and not isinstance(trace, DynamicJaxprTrace):
        trace = getattr(trace, "parent_trace", None)
    if trace is None:
        return ()
    now = source_internals.current()
    return tuple(
        trace.var_to_tracer(v, now)
        for v in trace.frame.invars
        if isinstance(v.aval, jax.core.ShapedArray)
        and any(jax.numpy.issubdtype(v.aval.dtype, kind) for kind in (np.number, np.bool_))
    )


def fresh(
    kind: str, shape: Sequence[int], dtype: Any, like: Any = None, *, below: int = 0
) -> jax.Array:
    """Bind the primitive; kinds are those of rules/random.py.

    `like` is any array that the draw shall depend on besides the arguments of what is traced.
    """
    operands = (*surroundings(), *(() if like is None else jax.tree.leaves(like)))
    made: jax.Array = fresh_p.bind(
        *operands, shape=tuple(shape), dtype=np.dtype(dtype).name, kind=kind, below=below
    )
    return made


def shuffled(arrays: Sequence[jax.Array], like: Any = None) -> list[jax.Array]:
    """The arrays in one random order along axis 0, the same for all; `like` as in `fresh`."""
    operands = (
        () if like is None else tuple(jax.lax.stop_gradient(x) for x in jax.tree.leaves(like))
    )
    made: list[jax.Array] = shuffled_p.bind(*arrays, *operands, count=len(arrays), lead=0)
    return made
