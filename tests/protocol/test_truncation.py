"""Truncation: never a large error, less than one unit, exact for multiples, no bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parties import interactive, lockstep, share, value_of

from spuvm.protocol.aby3.share import AShare
from spuvm.protocol.aby3.truncation import truncate_product
from spuvm.protocol.base import Party, Steps
from spuvm.ring import Ring

MANY = 1_000_000


def of_a_product(p: Party, x: AShare, *, bits: int) -> Steps:
    """The fused form on given shares: what a product leaves before it is truncated."""
    x0, _ = x.flat()

    def accumulate(out: np.ndarray, where: slice) -> None:
        np.add(out, x0[where], out=out)

    return (yield from truncate_product(p, accumulate, x.size, bits))


FORMS = {"fused": of_a_product, "shared": interactive("trunc_a")}


def errors(
    ring: Ring, form: Callable[..., Any], x: np.ndarray, m: int, owner: int | None = None
) -> np.ndarray:
    """got - floor(x / 2^m) for signed x."""
    shares = share(x.astype(ring.signed_dtype).view(ring.dtype), ring, owner=owner)
    got = value_of(lockstep(ring, form, [shares], {"bits": m}).results)
    return ring.signed(got).astype(np.int64) - (x.astype(np.int64) >> m)


@pytest.mark.parametrize(
    ("bits", "magnitude", "m"),
    [(64, 46, 18), (64, 58, 18), (64, 61, 18), (64, 61, 40), (32, 20, 8), (32, 28, 8), (32, 29, 8)],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_large_error(form: str, bits: int, magnitude: int, m: int) -> None:
    """A million values up to the border: each is rounded to one of its two neighbours."""
    rng = np.random.default_rng(magnitude)
    x = rng.integers(-(1 << magnitude) + 1, 1 << magnitude, MANY)
    error = errors(Ring(bits), FORMS[form], x, m)
    assert error.min() >= 0
    assert error.max() <= 1


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("form", FORMS)
def test_borders_and_multiples(form: str, bits: int) -> None:
    """The largest representable numbers, 0, -1, and multiples of 2^m for small and large m."""
    ring = Ring(bits)
    top = ring.bound - 1
    for m in (1, 2, 7, 8, 9, 15, 16, 17, bits // 2 + 1, bits - 3):
        unit = 1 << m
        multiples = [0, unit, -unit, top >> m << m, -(top >> m << m)]
        x = np.array([v for v in multiples if abs(v) <= top] * 200)
        assert not errors(ring, FORMS[form], x, m).any(), m
        x = np.array([top, -top, 1, -1, top - 1, 1 - top, unit - 1, 1 - unit] * 200)
        error = errors(ring, FORMS[form], x[np.abs(x) <= top], m)
        assert set(error.tolist()) <= {0, 1}, m


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("owner", [None, 0, 1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_rounding_has_no_bias(form: str, owner: int | None, bits: int) -> None:
    """Rounded up as often as the fraction says, whoever dealt the value (8 standard deviations)."""
    ring, n = Ring(bits), 100_000
    for x in (1, 100, 255, -1, -77, (ring.bound >> 1) + 64):
        error = errors(ring, FORMS[form], np.full(n, x), 8, owner)
        fraction = (x % 256) / 256
        assert abs(error.mean() - fraction) <= 8 * np.sqrt(fraction * (1 - fraction) / n)


@pytest.mark.parametrize("form", FORMS)
def test_rounding_is_independent_between_elements(form: str) -> None:
    n = 100_000
    error = errors(Ring(64), FORMS[form], np.full(n, 128), 8)
    assert abs((2 * error[1:] - 1) @ (2 * error[:-1] - 1)) < 8 * np.sqrt(n)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 32767, 32768, 32769, 65537])
@pytest.mark.parametrize("form", FORMS)
def test_sizes_around_pieces(form: str, size: int) -> None:
    x = np.arange(size) * 1000 - 500
    assert set(errors(Ring(64), FORMS[form], x, 4).tolist()) <= {0, 1}
