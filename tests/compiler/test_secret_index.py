"""Indices that are secret, in every position and mode, against JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from reference import configuration, decode_all, encode_all, tolerance

from spuvm.compiler import SecretSpec, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain
from spuvm.vm.cost import static_cost

KINDS = ("float32", "int32", "uint8", "bool")
NUMBERS = ("float32", "int32", "uint8")


@dataclass(frozen=True)
class Op:
    """A function of x, then secret indices drawn from -2 .. n + 1, then values like x."""

    name: str
    fn: Callable[..., Any]
    x: tuple[int, ...] = (5, 4)
    indices: tuple[tuple[int, ...], ...] = ((),)
    values: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = KINDS
    inside: str = "any"  # or "yes": where JAX has NaN outside
    kinds: tuple[str, ...] = ("int32", "int8")


I32 = ("int32",)
PAIRS = lax.ScatterDimensionNumbers((1, 2), (), (0,))
TABLE = jnp.arange(24.0).reshape(6, 4) * 0.75 - 3

OPS = [
    Op("row", lambda x, i: x[i]),
    Op("column", lambda x, i: x[:, i]),
    Op("element", lambda x, i, j: x[i, j], indices=((), ())),
    Op("element-mixed", lambda x, i: (x[1, i], x[i, 2], x[-1, i])),
    Op("rows", lambda x, i: x[i], indices=((3,),)),
    Op("rows-2d", lambda x, i: x[i], indices=((2, 3),)),
    Op("elements", lambda x, i, j: x[i, j], indices=((3,), (3,))),
    Op("elements-public", lambda x, i: x[i, jnp.array([0, 3, 1])], indices=((3,),)),
    Op("outer", lambda x, i, j: x[i[:, None], j[None]], indices=((3,), (2,))),
    Op("around", lambda x, i, j: x[i, :, j], (3, 2, 4), ((2,), (2,))),
    Op("one-place", lambda x, i: x[:, i], (3, 1), ((2,),)),
    Op("two-places", lambda x, i: x[i], (2, 3), ((3,),)),
    Op("take-clip", lambda x, i: jnp.take(x, i, axis=1, mode="clip"), indices=((3,),)),
    Op("take-wrap", lambda x, i: jnp.take(x, i, axis=0, mode="wrap"), indices=((3,),)),
    Op("take-fill", lambda x, i: jnp.take(x, i, axis=1), indices=((3,),),
       dtypes=("int32", "uint8", "bool")),
    Op("take-fill-value", lambda x, i: x.at[i].get(mode="fill", fill_value=3), indices=((3,),),
       dtypes=("float32", "int32", "uint8")),
    Op("take-fill-pairs", lambda x, i, j: x.at[i, j].get(mode="fill", fill_value=7),
       indices=((3,), (3,)), dtypes=("float32", "int32")),
    Op("take-inside", lambda x, i: jnp.take(x, i, axis=0), indices=((3,),), inside="yes"),
    Op("take-along", lambda x, i: jnp.take_along_axis(x, i, 1), indices=((5, 2),), inside="yes"),
    Op("take-along-0", lambda x, i: jnp.take_along_axis(x, i, 0), indices=((2, 4),), inside="yes"),
    Op("vmap-row", lambda x, i: jax.vmap(lambda a, k: a[k])(x, i), indices=((5,),)),
    Op("vmap-slice",
       lambda x, i: jax.vmap(lambda a, k: lax.dynamic_slice(a, (k,), (2,)))(x, i),
       indices=((5,),)),
    Op("vmap-same", lambda x, i: jax.vmap(lambda k: lax.dynamic_slice(x, (k, 1), (2, 2)))(i),
       indices=((3,),), kinds=I32),
    Op("slice", lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 3)), indices=((), ())),
    Op("slice-mixed", lambda x, i: lax.dynamic_slice(x, (1, i), (3, 2)), (5, 7), kinds=I32),
    Op("slice-wide", lambda x, i: lax.dynamic_slice(x, (i,), (40,)), (70,)),
    Op("slice-nearly-all", lambda x, i: lax.dynamic_slice(x, (i,), (68,)), (70,)),
    Op("update-row", lambda x, i, v: lax.dynamic_update_slice(x, v, (i, 0)), values=((1, 4),),
       kinds=I32),
    Op("update-second", lambda x, i, v: lax.dynamic_update_slice(x, v, (1, i)), values=((2, 1),),
       kinds=I32),
    Op("update-wide", lambda x, i, v: lax.dynamic_update_slice(x, v, (1, i)), (4, 7),
       values=((2, 3),), kinds=I32),
    Op("update-both", lambda x, i, j, v: lax.dynamic_update_slice(x, v, (i, j)), (5, 6),
       ((), ()), ((2, 5),)),
    Op("update-all", lambda x, i, v: lax.dynamic_update_slice(x, v, (i, i)), values=((5, 4),)),
    Op("vmap-update",
       lambda x, i, v: jax.vmap(lambda a, k, u: lax.dynamic_update_slice(a, u, (k,)))(x, i, v),
       indices=((5,),), values=((5, 2),)),
    Op("set", lambda x, i, v: x.at[i].set(v), values=((4,),)),
    Op("set-element", lambda x, i, j: x.at[i, j].set(1), indices=((), ()), dtypes=NUMBERS),
    Op("set-rows", lambda x, i, v: x.at[i].set(v), indices=((4,),), values=((4, 4),)),
    Op("set-column", lambda x, i, v: x.at[:, i].set(v), indices=((3,),), values=((5, 3),)),
    Op("set-clip", lambda x, i, v: x.at[i].set(v, mode="clip"), indices=((3,),),
       values=((3, 4),)),
    Op("add", lambda x, i, v: x.at[i].add(v), indices=((6,),), values=((6, 4),), dtypes=NUMBERS),
    Op("add-public", lambda x, i: x.at[i].add(2), indices=((6,),), dtypes=NUMBERS),
    Op("add-pairs", lambda x, i, j, v: x.at[i, j].add(v), indices=((6,), (6,)), values=((6,),),
       dtypes=NUMBERS),
    Op("mul", lambda x, i, v: x.at[i].mul(v), indices=((3,),), values=((3, 4),), dtypes=NUMBERS),
    Op("min", lambda x, i, v: x.at[i].min(v), indices=((3,),), values=((3, 4),), dtypes=NUMBERS),
    Op("max", lambda x, i, v: x.at[i, 1].max(v), indices=((3,),), values=((3,),), dtypes=NUMBERS),
    Op("public-mul", lambda x, i, v: x.at[jnp.array([0, 0, 9])].mul(v[0]).at[1].min(v[i[0] % 3]),
       indices=((3,),), values=((3, 4),), dtypes=NUMBERS),
    Op("of-public", lambda x, i: (TABLE[i], TABLE[:, i[0]]), indices=((3,),)),
    Op("of-public-slice", lambda x, i, j: lax.dynamic_slice(TABLE, (i, j), (2, 2)),
       indices=((), ())),
    Op("into-public", lambda x, i, v: jnp.zeros((5, 4), v.dtype).at[i].set(v), indices=((2,),),
       values=((2, 4),)),
    Op("one-hot", lambda x, i: jax.nn.one_hot(i, 5), indices=((3,),)),
    Op("segment-sum", lambda x, i: jax.ops.segment_sum(x, i, 3), indices=((5,),), dtypes=NUMBERS),
    Op("bincount", lambda x, i: jnp.bincount(i, length=4), indices=((6,),)),
    Op("switch", lambda x, i: lax.switch(i, [lambda v: v, lambda v: v * 2, lambda v: v * 3], x),
       dtypes=("float32", "int32")),
    Op("gradient", lambda x, i, j: jax.grad(
        lambda a: jnp.sum(a[i] ** 2) + jnp.sum(lax.dynamic_slice(a, (j, 1), (2, 2))))(x),
       indices=((3,), ()), dtypes=("float32",), kinds=I32),
    Op("gradient-vmap", lambda x, i: jax.grad(lambda a: jnp.sum(
        jax.vmap(lambda r, k: lax.dynamic_slice(r, (k,), (2,)))(a, i) ** 2))(x),
       indices=((5,),), dtypes=("float32",)),
]  # fmt: skip


def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float32":
        return np.asarray(np.rint(rng.uniform(-9, 9, shape) * 256) / 256, np.float32)
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), np.bool_)
    info = np.iinfo(dtype)
    made = rng.integers(info.min, info.max, shape, np.int64, endpoint=True)
    return np.asarray(made, dtype)


Known = dict[int, tuple[int, int]]
"""Declared ranges, by argument."""


def compiled(
    fn: Any, arrays: list[np.ndarray], bits: int, known: Known | None = None
) -> list[np.ndarray]:
    config = configuration(bits)
    specs = [
        SecretSpec(a.shape, str(a.dtype), "alice", *(known or {}).get(k, ()))
        for k, a in enumerate(arrays)
    ]
    made = compile_function(fn, specs, config=config)
    encoded = encode_all(made, arrays, config)
    outs = run_plain(made.program, encoded, np.random.default_rng(0), "ranges")
    return decode_all(made, outs, config)


def check(fn: Any, arrays: list[np.ndarray], bits: int, known: Known | None = None) -> None:
    got = compiled(fn, arrays, bits, known)
    want = jax.tree_util.tree_leaves(fn(*[jnp.asarray(a) for a in arrays]))
    for g, w in zip(got, want, strict=True):
        wide = np.asarray(w)
        if wide.dtype.kind in "biu":
            np.testing.assert_array_equal(g, wide)
            continue
        allowed = tolerance(configuration(bits)) * np.maximum(1, np.abs(wide))
        assert (np.abs(g - wide) <= allowed).all(), (g, wide)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@given(data=st.data())
def test_secret_positions(op: Op, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(op.dtypes))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kind = data.draw(st.sampled_from(op.kinds))
    n = max(op.x)
    ends = (0, min(op.x)) if op.inside == "yes" else (-n - 2, n + 3)
    known: Known = {}
    if data.draw(st.booleans()):  # declared to lie inside
        ends = (0, min(op.x))
        known = dict.fromkeys(range(1, 1 + len(op.indices)), (0, min(op.x) - 1))
    indices = [rng.integers(*ends, s).astype(kind) for s in op.indices]
    values = [sample(rng, s, dtype) for s in op.values]
    arrays = [sample(rng, op.x, dtype), *map(np.asarray, indices), *values]
    check(op.fn, arrays, data.draw(st.sampled_from([32, 64])), known)


@pytest.mark.parametrize("kind", ["uint8", "uint32", "int32"])
def test_indices_over_their_whole_range(kind: str) -> None:
    info = np.iinfo(kind)
    i = np.array([info.min, info.min + 1, 3, 4, info.max], kind)
    x = np.arange(5, dtype=np.int32) * 11
    for bits in (32, 64):
        check(lambda x, i: x.at[i].get(mode="clip"), [x, i], bits)
        check(lambda x, i: x.at[i].get(mode="fill", fill_value=-7), [x, i], bits)
        check(lambda x, i: x.at[i].add(1, mode="drop"), [x, i], bits)


@given(seed=st.integers(0, 2**32))
def test_searchsorted_and_histogram(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.sort(rng.integers(-5, 5, 7)).astype(np.int32)
    keys = rng.integers(-7, 7, 6).astype(np.int32)
    for side in ("left", "right"):
        check(lambda t, k, s=side: jnp.searchsorted(t, k, side=s), [table, keys], 64)
    check(lambda t, k: jnp.searchsorted(t, k, method="compare_all"), [table, keys], 64)
    x = np.asarray(np.rint(rng.uniform(-4, 4, 9) * 16) / 16, np.float32)
    check(lambda x: jnp.histogram(x, bins=4, range=(-2.0, 2.0))[0], [x], 64)


def test_places_outside_give_zero_where_jax_gives_nan() -> None:
    x, i = np.float32([1, 2, 3]), np.int32([-9, 1, 7])
    (got,) = compiled(lambda x, i: jnp.take(x, i), [x, i], 64)
    np.testing.assert_array_equal(got, [0, 2, 0])


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x, i: lax.scatter(x, i[:, None], x[:2, :3], lax.ScatterDimensionNumbers(
            (1,), (0,), (0,))), "slice that axis first"),
        (lambda x, i: lax.scatter(x, i[:, None], x[:4].reshape(2, 2, 4), PAIRS),
         "dynamic_update_slice"),
        (lambda x, i: lax.scatter_mul(x, i[:, None], x[:4].reshape(2, 2, 4), PAIRS),
         "dynamic_slice"),
    ],
)  # fmt: skip
def test_refusals_name_the_line_and_what_to_do(fn: Any, message: str) -> None:
    x, i = SecretSpec((5, 4), "float32", "alice"), SecretSpec((2,), "int32", "bob")
    with pytest.raises(CompileError, match=message) as caught:
        compile_function(fn, (x, i), config=configuration(64))
    assert "test_secret_index.py:" in str(caught.value)


def test_a_row_of_a_cache_costs_about_a_product_of_its_size() -> None:
    x = SecretSpec((128, 64), "float32", "alice")
    v, i = SecretSpec((1, 64), "float32", "bob"), SecretSpec((), "int32", "bob")
    made = compile_function(lambda x, v, i: lax.dynamic_update_slice(x, v, (i, 0)), (x, v, i),
                            config=configuration(64))  # fmt: skip
    assert sum(static_cost(made.program).bytes_sent) < 1.1 * 24 * 128 * 64
    made = compile_function(lambda x, i: x[i], (x, i), config=configuration(64))
    assert sum(static_cost(made.program).bytes_sent) < 24 * (128 + 64) * 1.2 + 500


def test_indices_that_are_known_to_lie_inside_take_few_rounds() -> None:
    """A public table: a look-up, whatever its size; shares: a one-hot row and a product."""
    x = SecretSpec((1000, 3), "float32", "alice")
    i = SecretSpec((2,), "int32", "bob", 0, 999)
    table = jnp.arange(3000.0).reshape(1000, 3)
    for fn, rounds, most in (
        (lambda x, i: table[i], 2, 17_000),
        (lambda x, i: x[i], 3, 50_000),
        (lambda x, i: x.at[i].add(1.0), 3, 125_000),
    ):
        made = compile_function(fn, (x, i), config=configuration(64))
        cost = static_cost(made.program)
        assert cost.rounds == rounds
        assert sum(cost.bytes_sent) < most


LARGE = np.arange(60.0, dtype=np.float32).reshape(30, 2) * 0.25 - 5
READS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda t, i: t[i],
    lambda t, i: t[i, i],
    lambda t, i: t.at[i].get(mode="clip"),
    lambda t, i: t.at[i].get(mode="fill", fill_value=0),
    lambda t, i: t.at[i].get(mode="fill", fill_value=9),
    lambda t, i: t.at[i, i].get(mode="fill", fill_value=9),
    lambda t, i: jnp.take(t, i, axis=0, mode="wrap"),
    lambda t, i: lax.dynamic_slice(t, (i[0], i[1]), (3, 1)),
    lambda t, i: lax.dynamic_index_in_dim(t, i[2], 0),
    lambda t, i: jax.vmap(lambda k: t[k] * 2)(i),
)


@pytest.mark.parametrize("read", range(len(READS)))
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_a_large_public_table_at_any_index(read: int, bits: int, kind: str, dtype: str) -> None:
    """Inside, at the ends, just outside and at the ends of the dtype."""
    info, fn = np.iinfo(kind), READS[read]
    table = jnp.asarray(LARGE > 1 if dtype == "bool" else LARGE.astype(dtype))
    near = [i for i in (-31, -30, -1, 0, 1, 17, 29, 30, 31, 32, 63, 64) if i >= info.min]
    rng = np.random.default_rng(read)
    i = np.array([*near, info.min, info.max, *rng.integers(0, 30, 3)], np.int64)
    check(lambda i: fn(table, i), [rng.permutation(i).astype(kind)], bits)


def test_a_large_public_table_costs_no_row_per_place() -> None:
    """With 50,000 rows, of which an index may name none."""
    table = jnp.zeros((50_000, 4))
    i = SecretSpec((20,), "int32", "bob")
    for mode in ("clip", "fill"):
        made = compile_function(
            lambda i, m=mode: jnp.take(table, i, axis=0, mode=m, fill_value=0.0), (i,),
            config=configuration(64),
        )  # fmt: skip
        assert sum(static_cost(made.program).bytes_sent) < 20 * 25_000
