"""Every pass leaves a well-formed program that computes the same."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax_cases import CASES, Case
from reference import check, compile_case, decode_all, drawn, encode_all, expected

import spuvm as sf
from spuvm.bytecode.verify import verify
from spuvm.compiler import passes
from spuvm.compiler.passes import PASSES, dce
from spuvm.protocol.plain import run_plain

MIXED = [c for c in CASES if c.primitive in ("mul", "reduce_sum", "dot_general", "sort", "grad")]


@pytest.mark.parametrize("case", MIXED, ids=lambda c: c.id)
@given(data=st.data())
def test_each_pass_alone(case: Case, data: st.DataObject) -> None:
    d = data.draw(drawn(case))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "PASSES", ())
        plain = compile_case(case, d)
    verify(plain.program)
    encoded = encode_all(plain, d.arrays, d.config)
    want = expected(case, d, encoded)
    program = plain.program
    for step in PASSES:
        before = len(program.instructions)
        program = verify(step(program))
        if step is dce:
            assert len(program.instructions) <= before
        outs = run_plain(program, encoded, np.random.default_rng(0), "ranges")
        check(case, d, plain, decode_all(_with(plain, program), outs, d.config), want)


def _with(compiled: Any, program: Any) -> Any:
    from dataclasses import replace

    return replace(compiled, program=program)


def test_dce_leaves_nothing_unused() -> None:
    d_case = next(c for c in CASES if c.id == "sort-median")

    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        program = compile_case(d_case, data.draw(drawn(d_case))).program
        used = {a for i in program.instructions for a in i.args}
        used |= {o.value for o in program.outputs}
        assert {i.results[0] for i in program.instructions} <= used
        indices = {i.attrs["index"] for i in program.instructions if i.op == "const"}
        assert indices == set(range(len(program.constants)))

    run()


@pytest.mark.parametrize(
    ("fn", "ops"),
    [
        (lambda x: jnp.stack([x[i] for i in range(4)]), []),
        (lambda x: jnp.stack([x[:, i] for i in range(3)], axis=1), []),
        (lambda x: jnp.concatenate([x[1:2], x[2:4]]), ["slice"]),
        (lambda x: jnp.stack([x[i] for i in (0, 2, 1, 3)]), ["slice"] * 4 + ["concat"]),
        (lambda x: jnp.concatenate([x[:2, 1:], x[2:, :2]]), ["slice"] * 2 + ["concat"]),
        (lambda x: jnp.concatenate([x[0:4:2], x[3:]]), ["slice"] * 2 + ["concat"]),
    ],
)
def test_slices_that_are_joined_again(fn: Any, ops: list[str]) -> None:
    x = np.arange(12, dtype="float32").reshape(4, 3)
    f = sf.simulate(fn)
    assert [i.op for i in f.lower(x).instructions if i.op in ("slice", "concat")] == ops
    np.testing.assert_array_equal(f(x), fn(x))
