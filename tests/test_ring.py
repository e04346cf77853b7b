"""Ring and fixed-point values: refusals and round trips."""

from __future__ import annotations

import numpy as np
import pytest

from spuvm.errors import UsageError, ValueRangeError
from spuvm.fxp import Fxp
from spuvm.ring import Ring


@pytest.mark.parametrize(("bits", "frac"), [(32, 8), (64, 18)])
def test_floats_round_trip_within_half_a_unit(bits: int, frac: int) -> None:
    fxp = Fxp(Ring(bits), frac)
    x = np.array([0.0, 1.0, -1.0, 0.1, -123.456, fxp.max_float / 2])
    back = fxp.decode(fxp.encode(x), "float64", frac)
    assert np.abs(back - x).max() <= 2.0 ** -(frac + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_unrepresentable_floats_are_refused_without_showing_them(bad: float) -> None:
    with pytest.raises(ValueRangeError, match=r"(?s)weights: .*1 of 3 elements") as error:
        Fxp(Ring(64), 18).encode(np.array([0.25, bad, 1.0]), name="weights")
    assert "0.25" not in str(error.value)


def test_values_outside_the_declared_range_are_refused() -> None:
    with pytest.raises(ValueRangeError, match="declared range"):
        Fxp(Ring(64), 18).encode(np.array([0.5, 2.0]), input_range=(-1, 1))


@pytest.mark.parametrize(("bits", "frac"), [(64, 17), (64, 0), (64, 40), (32, 20)])
def test_unusable_fraction_bits_are_refused(bits: int, frac: int) -> None:
    with pytest.raises(UsageError, match="fraction bits"):
        Fxp(Ring(bits), frac)


def test_unknown_ring_width_is_refused() -> None:
    with pytest.raises(UsageError, match="ring=48"):
        Ring(48)
