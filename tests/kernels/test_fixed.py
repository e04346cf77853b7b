"""Encoding kernels against exact rounding."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spuvm.errors import ValueRangeError
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.kernels.fixed import decode_floats, decode_wide, encode_floats, encode_wide
from spuvm.ring import Ring
from spuvm.wide import WIDE, elements, from_floats, from_integers


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


@given(st.lists(st.floats(-(2.0**43), 2.0**43) | st.floats(-4, 4), min_size=1, max_size=9))
@example([2.0**33, -(2.0**33), 2.0**33 - 2.0**-19, 2.0**-19, -(2.0**-19), 3 * 2.0**-19])
def test_floats_of_every_size_in_blocks_of_both_kinds(values: list[float]) -> None:
    """From 2^51 on rounding takes another way, for the block of such a float."""
    for dtype in (np.float32, np.float64):
        x = np.full(3000, 0.25, dtype)
        for place in (0, 1500, 3000):
            x[max(place - len(values), 0) :][: len(values)] = values
        out = np.empty(x.size, np.int64)
        assert encode_floats(x, 2.0**18, 2.0**44, -np.inf, np.inf, out) == (0, 0, 0)
        assert out.tolist() == [round(Fraction(float(v)) * 2**18) for v in x]


def test_counts() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 9.0, -9.0, 5.0, -5.0, 4.0, 0.0])
    out = np.empty(x.size, np.int64)
    assert encode_floats(x, 2.0, 9.0, -4.0, 4.0, out) == (3, 2, 2)
    assert out.tolist() == [0] * 7 + [8, 0]
    long = elements(np.empty(x.size, WIDE))
    assert encode_wide(x, 2.0, 9.0, -4.0, 4.0, long) == (3, 2, 2)
    assert long.astype(object).tolist() == [0] * 7 + [8, 0]


NEAR_TIES = st.builds(
    lambda m, e, s, d: s * ((m << e) + d),
    st.integers(0, (1 << 54) - 1),
    st.integers(0, 72),
    st.sampled_from([1, -1]),
    st.integers(-1, 1),
)


@given(st.lists(NEAR_TIES | st.integers(-(1 << 126), 1 << 126), min_size=1, max_size=9))
def test_decode_of_128_bits_is_correctly_rounded(values: list[int]) -> None:
    out = np.empty(len(values), np.float64)
    decode_wide(from_integers(np.array(values, object)), 1.0, out)
    assert out.tolist() == [float(v) for v in values]  # Python rounds to the nearest, ties to even


@given(st.lists(st.floats(-(2.0**99), 2.0**99), max_size=9))
def test_encode_of_128_bits_is_correctly_rounded(values: list[float]) -> None:
    for dtype in (np.float32, np.float64):
        x = np.array(values, dtype)
        out = elements(np.empty(x.size, WIDE))
        assert encode_wide(x, 2.0**26, 2.0**100, -np.inf, np.inf, out) == (0, 0, 0)
        want = [round(Fraction(float(v)) * 2**26) for v in x]
        assert Ring(128).signed(out).tolist() == want
        real = x.astype(np.float64)
        assert Ring(128).signed(from_floats(np.rint(real * 2.0**26))).tolist() == want


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_nothing_is_rounded_up_to_the_bound(bits: int) -> None:
    """The largest double below the limit either encodes below 2^(k-2), or is refused."""
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    top = fxp.max_float
    for v in (np.nextafter(top, 0), top - 1, top * (1 - 2**-31)):
        for sign in (1, -1):
            try:
                made = fxp.ring.signed(fxp.encode(np.array([sign * v])))
            except ValueRangeError:
                assert v > top - 1 or v == top
            else:
                assert abs(int(made[0])) < fxp.ring.bound
