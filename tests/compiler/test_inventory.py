"""The inventory on one ring per line: values, dtypes and shapes against plain JAX.

Every second line as a rule, all of them under the profile fuzz.
"""

from __future__ import annotations

import os
from types import CodeType
from typing import Any

import jax
import numpy as np
import pytest
from inventory import ACCEPTED, NAMES, REFUSED, SECRETS
from reference import configuration, decode_all, encode_all, tolerance

from spuvm.compiler import SecretSpec, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain

RINGS = (64, 128, 128, 64, 64, 32, 32, 64)
LINES = range(0, len(ACCEPTED), 1 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 2)
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def secrets_of(code: CodeType) -> list[str]:
    """Names of the secrets that an expression uses."""
    inner = [n for c in code.co_consts if isinstance(c, CodeType) for n in secrets_of(c)]
    return list(dict.fromkeys(n for n in (*code.co_names, *inner) if n in SECRETS))


def function_of(text: str) -> tuple[Any, list[str]]:
    """An expression as a function of its secrets, and their names."""
    code = compile(text, "inventory.py", "eval")
    names = secrets_of(code)
    return lambda *xs: eval(code, {**NAMES, **dict(zip(names, xs, strict=True))}), names


def specs_of(names: list[str]) -> list[SecretSpec]:
    return [SecretSpec(SECRETS[n].shape, str(SECRETS[n].dtype), "a") for n in names]


@pytest.mark.parametrize("row", LINES, ids=lambda i: ACCEPTED[i][:60])
def test_as_in_jax(row: int) -> None:
    fn, names = function_of(ACCEPTED[row])
    arrays = [SECRETS[n] for n in names]
    config = configuration(ring_of(row))
    promised = jax.tree.leaves(jax.eval_shape(fn, *map(jax.typeof, map(jax.numpy.asarray, arrays))))
    compiled = compile_function(fn, specs_of(names), config=config)
    encoded = encode_all(compiled, arrays, config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(row), "ranges")
    with jax.enable_x64(True):
        exact = [a if a.dtype.kind in "biu" else a.astype(np.float64) for a in arrays]
        whole = jax.jit(fn, compiler_options=QUICKLY)
        want = [np.asarray(v) for v in jax.tree.leaves(whole(*map(jax.numpy.asarray, exact)))]
    got = decode_all(compiled, outs, config)
    for i, (g, w, aval) in enumerate(zip(got, want, promised, strict=True)):
        assert compiled.out_specs[i] == (aval.shape, str(aval.dtype)), i
        if g.dtype.kind in "biu":
            np.testing.assert_array_equal(g, w.astype(g.dtype), err_msg=f"result {i}")
            continue
        w = np.where(np.isfinite(w), w, g)  # not representable: what is opened is saturated
        error = np.abs(g - w) / np.maximum(1, np.abs(w))
        assert (error <= tolerance(config)).all(), (i, g, w)


def ring_of(row: int) -> int:
    """The ring of a line: of 64 bits for one half of them."""
    return RINGS[row % len(RINGS)]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_refused_with_what_to_do(text: str, message: str) -> None:
    fn, names = function_of(text)
    with pytest.raises(CompileError) as caught:
        compile_function(fn, specs_of(names), config=configuration(64))
    assert message in str(caught.value)
    assert caught.value.next
