"""What a party must hold: the shares that are alive at one moment of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.sort import batches, index_width, word_widths
from spuvm.ring import Ring
from spuvm.vm.schedule import schedule

VIEWS = {"reshape", "transpose", "broadcast", "slice", "retype_a", "reverse"}


def live_bytes(program: Program) -> int:
    """The most bytes that live shares take at one party, both components, while a program runs.

    Inputs live throughout; a result from the start of its instruction to the end of the last one
    that uses it. Views of other values and public values take nothing. Of a loop only what is
    alive outside, and one run of its body, count. A sort has shares of its own: its rows with their
    numbers, and the differences of all that it compares at once.
    """
    ring, types = Ring(program.ring), program.types
    plan = schedule(program, ABY3)
    left, order = dict(plan.uses), sorted((r, n) for r, ns in plan.starts.items() for n in ns)
    fixed = set(range(len(program.inputs)))
    alive = most = sum(_size(i.type, ring) for i in program.inputs)
    for _, number in order:
        instruction = program.instructions[number]
        held = 0 if instruction.op in VIEWS else sum(_size(t, ring) for t in instruction.types)
        alive += held
        inside = 0 if instruction.body is None else live_bytes(instruction.body)
        if instruction.op == "sort_a":
            inside = _sorting(types[instruction.args[0]], instruction.attrs, ring)
        most = max(most, alive + inside)
        for argument in instruction.args:
            left[argument] -= 1
            maker = _maker(program, argument)
            if not left[argument] and argument not in fixed and maker not in VIEWS:
                alive -= _size(types[argument], ring)
    return most


def _maker(program: Program, value: int) -> str:
    return next((i.op for i in program.instructions if value in i.results), "")


def _sorting(rows: Type, attrs: Mapping[str, Any], ring: Ring) -> int:
    groups, count, columns = rows.shape
    words = len(word_widths(ring, (*attrs["keys"], index_width(count))))
    numbered = groups * count * (columns + 1)
    return 2 * ring.nbytes * (numbered + words * max(batches(rows.shape, attrs)))


def _size(t: Type, ring: Ring) -> int:
    if t.kind == "p":
        return 0
    item: Any = small_dtype(t.width).itemsize if t.width else ring.nbytes
    return 2 * t.size * int(item)
