"""Truncation: never a large error, less than one unit, exact for multiples, no bias."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parties import interactive, lockstep, share, value_of

from spuvm.protocol.aby3.share import PIECE, AShare
from spuvm.protocol.aby3.truncation import truncate_product
from spuvm.protocol.base import Party, Steps
from spuvm.ring import Ring
from spuvm.wide import elements

MANY = 1_000_000 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 250_000


def of_a_product(p: Party, x: AShare, *, bits: int) -> Steps:
    """The fused form on given shares: what a product leaves before it is truncated."""
    x0, _ = x.flat()

    def accumulate(out: np.ndarray, where: slice) -> None:
        np.add(out, x0[where], out=out)

    return (yield from truncate_product(p, accumulate, x.size, bits))


def with_a_factor(p: Party, x: AShare, *, bits: int) -> Steps:
    """Scaling by one, which is truncation; factors follow in tests of their own."""
    return (yield from interactive("scale_ap")(p, x, p.ring.array(np.array(1)), bits=bits))


FORMS = {"fused": of_a_product, "shared": interactive("trunc_a"), "scaled": with_a_factor}


def errors(
    ring: Ring, form: Callable[..., Any], x: np.ndarray, m: int, owner: int | None = None
) -> np.ndarray:
    """got - floor(x / 2^m) for ring elements x, read as signed."""
    got = value_of(lockstep(ring, form, [share(x, ring, owner=owner)], {"bits": m}).results)
    half = ring.modulus >> 1
    return (got - (((x + half) >> m) - (half >> m))).astype(np.int64)


def random_signed(ring: Ring, magnitude: int, size: int) -> np.ndarray:
    """Ring elements in [-2^magnitude, 2^magnitude)."""
    raw = np.random.default_rng(magnitude).bytes(size * ring.nbytes)
    x = elements(np.frombuffer(raw, ring.dtype))
    return (x >> (ring.bits - 1 - magnitude)) - (1 << magnitude)


def repeated(ring: Ring, values: list[int], times: int) -> np.ndarray:
    return np.tile(ring.array(np.array(values, object)), times)


@pytest.mark.parametrize(
    ("bits", "magnitude", "m"),
    [
        (64, 46, 18),
        (64, 58, 18),
        (64, 61, 18),
        (64, 61, 40),
        (32, 20, 8),
        (32, 28, 8),
        (32, 29, 8),
        (128, 125, 26),
        (128, 125, 40),
        (128, 125, 100),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_large_error(form: str, bits: int, magnitude: int, m: int) -> None:
    """Many values up to the border: each is rounded to one of its two neighbours."""
    ring = Ring(bits)
    error = errors(ring, FORMS[form], random_signed(ring, magnitude, MANY), m)
    assert error.min() >= 0
    assert error.max() <= 1


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("form", FORMS)
def test_borders_and_multiples(form: str, bits: int) -> None:
    """The largest representable numbers, 0, -1, and multiples of 2^m for small and large m."""
    ring = Ring(bits)
    top = ring.bound - 1
    for m in (1, 2, 7, 8, 9, 15, 16, 17, bits // 2 + 1, bits - 3):
        unit = 1 << m
        multiples = [0, unit, -unit, top >> m << m, -(top >> m << m)]
        x = repeated(ring, [v for v in multiples if abs(v) <= top], 200)
        assert not errors(ring, FORMS[form], x, m).any(), m
        borders = [top, -top, 1, -1, top - 1, 1 - top, unit - 1, 1 - unit]
        x = repeated(ring, [v for v in borders if abs(v) <= top], 200)
        error = errors(ring, FORMS[form], x, m)
        assert set(error.tolist()) <= {0, 1}, m


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("owner", [None, 0, 1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_rounding_has_no_bias(form: str, owner: int | None, bits: int) -> None:
    """Rounded up as often as the fraction says, whoever dealt the value (8 standard deviations)."""
    ring, n = Ring(bits), 100_000
    for x in (1, 100, 255, -1, -77, (ring.bound >> 1) + 64):
        error = errors(ring, FORMS[form], repeated(ring, [x], n), 8, owner)
        fraction = (x % 256) / 256
        assert abs(error.mean() - fraction) <= 8 * np.sqrt(fraction * (1 - fraction) / n)


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_scaling_takes_any_operand(bits: int) -> None:
    """f x is far above the ring; its quotient is right, and rounded up as its fraction says."""
    ring, m, n = Ring(bits), bits // 2 - 4, 20_000
    numbers = [ring.bound - 1, 1 - ring.bound, ring.bound // 3, 1, -1, 0]
    for factor in ((1 << m) - 1, 1 - (1 << m), 12345 % (1 << m), 12, 1 << m - 2, 0):
        given = ring.array(np.array(factor, object))
        for x in numbers:
            shares = share(repeated(ring, [x], n), ring)
            trace = lockstep(ring, interactive("scale_ap"), [shares, [given] * 3], {"bits": m})
            floor, rest = divmod(x * factor, 1 << m)
            error = (value_of(trace.results) - ring.array(np.array(floor, object))).astype(np.int64)
            assert set(error.tolist()) <= {0, 1}
            fraction = rest / 2**m
            assert abs(error.mean() - fraction) <= 8 * np.sqrt(fraction * (1 - fraction) / n)


@pytest.mark.parametrize("form", FORMS)
def test_rounding_is_independent_between_elements(form: str) -> None:
    n = 100_000
    error = errors(Ring(64), FORMS[form], repeated(Ring(64), [128], n), 8)
    assert abs((2 * error[1:] - 1) @ (2 * error[:-1] - 1)) < 8 * np.sqrt(n)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 32767, 32768, 32769, 65537])
@pytest.mark.parametrize("form", FORMS)
def test_sizes_around_pieces(form: str, size: int) -> None:
    x = Ring(64).array(np.arange(size) * 1000 - 500)
    assert set(errors(Ring(64), FORMS[form], x, 4).tolist()) <= {0, 1}


@pytest.mark.parametrize("owner", [None, 0, 1])
@pytest.mark.parametrize("bits", [32, 64, 128])
def test_long_products_of_a_value_with_itself_are_not_biased(bits: int, owner: int | None) -> None:
    """What both operands lose is independent: of squares it would all be positive, a sixth each."""
    ring, count, m = Ring(bits), 1 << 14, {32: 8, 64: 18, 128: 26}[bits]
    rng = np.random.default_rng(bits)
    whole = rng.integers(-(1 << m - 5), 1 << m - 5, count)
    x = share(ring.array(whole.astype(object)).reshape(1, 1, count), ring, owner=owner)
    y = [AShare(s.x0.reshape(1, count, 1), s.x1.reshape(1, count, 1)) for s in x]
    public = {"trunc": m, "form": "full"}
    got = value_of(lockstep(ring, interactive("dot_aa"), [x, y], public).results)
    want = int(sum(int(v) * int(v) for v in whole)) >> m
    off = int(ring.signed(got).reshape(-1)[0]) - want
    assert abs(off) < np.sqrt(count)  # 6 standard deviations


def test_columns_that_are_pieces_apart_are_not_biased() -> None:
    """Places of one column are whole pieces apart; each of them is the row that it meets."""
    ring, count, m = Ring(64), 256, 18
    whole = np.random.default_rng(1).integers(-(1 << m - 5), 1 << m - 5, count)
    x = share(ring.array(whole.astype(object)).reshape(1, 1, count), ring)
    columns = [[np.repeat(c.reshape(1, count, 1), PIECE, 2) for c in (s.x0, s.x1)] for s in x]
    y = [AShare(*both) for both in columns]
    public = {"trunc": m, "form": "full"}
    got = value_of(lockstep(ring, interactive("dot_aa"), [x, y], public).results)
    off = ring.signed(got).reshape(-1) - (int((whole * whole).sum()) >> m)
    assert np.abs(off.astype(np.int64)).max() < count / 10  # rounded alike it is a sixth
