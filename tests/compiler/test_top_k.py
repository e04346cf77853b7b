"""top_k of many elements goes through blocks of blocks: values and places are exactly JAX's."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.compiler.rules.sort import _block
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

CONFIG = CompileConfig(Ring(64), Fxp(Ring(64), 18))


@pytest.mark.parametrize(
    ("shape", "k", "dtype"),
    [((5003,), 7, "float32"), ((2, 1500), 1, "int32"), ((700,), 20, "bool"), ((3001,), 3, "int64")],
)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), kinds=st.sampled_from([2, 50, 10**6]))
def test_ties_go_to_the_first(
    shape: tuple[int, ...], k: int, dtype: str, seed: int, kinds: int
) -> None:
    assert _block(int(np.prod(shape[:-1])), shape[-1], k) < shape[-1]
    rng = np.random.default_rng(seed)
    x = (rng.integers(-kinds, kinds, shape) // (2 if dtype == "bool" else 1)).astype(dtype)
    if dtype == "int64":  # keys of two words
        x <<= 40
    with jax.enable_x64(dtype == "int64"):
        specs = [SecretSpec(shape, dtype, "o")]
        made = compile_function(lambda x: lax.top_k(x, k), specs, config=CONFIG).program
        want = [np.asarray(v) for v in lax.top_k(x, k)]
    fixed = CONFIG.fxp.encode(x) if dtype == "float32" else np.asarray(x)
    encoded = fixed if dtype == "bool" else np.asarray(fixed).astype(np.int64).view(np.uint64)
    got = run_plain(made, [np.asarray(encoded)], rng, "ranges")
    for one, value, output in zip(got, want, made.outputs, strict=True):
        frac = made.types[output.value].frac
        assert np.array_equal(CONFIG.fxp.decode(one, output.dtype, frac), value)


def test_rounds_grow_slowly() -> None:
    rounds = []
    for n in (10**3, 10**5):
        made = compile_function(
            lambda x: lax.top_k(x, 10)[0], [SecretSpec((n,), "float32", "o")], config=CONFIG
        )
        rounds.append(static_cost(made.program).rounds)
    assert rounds[0] < 110
    assert rounds[1] < 180
