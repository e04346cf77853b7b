"""One record per JAX primitive: the function, its arguments, how exact the result must be.

The table is data: the compiler's tests run it on the plaintext protocol, others on real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Shape = tuple[int, ...]
SAME: tuple[Shape, ...] = ((), (1,), (5,), (3, 4), (2, 0), (2, 3, 2))


@dataclass(frozen=True)
class Arg:
    """An argument: float, int or bool; |x| <= max_float ** power for floats (or `limit`)."""

    kind: Literal["float", "int", "bool"] = "float"
    power: float = 0.9
    limit: float | None = None
    lo: float | None = None  # lower end, where it is not -limit
    dtypes: tuple[str, ...] = ("int8", "int16", "int32", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class Case:
    """A record: `primitive` names it, `shapes` are alternatives of one shape per argument.

    Where it does not run in every ring, `why` says why not.
    """

    primitive: str
    fn: Callable[..., Any]
    args: tuple[Arg, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    exact: Literal["exact", "fixed"] = "fixed"
    rings: tuple[int, ...] = (32, 64, 128)
    name: str = ""
    why: str = ""

    @property
    def id(self) -> str:
        """Name in test reports."""
        return f"{self.primitive}-{self.name}" if self.name else self.primitive


F = Arg()
HALF = Arg(power=0.45)
SMALL = Arg(limit=8.0)
I = Arg("int")  # noqa: E741
B = Arg("bool")


def alike(n: int, shapes: Sequence[Shape] = SAME) -> tuple[tuple[Shape, ...], ...]:
    """The same shape for all n arguments."""
    return tuple((s,) * n for s in shapes)


ONE, TWO, THREE = alike(1), alike(2), alike(3)
SOLID = ((1,), (5,), (3, 4), (2, 3, 2))  # nothing empty: for reductions without identity
WITH_AXIS = alike(1, ((1,), (2,), (5,), (7, 2), (4, 3)))


def _exact(primitive: str, fn: Any, args: tuple[Arg, ...], shapes: Any, name: str = "") -> Case:
    return Case(primitive, fn, args, shapes, "exact", name=name)


CASES = [
    Case("add", lambda x, y: x + y, (F, F), TWO),
    Case("add", lambda x: x + 1.5, (F,), ONE, name="public"),
    _exact("add", lambda x, y: x + y, (I, I), TWO, "int"),
    _exact("add", lambda x: x + 3, (I,), ONE, "int-public"),
    Case("sub", lambda x, y: x - y, (F, F), TWO),
    Case("sub", lambda x: 2.25 - x, (F,), ONE, name="public"),
    _exact("sub", lambda x, y: x - y, (I, I), TWO, "int"),
    Case("sub", lambda x: x - x, (F,), ONE, name="itself"),
    _exact("neg", lambda x: -x, (F,), ONE),
    _exact("neg", lambda x: -x, (I,), ONE, "int"),
    Case("mul", lambda x, y: x * y, (HALF, HALF), TWO),
    Case("mul", lambda x, y: x * y, (F, Arg(limit=1.0)), TWO, name="large"),
    Case("mul", lambda x: x * 0.3, (F,), ONE, name="public"),
    Case("mul", lambda x: x * 3 - x * 0.25, (Arg(power=0.7),), ONE, name="public-exact"),
    Case("mul", lambda x, y: x * y + x * x, (SMALL, SMALL), TWO, name="pending"),
    _exact("mul", lambda x, y: x * y, (I, I), TWO, "int"),
    _exact("mul", lambda x: x * 5, (I,), ONE, "int-public"),
    Case("mul", lambda x, b: x * b, (F, B), TWO, name="bool"),
    Case("square", lambda x: lax.square(x), (HALF,), ONE),
    Case("integer_pow", lambda x: x**3, (Arg(limit=8.0),), ONE),
    Case("div", lambda x: x / 3.0, (F,), ONE, name="public"),
    Case("div", lambda x: x / np.float32(1000), (F,), ONE, name="thousand"),
    Case("reduce_sum", lambda x: jnp.mean(x, 0), (Arg(power=0.8),), WITH_AXIS, name="mean"),
    _exact("max", lambda x, y: jnp.maximum(x, y), (F, F), TWO),
    _exact("max", lambda x: jnp.maximum(x, 0.0), (F,), ONE, name="public"),
    _exact("max", lambda x, y: jnp.maximum(x, y), (I, I), TWO, "int"),
    _exact("min", lambda x, y: jnp.minimum(x, y), (F, F), TWO),
    _exact("abs", lambda x: jnp.abs(x), (F,), ONE),
    _exact("abs", lambda x: jnp.abs(x), (I,), ONE, "int"),
    _exact("sign", lambda x: jnp.sign(x), (F,), ONE),
    _exact("sign", lambda x: jnp.sign(x), (I,), ONE, "int"),
    _exact("clamp", lambda x: jnp.clip(x, -1.5, 2.0), (F,), ONE),
    _exact("clamp", lambda x, y, z: lax.clamp(x, y, z), (SMALL,) * 3, THREE, name="secret"),
    _exact("floor", lambda x: jnp.floor(x), (F,), ONE),
    _exact("ceil", lambda x: jnp.ceil(x), (F,), ONE),
    _exact("round", lambda x: jnp.round(x), (F,), ONE),
    _exact("round", lambda x: jnp.round(jnp.round(x * 2) / 2), (SMALL,), ONE, name="ties"),
    _exact("lt", lambda x, y: x < y, (F, F), TWO),
    _exact("lt", lambda x, y: x < y, (I, I), TWO, "int"),
    _exact("lt", lambda x, y: x < y, (B, B), TWO, "bool"),
    _exact("le", lambda x, y: x <= y, (F, F), TWO),
    _exact("gt", lambda x: x > 0.5, (F,), ONE, "public"),
    _exact("ge", lambda x, y: x >= y, (I, I), TWO, "int"),
    _exact("lt", lambda x, y: x + y < x * y, (I, I), TWO, "wrapped"),
    _exact("eq", lambda x, y: jnp.round(x) == jnp.round(y), (SMALL, SMALL), TWO),
    _exact("eq", lambda x, y: (x * y) == (y + y), (I, I), TWO, "wrapped"),
    _exact("ne", lambda x, y: x != y, (F, F), TWO),
    _exact("ne", lambda x, y: x != y, (B, B), TWO, "bool"),
    _exact("and", lambda x, y: x & y, (B, B), TWO),
    _exact("or", lambda x, y: x | y, (B, B), TWO),
    _exact("xor", lambda x, y: x ^ y, (B, B), TWO),
    _exact("not", lambda x: ~x, (B,), ONE),
    _exact("not", lambda x: ~x, (I,), ONE, "int"),
    _exact("and", lambda x, y: (x & y) ^ (x | y), (I, I), TWO, "int"),
    _exact("shift_left", lambda x, y: lax.shift_left(x, y), (I, I), TWO),
    _exact("shift_right_logical", lambda x, y: lax.shift_right_logical(x, y), (I, I), TWO),
    _exact("shift_right_arithmetic", lambda x, y: lax.shift_right_arithmetic(x, y), (I, I), TWO),
    _exact("population_count", lambda x: lax.population_count(x), (I,), ONE),
    _exact("clz", lambda x: lax.clz(x), (I,), ONE),
    _exact("mulhi", lax.mulhi, (I, I), TWO),
    _exact("rem", lambda x: lax.rem(x, jnp.array(7, x.dtype)), (I,), ONE, "public"),
    Case("rem", lambda x: jnp.remainder(x, 0.75), (Arg(limit=500.0),), ONE, name="float"),
    Case("rem", lambda x, y: lax.rem(x, y), (Arg(limit=40.0), Arg(limit=9.0, lo=0.25)), TWO,
         name="floats"),
    Case("pow", lambda x: x ** jnp.array([0, 3, 2, 1, 5]), (Arg(limit=3.0),), alike(1, ((5,),)),
         name="integers"),
    Case("pow", lambda x, n: lax.pow(x, n & 3), (Arg(limit=4.0), I), TWO, name="secret-integer"),
    _exact("div", lambda x: x // 3, (I,), ONE, "int-public"),
    _exact("bitcast_convert_type",
           lambda x: lax.bitcast_convert_type(x, np.dtype(f"u{x.dtype.itemsize}")) > 3, (I,), ONE),
    _exact("select_n", lambda b, x, y: jnp.where(b, x, y), (B, F, F), THREE),
    _exact("select_n", lambda b, x: jnp.where(b, x, 0.0), (B, F), TWO, name="zero"),
    Case("select_n", lambda b, x: jnp.where(b, -jnp.inf, x).max(initial=0.0), (B, F), TWO,
         name="infinite"),
    _exact("select_n", lambda b: jnp.where(b, 1.5, -2.0), (B,), ONE, name="public"),
    _exact("select_n", lambda b, x, y: jnp.where(b, x, y), (B, I, I), THREE, "int"),
    _exact("select_n", lambda b, x, y: jnp.where(b, x, y), (B, B, B), THREE, "bool"),
    _exact("select_n", lambda x: jnp.where(jnp.arange(x.shape[-1]) % 2 == 0, x, -x), (F,),
         alike(1, SOLID), name="public-mask"),
    Case("reduce_sum", lambda x: jnp.sum(x), (Arg(power=0.7),), ONE),
    Case("reduce_sum", lambda x, y: jnp.sum(x * y, 0), (SMALL, SMALL), alike(2, SOLID),
         name="products"),
    Case("reduce_sum", lambda x, w: jnp.sum(x * w[:, None], 0), (SMALL, SMALL),
         (((5, 3), (5,)), ((1, 2), (1,))), name="weighted"),
    _exact("reduce_sum", lambda x: jnp.sum(x, 0), (I,), alike(1, SOLID), "int"),
    _exact("reduce_max", lambda x: jnp.max(x, 0), (F,), WITH_AXIS),
    _exact("reduce_min", lambda x: jnp.min(x), (F,), WITH_AXIS),
    _exact("reduce_max", lambda x: jnp.max(x, -1), (I,), WITH_AXIS, "int"),
    _exact("reduce_and", lambda x: jnp.all(x, 0), (B,), WITH_AXIS),
    _exact("reduce_or", lambda x: jnp.any(x), (B,), WITH_AXIS),
    _exact("reduce_xor", lambda x: lax.reduce_xor(x, (0,)), (B,), WITH_AXIS),
    Case("reduce_prod", lambda x: jnp.prod(x, 0), (Arg(limit=2.0),), WITH_AXIS),
    _exact("argmax", lambda x: jnp.argmax(x, 0), (F,), WITH_AXIS),
    _exact("argmin", lambda x: jnp.argmin(jnp.round(x), 0), (SMALL,), WITH_AXIS),
    Case("cumsum", lambda x: jnp.cumsum(x, 0), (Arg(power=0.7),), WITH_AXIS),
    Case("cumsum", lambda x: lax.cumsum(x, 0, reverse=True), (Arg(power=0.7),), WITH_AXIS,
         name="reverse"),
    Case("cumprod", lambda x: jnp.cumprod(x, 0), (Arg(limit=2.0),), WITH_AXIS),
    _exact("cummax", lambda x: lax.cummax(x, 0), (F,), WITH_AXIS),
    _exact("cummin", lambda x: lax.cummin(x, 0), (F,), WITH_AXIS),
    _exact("sort", lambda x: jnp.sort(x, 0), (F,), WITH_AXIS),
    _exact("sort", lambda x: jnp.sort(x, -1), (I,), WITH_AXIS, "int"),
    _exact("sort", lambda x: jnp.argsort(jnp.round(x), 0), (SMALL,), WITH_AXIS, "argsort"),
    _exact("sort", lambda x, y: lax.sort((jnp.round(x), y > 0, x), num_keys=2)[1:2],
           (SMALL, SMALL), alike(2, ((1,), (2,), (9,), (3, 4))), "operands"),
    _exact("sort", lambda x: jnp.argsort(x, -1, descending=True), (I,), WITH_AXIS, "descending"),
    _exact("sort", lambda b: (jnp.sort(b, 0), jnp.argsort(b, 0)), (B,), WITH_AXIS, "bool"),
    _exact("sort", lambda x: jnp.unique(x, size=3, fill_value=7), (I,), alike(1, ((5,), (9,))),
           "unique"),
    Case("sort", lambda x: jnp.quantile(x, 0.3, axis=0), (SMALL,), WITH_AXIS, name="quantile"),
    _exact("top_k", lambda x: lax.top_k(x, 2), (I,), alike(1, ((2,), (7,), (2, 40)))),
    _exact("approx_top_k", lambda x: (lax.approx_max_k(x, 2)[0], lax.approx_min_k(x, 2)[0]), (F,),
         alike(1, ((3,), (2, 9)))),
    _exact("top_k", lambda x: lax.top_k(x, 3)[0], (F,), alike(1, ((3,), (8,), (2, 50))),
         name="floats"),
    Case("sort", lambda x: jnp.median(x, 0), (Arg(power=0.8),), WITH_AXIS, name="median"),
    Case("dot_general", lambda x, y: x @ y, (SMALL, SMALL),
         (((3, 4), (4, 2)), ((4,), (4, 2)), ((4,), (4,)), ((2, 3, 4), (2, 4, 2)))),
    Case("dot_general", lambda x, y: x @ y, (Arg(power=0.4), Arg(power=0.4)), (((3, 4), (4, 2)),),
         name="large"),
    Case("dot_general", lambda x: x @ np.float32([[0.3, -2.0], [1e-3, 5.0]]), (Arg(power=0.6),),
         (((3, 2),), ((2,),)), name="public"),
    Case("dot_general", lambda x, y: jnp.einsum("abc,dcb->ad", x, y), (SMALL, SMALL),
         (((2, 3, 4), (2, 4, 3)),), name="layout"),
    _exact("dot_general", lambda x, y: x @ y, (I, I), (((3, 4), (4, 2)),), "int"),
    Case("ragged_dot_general", lambda x, y: lax.ragged_dot(x, y, jnp.array([1, 0, 3])),
         (SMALL, SMALL), (((5, 3), (3, 3, 2)), ((4, 1), (3, 1, 1)))),
    Case("ragged_dot_general", lambda x, y, n: lax.ragged_dot(x, y, n.astype(jnp.int32) & 3),
         (SMALL, SMALL, I), (((5, 3), (2, 3, 2), (2,)),), name="secret"),
    Case("ragged_dot_general", jax.grad(lambda y, x, n: lax.ragged_dot(
         x, y, n.astype(jnp.int32) & 3).sum()), (SMALL, SMALL, I), (((2, 3, 2), (5, 3), (2,)),),
         name="gradient"),
    _exact("broadcast_in_dim", lambda x: jnp.broadcast_to(x, (2, *x.shape)), (F,), ONE),
    _exact("reshape", lambda x: x.reshape(-1), (F,), ONE),
    _exact("transpose", lambda x: x.T, (F,), ONE),
    _exact("squeeze", lambda x: jnp.squeeze(x[None]), (F,), ONE),
    _exact("expand_dims", lambda x: jnp.expand_dims(x, 0), (F,), ONE),
    _exact("slice", lambda x: x[..., ::2][..., :1], (F,), alike(1, SOLID)),
    _exact("dynamic_slice", lambda x: lax.dynamic_slice_in_dim(x, 1, 1, 0), (F,), WITH_AXIS),
    _exact("dynamic_update_slice", lambda x: lax.dynamic_update_slice_in_dim(x, x[:1], 2, 0), (F,),
         WITH_AXIS),
    Case("concatenate", lambda x, y: jnp.concatenate([x, jnp.ones_like(y), y * y], 0),
         (SMALL, SMALL), alike(2, SOLID)),
    _exact("stack", lambda x, y: jnp.stack([x, y], -1), (F, F), TWO),
    _exact("split", lambda x: jnp.split(x, [1], axis=0), (F,), alike(1, SOLID)),
    _exact("pad", lambda x: jnp.pad(x, 1), (F,), ONE),
    _exact("pad", lambda x: lax.pad(x, 1.5, [(1, -1, 2)] + [(0, 0, 0)] * (x.ndim - 1)), (F,),
         alike(1, SOLID), name="interior"),
    _exact("rev", lambda x: jnp.flip(x, 0), (F,), alike(1, SOLID)),
    _exact("tile", lambda x: jnp.tile(x, 2), (F,), ONE),
    _exact("gather", lambda x: x[jnp.array([0, -1, 0])], (F,), alike(1, SOLID)),
    _exact("scatter", lambda x: x.at[0].set(1.0).at[jnp.array([-1])].set(x[0]), (F,),
         alike(1, SOLID)),
    Case("scatter-add", lambda x: x.at[jnp.array([0, 0, 2])].add(x[:1]), (Arg(power=0.7),),
         alike(1, SOLID)),
    Case("scatter-sub", lambda x: x.at[jnp.array([0, 0, 2])].subtract(x[:1]), (Arg(power=0.7),),
         alike(1, SOLID)),
    Case("scatter-mul", lambda x: x.at[jnp.array([0, 0, 7])].mul(x[:1]), (SMALL,),
         alike(1, SOLID)),
    _exact("scatter-max", lambda x: x.at[jnp.array([0, 0, 2])].max(x[-1]), (F,), alike(1, SOLID)),
    _exact("scatter-min", lambda x: x.at[jnp.array([0, 0, 2])].min(x[-1]), (F,), alike(1, SOLID)),
    _exact("gather", lambda x, i: x[i], (F, I), (((5, 2), ()), ((3,), (4,)), ((2, 3), (2, 2))),
         name="secret"),
    Case("scatter-add", lambda x, i: x.at[i].add(x[0]), (SMALL, I),
         (((5, 2), ()), ((3,), (4,)), ((2, 3), (2, 2))), name="secret"),
    _exact("iota", lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), (I,), ONE),
    _exact("convert_element_type", lambda x: x.astype(jnp.int32), (Arg(power=0.5),), ONE, "to-int"),
    Case("convert_element_type", lambda x: x.astype(jnp.float32) * 0.5, (I,), ONE, name="to-float",
         rings=(64, 128), why="int32 is beyond the floats of 8 fraction bits"),
    Case("convert_element_type", lambda x: x.astype(jnp.float32) * 0.5,
         (Arg("int", dtypes=("int8", "int16", "uint8", "uint16")),), ONE, name="few-to-float"),
    Case("convert_element_type", lambda x: x.astype(jnp.float32) * 0.3, (Arg("int", dtypes=(
         "int8", "int16", "uint8", "uint16")),), ONE, name="scaled"),
    Case("convert_element_type", lambda x: (x & 255).astype(jnp.float32) * 0.3,
         (Arg("int", dtypes=("int32",)),), ONE, name="scaled-wide"),
    Case("convert_element_type", lambda b: b.astype(jnp.float32) + 0.5, (B,), ONE, name="bits"),
    _exact("convert_element_type", lambda x: (x.astype(bool), x.astype(jnp.uint16)), (I,), ONE,
           "int"),
    _exact("convert_element_type", lambda x: (x + x).astype(jnp.int32), (I,), ONE, "widen"),
    Case("stop_gradient", lambda x: lax.stop_gradient(x) * 2, (SMALL,), ONE),
    _exact("is_finite", lambda x: jnp.isfinite(x) & ~jnp.isnan(x), (F,), ONE),
    Case("jit", jax.jit(lambda x: jax.nn.relu(x) + 1), (F,), ONE),
    Case("custom_jvp_call", lambda x: jax.nn.relu6(x), (F,), ONE),
    Case("cond", lambda x: lax.cond(True, lambda v: v + 1, lambda v: v * 2, x), (SMALL,), ONE),
    Case("cond", lambda b, x: lax.cond(b, lambda v: v + 1, lambda v: v * 2, x), (B, SMALL),
         tuple(((), s) for s in SAME), name="secret"),
    Case("scan", lambda x: lax.scan(lambda c, v: (c + v, c * 2.0), jnp.zeros(x.shape[1:]), x),
         (SMALL,), WITH_AXIS),
    Case("while", lambda x: lax.fori_loop(0, 3, lambda i, v: v * 0.5 + i, x), (SMALL,), ONE),
    Case("exp", jnp.exp, (Arg(limit=14.0),), ONE),
    Case("exp", lambda x: jnp.exp(-jnp.abs(x)), (F,), ONE, name="decay"),
    Case("exp2", jnp.exp2, (Arg(limit=20.0),), ONE),
    Case("expm1", jnp.expm1, (Arg(limit=3.0),), ONE),
    Case("log", jnp.log, (Arg(lo=0.5),), ONE),
    Case("log1p", jnp.log1p, (Arg(lo=0.0),), ONE),
    Case("log1p", lambda x: jnp.logaddexp(x, 0.0), (Arg(limit=1000.0),), ONE, name="logaddexp"),
    Case("logistic", jax.nn.sigmoid, (F,), ONE),
    Case("tanh", jnp.tanh, (F,), ONE),
    Case("sqrt", jnp.sqrt, (Arg(lo=0.0),), ONE),
    Case("cbrt", lambda x: jnp.cbrt(x), (F,), ONE),
    Case("rsqrt", lax.rsqrt, (Arg(lo=0.01),), ONE),
    Case("rsqrt", lambda x: lax.rsqrt(jnp.maximum(x, 0.0) + 0.25), (F,), ONE, name="of a sum"),
    Case("div", lambda x, b: x / (1.0 + b), (F, B), TWO, name="by 1 or 2"),
    Case("max", lambda x, y: jax.grad(lambda v: jnp.maximum(v, jnp.round(y)).sum())(jnp.round(x)),
         (SMALL, SMALL), TWO, name="slope-at-ties"),
    Case("div", lambda x, y: x / (jnp.abs(y) + jnp.abs(x) + 1), (Arg(power=0.8),) * 2, TWO,
         name="by a sum"),
    Case("log", lambda x: jnp.log(-jnp.expm1(-x)), (Arg(lo=0.125),), ONE, name="mostly negative"),
    Case("div", lambda x, y: x / y, (Arg(power=0.7), Arg(lo=0.5)), TWO),
    Case("div", lambda x, y: x / jnp.sum(y), (SMALL, Arg(lo=0.5, limit=50.0)), alike(2, SOLID),
         name="scalar"),
    Case("div", lambda x: 1000 / x, (Arg(lo=0.5),), ONE, name="public-numerator"),
    Case("div", lambda n, x: x / jnp.maximum(n.astype(jnp.float32), 1.0),
         (Arg("int", dtypes=("uint8",)), Arg(power=0.8)), TWO, name="count"),
    Case("pow", lambda x: x**2.5, (Arg(lo=0.1, limit=20.0),), ONE),
    Case("pow", lambda x: lax.pow(x, 3.0) + lax.pow(x, 0.5), (Arg(lo=0.0, limit=8.0),), ONE,
         name="special"),
    Case("grad", jax.grad(lambda x: jnp.sum(jnp.logaddexp(0.0, x))), (Arg(limit=30.0),), ONE,
         name="logaddexp"),
    Case("grad", jax.grad(lambda x: jnp.sum(jnp.where(x > 0, x * x, -x))), (SMALL,), ONE),
    Case("vmap", lambda x, y: jax.vmap(jnp.dot)(x, y), (SMALL, SMALL), alike(2, ((3, 4), (1, 2)))),
    Case("remat", jax.grad(jax.checkpoint(lambda x: jnp.sum(x * x * x))), (SMALL,), ONE),
]  # fmt: skip
