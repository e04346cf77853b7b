"""Bit kernels against loops over single bits, in words of 8 to 128 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.kernels import bits as kernels
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3.compare import fold_tables
from spuvm.wide import array, elements

N = 9
WORDS = (8, 16, 32, 64, 128)
words = pytest.mark.parametrize("w", WORDS)
seeds = given(st.integers(0, 2**32 - 1))


def dtype(bits: int) -> np.dtype:
    return small_dtype(bits)


def arrays(seed: int, count: int, bits: int) -> list[np.ndarray]:
    """Random numbers of so many bits."""
    rng = np.random.default_rng(seed)
    mask, word = (1 << bits) - 1, dtype(bits)
    raw = np.frombuffer(rng.bytes(count * N * word.itemsize), word).reshape(count, N)
    made = elements(raw) & mask
    made[:, :2] = array([0, mask], word)
    return list(made)


def ints(*many: np.ndarray) -> list[list[int]]:
    return [[int(v) for v in elements(a)] for a in many]


@words
@seeds
def test_fold_order(w: int, seed: int) -> None:
    """Bit i goes to the place of i's index read backwards, after a shift to the top."""
    index_bits = w.bit_length() - 1
    masks, shifts = fold_tables(w)
    for ring in (32, 64, 128):
        if ring < w:
            continue
        (x,) = arrays(seed, 1, ring)
        for up in (0, 1, w - 2):
            out = np.empty(N, dtype(w))
            kernels.fold_order(x, up, masks, shifts, out)
            for v, got in zip(*ints(x, out), strict=True):
                v = v << up & ((1 << w) - 1)
                place = [int(f"{i:0{index_bits}b}"[::-1], 2) for i in range(w)]
                assert got == sum((v >> i & 1) << place[i] for i in range(w))


@words
@seeds
def test_pairs(w: int, seed: int) -> None:
    """Dealing and both parts of the first level give generate and propagate of every pair."""
    h = w // 2
    W, H = dtype(w), dtype(h)
    u, v, mask_u, s = arrays(seed, 4, w)
    (mask_m,) = [a.astype(H) for a in arrays(seed + 1, 1, max(8, h))]
    out_u, out_m = np.empty(N, W), np.empty(N, H)
    kernels.carry_deal(u, mask_u, mask_m, out_u, out_m)
    first, second = np.empty(N, W), np.empty(N, W)
    kernels.carry_first(out_u, out_m, v, 1, s, first)
    kernels.carry_first(mask_u, mask_m, v, 0, np.zeros(N, W), second)
    for a, b, mask, got1, got2 in zip(*ints(u, v, s, first, second), strict=True):
        got = got1 ^ mask ^ got2
        for j in range(h):
            ul, vl, uh, vh = a >> j & 1, b >> j & 1, a >> j + h & 1, b >> j + h & 1
            gh, ph = (0, 1) if j == h - 1 else (uh & vh, uh ^ vh)  # the sign's own place
            g, p = gh ^ ph & ul & vl, ph & (ul ^ vl)
            assert got >> j & 1 == g
            assert got >> j + h & 1 == p


@pytest.mark.parametrize("w", [4, *WORDS])
@seeds
def test_level(w: int, seed: int) -> None:
    """Three parties' parts of one level of the tree add up to the combined word."""
    q, last = w // 4, w == 4
    components = arrays(seed, 3, w)
    masks = arrays(seed + 1, 3, max(8, w // 2))
    level = kernels.carry_last if last else kernels.carry_level
    parts = []
    for i in range(3):
        out = np.empty(N, dtype(w // 2))
        level(components[i], components[(i + 1) % 3], masks[i], masks[(i + 2) % 3], out)
        parts.append(out ^ masks[i] ^ masks[(i + 2) % 3])
    clean = (1 << (1 if last else 2 * q)) - 1
    for row in zip(*ints(*components, *parts), strict=True):
        word = row[0] ^ row[1] ^ row[2]
        got = (row[3] ^ row[4] ^ row[5]) & clean
        low = (1 << q) - 1
        gl, gh, pl, ph = (word >> i * q & low for i in range(4))
        assert got == (gh ^ ph & gl | (0 if last else (ph & pl) << q))


@words
@seeds
def test_and_terms(w: int, seed: int) -> None:
    x0, x1, y0, y1, m, n = arrays(seed, 6, w)
    out = np.empty_like(x0)
    kernels.and_terms(x0, x1, y0, y1, m, n, out)
    assert np.array_equal(out, x0 & y0 ^ x0 & y1 ^ x1 & y0 ^ m ^ n)
    kernels.and_terms(x0, x1, y0, y1, m, n, m)
    assert np.array_equal(out, m)


@words
@seeds
def test_sign_share(w: int, seed: int) -> None:
    (word,), (carry,) = arrays(seed, 1, w), arrays(seed + 1, 1, 8)
    out = np.empty(N, np.uint8)
    kernels.sign_share(carry, word, w - 1, out)
    assert ints(out)[0] == [(c ^ v >> w - 1) & 1 for c, v in zip(*ints(carry, word), strict=True)]
