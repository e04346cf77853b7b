"""Arithmetic kernels against Python integers, uint32 and uint64, borders included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.kernels import arith, fixed
from spuvm.kernels.arith import small_dtype
from spuvm.wide import array, elements

RINGS = (32, 64, 128)
N = 9


class Case:
    """Random flat arrays of a ring and of small numbers, as arrays and as Python integers."""

    def __init__(self, bits: int, seed: int) -> None:
        self.k, self.rng = bits, np.random.default_rng(seed)
        self.T = small_dtype(bits)
        self.m = int(self.rng.integers(1, bits - 2))
        self.S = small_dtype(self.m)

    def array(self, dtype: np.dtype) -> np.ndarray:
        top = 1 << dtype.itemsize * 8
        borders = [0, 1, top - 1, top // 2, top // 2 - 1, top // 4, top // 4 - 1]
        made = elements(np.frombuffer(self.rng.bytes(N * dtype.itemsize), dtype).copy())
        where = self.rng.random(N) < 0.3
        made[where] = array(borders, dtype)[self.rng.integers(0, len(borders), where.sum())]
        return made

    def ring(self, count: int) -> list[np.ndarray]:
        return [self.array(self.T) for _ in range(count)]

    def small(self, count: int) -> list[np.ndarray]:
        return [self.array(self.S) for _ in range(count)]

    def bits(self, count: int) -> list[np.ndarray]:
        return [self.rng.integers(0, 2, N).astype(np.uint8) for _ in range(count)]

    def same(
        self, got: np.ndarray, want: Callable[..., int], *inputs: Sequence[np.ndarray]
    ) -> None:
        """got[i] = want(inputs[i]...) modulo the width of got's dtype."""
        modulus = 1 << got.dtype.itemsize * 8
        values = [[int(v) for v in elements(a)] for a in inputs]
        expected = [want(*row) % modulus for row in zip(*values, strict=True)]
        assert [int(v) for v in elements(got)] == expected


cases = given(st.integers(0, 2**32 - 1))
rings = pytest.mark.parametrize("bits", RINGS)


@rings
@cases
def test_cross_terms(bits: int, seed: int) -> None:
    c = Case(bits, seed)
    x0, x1, y0, y1, before = c.ring(5)
    out = before.copy()
    arith.cross_terms(x0, x1, y0, y1, out)
    c.same(out, lambda a, b, d, e, o: o + a * d + a * e + b * d, x0, x1, y0, y1, before)


@rings
@cases
def test_sums(bits: int, seed: int) -> None:
    c = Case(bits, seed)
    x, y, z, before = c.ring(4)
    out = np.empty_like(x)
    arith.minus_sum(x, y, out)
    c.same(out, lambda a, b: -(a + b), x, y)
    aliased = x.copy()
    arith.minus_sum(aliased, y, aliased)
    c.same(aliased, lambda a, b: -(a + b), x, y)
    fixed.subtract_masks(x, y, z, out)
    c.same(out, lambda a, b, d: a - b - d, x, y, z)
    factors = c.array(c.T)
    arith.scale(x, factors[:1], out)
    c.same(out, lambda a: int(factors[0]) * a, x)
    out = before.copy()
    arith.accumulate(x, factors[:1], out)
    c.same(out, lambda a, o: o + int(factors[0]) * a, x, before)
    kernels = (arith.accumulate2, arith.accumulate4, arith.accumulate8, arith.combine8)
    for count, add in zip((2, 4, 8, 8), kernels, strict=True):
        operands, out = c.ring(count), before.copy()
        add(*operands, factors[:count], out)
        kept = 0 if add is arith.combine8 else 1
        c.same(
            out,
            lambda o, *xs, k=kept, fs=factors[:count]: k * o
            + sum(int(f) * x for f, x in zip(fs, xs, strict=True)),
            before, *operands,
        )  # fmt: skip


@rings
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 64), (5, 2049), (9, 4100)])
def test_sum_rows(bits: int, shape: tuple[int, int]) -> None:
    dtype = small_dtype(bits)
    raw = np.random.default_rng(0).bytes(shape[0] * shape[1] * dtype.itemsize)
    x = elements(np.frombuffer(raw, dtype).reshape(shape).copy())
    out = np.empty(shape[1], x.dtype)
    arith.sum_rows(x, out)
    assert np.array_equal(out, x.sum(axis=0, dtype=x.dtype))


