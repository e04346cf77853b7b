"""What runs cost: the program's static cost with the rows for sharing and opening around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.devices.structure import Shared
from spuvm.ring import Ring
from spuvm.vm.cost import Bytes3, Cost, CostRow, add_bytes, open_cost, share_cost, static_cost
from spuvm.vm.machine import RunStats

View = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took: rounds, payload bytes sent per party, seconds of the slowest party.

    rows   bytes by instruction and source line, openings included; their rounds are not told apart.
    views  with record="views": per rank, the arrays it received, in order.
    """

    rounds: int
    bytes_sent: Bytes3
    seconds: float
    rows: tuple[CostRow, ...] = ()
    views: tuple[tuple[View, ...], ...] | None = None


def program_cost(program: Program, shared: Iterable[tuple[Shared, int | None]]) -> Cost:
    """Cost of a program and, as rows, of sharing its inputs: pairs of an array and owner's rank."""
    cost = static_cost(program)
    ring = Ring(program.ring)
    rows = [share_cost(type_of(leaf), ring, owner=rank) for leaf, rank in shared]
    return Cost(cost.rounds, cost.bytes_sent, (*rows, *cost.rows))


def with_program_before(cost: Cost, program: Program) -> Cost:
    """A cost with that of a program which has to run first."""
    first = static_cost(program)
    total = add_bytes(first.bytes_sent, cost.bytes_sent)
    return Cost(first.rounds + cost.rounds, total, (*first.rows, *cost.rows))


def with_openings(cost: Cost, rows: Sequence[CostRow]) -> Cost:
    """A cost with openings added: all of them happen in one round."""
    total = cost.bytes_sent
    for row in rows:
        total = add_bytes(total, row.bytes_sent)
    return Cost(cost.rounds + (1 if rows else 0), total, (*cost.rows, *rows))


def opening_rows(leaves: Sequence[Shared], ring: Ring, to: int | None) -> list[CostRow]:
    """One row per array that is opened."""
    return [open_cost(type_of(leaf), ring, bits=leaf.bits(ring.bits), to=to) for leaf in leaves]


def measured(stats: Sequence[RunStats], openings: Sequence[CostRow]) -> Run:
    """The Run of three parties that also sent their parts of the openings."""
    sent: dict[tuple[str, str], list[int]] = {}
    for rank, one in enumerate(stats):
        for what, count, source in one.rows:
            sent.setdefault((what, source), [0, 0, 0])[rank] += count
    rows = [CostRow(what, 0, (b[0], b[1], b[2]), src) for (what, src), b in sent.items()]
    total: Bytes3 = (stats[0].bytes_sent, stats[1].bytes_sent, stats[2].bytes_sent)
    whole = with_openings(Cost(stats[0].rounds, total, tuple(rows)), openings)
    views = tuple(one.views or () for one in stats) if stats[0].views is not None else None
    seconds = max(one.seconds for one in stats)
    return Run(whole.rounds, whole.bytes_sent, seconds, whole.rows, views)


def type_of(leaf: Shared) -> Type:
    """The program type of a shared array."""
    return Type("b" if leaf.width else "a", leaf.spec.shape, leaf.frac, leaf.width)
