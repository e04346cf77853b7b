"""How many rows sort_a places in each phase, and how many comparisons it sets aside for gaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

STEP = 12000  # comparisons that cost about as much as the rounds of a step


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes of sort_a: rows placed after each phase, comparisons within gaps in each."""

    sizes: tuple[int, ...]
    pairs: tuple[int, ...]


def most_pairs(groups: int, placed: int, rows: int) -> int:
    """An upper bound of the pairs of new rows in one gap, but for a chance below 2^-40.

    The expected number, half of it more, and the pairs of one gap that is as large as any of all
    is with that chance. tests/protocol/test_sort.py compares it with Chernoff bounds.
    """
    fresh = rows - placed
    every = groups * fresh * (fresh - 1) // 2
    if placed == 0:
        return every
    expected = groups * fresh * (fresh - 1) // (placed + 2) + 1
    gaps = (groups * (placed + 1)).bit_length()
    mean = fresh // (placed + 1) + 1
    largest = (44 + gaps) * 7 * (2 * mean + 1) // 20
    return min(every, 3 * expected // 2 + largest * largest // 2)


def plan(groups: int, rows: int) -> Plan:
    """The cheapest phases for `groups` sorts of so many rows each, at least 2."""
    sizes = _sizes(groups, rows)[1]
    before = (0, *sizes[:-1])
    return Plan(sizes, tuple(most_pairs(groups, a, b) for a, b in zip(before, sizes, strict=True)))


@cache
def _sizes(groups: int, rows: int) -> tuple[int, tuple[int, ...]]:
    """(cost, sizes)."""
    best: tuple[int, tuple[int, ...]] = (most_pairs(groups, 0, rows) + STEP, (rows,))
    for bits in range(2, (rows - 1).bit_length() + 1):
        placed = (1 << bits) - 1
        if placed >= rows:
            break
        if rows > placed * 64:  # surely too few to start with
            continue
        cost, sizes = _sizes(groups, placed)
        cost += bits * (groups * (rows - placed) + STEP)
        cost += most_pairs(groups, placed, rows) + STEP
        best = min(best, (cost, (*sizes, rows)))
    return best


def cost(groups: int, rows: int) -> int:
    """Comparisons of the plan, rounds counted as such."""
    return _sizes(groups, rows)[0] if rows > 1 else 0
