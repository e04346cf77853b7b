"""What a program costs, known before it runs: rounds of its schedule, bytes of every party."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spuvm.bytecode.loops import loop_of
from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.io import share_bytes
from spuvm.protocol.base import Protocol
from spuvm.ring import Ring
from spuvm.vm.schedule import schedule

Bytes3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CostRow:
    """Cost of one instruction (or of sharing an input, of opening an output).

    `what` is the instruction; `rounds` its own rounds (instructions share rounds, so rows do not
    add up to the program's); `source` the user's line.
    """

    what: str
    rounds: int
    bytes_sent: Bytes3
    source: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds of the schedule, payload bytes sent by each party, and the rows behind them."""

    rounds: int
    bytes_sent: Bytes3
    rows: tuple[CostRow, ...]


def add_bytes(a: Bytes3, b: Bytes3) -> Bytes3:
    """Per party sum."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def static_cost(program: Program, protocol: Protocol = ABY3) -> Cost:
    """Cost of a program's instructions: equal to what a run sends, to the byte and the round.

    A row of an instruction inside a loop counts all its iterations.
    """
    rows = tuple(_rows(program, protocol, 1))
    total: Bytes3 = (0, 0, 0)
    for row in rows:
        total = add_bytes(total, row.bytes_sent)
    return Cost(schedule(program, protocol).rounds, total, rows)


def _rows(program: Program, protocol: Protocol, times: int) -> Iterator[CostRow]:
    ring, types = Ring(program.ring), program.types
    for instruction in program.instructions:
        if instruction.body is not None:
            trip = loop_of(instruction).trip
            yield from _rows(instruction.body, protocol, times * trip)
        elif instruction.op in protocol.costs:
            args = [types[i] for i in instruction.args]
            cost = protocol.costs[instruction.op](ring, args, instruction.attrs)
            sent = (cost.bytes_sent[0], cost.bytes_sent[1], cost.bytes_sent[2])
            total = (sent[0] * times, sent[1] * times, sent[2] * times)
            yield CostRow(instruction.op, cost.rounds * times, total, instruction.source)


def open_cost(t: Type, ring: Ring, *, bits: int, to: int | None) -> CostRow:
    """Opening a value to party `to`, or to a receiver outside the three (to=None)."""
    nbytes = part_bytes(t.size, ring, t.width, bits)
    if to is None:
        return CostRow("open", 1, (nbytes, nbytes, nbytes))
    sent = [0, 0, 0]
    sent[(to + 1) % 3] = nbytes
    return CostRow("open", 1, (sent[0], sent[1], sent[2]))


def part_bytes(size: int, ring: Ring, width: int, bits: int) -> int:
    """Payload of one part of an opening: packed bits, or the low bytes of ring elements."""
    if width == 1:
        return -(-size // 8)
    if width:
        return size * max(1, 1 << max(0, (width - 1).bit_length() - 3))
    return size * max(1, 1 << max(0, (bits - 1).bit_length() - 3))


def share_cost(t: Type, ring: Ring, *, owner: int | None) -> CostRow:
    """Sharing an input: what the owner sends; the parties themselves send nothing."""
    nbytes = share_bytes(t.size, ring, width=t.width, owner=owner)
    return CostRow(f"share ({nbytes} bytes from the owner)", 0, (0, 0, 0))
