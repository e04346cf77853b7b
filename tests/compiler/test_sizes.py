"""Few elements are normalised in other steps than many: each is right, few take fewer rounds."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from function_cases import FUNCTIONS, Function
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep import FRACS, Setting, errors, operands, truth

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.compiler.numeric.scaling import SPAN, cheapest
from spuvm.protocol.plain import run_plain
from spuvm.ring import WIDTHS, Ring
from spuvm.vm.cost import static_cost

NORMALISED = [f for f in FUNCTIONS if f.id in ("log", "sqrt", "rsqrt", "div")]
FEW = settings(max_examples=2)


@cache
def program(function: Function, ring: int, size: int):
    setting = Setting(ring, FRACS[ring][0])
    specs = [SecretSpec((size,), setting.dtype, "alice") for _ in function.args]
    return compile_function(
        function.fn, specs, config=CompileConfig(Ring(ring), setting.fxp)
    ).program


def test_functions_are_found() -> None:
    assert len(NORMALISED) == 4


@pytest.mark.parametrize("size", [1, 30, 1 << 13])
@pytest.mark.parametrize("ring", WIDTHS)
@pytest.mark.parametrize("function", NORMALISED, ids=lambda f: f.id)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_every_size(function: Function, ring: int, size: int, seed: int) -> None:
    setting, rng = Setting(ring, FRACS[ring][0]), np.random.default_rng(seed)
    points = operands(function, setting, rng)
    for i in range(20 if size == 1 else 1):
        xs = tuple(np.resize(x[i * size :], size) for x in points)
        encoded = [np.asarray(setting.fxp.encode(x)) for x in xs]
        (out,) = run_plain(program(function, ring, size), encoded, rng, "ranges")
        got = np.asarray(setting.fxp.decode(out, "float64", setting.frac))
        wrong = errors(setting, got, truth(function, setting, xs))
        assert np.where(function.holds(*xs), wrong, 0).max() <= setting.tolerance, (size, xs)


def test_few_elements_take_fewer_rounds() -> None:
    for function in NORMALISED:
        few, many = (static_cost(program(function, 64, n)) for n in (1, 1 << 17))
        assert few.rounds < many.rounds - 5
        assert sum(few.bytes_sent) << 17 > sum(many.bytes_sent)


@given(
    span=st.integers(0, 126),
    parity=st.integers(1, 2),
    room=st.integers(7, 126),
    weight=st.integers(3, 1 << 17),
    ring=st.sampled_from(WIDTHS),
)
def test_stages_cover_the_range(span: int, parity: int, room: int, weight: int, ring: int) -> None:
    """All but 2^SPAN of the range, by no more than the range; the last stage has little room."""
    span = min(span, ring - 2)
    plan = cheapest(parity, max(span, 1), ring, room, weight)[span]
    assert plan is not None
    left = span
    for count, step, _ in plan:
        assert step % parity == 0
        left = max(step, left - count * step)
    assert left <= SPAN
    assert sum(count * step for count, step, _ in plan) < max(span, ring - 3)
    assert not plan or plan[-1][0] * plan[-1][1] <= room
