"""Every instruction on every ring: results of the plain protocol, cost as declared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import RECORDS, RINGS, variants
from hypothesis import given
from hypothesis import strategies as st
from parties import interactive, lockstep, share, value_of
from variant import Variant, to_ints

from spuvm.bytecode.isa import DRAWING, OPS
from spuvm.bytecode.types import Type
from spuvm.bytecode.verify import verify
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost
from spuvm.wide import cast

SEEDS = st.integers(0, 2**32 - 1)
TALKING = sorted(set(ABY3.steps) & set(RECORDS))


def test_every_instruction_has_a_record() -> None:
    bodies = {"loop"}  # bodies are programs: test_loop_instruction.py
    additive = {op for op, row in OPS.items() if "z" in row.kinds}
    # those: test_random_bits.py, test_additive.py
    assert set(RECORDS) == set(OPS) - DRAWING - additive - bodies


def check_value(v: Variant, values: Sequence[np.ndarray], got: np.ndarray) -> None:
    """Exact, or within the declared error class of the exact quotient."""
    program = v.program(values)
    (plain,) = run_plain(program, v.secrets(values), np.random.default_rng(0), "ranges")
    assert got.shape == plain.shape
    if not v.units:
        assert np.array_equal(cast(got, v.ring.dtype), cast(plain, v.ring.dtype)), str(v)
        return
    exact, m = v.quotient(values)
    unit = 1 << m
    for result in (got, plain):
        error = np.array(to_ints(v.ring, result) * unit - exact, object).reshape(-1)
        assert all(abs(e) < v.units * unit for e in error), str(v)
        assert v.units > 1 or all(e == 0 for e in error[exact.reshape(-1) % unit == 0]), str(v)
    (t,) = (program.types[o.value] for o in program.outputs)
    if t.bounds is not None:
        assert all(t.bounds[0] <= x <= t.bounds[1] for x in to_ints(v.ring, got).reshape(-1))


def check(trio, v: Variant, seed: int) -> None:
    """One run of three machines on random operands: value, bytes and rounds."""
    values = v.values(np.random.default_rng(seed))
    program = verify(v.program(values))
    measured = trio(v.ring.bits).run(program, v.secrets(values))
    check_value(v, values, measured.outputs[0])
    cost = static_cost(program)
    assert measured.bytes_sent == cost.bytes_sent, f"{v}: bytes declared and sent"
    assert tuple(s.bytes_sent for s in measured.stats) == cost.bytes_sent
    sends = any(cost.bytes_sent)
    empty = any(0 in t.shape for t in v.types)
    assert measured.rounds == cost.rounds
    assert measured.chain == (cost.rounds if sends else 0) or empty, str(v)


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("op", sorted(RECORDS))
def test_all_variants(trio, op: str, bits: int) -> None:
    for i, v in enumerate(variants(op, bits)):
        check(trio, v, i)


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("op", sorted(RECORDS))
def test_random_operands(trio, op: str, bits: int) -> None:
    @given(st.sampled_from(variants(op, bits)), SEEDS)
    def run(v: Variant, seed: int) -> None:
        check(trio, v, seed)

    run()


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("op", TALKING)
def test_lock_step(op: str, bits: int) -> None:
    """Without machines: rounds, bytes, nobody writes to operands or messages, holders agree."""
    ring = Ring(bits)
    for i, v in enumerate(variants(op, bits)):
        values = v.values(np.random.default_rng(i))
        shares = [at_parties(x, ring, t) for x, t in zip(values, v.types, strict=True)]
        trace = lockstep(ring, interactive(op), shares, v.attrs)
        cost = ABY3.costs[op](ring, v.types, v.attrs)
        assert (trace.rounds, trace.bytes_sent) == (cost.rounds, cost.bytes_sent), str(v)
        check_value(v, values, value_of(trace.results))


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("op", TALKING)
@pytest.mark.parametrize("owner", [0, 1, 2])
def test_operands_of_an_owner_who_computes(op: str, bits: int, owner: int) -> None:
    """Shares whose third component is 0 or a seed's give the same results."""
    ring = Ring(bits)
    v = max(variants(op, bits), key=lambda v: sum(t.size for t in v.types))
    values = v.values(np.random.default_rng(owner))
    shares = [at_parties(x, ring, t, owner) for x, t in zip(values, v.types, strict=True)]
    check_value(v, values, value_of(lockstep(ring, interactive(op), shares, v.attrs).results))


def at_parties(x: np.ndarray, ring: Ring, t: Type, owner: int | None = None) -> list[Any]:
    """An operand at the three parties: fresh shares, or the same public array."""
    return [x] * 3 if t.kind == "p" else share(x, ring, t.width, owner)


def memory_of(a: np.ndarray) -> int:
    """Bytes of the buffer that an array keeps alive."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a.nbytes


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("op", TALKING)
def test_results_keep_no_scratch_memory_alive(op: str, bits: int) -> None:
    """What an instruction returns are arrays of their own, not slices of its masks."""
    ring, n = Ring(bits), 1000
    for v in variants(op, bits):
        if len(v.types[0].shape) != 1 or v.adapt:
            continue
        zeros = [np.zeros(n, np.uint8 if t.width else ring.dtype) for t in v.types]
        shares = [at_parties(x, ring, t) for x, t in zip(zeros, v.types, strict=True)]
        for result in lockstep(ring, interactive(op), shares, v.attrs).results:
            assert memory_of(result.x0) <= result.x0.nbytes + 16, str(v)
            assert memory_of(result.x1) <= result.x1.nbytes + 16, str(v)
