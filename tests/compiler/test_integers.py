"""Integers of every dtype in all rings, over their full ranges, against JAX bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_cases import OPS, N, Op, sample
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import SecretSpec, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def run(op: Op, dtype: str, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = configuration(bits)
    arrays = [sample(rng, dtype, k) for k in op.operands]
    secret = [i for i, k in enumerate(op.operands) if k in "xs"]
    args: list[Any] = [SecretSpec((N,), dtype, "alice") if i in secret else a
                       for i, a in enumerate(arrays)]  # fmt: skip
    compiled = compile_function(op.fn, args, config=config)
    encoded = encode_all(compiled, [arrays[i] for i in secret], config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(seed), "ranges")
    got = decode_all(compiled, outs, config)
    want = jax.tree_util.tree_leaves(jax.jit(op.fn)(*arrays))
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, np.asarray(w))


TABLE = [
    (op, dtype, bits)
    for op in OPS
    for dtype in op.dtypes
    for bits in (32, 64, 128)
    if np.dtype(dtype).itemsize * 8 <= bits
]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@given(data=st.data())
def test_every_dtype_wraps_and_compares_as_in_jax(op: Op, data: st.DataObject) -> None:
    mine = [(d, b) for o, d, b in TABLE if o is op]
    dtype, bits = data.draw(st.sampled_from(mine))
    run(op, dtype, bits, data.draw(st.integers(0, 2**32)))


MULHI: dict[str, Any] = {
    "any": lambda x, y: (x, y),
    "wrapped": lambda x, y: (x + y, x * y),
    "small": lambda x, y: (x & 15, y & 7),
    "one small": lambda x, y: (x, y & 1),
    "square": lambda x, y: (x - y, x - y),
}


@pytest.mark.parametrize("name", MULHI)
@given(data=st.data())
def test_upper_halves_of_products(name: str, data: st.DataObject) -> None:
    """Against whole numbers: on the CPU XLA has no mulhi inside of other operations."""
    operands = MULHI[name]
    dtype, bits = data.draw(st.sampled_from([(d, b) for o, d, b in TABLE if o.name == "mulhi"]))
    config, rng = configuration(bits), np.random.default_rng(data.draw(st.integers(0, 2**32)))
    arrays = [sample(rng, dtype, "x") for _ in range(2)]
    compiled = compile_function(
        lambda x, y: lax.mulhi(*operands(x, y)), [SecretSpec((N,), dtype, "alice")] * 2,
        config=config,
    )  # fmt: skip
    outs = run_plain(compiled.program, encode_all(compiled, arrays, config), rng, "ranges")
    (got,) = decode_all(compiled, outs, config)
    with np.errstate(over="ignore"):
        factors = [[int(v) for v in a] for a in operands(*arrays)]
    width = np.dtype(dtype).itemsize * 8
    want = [a * b >> width for a, b in zip(*factors, strict=True)]
    assert got.dtype == dtype
    assert [int(v) for v in got] == want


@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("bits", [32, 64, 128])
def test_floats_go_toward_zero_and_saturate(target: str, bits: int) -> None:
    if np.dtype(target).itemsize * 8 > bits:
        with pytest.raises(CompileError, match="wider than the ring"):
            compile_function(lambda x: x.astype(target), (SecretSpec((2,), "float32", "alice"),),
                             config=configuration(bits))  # fmt: skip
        return
    config = configuration(bits)
    info, top = np.iinfo(target), config.fxp.max_float * 0.99
    x = np.array([0.0, -0.5, 0.99, -0.99, 1.5, -1.5, 127.5, 128.5, -128.5, -129.5, 255.75, 256.0,
                  3e9, -3e9, 4.2e9, float(info.max), float(info.min), top, -top])  # fmt: skip
    x = x[np.abs(x) <= top].astype(np.float32)
    spec = SecretSpec(x.shape, "float32", "alice")
    compiled = compile_function(lambda v: v.astype(target), (spec,), config=config)
    (got,) = decode_all(
        compiled, run_plain(compiled.program, encode_all(compiled, [x], config), None, "ranges"),
        config,
    )  # fmt: skip
    np.testing.assert_array_equal(got, np.asarray(jnp.asarray(x).astype(target)))


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: lax.bitcast_convert_type(x, np.float32), "integers as residues"),
        (lambda x: lax.bitcast_convert_type(x, np.uint8), "one width"),
    ],
)
def test_reinterpretations_that_mean_nothing_are_refused(fn: Any, message: str) -> None:
    spec = SecretSpec((3,), "int32", "alice")
    with pytest.raises(CompileError, match=message) as caught:
        compile_function(fn, (spec,), config=configuration(64))
    assert "test_integers.py:" in str(caught.value)


def test_bits_stay_bits_between_bitwise_operations() -> None:
    spec = SecretSpec((3,), "uint32", "alice")
    compiled = compile_function(
        lambda x, y: ((x & y) ^ (x >> 3) | (y & 255)) >> 2, (spec, spec), config=configuration(64)
    )
    ops = [i.op for i in compiled.program.instructions]
    assert (ops.count("a2b"), ops.count("b2a"), ops.count("and_bb")) == (2, 1, 2)


def test_a_public_divisor_takes_two_comparisons_where_the_ring_is_wide() -> None:
    spec = SecretSpec((3,), "int32", "alice", 0, 10**6)
    compiled = compile_function(lambda x: lax.div(x, jnp.int32(7)), (spec,),
                                config=configuration(64))  # fmt: skip
    ops = [i.op for i in compiled.program.instructions]
    assert (ops.count("msb_a"), ops.count("trunc_a")) == (3, 1)
