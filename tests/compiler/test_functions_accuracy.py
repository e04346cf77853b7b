"""Every function record: the accuracy contract over its whole domain, in every ring."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from function_cases import FUNCTIONS, Function
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep import FRACS, POINTS, SIZES, Interval, Setting, errors, measure, operands, run, truth

from spuvm.ring import WIDTHS

EXAMPLE = 512  # points of an example
# Of 64 bits test_ops_table.py sweeps them, with more points.
RINGS = WIDTHS if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else (32, 128)
# An example is hundreds of points, so that a third of the usual number will do.
FEW = settings(max_examples=max(1, settings.default.max_examples // 3))


@st.composite
def intervals(draw: Any, setting: Setting, function: Function) -> tuple[Interval, ...]:
    """A range to declare for each operand: of any size, about 0 or far from it, or one-sided."""
    made = []
    for domain in function.args:
        lo, hi = setting.clip(domain)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        largest = np.log2(setting.fxp.max_float) - 1 if rng.integers(2) else 4.0
        ends = np.exp2(rng.uniform(-4, largest, 2))
        ends = ends * rng.choice([-1, 0, 1], 2, p=[0.45, 0.1, 0.45])
        ends = np.clip(np.sort(ends) if rng.integers(2) else [-1, 1] * np.abs(ends), lo, hi)
        unit = 2.0**-setting.frac  # ends that can be encoded, so that something is between them
        least = max(np.floor(ends[0] / unit) * unit, np.ceil(lo / unit) * unit)
        most = np.floor(max(ends[1], min(hi, least + 2.0**-4)) / unit) * unit
        made.append((float(least), float(most)))
    return tuple(made)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.id)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_over_the_whole_domain(function: Function, ring: int, seed: int) -> None:
    setting = Setting(ring, FRACS[ring][seed % len(FRACS[ring])], size=EXAMPLE)
    worst, where = measure(function, setting, seed)
    assert worst <= setting.tolerance, (setting, where)


@pytest.mark.parametrize(
    ("name", "ring", "seed"),
    [("digamma-negative", 32, 312), ("regularized_incomplete_beta-slope", 32, 75766)],
)
def test_seeds_that_failed(name: str, ring: int, seed: int) -> None:
    """digamma: the cotangent, at 49.8 below 0; a density of many roundings of 8 bits."""
    function = next(f for f in FUNCTIONS if f.id == name)
    setting = Setting(ring, FRACS[ring][seed % len(FRACS[ring])], size=EXAMPLE)
    worst, where = measure(function, setting, seed)
    assert worst <= setting.tolerance, (setting, where)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.id)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_few_elements(function: Function, seed: int) -> None:
    """Programs for few elements take other ways: 16 points or more, in runs of so many.

    Functions take turns, so that a few examples are of every ring and size.
    """
    number = FUNCTIONS.index(function) + seed
    ring = WIDTHS[number % 3]
    setting = Setting(ring, FRACS[ring][0], size=SIZES[number // 3 % 3])
    worst, where = measure(function, setting, seed)
    assert worst <= setting.tolerance, (setting, where)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.id)
@FEW
@given(data=st.data())
def test_with_declared_ranges(function: Function, data: st.DataObject) -> None:
    """What is left out where ranges are known changes nothing."""
    ring = data.draw(st.sampled_from(WIDTHS))
    plain = Setting(ring, FRACS[ring][0])
    size = data.draw(st.sampled_from((EXAMPLE, SIZES[1])))
    setting = Setting(ring, plain.frac, data.draw(intervals(plain, function)), size)
    worst, where = measure(function, setting, data.draw(st.integers(0, 2**32 - 1)))
    assert worst <= setting.tolerance, (setting, where)


@pytest.mark.parametrize("ring", WIDTHS)
@pytest.mark.parametrize(
    "function", [f for f in FUNCTIONS if f.course != "any"], ids=lambda f: f.id
)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_monotone_functions_do_not_turn_back(function: Function, ring: int, seed: int) -> None:
    """By no more than 8 units, between any two points of a sweep, segment borders included."""
    setting = Setting(ring, FRACS[ring][seed % len(FRACS[ring])], size=EXAMPLE)
    rng = np.random.default_rng(seed)
    (x,) = operands(function, setting, rng)
    got = run(function, setting, (np.sort(x),), rng)
    highest = np.maximum.accumulate(got if function.course == "rising" else -got)
    drop = (highest - (got if function.course == "rising" else -got)) * 2.0**setting.frac
    assert (drop <= 8 * np.maximum(1, np.abs(got))).all(), drop.max()


@pytest.mark.parametrize("ring", WIDTHS)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_the_incomplete_gamma_function_does_not_turn_back(ring: int, seed: int) -> None:
    """It rises in x, and falls in a: many terms are added where a is small."""
    setting = Setting(ring, FRACS[ring][seed % len(FRACS[ring])])
    igamma = next(f for f in FUNCTIONS if f.id == "igamma")
    rng = np.random.default_rng(seed)
    unit = 2.0**-setting.frac
    for a in (unit, 2.0 ** rng.uniform(-8, 4)):
        x = np.sort(rng.uniform(0, 2 * a + 30, POINTS))
        at = np.full(POINTS, max(1, np.rint(a / unit)) * unit)
        got = run(igamma, setting, (at, np.rint(x / unit) * unit), rng) / unit
        assert (np.maximum.accumulate(got) - got).max() <= 8, a
    x, a = 2.0 ** rng.uniform(0, 8), np.sort(rng.uniform(unit, 20, POINTS))
    at = np.full(POINTS, np.rint(x / unit) * unit)
    got = run(igamma, setting, (np.rint(a / unit) * unit, at), rng) / unit
    assert (got - np.minimum.accumulate(got)).max() <= 8, x


def test_log_ndtr_does_not_turn_back_at_0() -> None:
    """Where its two parts meet, with fraction bits that leave its series no more."""
    setting = Setting(32, 10)
    function = next(f for f in FUNCTIONS if f.id == "chebyshev-log_ndtr")
    rng = np.random.default_rng(32)
    x = np.sort(np.rint(rng.uniform(-0.1, 0.02, POINTS) * 2**10)) / 2**10
    got = run(function, setting, (x,), rng) * 2**10
    assert (np.maximum.accumulate(got) - got).max() <= 8


@pytest.mark.parametrize("ring", WIDTHS)
def test_angles_of_equal_sizes(ring: int) -> None:
    """A quotient of equal numbers may be rounded to a little more than 1."""
    setting = Setting(ring, FRACS[ring][0])
    atan2 = next(f for f in FUNCTIONS if f.id == "atan2")
    x = np.arange(POINTS) * 0.5 + 0.5
    for y in (x, -x):
        got = run(atan2, setting, (x, y), np.random.default_rng(ring))
        assert errors(setting, got, truth(atan2, setting, (x, y))).max() <= setting.tolerance


def test_errors_are_seen() -> None:
    """The measure itself: a result that is off is found, saturated ones count as equal."""
    setting = Setting(64, 18)
    want = np.array([0.0, 1e6, setting.fxp.max_float])
    assert (errors(setting, want, truth(Function("x", lambda v: v), setting, (want,))) == 0).all()
    assert errors(setting, want + np.array([0.5, 1e3, 0]), want).max() == 0.5
