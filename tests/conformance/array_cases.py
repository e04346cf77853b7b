"""Records of primitives on whole arrays: convolution, windows, reductions by any function."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax_cases import SMALL, Arg, B, Case, F, I

NHWC = ("NHWC", "HWIO", "NHWC")
IMAGE = (2, 5, 6, 2)
UNIT = Arg(limit=1.0)
KERNEL = np.float32([[[[0.5, -1.25], [0.1, 2.0]], [[1.0, 0.0], [-0.3, 0.7]]]])


def conv(stride: Any = (1, 1), padding: Any = "SAME", **params: Any) -> Any:
    """lax.conv_general_dilated on images with the channels last."""
    return lambda x, k: lax.conv_general_dilated(
        x, k, stride, padding, dimension_numbers=NHWC, **params
    )


def pool(op: Any, start: float, size: Any, stride: Any, padding: Any, **params: Any) -> Any:
    """lax.reduce_window over the two middle axes."""

    def run(x: Any) -> Any:
        first = x.dtype.type(start)
        return lax.reduce_window(x, first, op, (1, *size, 1), (1, *stride, 1), padding, **params)

    return run


def best(size: Any = (2, 2), stride: Any = (2, 2), padding: Any = "SAME") -> Any:
    """Maxima over windows."""
    return pool(lax.max, -np.inf, size, stride, padding)


def grad_of(fn: Any, weights: Any = (1.0, -2.0)) -> Any:
    """Gradient of a weighted sum of fn's results by all its arguments."""

    def run(*args: Any) -> Any:
        return jax.grad(lambda a: jnp.sum(fn(*a) * jnp.asarray(weights)))(args)

    return run


CONV = [
    Case("conv_general_dilated", conv(), (Arg(limit=30.0), UNIT), ((IMAGE, (3, 2, 2, 3)),)),
    Case("conv_general_dilated", conv((2, 3), [(2, 1), (-1, 2)]), (SMALL, SMALL),
         ((IMAGE, (3, 2, 2, 2)),), name="strides-cropped"),
    Case("conv_general_dilated", conv((2, 1), [(1, 2), (0, 1)], lhs_dilation=(2, 3),
                                      rhs_dilation=(3, 2)), (SMALL, SMALL),
         ((IMAGE, (2, 3, 2, 2)),), name="dilated"),
    Case("conv_general_dilated", conv(feature_group_count=2), (SMALL, SMALL),
         ((IMAGE, (2, 2, 1, 4)),), name="feature-groups"),
    Case("conv_general_dilated", conv(batch_group_count=2), (SMALL, SMALL),
         ((IMAGE, (2, 2, 2, 4)),), name="batch-groups"),
    Case("conv_general_dilated", lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME",
                                                                 dimension_numbers=NHWC),
         (SMALL, SMALL), ((IMAGE, (3, 3, 2, 2)),), name="transposed"),
    Case("conv_general_dilated", lambda x: conv((1, 2))(x, jnp.asarray(KERNEL, x.dtype)),
         (Arg(power=0.6),), ((IMAGE,),), name="public-kernel"),
    Case("conv_general_dilated", lambda k: conv()(jnp.asarray(KERNEL, k.dtype), k), (SMALL,),
         (((2, 2, 2, 3),),), name="public-image"),
    Case("conv_general_dilated", jnp.convolve, (SMALL, SMALL), (((9,), (4,)), ((1,), (1,))),
         name="1d"),
    Case("conv_general_dilated", lambda x, k: lax.conv(x, k, (1, 2, 1), "SAME"), (SMALL, SMALL),
         (((1, 2, 3, 4, 3), (2, 2, 2, 2, 2)),), name="3d"),
    Case("conv_general_dilated", lambda x, k: lax.conv(x, k, (1, 1), "VALID"), (I, I),
         (((1, 2, 4, 4), (2, 2, 3, 2)),), "exact", name="int"),
    Case("conv_general_dilated", jax.vmap(conv()), (SMALL, UNIT),
         (((2, 1, 3, 3, 2), (2, 2, 2, 2, 1)),), name="vmap"),
    Case("conv_general_dilated", grad_of(conv((2, 1), rhs_dilation=(1, 2))), (SMALL, UNIT),
         ((IMAGE, (3, 2, 2, 2)),), name="grad"),
    Case("conv_general_dilated", grad_of(conv(feature_group_count=2)), (SMALL, UNIT),
         ((IMAGE, (2, 2, 1, 2)),), name="grad-groups"),
]  # fmt: skip

