"""Shares that are made on demand: the same components as those that are made at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from parties import RANKS, share, value_of

from spuvm.protocol.aby3.io import accept, deal
from spuvm.protocol.aby3.lazy import HeldShare, JoinedShare, Store, expanded
from spuvm.protocol.aby3.local import concat, reshape
from spuvm.protocol.aby3.product import LONG_ROW, matrix
from spuvm.protocol.aby3.prss import expand
from spuvm.protocol.aby3.share import PIECE, AShare
from spuvm.protocol.base import Party
from spuvm.ring import Ring

RINGS = (32, 64, 128)
OWNERS = (None, 0, 1, 2)


def values(ring: Ring, size: int) -> Any:
    rng = np.random.default_rng(size)
    return ring.array(rng.integers(-(2**30), 2**30, size).astype(object))


def plain(shares: list[Any]) -> list[AShare]:
    return [AShare(s.x0, s.x1) for s in shares]


@pytest.mark.parametrize("bits", RINGS)
def test_pieces_of_a_sum_of_seeds(bits: int) -> None:
    dtype, seeds, size = Ring(bits).dtype, (b"a" * 16, b"b" * 16), 101
    first, second = (expand(seed, dtype, size) for seed in seeds)
    for s in (slice(0, size), slice(0, 0), slice(7, 9), slice(33, 33), slice(94, size)):
        assert np.array_equal(expanded(seeds, dtype, size)(s), (first + second)[s])
        assert np.array_equal(expanded(seeds[:1], dtype, size)(s), first[s])


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("bits", RINGS)
def test_dealt_in_pieces_and_summed_in_pieces(bits: int, owner: int | None) -> None:
    """However often and in which order it is read, before it is kept and after."""
    ring = Ring(bits)
    x = values(ring, PIECE + 7)
    dealt = deal(x, ring, owner=owner)
    steps = (slice(0, PIECE), slice(PIECE - 3, PIECE + 7), slice(1, 6))

    def check(reads: Sequence[Any], wanted: Sequence[Any]) -> None:
        for s in steps:
            for read, want in zip(reads, wanted, strict=True):
                assert np.array_equal(read(s), want[s])

    for rank, one in zip(RANKS, dealt, strict=True):
        whole, s = accept(one), accept(one)
        assert isinstance(s, HeldShare)
        x0, x1 = whole.x0, whole.x1
        single = (owner, rank) in ((None, 0), (0, 2))
        assert len(s.summands()) == (1 if single else 2)
        for _ in range(3):
            check(s.summands(), [x0 + x1] if single else [x0, x1])
            check(s.readers(), [x0, x1])
            check([s.sum_reader()], [x0 + x1])
        assert np.array_equal(s.total(), x0 + x1)
        assert np.array_equal(s.x0, x0)
        assert np.array_equal(s.x1, x1)
        check([*s.readers(), s.sum_reader()], [x0, x1, x0 + x1])
        assert np.array_equal(reshape(Party(rank, ring, None), s, shape=(1, x.size)).x1[0], x1)
    assert np.array_equal(value_of([accept(d) for d in dealt]), x)


def test_what_is_read_once_is_not_kept() -> None:
    size, dtype = 4 * PIECE, np.dtype("<u8")
    store = Store((b"a" * 16, b"b" * 16), dtype, size)
    held = HeldShare(store, (size,), dtype)
    for share_of in (held.sum_reader, lambda: held.readers()[0], lambda: held.readers()[1]):
        kept = []
        for _ in range(3):
            read = share_of()
            pieces = [read(slice(i, i + PIECE)) for i in (0, PIECE)]
            kept.append(all(piece.base is not None and piece.base.size >= size for piece in pieces))
        assert kept == [False, True, True]


def test_a_held_share_shows_nothing() -> None:
    seed = b"0123456789abcdef"
    held = HeldShare(Store((seed, None), np.dtype("<u8"), 2), (2,), np.dtype("<u8"))
    assert repr(held) == "AShare(shape=(2,), dtype=uint64, redacted)"
    assert not held.x1.any()
    assert held.x0 is not None
    with pytest.raises(Exception, match="a share is not a value"):
        np.asarray(held)


@pytest.mark.parametrize("bits", RINGS)
def test_joined_rows_are_the_concatenation(bits: int) -> None:
    ring, size = Ring(bits), PIECE // 4
    parts = [share(values(ring, size + i)[i:], ring) for i in range(3)]
    for rank in RANKS:
        p = Party(rank, ring, None)
        mine = [reshape(p, part[rank], shape=(2, size // 2)) for part in parts]
        made = concat(p, *mine, axis=0)
        assert isinstance(made, JoinedShare)
        assert made.shape == (6, size // 2)
        flat = made.reshaped((3, size))
        assert [r.size for r in flat.rows(3) or ()] == [size] * 3
        for whole, row in ((made.x0, lambda s: s.x0), (made.x1, lambda s: s.x1)):
            assert np.array_equal(whole, np.concatenate([row(s) for s in mine]))
        assert [r.size for r in made.rows(2) or ()] == [3 * size // 2] * 2  # now from the whole


@pytest.mark.parametrize("bits", RINGS)
def test_weighted_rows_are_the_matrix_product(bits: int) -> None:
    """The parts differ from those of the general way at no party."""
    ring, size = Ring(bits), LONG_ROW
    weights, rows = share(values(ring, 3), ring), [share(values(ring, size), ring) for _ in "abc"]
    for rank in RANKS:
        p = Party(rank, ring, None)
        stack = concat(p, *[reshape(p, r[rank], shape=(1, size)) for r in rows], axis=0)
        y = reshape(p, stack, shape=(1, 3, size))
        w = reshape(p, weights[rank], shape=(1, 1, 3))
        general = AShare(np.repeat(w.x0, 2, 1), np.repeat(w.x1, 2, 1))  # two rows: no short cut
        got, want = ring.array(np.zeros(size, int)), ring.array(np.zeros(2 * size, int))
        matrix(rank, w, y)(got, slice(0, size))
        matrix(rank, general, AShare(y.x0, y.x1))(want, slice(0, 2 * size))
        assert np.array_equal(got, want[:size])
