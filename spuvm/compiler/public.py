"""The public part of a loop: its carries and rows that no secret decides, for all iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import lax
from jax.extend import core
from jax.interpreters import partial_eval

from spuvm.compiler import varying
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.refused import instead_of_loop
from spuvm.compiler.secrecy import carried, secret_results
from spuvm.compiler.varying import Varying
from spuvm.errors import CompileError

if TYPE_CHECKING:
    from spuvm.compiler.loopbody import LoopSpec

MOST_STEPS = 100_000_000


@dataclass(frozen=True)
class PublicPart:
    """What is public of a loop, seen from inside (`carries`, `xs`) and from outside.

    carries  by number of the carry, its value in every iteration.
    xs       per scanned operand its row in every iteration, None where it is secret.
    final    by number of the carry, its value after the last iteration.
    rows     per stacked result its rows as seen from outside, None where it is secret.
    """

    carries: dict[int, Any]
    xs: list[Any]
    final: dict[int, Any]
    rows: list[Any]


def public_part(low: Lowering, spec: LoopSpec) -> PublicPart:
    """Find what is public and compute it."""
    loops = len(low.trips) + 1
    xs = [None if isinstance(v, Secret) else _rows_of(v, loops) for v in spec.xs]
    secret = [isinstance(v, Secret) for v in spec.operands]
    counts = len(spec.consts), len(spec.carry)
    jaxpr, used, wanted = _without_secrets(spec.body.jaxpr, secret, *counts)
    carries = [k for k in range(counts[1]) if wanted[k]]
    made = _unchanged(spec, carries) if not any(wanted[counts[1] :]) else None
    if made is not None:
        settled = {k: varying.inner(v, loops) for k, v in made.items()}
        return PublicPart(settled, xs, made, [None] * (len(wanted) - counts[1]))
    part = core.ClosedJaxpr(jaxpr, spec.body.consts)
    return _computed(low, spec, part, used, carries, wanted, xs)


def _without_secrets(
    jaxpr: Any, secret: list[bool], constants: int, carries: int
) -> tuple[Any, list[bool], list[bool]]:
    """The part of a body that needs no secret, which operands it uses, which results it has."""
    forced: set[int] = set()  # results that JAX cannot compute without operands they do not need
    while True:
        inputs, results = carried(jaxpr, secret, constants, carries)
        wanted = [not s and k not in forced for k, s in enumerate(results)]
        part, used = _part(jaxpr, wanted)
        if not any(u and s for u, s in zip(used, inputs, strict=True)):
            return part, used, wanted
        for k, want in enumerate(wanted):
            alone = _part(jaxpr, [i == k for i in range(len(wanted))])[1]
            if want and any(u and s for u, s in zip(alone, inputs, strict=True)):
                forced.add(k)
                if k < carries:
                    secret[constants + k] = True


def public_operand(value: Any) -> Any:
    """A value that is known not to be secret."""
    assert not isinstance(value, Secret)
    if hasattr(value, "shape"):
        return value
    return np.asarray(value, getattr(value, "dtype", None))  # literals are numbers with a dtype


def _rows_of(value: Any, loops: int) -> Any:
    """A scanned public operand, seen from inside."""
    if isinstance(value, Varying):
        return varying.settled(value.table, loops)
    table = varying.numpy_or_key(public_operand(value))
    return varying.settled(table.reshape((*(1,) * (loops - 1), *table.shape)), loops)


def _part(jaxpr: Any, wanted: Sequence[bool]) -> tuple[Any, list[bool]]:
    if jaxpr.effects:  # of drawing secrets: what is wanted does not need it
        eqns = [eqn.replace(effects=frozenset()) for eqn in jaxpr.eqns]
        jaxpr = jaxpr.replace(eqns=eqns, effects=frozenset())
    made, used = partial_eval.dce_jaxpr(jaxpr, list(wanted))[:2]
    return made, list(used)


def _unchanged(spec: LoopSpec, carries: Sequence[int]) -> dict[int, Any] | None:
    """Public carries that pass through the body as they are, if that is all of them."""
    first = len(spec.consts)
    jaxpr = spec.body.jaxpr
    if any(jaxpr.outvars[k] is not jaxpr.invars[first + k] for k in carries):
        return None
    return {k: spec.carry[k] for k in carries}


def _computed(
    low: Lowering,
    spec: LoopSpec,
    part: Any,
    used: Sequence[bool],
    carries: Sequence[int],
    wanted: Sequence[bool],
    xs: list[Any],
) -> PublicPart:
    """Run the public part with lax.scan, for all iterations of the loops around at once."""
    consts, carry, rows = (
        list(spec.consts),
        [public_operand(spec.carry[k]) for k in carries],
        list(spec.xs),
    )
    n, m = len(spec.consts), len(spec.carry)
    values: list[Any] = [
        *(public_operand(v) if used[i] else None for i, v in enumerate(consts)),
        *carry,
        *(public_operand(v) if used[n + m + j] else None for j, v in enumerate(rows)),
    ]
    outer = varying.common(values)
    for v in carry:
        varying.check_size(
            (*outer, spec.length), math.prod(v.shape if isinstance(v, Varying) else np.shape(v))
        )
    stacked = [j for j, w in enumerate(wanted[m:]) if w]
    run = core.jaxpr_as_fun(part)

    def whole(*operands: Any) -> Any:
        fixed, start = operands[:n], operands[n : n + len(carry)]
        scanned = operands[n + len(carry) :]

        def step(state: Any, row: Any) -> Any:
            now = dict(zip(carries, state, strict=True))
            every = [*fixed, *(now.get(k) for k in range(m)), *row]
            out = run(*(v for v, u in zip(every, used, strict=True) if u))
            return tuple(out[: len(carries)]), (state, tuple(out[len(carries) :]))

        return lax.scan(step, tuple(start), tuple(scanned), spec.length, spec.reverse)

    if outer:
        flat = [v.flat(outer) if isinstance(v, Varying) else v for v in values]
        axes = [0 if isinstance(v, Varying) else None for v in values]
        final, (states, outs) = jax.vmap(whole, in_axes=axes, axis_size=math.prod(outer))(*flat)
    else:
        final, (states, outs) = whole(*values)
    loops = len(low.trips) + 1
    ones = (1,) * (loops - 1)

    def inside(value: Any) -> Any:
        table = varying.numpy_or_key(value)
        tail = table.shape[1:] if outer else table.shape
        return varying.settled(table.reshape((*(outer or ones), *tail)), loops)

    def outside(value: Any) -> Any:
        table = varying.numpy_or_key(value)
        if not outer:
            return table
        return varying.settled(table.reshape((*outer, *table.shape[1:])), loops - 1)

    found = [None] * (len(wanted) - m)
    for j, value in zip(stacked, outs, strict=True):
        found[j] = outside(value)
    return PublicPart(
        {k: inside(v) for k, v in zip(carries, states, strict=True)},
        xs,
        {k: outside(v) for k, v in zip(carries, final, strict=True)},
        found,
    )


def count_steps(
    cond: Any,
    body: Any,
    cond_consts: Sequence[Any],
    consts: Sequence[Any],
    carry: Sequence[Any],
    most: int | None = None,
) -> tuple[int, bool]:
    """How often a while loop with a public predicate runs at most, and whether always as often.

    In a loop around it that may be another number in every iteration.

    Raises:
        CompileError: the predicate depends on a secret, or the loop does not end within `most`
            iterations.
    """
    most = MOST_STEPS if most is None else most
    secret = [isinstance(v, Secret) for v in (*consts, *carry)]
    inputs, _ = carried(body.jaxpr, secret, len(consts), len(carry))
    state = inputs[len(consts) :]
    if any(secret_results(cond.jaxpr, [*(isinstance(v, Secret) for v in cond_consts), *state])):
        raise CompileError(
            "the predicate of a while loop depends on a secret, and so would the running time",
            next=instead_of_loop(body.jaxpr)
            or "use sf.bounded_while(cond, body, init, max_steps), or lax.fori_loop with a public "
            "bound and jnp.where(i < n, ...) inside it",
        )
    test, test_used = _part(cond.jaxpr, [True])
    first = len(cond_consts)
    live = {k for k in range(len(carry)) if test_used[first + k]}
    while True:  # the carries that decide the predicate, and those that decide them
        part, used = _part(body.jaxpr, [k in live for k in range(len(carry))])
        more = {k for k in range(len(carry)) if used[len(consts) + k]} - live
        if not more:
            break
        live |= more
    numbers = sorted(live)
    operands = [*(v for v, u in zip(cond_consts, test_used[:first], strict=True) if u)]
    fixed = [*(v for v, u in zip(consts, used[: len(consts)], strict=True) if u)]
    start = [carry[k] for k in numbers]
    go = core.jaxpr_as_fun(core.ClosedJaxpr(test, cond.consts))
    run = core.jaxpr_as_fun(core.ClosedJaxpr(part, body.consts))

    def pick(state: Any, mask: Sequence[bool]) -> list[Any]:
        now = dict(zip(numbers, state, strict=True))
        return [now[k] for k in range(len(carry)) if mask[k]]

    def count(operands: Any, fixed: Any, start: Any) -> Any:
        def again(both: Any) -> Any:
            steps, state = both
            return (steps <= most) & go(*operands, *pick(state, test_used[first:]))[0]

        def step(both: Any) -> Any:
            steps, state = both
            return steps + 1, tuple(run(*fixed, *pick(state, used[len(consts) :])))

        state = tuple(map(jax.numpy.asarray, start))
        return lax.while_loop(again, step, (jax.numpy.int32(0), state))[0]

    every = _every_iteration(operands, fixed, start)
    with jax.ensure_compile_time_eval():
        counts = np.asarray(jax.vmap(count, every.axes)(*every.values) if every.trips else
                            count(*every.values))  # fmt: skip
    steps = int(counts.max(initial=0))
    if steps > most:
        raise CompileError(
            f"a while loop with a public predicate did not end in {most} steps",
            next=instead_of_loop(body.jaxpr)
            or "check that its predicate becomes false; if a secret ends it, use "
            "sf.bounded_while(cond, body, init, max_steps)",
        )
    return steps, bool((counts == steps).all())


@dataclass(frozen=True)
class _Every:
    """Public values for all combinations of iterations of the loops around, and where they lie."""

    values: Any
    axes: Any
    trips: tuple[int, ...]


def _every_iteration(*groups: Sequence[Any]) -> _Every:
    found = [v for group in groups for v in group if isinstance(v, Varying)]
    loops = range(found[0].loops if found else 0)
    trips = tuple(max(v.table.shape[i] for v in found) for i in loops)
    values = tuple(
        tuple(v.flat(trips) if isinstance(v, Varying) else v for v in group) for group in groups
    )
    axes = tuple(tuple(0 if isinstance(v, Varying) else None for v in g) for g in groups)
    return _Every(values, axes, trips)
