"""jnp.corrcoef as products of unit rows: covariances leave the ring, or have no digits left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from spuvm.compiler.context import Lowering
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.values import Value


def corrcoef(low: Lowering, jaxpr: Any, args: Sequence[Value]) -> list[Value] | None:
    """The correlations, if the body computes them of whole tables; None for a derivative."""
    avals = [v.aval for v in jaxpr.invars]
    if len(jaxpr.outvars) != 1 or not 1 <= len(avals) <= 2:
        return None
    if any(a.ndim > 2 or np.dtype(a.dtype).kind not in "iuf" for a in avals):
        return None
    for columns in (False, True):
        form = partial(_of_unit_rows, columns)
        if _same_on_a_sample(jaxpr, form):
            return lower_closed(low, jax.make_jaxpr(form)(*avals), args)
    return None


def _of_unit_rows(columns: bool, *tables: Any) -> Any:
    rows = [jnp.atleast_2d(t) for t in tables]
    x = jnp.concatenate([r.T if columns and r.shape[0] != 1 else r for r in rows])
    x = x.astype(jnp.result_type(x, float)) if x.dtype.kind != "f" else x
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    unit = centred / jnp.linalg.norm(centred, axis=1, keepdims=True)
    return jnp.clip(unit @ unit.T, -1, 1) if x.shape[0] > 1 else jnp.ones((), x.dtype)


def _same_on_a_sample(jaxpr: Any, form: Callable[..., Any]) -> bool:
    """Whether it is the columns that are correlated no parameter of the call says."""
    aval = jaxpr.outvars[0].aval
    made = jax.eval_shape(form, *(v.aval for v in jaxpr.invars))
    if (made.shape, made.dtype) != (aval.shape, aval.dtype):
        return False  # not computed: of a long table the other way has no end
    rng = np.random.default_rng(0)
    sample = [
        rng.integers(-9, 10, v.aval.shape).astype(v.aval.dtype)
        if np.dtype(v.aval.dtype).kind in "iu"
        else rng.normal(size=v.aval.shape).astype(v.aval.dtype)
        for v in jaxpr.invars
    ]
    with jax.ensure_compile_time_eval():
        (want,) = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))(*sample)
        got = form(*sample)
    return bool(np.allclose(got, want, atol=1e-3))