WINDOWS = [
    Case("reduce_window_sum", pool(lax.add, 0.0, (3, 2), (2, 1), "SAME"), (SMALL,), ((IMAGE,),)),
    Case("reduce_window_sum", grad_of(pool(lax.add, 0.0, (2, 3), (2, 2), "SAME")), (SMALL,),
         ((IMAGE,),), name="grad"),
    Case("reduce_window_max", best(), (F,), ((IMAGE,),)),
    Case("reduce_window_max", best((3, 2), (1, 3), "VALID"), (F,), ((IMAGE,),), name="overlap"),
    Case("reduce_window_max", lambda x: lax.reduce_window(
        x, np.array(np.iinfo(x.dtype).min, x.dtype), lax.max, (2, 2), (2, 1), "SAME"), (I,),
        (((3, 4),),), "exact", name="int"),
    Case("reduce_window_min",
         pool(lax.min, np.inf, (2, 2), (2, 2), "VALID", base_dilation=(1, 2, 1, 1),
              window_dilation=(1, 1, 2, 1)), (F,), ((IMAGE,),)),
    Case("select_and_scatter_add", lambda x: grad_of(best((3, 3), (2, 2)))(jnp.round(x)), (SMALL,),
         ((IMAGE,),)),
    Case("select_and_scatter_add", grad_of(pool(lax.min, np.inf, (2, 3), (1, 2), "SAME")), (SMALL,),
         ((IMAGE,),), name="min"),
    Case("select_and_gather_add", lambda x, t: jax.jvp(best(), (x + jnp.arange(120.0).reshape(
        IMAGE) * 0.125,), (t,)), (UNIT, SMALL), ((IMAGE, IMAGE),), name="no-ties"),
    Case("reduce_window", pool(lax.mul, 1.0, (2, 2), (2, 2), "SAME"), (Arg(limit=2.0),),
         ((IMAGE,),)),
    Case("reduce_window", pool(lax.add, 2.5, (2, 2), (3, 2), "VALID"), (SMALL,), ((IMAGE,),),
         name="start"),
    Case("reduce_window", lambda b: lax.reduce_window(b, False, lax.bitwise_or, (2, 2), (1, 2),
                                                      "SAME"), (B,), (((4, 3),),), "exact",
         name="bool"),
    Case("reduce", lambda x: lax.reduce(x, x.dtype.type(0.0), lambda a, b: a + b - a * b, (0,)),
         (UNIT,), (((5, 2),), ((1, 3),))),
    Case("reduce", lambda x, y: lax.reduce((x, y), (x.dtype.type(0.0), y.dtype.type(7.0)),
         lambda a, b: (a[0] + b[0], lax.min(a[1], b[1])), (1,)), (SMALL, SMALL),
         (((2, 3), (2, 3)),), name="pair"),
    Case("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 0), (Arg(limit=20.0),),
         (((1,),), ((5,),), ((3, 2),))),
    Case("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 0, reverse=True), (Arg(limit=300.0),),
         (((4,),),), name="reverse"),
    Case("dot_general", lambda x, y: lax.dot_general(x, y, (((1, 3), (3, 0)), ((0,), (2,)))),
         (SMALL, SMALL), (((2, 3, 2, 4), (4, 5, 2, 3)),), name="many-axes"),
    Case("dot_general", lambda x, y: lax.dot_general(
        x, y, (((1,), (0,)), ((), ())), preferred_element_type=np.int32),
        (Arg("int", dtypes=("int8",)), Arg("int", dtypes=("int8",))), (((2, 3), (3, 2)),), "exact",
        name="preferred"),
    Case("dot_general", lambda x, y: jnp.einsum("ijk,kjl,i->il", x, y, x[:, 0, 0]), (UNIT, SMALL),
         (((2, 3, 4), (4, 3, 2)),), name="einsum"),
]  # fmt: skip

ARRAY_CASES = CONV + WINDOWS