@rings
@cases
def test_truncation_of_a_product(bits: int, seed: int) -> None:
    """The three steps by their formulas, with m of every width of the small numbers."""
    c = Case(bits, seed)
    k, m = c.k, c.m
    low = (1 << k - 1) - 1
    (z, a0), (b0, t0, t2) = c.ring(2), c.small(3)
    a2, z0, z2, b2 = np.empty(N, c.T), np.empty(N, c.T), np.empty(N, c.T), np.empty(N, c.S)
    arith.truncation_deal(z, a0, b0, t0, t2, c.m, a2, b2, z0, z2)

    def second(z: int, a0: int) -> int:
        r = -z % (1 << k)
        return (r >> k - 1 << k - 1 - m) - ((r & low) >> m) - a0

    c.same(a2, second, z, a0)
    c.same(b2, lambda z, b: (-z % (1 << k) >> k - 1) - b, z, b0)
    c.same(z0, lambda a, t: a - (t << k - m), a0, t0)
    c.same(z2, lambda z, a, t: second(z, a) - (t << k - m), z, a0, t2)
    alias = a0.copy()
    arith.truncation_deal(z, alias, b0, t0, t2, c.m, a2, b2, alias, z2)
    assert np.array_equal(alias, z0)

    (mine, theirs, a), (b, t) = c.ring(3), c.small(2)
    out, d, zz = np.empty(N, c.T), np.empty(N, c.S), np.empty(N, c.T)
    arith.truncation_correct(mine, theirs, a, b, t, c.m, out, d, zz)
    total = lambda x, y: (x + y + (1 << k - 2)) % (1 << k)  # noqa: E731
    c.same(out, total, mine, theirs)
    c.same(d, lambda x, y, b, t: (total(x, y) >> k - 1) * b - t, mine, theirs, b, t)
    c.same(zz, lambda a, t: a - (t << k - m), a, t)

    (cc,), (d, e) = c.ring(1), c.small(2)
    z1 = np.empty(N, c.T)
    arith.truncation_finish(cc, d, e, c.m, z1)
    c.same(
        z1,
        lambda c, d, e: ((c & low) >> m) + (c >> k - 1 << k - 1 - m) - (1 << k - 2 - m)
        - (d + e << k - m),
        cc, d, e,
    )  # fmt: skip


@rings
@cases
def test_truncation_of_a_value(bits: int, seed: int) -> None:
    c = Case(bits, seed)
    k, m = c.k, c.m

    def signed(v: int) -> int:
        v %= 1 << k
        return v - (v >> k - 1 << k)

    (x0, x1, r), (mask, e), (s0, s1, t2) = c.ring(3), c.bits(2), c.small(3)
    got_e, z1 = np.empty(N, np.uint8), np.empty(N, c.T)
    junk = mask | c.rng.integers(0, 128, N).astype(np.uint8) << 1  # only bit 0 counts
    arith.shift_first(x0, junk, s0, r, c.m, got_e, z1)
    u = lambda a: signed(a + (1 << k - 2) - 1)  # noqa: E731
    c.same(got_e, lambda a, c: (u(a) < 0) ^ c, x0, mask)
    c.same(
        z1,
        lambda a, e, s, r: (u(a) >> m) + (1 - 2 * e) * (s << k - m)
        - ((1 << k - 2 - m) - 1) - r,
        x0, got_e, s0, r,
    )  # fmt: skip
    got_s1, z2 = np.empty(N, c.S), np.empty(N, c.T)
    arith.shift_deal(x1, junk, s0, t2, c.m, got_s1, z2)
    c.same(got_s1, lambda x, c, s: c * (x >> k - 1) - s, x1, mask, s0)
    c.same(z2, lambda x, t: (signed(x) >> m) + (t << k - m), x1, t2)
    b, again = np.empty(N, np.uint8), np.empty(N, c.T)
    arith.shift_keep(x1, t2, c.m, b, again)
    c.same(b, lambda x: x >> k - 1, x1)
    assert np.array_equal(again, z2)
    y, z0, finished = np.empty(N, c.S), np.empty(N, c.T), np.empty(N, c.T)
    arith.shift_second(b, e, s1, t2, r, c.m, y, z0)
    c.same(y, lambda b, e, s, t: e * b + (1 - 2 * e) * s - t, b, e, s1, t2)
    c.same(z0, lambda r, y: r + (y << k - m), r, y)
    arith.shift_finish(r, y, c.m, finished)
    assert np.array_equal(finished, z0)


@rings
@cases
def test_bit_injection(bits: int, seed: int) -> None:
    c = Case(bits, seed)
    (b0, b1), (x0, x1, s0, s1, c2, mask) = c.bits(2), c.ring(6)
    m0, m1, c1 = (np.empty(N, c.T) for _ in range(3))
    arith.inject_first(b0, b1, x0, x1, s0, s1, c2, m0, m1, c1)
    c.same(m0, lambda a, b, x, y, s: (a ^ b) * (x + y) - s, b0, b1, x0, x1, s0)
    c.same(m1, lambda a, b, x, y, s: (1 - (a ^ b)) * (x + y) - s, b0, b1, x0, x1, s1)
    c.same(c1, lambda a, b, r: (a ^ b) - r, b0, b1, c2)
    for sign in (0, 1):
        out = np.empty(N, c.T)
        arith.inject_second(b0, x0, s0, s1, c2, sign, mask, out)
        c.same(
            out,
            lambda d, x, p, q, c, m, s=sign: (q if d else p) + s * d * x + c * (1 - 2 * d) * x - m,
            b0, x0, s0, s1, c2, mask,
        )  # fmt: skip
        arith.bit_to_ring(b0, c2, sign, mask, out)
        c.same(out, lambda d, c, m, s=sign: c * (1 - 2 * d) + s * d - m, b0, c2, mask)
        before = out.copy()
        arith.add_bit(b1, s0, sign, 3, out)
        c.same(
            out,
            lambda o, d, c, s=sign: o + 8 * (c * (1 - 2 * d) + s * d),
            before, b1, s0,
        )  # fmt: skip
    dealt = np.empty(N, c.T)
    arith.bit_deal(b0, b1, c2, dealt)
    c.same(dealt, lambda a, b, r: (a ^ b) - r, b0, b1, c2)


def test_small_dtype() -> None:
    sizes = [small_dtype(b).itemsize for b in (1, 8, 9, 16, 17, 32, 33, 64, 65, 128)]
    assert sizes == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16]
    with pytest.raises(ValueError, match="129 bits"):
        small_dtype(129)
