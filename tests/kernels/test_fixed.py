"""Encoding kernels against exact rounding."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.errors import ValueRangeError
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.kernels.fixed import decode_floats, encode_floats
from spuvm.ring import Ring


@pytest.mark.parametrize("bits", [32, 64])
@given(st.lists(st.floats(-(2.0**20), 2.0**20), max_size=9))
def test_round_half_even(bits: int, values: list[float]) -> None:
    for dtype in (np.float32, np.float64):
        x = np.array(values, dtype)
        out = np.empty(x.size, f"<i{bits // 8}")
        assert encode_floats(x, 256.0, 2.0**22, -np.inf, np.inf, out) == (0, 0, 0)
        assert out.tolist() == [round(Fraction(float(v)) * 256) for v in x]
        back = np.empty(x.size, np.float64)
        decode_floats(out, 2.0**-8, back)
        assert back.tolist() == [v / 256 for v in out.tolist()]


def test_counts() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 9.0, -9.0, 5.0, -5.0, 4.0, 0.0])
    out = np.empty(x.size, np.int64)
    assert encode_floats(x, 2.0, 9.0, -4.0, 4.0, out) == (3, 2, 2)
    assert out.tolist() == [0] * 7 + [8, 0]


@pytest.mark.parametrize("bits", [32, 64])
def test_nothing_is_rounded_up_to_the_bound(bits: int) -> None:
    """The largest double below the limit either encodes below 2^(k-2), or is refused."""
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    for v in (np.nextafter(fxp.max_float, 0), fxp.max_float - 1, fxp.max_float * (1 - 2**-31)):
        for sign in (1, -1):
            try:
                made = fxp.ring.signed(fxp.encode(np.array([sign * v])))
            except ValueRangeError:
                assert v > fxp.max_float - 1
            else:
                assert abs(int(made[0])) < fxp.ring.bound
