"""``assume_range``: the user's promise about a value, as an identity that JAX can transform."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from spuvm.errors import UsageError

assume_range_p = core.Primitive("assume_range")
assume_range_p.def_impl(lambda x, *, lo, hi: x)
assume_range_p.def_abstract_eval(lambda x, *, lo, hi: x)
mlir.register_lowering(assume_range_p, lambda ctx, x, *, lo, hi: [x])
batching.defvectorized(assume_range_p)
# A tangent has no promised range: the derivative of the identity is the identity.
ad.deflinear2(assume_range_p, lambda ct, x, *, lo, hi: [ct])
ad.primitive_jvps[assume_range_p] = lambda primals, tangents, *, lo, hi: (
    assume_range_p.bind(*primals, lo=lo, hi=hi),
    tangents[0],
)


def assume_range(x: Any, lo: float, hi: float) -> Any:
    """`x`, with the promise that lo <= x <= hi in every element; a wrong promise gives garbage.

    The compiler then leaves out what cannot matter in this range. In plain JAX it does nothing.

    Raises:
        UsageError: bounds that are not finite numbers with lo <= hi.
    """
    try:
        low, high = float(lo), float(hi)
    except TypeError as error:
        raise UsageError("assume_range: the bounds must be numbers known in advance") from error
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise UsageError(
            "assume_range: unusable bounds",
            got=f"lo={lo!r}, hi={hi!r}",
            expected="finite numbers with lo <= hi",
        )
    return jax.tree_util.tree_map(
        lambda leaf: assume_range_p.bind(jnp.asarray(leaf), lo=low, hi=high), x
    )
