"""The ``loop`` instruction: a body, itself a program, run a public number of times.

    %5, %6 = loop %1, %2, %3 {trip=10, captures=1, carries=1, order=forward} : a[3], a[10,3]
      input %0 : p[] in [0, 9] from ""          the number of the iteration
      input %1 : a[3] from ""                   captures: the same in every iteration
      input %2 : a[3] from ""                   carries: first the operand, then the body's output
      input %3 : a[3] from ""                   scanned: row %0 of an operand of shape [trip, ...]
      %4 = add_aa %1, %2 : a[3]
      output %4 : int32 ""                      one per carry
      output %3 : int32 ""                      stacked: becomes row %0 of a result
    end

Results are the carries after the last iteration, then the stacked outputs. Iterations count up, or
down from trip-1 with order=reverse. An operand's bounds must imply those of the input that takes
it, and those of a carry's output too: the bounds of a carry hold in every iteration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError

if TYPE_CHECKING:
    from spuvm.bytecode.program import Instruction, Program

ATTRS = ("trip", "captures", "carries", "order")


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop instruction taken apart."""

    trip: int
    captures: int
    carries: int
    reverse: bool
    body: Program

    @property
    def first_carry(self) -> int:
        """Operands before the carries; the body has one more input, the iteration's number."""
        return self.captures

    @property
    def first_row(self) -> int:
        """Operands before the scanned ones."""
        return self.captures + self.carries

    def iterations(self) -> range:
        """Numbers of the iterations in the order in which they run."""
        return range(self.trip - 1, -1, -1) if self.reverse else range(self.trip)


def loop_of(instruction: Instruction) -> Loop:
    """The parts of a verified ``loop``."""
    assert instruction.body is not None
    return _parts(instruction.attrs, instruction.body)


def _parts(attrs: Mapping[str, Any], body: Program) -> Loop:
    trip, captures, carries, order = (attrs[name] for name in ATTRS)
    return Loop(trip, captures, carries, order == "reverse", body)


def infer_loop(args: Sequence[Type], attrs: Mapping[str, Any], body: Program) -> tuple[Type, ...]:
    """Types of a loop's results; raises VerifyError when operands, attributes or body do not fit.

    The body itself must have been verified.
    """
    _need(set(attrs) == set(ATTRS), f"attributes {sorted(ATTRS)} expected, got {sorted(attrs)}")
    counts = [attrs[name] for name in ATTRS[:3]]
    _need(all(isinstance(n, int) for n in counts), f"trip, captures, carries are numbers: {counts}")
    _need(attrs["order"] in ("forward", "reverse"), f"order: got {attrs['order']!r}")
    loop = _parts(attrs, body)
    _need(loop.trip >= 1, f"trip must be at least 1, got {loop.trip}")
    _need(min(loop.captures, loop.carries) >= 0, "captures and carries cannot be negative")
    inputs, types = [given.type for given in body.inputs], body.types
    outputs = [types[out.value] for out in body.outputs]
    _need(
        len(inputs) == 1 + len(args) >= 1 + loop.first_row and len(outputs) >= loop.carries,
        f"the body has {len(inputs)} inputs and {len(outputs)} outputs, the loop {len(args)} "
        f"operands, {loop.captures} of them captures and {loop.carries} carries",
    )
    _need(
        inputs[0] == Type("p", (), 0, 0, 0, loop.trip - 1),
        f"input 0 of the body is the iteration's number, p[] in [0, {loop.trip - 1}]",
    )
    for i, (given, wanted) in enumerate(zip(args, inputs[1:], strict=True)):
        if i >= loop.first_row:
            _need(given.shape[:1] == (loop.trip,), f"operand {i} needs a leading axis of the trips")
            given = given.with_(shape=given.shape[1:])
        _need(within(given, wanted), f"operand {i} does not go with the body: {given} for {wanted}")
    for i, made in enumerate(outputs[: loop.carries]):
        carried = inputs[1 + loop.first_carry + i]
        _need(within(made, carried), f"carry {i} is {carried}, the body makes {made} of it")
    _need(all(t.kind != "z" for t in outputs), "additive shares do not leave a body")
    stacked = [t.with_(shape=(loop.trip, *t.shape)) for t in outputs[loop.carries :]]
    return (*outputs[: loop.carries], *stacked)


def within(inner: Type, outer: Type) -> bool:
    """Every value of type `inner` is one of type `outer`."""
    if inner.with_(lo=None, hi=None) != outer.with_(lo=None, hi=None):
        return False
    if outer.bounds is None:
        return True
    if inner.bounds is None:
        return inner.size == 0
    return outer.bounds[0] <= inner.bounds[0] and inner.bounds[1] <= outer.bounds[1]


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyError(f"loop: {message}")
