"""A loop's body, lowered once as a program of its own with types of its carries that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.compiler import arith, facts, varying, watching
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.moment_facts import Squared
from spuvm.compiler.public import PublicPart
from spuvm.compiler.rules.missing import lost
from spuvm.compiler.rules.terms import through
from spuvm.compiler.values import Value, kind_of, lift

Bounds = tuple[int, int] | None


@dataclass(frozen=True)
class LoopSpec:
    """A loop as lax.scan has it: body(consts, carry, row) -> (carry, row), `length` times."""

    body: Any
    consts: Sequence[Value]
    carry: Sequence[Value]
    xs: Sequence[Value]
    length: int
    reverse: bool = False

    @property
    def operands(self) -> list[Value]:
        return [*self.consts, *self.carry, *self.xs]


@dataclass(frozen=True)
class Body:
    """One attempt at a body: its program, the types its carries would need, which are means."""

    low: Lowering
    program: Program
    made: tuple[Type, ...]
    squares: tuple[Squared | None, ...]
    estimates: tuple[Bounds, ...]


def lower_body(
    low: Lowering,
    spec: LoopSpec,
    part: PublicPart,
    secret: Sequence[int],
    wanted: Sequence[Type],
    strict: str,
    fine: set[int],
    cut: set[int],
    limited: frozenset[int],
) -> Body:
    body = low.body(spec.length, on_overflow="warn" if strict == "guess" else None)

    def parameter(t: Type, dtype: np.dtype[Any], outside: int | None = None) -> Secret:
        made = body.input(t, "")
        if outside is not None and low.undeclared(outside, low.full):
            body.vague.add(made)
        return Secret(made, dtype)

    own = body.input(Type("p", (), 0, 0, 0, spec.length - 1), "")
    outer = [body.input(low.type(i), "") for i in low.numbers]
    body.numbers = [*outer, own]
    loops = len(body.numbers)
    consts: list[Value] = []
    for value in spec.consts:
        if isinstance(value, Secret):
            held = parameter(low.type(value.id), value.dtype, value.id)
            if value.id in low.public:
                body.public[held.id] = low.public[value.id]
            consts.append(held)
        else:
            consts.append(varying.inner(value, loops))
    given = dict(zip(secret, wanted, strict=True))
    avals = spec.body.in_avals
    carry: list[Value] = [
        parameter(given[k], np.dtype(avals[len(consts) + k].dtype))
        if k in given
        else part.carries[k]
        for k in range(len(spec.carry))
    ]
    body.cut_squares.limited = limited
    for k in fine | cut:
        form: Literal["parts", "cut"] = "parts" if k in fine else "cut"
        facts.mark(body, carry[k].id, Squared(form, origins=frozenset([-1 - k])))
    xs: list[Value] = []
    for j, value in enumerate(spec.xs):
        if isinstance(value, Secret):
            t = low.type(value.id)
            xs.append(parameter(t.with_(shape=t.shape[1:]), value.dtype, value.id))
        else:
            xs.append(part.xs[j])
    results = lower_closed(body, spec.body, [*consts, *carry, *xs])
    lost(body, results)
    through(low, body, zip(spec.consts, consts, strict=True))
    made: list[Type] = []
    squares: list[Squared | None] = []
    estimates: list[Bounds] = []
    for k in secret:
        dtype = np.dtype(spec.body.out_avals[k].dtype)
        raw = lift(body, results[k], dtype)
        value = raw.id
        if kind_of(dtype) == "float":
            value = arith.to_frac(body, value, given[k].frac)
        fact = facts.squared(body, value)
        squares.append(fact if fact and fact.form != "whole" else None)
        made.append(body.type(value))
        size = body.estimates.get(facts.root(body, value), 0.0)
        estimates.append((-int(size), int(size)) if 0 < size < low.bound else None)
        body.builder.output(value, str(dtype), "")
    for row, result, aval in zip(
        part.rows, results[len(carry) :], spec.body.out_avals[len(carry) :], strict=True
    ):
        if row is not None:
            continue
        dtype = np.dtype(aval.dtype)
        value = lift(body, result, dtype).id
        if kind_of(dtype) == "float":
            value = arith.settle(body, value)
        body.builder.output(value, str(dtype), "")
    watching.emit_rows(body)
    return Body(body, body.builder.build(), tuple(made), tuple(squares), tuple(estimates))
