"""Shuffles and sorts: who knows which permutation, what the opened outcomes say, how many fit."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import RANKS, lockstep, share, value_of

from spuvm.compiler.sortplan import most_pairs, plan
from spuvm.errors import ProtocolError
from spuvm.protocol.aby3 import ABY3, sort
from spuvm.protocol.base import Party, Steps
from spuvm.ring import Ring
from spuvm.wide import elements

CHI_SQUARE_5 = 60.0  # 5 degrees of freedom: exceeded by chance with 1e-11


def run(op: str, ring: Ring, x: np.ndarray, **attrs: Any) -> tuple[np.ndarray, Any]:
    trace = lockstep(ring, ABY3.steps[op], [share(ring.array(x), ring)], attrs)
    signed = ring.signed(elements(value_of(trace.results)))
    return np.asarray(signed).astype(np.int64), trace


def uniform(orders: Counter[Any], kinds: int) -> bool:
    expected = orders.total() / kinds
    return sum((orders[k] - expected) ** 2 / expected for k in orders) < CHI_SQUARE_5 and (
        len(orders) == kinds
    )


def test_a_shuffle_keeps_rows_and_gives_every_order_alike() -> None:
    groups = 6000
    x = np.broadcast_to(np.array([[1, 10], [2, 20], [3, 30]]), (groups, 3, 2))
    for bits in (32, 64, 128):
        got, _ = run("shuffle_a", Ring(bits), x, draw=0)
        assert (got[..., 1] == 10 * got[..., 0]).all()
        orders = Counter(tuple(r) for r in got[..., 0].tolist())
        assert uniform(orders, 6)
        pairs = zip(got[:-1, :, 0].tolist(), got[1:, :, 0].tolist(), strict=True)
        assert len({(tuple(a), tuple(b)) for a, b in pairs}) == 36  # batches are independent


def test_every_party_misses_one_permutation() -> None:
    x = np.arange(8).reshape(1, 8, 1)
    _, trace = run("shuffle_a", Ring(32), x, draw=0)
    for rank in RANKS:
        keys = [d for d in trace.drawn[rank] if d.array.dtype == np.uint64]
        assert sorted(d.other for d in keys) == sorted({0, 1, 2} - {rank})


def test_a_shuffle_is_the_three_permutations_one_after_the_other() -> None:
    """Each is the order of keys of 64 bits, so uniform."""
    groups, rows = 500, 5
    x = np.broadcast_to(np.arange(rows)[:, None], (groups, rows, 1))
    got, trace = run("shuffle_a", Ring(32), x, draw=0)
    order = np.broadcast_to(np.arange(rows), (groups, rows))
    for i in RANKS:
        mine = [d.array for d in trace.drawn[i] if d.other == (i + 1) % 3]
        (keys,) = (a.reshape(groups, rows) for a in mine if a.dtype == np.uint64)
        order = np.take_along_axis(order, places(keys), 1)
    np.testing.assert_array_equal(got[..., 0], order)


def places(keys: np.ndarray) -> np.ndarray:
    """Which row a permutation of the protocol puts where, from the keys that its holders draw."""
    return np.argsort(keys, axis=1, kind="stable")


@pytest.mark.parametrize("rank", RANKS)
def test_the_order_is_uniform_to_a_party_that_knows_two_permutations(rank: int) -> None:
    """Every order comes alike in every case of what the party knows."""
    groups = 8000
    x = np.broadcast_to(np.arange(3)[:, None], (groups, 3, 1))
    got, trace = run("shuffle_a", Ring(32), x, draw=0)
    keys = [d.array.reshape(groups, 3) for d in trace.drawn[rank] if d.array.dtype == np.uint64]
    first, second = (places(k) @ [9, 3, 1] for k in keys)
    cases = Counter(zip(first, second, got[..., 0] @ [9, 3, 1], strict=True))
    expected = groups / 216
    distance = sum((c - expected) ** 2 / expected for c in cases.values())
    distance += (216 - len(cases)) * expected
    assert distance < 400  # 215 degrees of freedom: exceeded by chance with 1e-12


@pytest.mark.parametrize("bits", [32, 64, 128])
@given(data=st.data())
def test_sorts_are_stable(bits: int, data: st.DataObject) -> None:
    groups, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 60))
    columns = data.draw(st.integers(1, 3))
    keys = data.draw(st.integers(1, columns))
    spread = data.draw(st.sampled_from([1, 3, 1 << (bits // 2 - 2), 1 << (min(bits, 64) - 2)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.integers(-spread, spread, (groups, rows, columns))
    steps = plan(groups, rows)
    width = (2 * spread - 1).bit_length()
    got, _ = run("sort_a", Ring(bits), x, keys=(width,) * keys, lows=(-spread,) * keys,
                 sizes=steps.sizes, pairs=steps.pairs)  # fmt: skip
    want = np.stack([r[np.lexsort(r.T[:keys][::-1])] for r in x])
    np.testing.assert_array_equal(got, want)


SMALL_KEY = {"keys": (8,), "lows": (0,)}


def outcomes(
    monkeypatch: pytest.MonkeyPatch, x: np.ndarray, key: dict[str, Any] = SMALL_KEY
) -> list[np.ndarray]:
    """What the comparisons of a sort say, as party 0 learns it."""
    seen: list[np.ndarray] = []
    original = sort.open_bits

    def spy(p: Party, bit: Any) -> Steps:
        made = yield from original(p, bit)
        if p.rank == 0:
            seen.append(made)
        return made

    groups, rows, _ = x.shape
    steps = plan(groups, rows)
    with monkeypatch.context() as patched:
        patched.setattr(sort, "open_bits", spy)
        run("sort_a", Ring(64), x, **key, sizes=steps.sizes, pairs=steps.pairs)
    return seen


DATA = {"rising": (1, 2, 3), "falling": (3, 2, 1), "equal": (7, 7, 7), "tie": (5, 5, 1)}


@pytest.mark.parametrize("rows", DATA.values(), ids=DATA)
def test_opened_outcomes_do_not_depend_on_the_data(
    monkeypatch: pytest.MonkeyPatch, rows: tuple[int, ...]
) -> None:
    groups = 6000
    x = np.broadcast_to(np.array(rows)[:, None], (groups, 3, 1))
    (seen,) = outcomes(monkeypatch, x)
    table = Counter(tuple(r) for r in seen.reshape(groups, 3).tolist())
    assert uniform(table, 6)


# For which x precedes y, y precedes z and z precedes x, if compared around the ring.
BEYOND = {
    "float": ((63, -(1 << 62)), (-3 << 61, 0, 3 << 61)),
    "declared": ((4, -8), (-9, 0, 9)),
    "far": ((4, -8), (5, 21, 8 + (1 << 40))),
    "equal": ((4, 0), (3, 3 + 16, 3 + 32)),
}


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("name", BEYOND)
def test_opened_outcomes_do_not_depend_on_data_outside_its_range(
    monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    """Overflows, or a wrong assume_range, may change the order, but nothing is learned of it."""
    (bits, low), rows = BEYOND[name]
    x = np.broadcast_to(np.array(rows)[:, None], (6000, 3, width))
    (seen,) = outcomes(monkeypatch, x, {"keys": (bits,) * width, "lows": (low,) * width})
    assert uniform(Counter(tuple(r) for r in seen.reshape(-1, 3).tolist()), 6)


def test_without_the_shuffle_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(p: Party, x: Any, *, draw: int) -> Steps:
        yield from ()
        return x

    monkeypatch.setattr(sort, "shuffle_a", none)
    x = np.broadcast_to(np.array([1, 2, 3])[:, None], (6000, 3, 1))
    (seen,) = outcomes(monkeypatch, x)
    assert not uniform(Counter(tuple(r) for r in seen.reshape(-1, 3).tolist()), 6)


def test_an_uneven_order_is_refused_not_sorted_wrongly() -> None:
    x = np.arange(40).reshape(1, 40, 1)
    with pytest.raises(ProtocolError, match="very uneven"):
        run("sort_a", Ring(64), x, **SMALL_KEY, sizes=(3, 40), pairs=(3, 60))


def exact_bound(groups: int, placed: int, rows: int, most: int) -> float:
    """log2 of a Chernoff bound of P(pairs in gaps > most), from the law of the gaps.

    Numbers of new rows in the gaps are uniform among all that add up; the generating function of
    theta^pairs is a power of a polynomial, kept in logarithms.
    """
    fresh, gaps = rows - placed, placed + 1
    s = np.arange(fresh + 1)
    ways = math.lgamma(fresh + gaps) - math.lgamma(gaps) - math.lgamma(fresh + 1)
    best = math.inf
    for theta in np.geomspace(1e-4, 2, 60):
        base = theta * s * (s - 1) / 2
        with np.errstate(over="ignore", divide="ignore"):
            power = log_power(base, gaps, fresh)
        best = min(best, groups * (power - ways) - theta * most)
    return best / math.log(2)


def log_power(base: np.ndarray, exponent: int, degree: int) -> float:
    """log of the coefficient of z^degree in (sum exp(base[s]) z^s)^exponent."""
    result = np.full(degree + 1, -np.inf)
    result[0] = 0.0
    while exponent:
        if exponent & 1:
            result = log_product(result, base)
        exponent >>= 1
        if exponent:
            base = log_product(base, base)
    return float(result[-1])


def log_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = len(x)
    at = np.subtract.outer(np.arange(n), np.arange(n))
    table = np.where(at >= 0, x[None, :] + y[np.abs(at)], -np.inf)
    top = np.maximum(table.max(axis=1), -1e300)
    return np.asarray(top + np.log(np.exp(table - top[:, None]).sum(axis=1)))


def wide_bound(placed: int, rows: int, most: int) -> float:
    """The same with independent geometric gaps of the same mean, larger ones cut off.

    That their sum is at least `fresh` has probability near 1/2: more than 2^-2.
    """
    fresh, gaps = rows - placed, placed + 1
    q = fresh / (fresh + gaps)
    s = np.arange(min(fresh, int(math.log(gaps * 2**43) / -math.log(q)) + 1) + 1)
    weights = (1 - q) * q**s
    best = math.inf
    for theta in np.geomspace(1e-6, 1, 300):
        power = theta * s * (s - 1) / 2
        if power[-1] < 600:
            best = min(best, gaps * math.log((weights * np.exp(power)).sum()) - theta * most)
    return best / math.log(2) + 2


@pytest.mark.parametrize(("groups", "rows"), [(1, 200), (100, 100), (3000, 20), (7, 150)])
def test_pairs_are_enough_in_many_small_sorts(groups: int, rows: int) -> None:
    steps = plan(groups, rows)
    for before, after, most in zip(steps.sizes, steps.sizes[1:], steps.pairs[1:], strict=False):
        every = groups * (after - before) * (after - before - 1) // 2
        assert most == every or exact_bound(groups, before, after, most) < -40


@pytest.mark.parametrize("rows", [500, 1000, 3000, 10_000, 30_000, 100_000, 1_000_000])
def test_pairs_are_enough_in_large_sorts(rows: int) -> None:
    steps = plan(1, rows)
    assert len(steps.sizes) > 1
    for before, after, most in zip(steps.sizes, steps.sizes[1:], steps.pairs[1:], strict=False):
        assert most == most_pairs(1, before, after)
        every = (after - before) * (after - before - 1) // 2
        assert most == every or wide_bound(before, after, most) < -40, (before, after)
