"""Loops with a public number of iterations: the body is lowered once, as a program of its own.

What is public in the body never enters it as data of the loop: its values are known for all
iterations (compiler/varying.py). Secret carries need types that hold in every iteration
(compiler/carries.py). Integers are carried modulo the ring.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spuvm.compiler import arith, facts, moments, watching
from spuvm.compiler.carries import Carries
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.loopbody import LoopSpec
from spuvm.compiler.moment_facts import Squared
from spuvm.compiler.overflow import unproven
from spuvm.compiler.public import public_part
from spuvm.compiler.rules.terms import doubt
from spuvm.compiler.values import Value, kind_of, lift


def lower_loop(low: Lowering, spec: LoopSpec) -> list[Value]:
    """Final carries and stacked rows of a loop of at least one iteration."""
    part = public_part(low, spec)
    secret = [k for k in range(len(spec.carry)) if k not in part.carries]
    captured = [v for v in spec.consts if isinstance(v, Secret)]
    rows = [v for v in spec.xs if isinstance(v, Secret)]
    starts = [_start(low, spec.carry[k], np.dtype(spec.body.out_avals[k].dtype)) for k in secret]
    fine = {k for k, v in zip(secret, starts, strict=True) if moments.fine(low, v)}
    kept = Carries(low, spec, part, secret, starts, fine)
    body = kept.body()
    kept.grow_together()
    kept.doubt()
    operands = [*low.numbers, *(v.id for v in captured), *kept.starts, *(v.id for v in rows)]
    doubt(body.low)
    low.warnings += [w for w in body.low.warnings if w not in low.warnings]
    low.notes += [n for n in body.low.notes if n not in low.notes]
    low.unproven += [replace(u, value=None) for u in unproven(body.low, body.program)]
    made = iter(
        low.builder.loop(
            operands, body.program, low.source,
            trip=spec.length, captures=len(low.numbers) + len(captured), carries=len(secret),
            order="reverse" if spec.reverse else "forward",
        )
    )  # fmt: skip
    carries: list[Value] = [
        Secret(next(made), np.dtype(a.dtype)) if k in secret else part.final[k]
        for k, a in enumerate(spec.body.out_avals[: len(spec.carry)])
    ]
    for k in kept.fine:
        facts.mark(low, carries[k].id, Squared("parts"))
    for k, number in enumerate(secret):  # for a loop around this one
        size = low.unbounded.get((id(spec.body), k), 0.0)
        if size:
            low.estimates[carries[number].id] = size
    stacks = [
        row if row is not None else Secret(next(made), np.dtype(a.dtype))
        for row, a in zip(part.rows, spec.body.out_avals[len(spec.carry) :], strict=True)
    ]
    watching.take_rows(low, body.low, made, spec.length)
    return carries + stacks


def _start(low: Lowering, value: Value, dtype: np.dtype[Any]) -> int:
    """A carry before the first iteration, in the form that it keeps."""
    made = lift(low, value, dtype).id
    if kind_of(dtype) != "float" or moments.fine(low, made):
        return made
    return arith.to_frac(low, made, low.f)
