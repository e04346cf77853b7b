"""What records of instructions are made of: see cases.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from variant import Variant

from spuvm.bytecode.types import Type
from spuvm.ring import Ring

RINGS = (32, 64, 128)
SHAPES = ((), (0,), (1,), (7,), (8,), (9,), (2, 3))
MATRICES = ((1, 1, 1, 1), (2, 3, 4, 5), (1, 5, 7, 9), (1, 9, 17, 1), (2, 0, 3, 4), (1, 3, 0, 9))
"""Batch, rows, inner and columns of matrix products."""

# --- records -----------------------------------------------------------------------------------

Record = Callable[[Ring], Iterator[Variant]]
RECORDS: dict[str, Record] = {}


def record(*ops: str) -> Callable[[Callable[[Ring, str], Iterator[Any]]], None]:
    """Register the variants of instructions: tuples (types, attrs[, units[, adapt]])."""

    def register(fn: Callable[[Ring, str], Iterator[Any]]) -> None:
        for op in ops:
            assert op not in RECORDS, f"two records of {op}"
            RECORDS[op] = lambda ring, op=op: (Variant(ring, op, *v) for v in fn(ring, op))

    return register


def variants(op: str, bits: int) -> list[Variant]:
    """All variants of an instruction in a ring."""
    return list(RECORDS[op](Ring(bits)))


def a(shape: Sequence[int], lo: int | None = None, hi: int | None = None, frac: int = 0) -> Type:
    return Type("a", tuple(shape), frac, 0, lo, hi)


def b(shape: Sequence[int], width: int = 1) -> Type:
    return Type("b", tuple(shape), 0, width)


def p(shape: Sequence[int], width: int = 0) -> Type:
    return Type("p", tuple(shape), 0, width)


def each_kind(shape: Sequence[int]) -> Iterator[Type]:
    yield from (a(shape), b(shape), b(shape, 12), p(shape), p(shape, 1))


def widths(ring: Ring) -> list[int]:
    """Numbers of bits below, at and above those of every dtype, up to the ring's."""
    return [w for w in (1, 2, 3, 5, 8, 12, 16, 31, 33, 64, 65, 100, 128) if w <= ring.bits]
