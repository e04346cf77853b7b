"""Look-ups: the right row for every index, in two rounds or three; unbiased where bits are cut."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import interactive, lockstep, share, value_of

from spuvm.bytecode.types import Type
from spuvm.kernels import threads
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.lookup import digits, places
from spuvm.ring import Ring

WIDTHS = (32, 64, 128)
MANY = 200_000


def look_up(
    ring: Ring, table: np.ndarray, x: np.ndarray, bits: int, owner: int | None = None
) -> np.ndarray:
    """Rows of the table; rounds and bytes are those declared."""
    shares = [[table] * 3, share(x, ring, owner=owner)]
    trace = lockstep(ring, interactive("lookup_pa"), shares, {"bits": bits})
    types = (Type("p", table.shape), Type("a", x.shape))
    cost = ABY3.costs["lookup_pa"](ring, types, {"bits": bits})
    assert (trace.rounds, trace.bytes_sent) == (cost.rounds, cost.bytes_sent)
    return value_of(trace.results)


def signed(ring: Ring, values: Any) -> np.ndarray:
    return ring.array(np.array(values, object))


@given(st.data())
def test_rows_of_all_indices(data: st.DataObject) -> None:
    ring = Ring(data.draw(st.sampled_from(WIDTHS)))
    rows = data.draw(st.integers(2, 40))
    columns = data.draw(st.integers(1, 9))
    half = 1 << ring.bits - 1
    word = st.integers(-half, half - 1)
    table = signed(ring, [[data.draw(word) for _ in range(columns)] for _ in range(rows)])
    indices = data.draw(st.lists(word | st.integers(0, rows - 1), max_size=7))
    owner = data.draw(st.sampled_from([None, 0, 1, 2]))
    got = look_up(ring, table, signed(ring, indices), 0, owner)
    assert got.shape == (len(indices), columns)
    for row, i in zip(got, indices, strict=True):
        place = i % places(rows)
        want = table[place] if place < rows else signed(ring, [0] * columns)
        assert (row == want).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    ("rows", "columns", "indices", "cut"),
    [(40_000, 1, 1, 0), (40_000, 1, 3, 9), (5_000, 3, 40, 0), (4_097, 70, 7, 0), (300, 2, 500, 5)],
)
def test_large_tables_take_two_digits(
    bits: int, rows: int, columns: int, indices: int, cut: int
) -> None:
    """First and last row, the first one that is not there, and any others."""
    ring, rng = Ring(bits), np.random.default_rng(rows)
    assert len(digits(ring, indices, rows, columns)) == 2
    table = ring.array(rng.integers(-(2**30), 2**30, (rows, columns)))
    index = rng.integers(0, places(rows), indices)
    index[:4] = [rows - 1, 0, rows, places(rows) - 1][:indices]
    got = look_up(ring, table, signed(ring, [int(i) << cut for i in index]), cut)
    nothing = ring.array(np.zeros(columns, np.int64))
    for row, i in zip(got, index, strict=True):
        assert (row == (table[i] if i < rows else nothing)).all()


@pytest.mark.parametrize("columns", [1, 5])
def test_many_indices_are_shared_by_threads(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST_WORK", 1)
    monkeypatch.setattr(threads, "processors", lambda: 3)
    ring, rng = Ring(64), np.random.default_rng(0)
    table = ring.array(rng.integers(-(2**30), 2**30, (3000, columns)))
    index = rng.integers(0, 3000, 50)
    assert len(digits(ring, 50, 3000, columns)) == 2
    assert np.array_equal(look_up(ring, table, signed(ring, index.tolist()), 0), table[index])


@pytest.mark.parametrize("owner", [None, 0, 1, 2])
def test_every_digit_and_borrow(owner: int | None) -> None:
    """All indices at once, each many times: masks of all values."""
    ring, rows = Ring(64), 200
    table = signed(ring, [[i] for i in range(rows)])
    index = np.tile(np.arange(256), 8)
    assert len(digits(ring, index.size, rows, 1)) == 2
    got = look_up(ring, table, signed(ring, index.tolist()), 0, owner)[:, 0]
    assert (got == np.where(index < rows, index, 0)).all()


def test_digits_are_for_what_they_save() -> None:
    """A round counts as 128 KiB."""
    ring = Ring(64)
    assert digits(ring, 1, 1 << 13, 1) == (13,)
    assert len(digits(ring, 1, 1 << 15, 1)) == 2
    assert digits(ring, 0, 1 << 20, 1) == (20,)
    assert digits(ring, 10**6, 2, 1) == (1,)
    plain, cut = (
        sum(ABY3.costs["lookup_pa"](ring, types, {"bits": 0}).bytes_sent)
        for types in ((Type("p", (n, 1)), Type("a", (100,))) for n in (2, 1 << 16))
    )
    assert cut < 2**16 * 8 * 100 / 50
    assert plain < 100 * 5 * 8


@pytest.mark.parametrize("size", [2, 3, 64, 65, 40_000])
def test_one_hot(size: int) -> None:
    """Also rows that are longer than the pieces that are worked on."""
    ring = Ring(64)
    x = signed(ring, [0, size - 1, size // 2, places(size) - 1, -1])
    trace = lockstep(ring, interactive("one_hot_a"), [share(x, ring)], {"size": size})
    got = value_of(trace.results)
    for row, i in zip(
        got, [0, size - 1, size // 2, places(size) - 1, places(size) - 1], strict=True
    ):
        assert (row == (np.arange(size) == i)).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("cut", [1, 9, 20, 24])
def test_an_index_is_rounded_to_a_neighbour_without_bias(bits: int, cut: int) -> None:
    ring, rows = Ring(bits), 19
    count = MANY if bits == 64 and cut == 9 else 500
    table = signed(ring, [[i] for i in range(rows)])
    rng = np.random.default_rng(cut)
    x = rng.integers(0, (rows - 1) << cut, 20)
    x[:3] = [0, (rows - 1) << cut, 1 << cut]
    made = look_up(ring, table, np.repeat(signed(ring, x.tolist()), count // 20), cut)
    made = made.reshape(20, -1).astype(np.int64)
    floor, ceiling = x >> cut, -(-x >> cut)
    assert ((made == floor[:, None]) | (made == ceiling[:, None])).all()
    if count == MANY:
        fraction = (x & ((1 << cut) - 1)) / (1 << cut)
        deviation = np.abs((made - floor[:, None]).mean(1) - fraction)
        assert (deviation <= 6 * np.sqrt(fraction * (1 - fraction) / made.shape[1]) + 1e-12).all()
