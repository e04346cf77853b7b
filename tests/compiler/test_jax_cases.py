"""Every record of jax_cases, compiled and run in plaintext, against JAX in float64."""

from __future__ import annotations

import numpy as np
import pytest
from array_cases import ARRAY_CASES
from function_cases import FUNCTIONS
from hypothesis import given
from hypothesis import strategies as st
from jax_cases import CASES, Case
from linalg_cases import CHECKS
from ops_table import ALIASES
from reference import check, compile_case, drawn, run_case

from spuvm.bytecode.text import parse, to_text
from spuvm.bytecode.verify import verify
from spuvm.compiler.rules import RULES

REFUSED = {
    "random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in", "random_bits",
    "random_clone", "random_gamma", "threefry2x32", "rng_bit_generator",
}  # fmt: skip
ALL = [*CASES, *ARRAY_CASES]


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
@given(data=st.data())
def test_against_jax(case: Case, data: st.DataObject) -> None:
    d = data.draw(drawn(case))
    compiled, got, want = run_case(case, d, data.draw(st.integers(0, 2**16)))
    check(case, d, compiled, got, want)


@pytest.mark.parametrize("case", ALL[::7], ids=lambda c: c.id)
@given(data=st.data())
def test_deterministic_and_well_formed(case: Case, data: st.DataObject) -> None:
    d = data.draw(drawn(case))
    first, second = compile_case(case, d).program, compile_case(case, d).program
    assert first.digest == second.digest
    verify(first)
    assert parse(to_text(first)).digest == first.digest


def test_every_rule_has_a_record() -> None:
    aliases = {word for names in ALIASES.values() for word in names.split()}
    elsewhere = (
        {word for name in CHECKS for word in name.split()} | {"custom_linear_solve"} | REFUSED
    )
    assert set(RULES) - aliases - elsewhere <= {c.primitive for c in [*ALL, *FUNCTIONS]}


def test_records_are_unique() -> None:
    ids = [c.id for c in ALL]
    assert len(np.unique(ids)) == len(ids)
