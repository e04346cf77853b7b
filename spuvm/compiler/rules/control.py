"""Calls are inlined; loops with a public number of steps are unrolled; branches are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed, lower_jaxpr
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.rules.compare import BOOL, equal, select
from spuvm.compiler.rules.known_calls import known
from spuvm.compiler.values import Value, kind_of, public
from spuvm.errors import CompileError

MOST_STEPS = 10_000


@rule("jit", "pjit", "closed_call", "core_call", "call", "remat", "remat2", "checkpoint")
@rule("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
def call(low: Lowering, out: list[Out], *args: Value, **params: Any) -> Sequence[Value]:
    """The called function, inlined."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = params.get(name)
        if inner is not None:
            break
    else:
        raise CompileError("a call without a body")
    made = known(low, out, inner, args)
    if made is not None:
        return made
    if hasattr(inner, "consts"):
        return lower_closed(low, inner, args)
    return lower_jaxpr(low, inner, (), args)


@rule("cond")
def cond(
    low: Lowering, out: list[Out], index: Value, *args: Value, branches: Any, **_: Any
) -> Sequence[Value]:
    """A public index takes its branch; a secret one computes all and selects."""
    if not isinstance(index, Secret):
        taken = int(np.clip(int(public(index)), 0, len(branches) - 1))
        return lower_closed(low, branches[taken], args)
    results = [lower_closed(low, b, args) for b in branches]
    if kind_of(index.dtype) == "bool":
        picks = [index]
        results = results[:2]
    else:
        bit = [Out(low.shape(index.id), BOOL)]
        picks = [
            equal(low, bit, index, np.asarray(i, index.dtype)) for i in range(1, len(branches))
        ]
    made = list(results[0])
    for pick, candidate in zip(picks, results[1:], strict=True):
        made = [
            select(low, o, pick, yes, no) if isinstance(pick, Secret) else no
            for o, yes, no in zip(out, candidate, made, strict=True)
        ]
    return made


def _slice_of(low: Lowering, x: Value, i: int) -> Value:
    if not isinstance(x, Secret):
        return public(x)[i]
    row = low.cut(x.id, 0, i, i + 1)
    return Secret(low.reshape(row, low.shape(row)[1:]), x.dtype)


def _stack(low: Lowering, parts: Sequence[Value], o: Out) -> Value:
    if not any(isinstance(p, Secret) for p in parts):
        return np.stack([public(p) for p in parts])
    from spuvm.compiler.rules.shape import lifted

    rows = [low.reshape(i, (1, *low.shape(i))) for i in lifted(low, parts, o.dtype)]
    return Secret(low.concat(rows, 0), o.dtype)


def settled(low: Lowering, values: Sequence[Value]) -> list[Value]:
    """Values carried from one step to the next, with at most the program's fraction bits."""
    return [
        Secret(arith.settle(low, v.id), v.dtype)
        if isinstance(v, Secret) and low.type(v.id).kind == "a"
        else v
        for v in values
    ]


@rule("scan")
def scan(
    low: Lowering,
    out: list[Out],
    *args: Value,
    jaxpr: Any,
    length: int,
    reverse: bool,
    **params: Any,
) -> Sequence[Value]:
    """A loop over a public number of steps, unrolled."""
    _few(length)
    num_consts, num_carry = _constants_and_carry(params)
    consts, carry = list(args[:num_consts]), list(args[num_consts : num_consts + num_carry])
    xs = args[num_consts + num_carry :]
    rows: list[list[Value]] = []
    steps = range(length)
    for i in reversed(steps) if reverse else steps:
        inputs = [_slice_of(low, x, i) for x in xs]
        made = lower_closed(low, jaxpr, [*consts, *carry, *inputs])
        carry, row = settled(low, made[:num_carry]), list(made[num_carry:])
        rows.append(row)
    if reverse:
        rows.reverse()
    outs = out[num_carry:]
    if not rows:
        return [*carry, *(np.zeros(o.shape, o.dtype) for o in outs)]
    stacked = [_stack(low, [r[j] for r in rows], o) for j, o in enumerate(outs)]
    return [*carry, *stacked]


def _constants_and_carry(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants and carry; JAX 0.12 says it by a tree of leaves."""
    if "ft_in" in params:
        constants, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
        return constants, carry
    return params["num_consts"], params["num_carry"]


@rule("while")
def while_(
    low: Lowering,
    out: list[Out],
    *args: Value,
    cond_jaxpr: Any,
    body_jaxpr: Any,
    cond_nconsts: int,
    body_nconsts: int,
    **_: Any,
) -> Sequence[Value]:
    """A loop whose predicate stays public, unrolled; a secret predicate is refused."""
    first, second = cond_nconsts, cond_nconsts + body_nconsts
    cond_consts, body_consts = args[:first], args[first:second]
    carry = list(args[second:])
    for step in range(MOST_STEPS + 1):
        (go,) = lower_closed(low, cond_jaxpr, [*cond_consts, *carry])
        if isinstance(go, Secret):
            raise CompileError(
                "the predicate of a while loop depends on a secret, and so would the running time",
                next="use lax.fori_loop with a fixed number of steps and jnp.where inside it",
            )
        if not bool(public(go)):
            return carry
        _few(step)
        carry = settled(low, lower_closed(low, body_jaxpr, [*body_consts, *carry]))
    raise AssertionError


def _few(steps: int) -> None:
    if steps >= MOST_STEPS:
        raise CompileError(
            f"a loop of {MOST_STEPS} or more steps would be unrolled",
            next="use fewer steps, or run the loop outside and call the body",
        )
