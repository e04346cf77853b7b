"""Mask streams: every place used once, both holders in step, limits enforced."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from parties import PAIRS, RANKS, Trio
from variant import builder

from spuvm.bytecode.types import Type
from spuvm.errors import ProtocolError
from spuvm.protocol.aby3 import keystream
from spuvm.protocol.aby3.keystream import BLOCK, FIRST, LONG, Stream
from spuvm.protocol.aby3.prss import (
    BLOCK_BITS,
    INSTRUCTION_BITS,
    LANE_BITS,
    RUN_BITS,
    Masks,
    expand,
)
from spuvm.protocol.aby3.share import PIECE
from spuvm.ring import Ring

U64, U8 = np.dtype(np.uint64), np.dtype(np.uint8)


class RecordingStream:
    """A stream that writes down which blocks it gave out."""

    def __init__(self, inner: Stream) -> None:
        self.inner = inner
        self.places: list[tuple[int, int]] = []

    def fill(self, out: memoryview, place: int) -> None:
        self.places.append((place, place + -(-len(out) // 16)))
        self.inner.fill(out, place)


def once(places: list[tuple[int, int]]) -> bool:
    """No two ranges overlap."""
    ordered = sorted(places)
    return all(a[1] <= b[0] for a, b in pairwise(ordered))


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_no_place_is_used_twice(bits: int) -> None:
    """All instructions, over pieces, twice in a program, several runs, openings in between."""
    trio = Trio(Ring(bits))
    streams = {}
    for m in trio.machines:
        for peer, stream in list(m._streams.items()):
            streams[m.rank, peer] = m._streams[peer] = RecordingStream(stream)  # type: ignore[assignment]
    n = 40_000
    b = builder(trio.ring)
    x = b.input(Type("a", (n,), 0, 0, -100, 100), "o")
    bit = b.input(Type("b", (n,), 0, 1), "o")
    y = x
    for _ in range(2):
        b.emit("mul_aa", x, y, trunc=4, form="full")
        b.emit("eqz_a", y, bits=8)
        b.emit("b2a", b.emit("a2b", y, bits=8))
        b.emit("and_bb", bit, b.emit("msb_a", y, bits=bits))
        b.emit("mul_ba", bit, b.emit("trunc_a", y, bits=3))
        y = b.emit("mul_aa", x, x, trunc=3, form="narrow")
    y = b.emit("mul_aa", y, x, trunc=0, form="narrow")
    b.output(y, "int64", "o")
    program = b.build()
    values = [trio.ring.array(np.zeros(n, int)), np.zeros(n, np.uint8)]
    for _ in range(3):
        trio.run(program, values)
    for i, j in PAIRS:
        mine, other = streams[i, j].places, streams[j, i].places
        assert mine
        assert once(mine)
        assert once(other)
        # In step: the same places, though one party may draw them in larger pieces.
        assert _merged(mine) == _merged(other)
    trio.close()


def _merged(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for first, last in sorted(places):
        if made and made[-1][1] == first:
            made[-1] = (made[-1][0], last)
        else:
            made.append((first, last))
    return made


places = st.tuples(st.integers(0, 2**RUN_BITS - 1), st.integers(0, 2**INSTRUCTION_BITS - 1))


@given(places, places)
def test_runs_and_instructions_have_their_own_places(one: Any, two: Any) -> None:
    first, second = (Masks({}, *p)._place for p in (one, two))
    assert first % (1 << BLOCK_BITS) == 0
    assert first < 1 << 128
    assert (first == second) == (one == two)


@pytest.mark.parametrize(
    ("run", "instruction"),
    [(1 << RUN_BITS, 0), (0, 1 << INSTRUCTION_BITS), (-1, 0), (0, -1)],
)
def test_numbers_beyond_the_counter_are_refused(run: int, instruction: int) -> None:
    with pytest.raises(ProtocolError, match="used up"):
        Masks({}, run, instruction)


def test_blocks_and_lanes_are_limited() -> None:
    masks = Masks({1: Stream(bytes(16))}, 0, 0)
    masks._used[1, 0] = (1 << BLOCK_BITS - LANE_BITS) - 2
    masks.draw(1, (U8, 16))
    with pytest.raises(ProtocolError, match="blocks of masks"):
        masks.draw(1, (U8, 17))
    with pytest.raises(ProtocolError, match="blocks of masks"):
        masks.draw(1, (U8, 1), lane=1 << LANE_BITS)


sizes = st.lists(st.integers(0, 50), max_size=6)


@given(sizes, st.integers(0, 3))
def test_both_holders_draw_the_same(counts: list[int], lane: int) -> None:
    key = os.urandom(16)
    mine, other = (Masks({1: Stream(key)}, 5, 7) for _ in range(2))
    alone = [mine.draw(1, (U64, c), lane=lane)[0] for c in counts]
    together = other.draw(1, *((U64, c) for c in counts), lane=lane)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    into = Masks({1: Stream(key)}, 5, 7)
    for a in alone:
        out = np.empty_like(a)
        into.fill(1, out, lane)
        assert np.array_equal(a, out)


def test_draws_lanes_instructions_runs_and_keys_differ() -> None:
    key = bytes(range(16))
    seen = []
    for k in (key, bytes(16)):
        for run, instruction in ((0, 0), (0, 1), (1, 0)):
            masks = Masks({1: Stream(k)}, run, instruction)
            for lane in (0, 1):
                seen += [masks.draw(1, (U64, 2), lane=lane)[0].tobytes() for _ in range(2)]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 20])
def test_stream_is_one_sequence_in_chunks(size: int) -> None:
    stream = Stream(bytes(16))
    whole, tail = bytearray(size + 32), bytearray(size)
    stream.fill(memoryview(whole), 10)
    stream.fill(memoryview(tail), 12)
    assert whole[32:] == tail


def test_stream_is_aes_ctr() -> None:
    """Known answer: AES-128 of the counter block, FIPS 197 appendix C.1."""
    out = bytearray(16)
    place = int("00112233445566778899aabbccddeeff", 16)
    Stream(bytes(range(16))).fill(memoryview(out), place)
    assert out.hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


moves = st.lists(
    st.tuples(
        st.integers(0, 2),  # the sequence that goes on, each with a nonce of its own
        st.sampled_from((16, 48, 17, 1 << 16, (1 << 16) + 16, (1 << 16) + 5, 1 << 18)),
        st.sampled_from(("on", "on", "on", "again", "ahead")),
        st.sampled_from((0, LONG)),
    ),
    max_size=12,
)


@given(moves, st.integers(0, 2**32 - 1))
def test_both_ways_of_making_a_stream_give_the_same_bytes(steps: Any, low: int) -> None:
    """Sequences that take turns, go on, begin again and leave places out; also over 2^32 blocks."""
    key = os.urandom(16)
    stream = Stream(key)
    starts = [FIRST, 7 << 32 | FIRST, (1 << 100) + low]
    at = list(starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystream, "gcm_is_faster", lambda: True)
        for which, size, step, length in steps:
            at[which] = {"on": at[which], "again": starts[which], "ahead": at[which] + 3}[step]
            stream.begin(at[which], length)
            got = bytearray(size)
            stream.fill(memoryview(got), at[which])
            assert got == counter_mode(key, at[which], size)
            at[which] += -(-size // BLOCK)


def counter_mode(key: bytes, place: int, size: int) -> bytearray:
    made = bytearray(size)
    cipher = Cipher(algorithms.AES(key), modes.CTR(place.to_bytes(16, "big")))
    cipher.encryptor().update_into(bytes(size), made)
    return made


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize("count", [1000, LONG // 8, LONG // 8 + 3000])
def test_long_masks_are_the_same_either_way(faster: bool, count: int) -> None:
    """Drawn in pieces, by both holders, one of which was not told how long they are."""
    key, size = os.urandom(16), 8 * count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystream, "gcm_is_faster", lambda: faster)
        told, untold = Masks({1: Stream(key)}, 5, 7, size), Masks({1: Stream(key)}, 5, 7)
        for start in range(0, count, PIECE):
            request = (U64, min(PIECE, count - start))
            (mine,), (other,) = told.draw(1, request), untold.draw(1, request)
            assert np.array_equal(mine, other)
        assert bool(told._streams[1]._sequences) == (faster and size >= LONG)
        assert expand(key, U64, count).tobytes() == counter_mode(key, FIRST, size)


def test_a_sequence_ends_before_its_counter_begins_again() -> None:
    """Block 2^32 of a sequence has another nonce than the one that GCM would go on with."""
    key, size = bytes(range(16)), 1 << 18
    stream = Stream(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystream, "gcm_is_faster", lambda: True)
        out = bytearray(size)
        stream.begin(FIRST, LONG)
        stream.fill(memoryview(out), FIRST)
        (encryptor,) = stream._sequences.values()
        end = (1 << 32) - size // BLOCK // 2
        stream._sequences = {end: encryptor}  # as if it had come so far
        stream.fill(memoryview(out), end)
    assert out == counter_mode(key, end, size)


def test_expand() -> None:
    assert expand(bytes(16), U64, 0).size == 0
    assert np.array_equal(expand(bytes(16), U64, 5), expand(bytes(16), U64, 9)[:5])


def test_keys_of_sessions_and_pairs_differ() -> None:
    outputs = set()
    for _ in range(2):
        trio = Trio(Ring(64))
        for i in RANKS:
            for peer, stream in trio.machines[i]._streams.items():
                out = bytearray(16)
                stream.fill(memoryview(out), 0)
                outputs.add(bytes(out))
                twin = bytearray(16)
                trio.machines[peer]._streams[i].fill(memoryview(twin), 0)
                assert out == twin
        trio.close()
    assert len(outputs) == 6
