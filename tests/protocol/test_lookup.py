"""Look-ups: the right row for every index, in two rounds; unbiased where bits are cut."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import interactive, lockstep, share, value_of

from spuvm.bytecode.types import Type
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.lookup import places
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
