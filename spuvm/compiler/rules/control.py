"""Calls are inlined; loops run a public number of times; secret branches are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax.extend import core

from spuvm.compiler import arith, stopping
from spuvm.compiler.calls import body_of
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.loopbody import LoopSpec
from spuvm.compiler.loops import lower_loop
from spuvm.compiler.lower import lower_closed, lower_jaxpr
from spuvm.compiler.public import count_steps
from spuvm.compiler.rules import Out, missing, structured
from spuvm.compiler.rules.compare import BOOL, equal, select
from spuvm.compiler.rules.known_calls import kept_whole, known
from spuvm.compiler.rules.varying import select_public
from spuvm.compiler.secrecy import constants_and_carries
from spuvm.compiler.values import Value, kind_of, public
from spuvm.compiler.varying import Varying
from spuvm.errors import CompileError


@structured("jit", "pjit", "closed_call", "core_call", "call", "remat", "remat2", "checkpoint")
@structured("composite", "custom_vmap_call", "linear_call")
@structured("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
@structured("call_hi_primitive", "eval_jaxpr")
def call(low: Lowering, out: list[Out], *args: Value, **params: Any) -> Sequence[Value]:
    """The called function, inlined."""
    if "_prim" in params and (own := kept_whole(params["_prim"])) is not None:
        with missing.aside(low, args):
            found = own(low, out, *args)
        return missing.of_elements(low, out, args, [None for _ in args], found)
    inner = body_of(params)
    if inner is None:
        raise CompileError("a call without a body")
    made = known(low, out, inner, args, str(params.get("name", "")))
    if made is not None:
        return made
    if hasattr(inner, "consts"):
        return lower_closed(low, inner, args)
    return lower_jaxpr(low, inner, (), args)


@structured("polynomial")
def polynomial(low: Lowering, out: list[Out], *args: Value, **_: Any) -> Sequence[Value]:
    """c_0 + x (c_1 + x (c_2 + ...)), by Horner's rule as JAX compiles it."""

    def horner(x: Any, *factors: Any) -> Any:
        *rest, made = factors
        for c in reversed(rest):
            made = made * x + c
        return made

    if kind_of(out[0].dtype) == "float":
        _vanishing(low, *args)
    shapes = [jax.ShapeDtypeStruct(_shape(low, v), out[0].dtype) for v in args]
    with low.one_line():
        return lower_closed(low, jax.make_jaxpr(horner)(*shapes), args)


def _vanishing(low: Lowering, x: Value, *factors: Value) -> None:
    """Warn of coefficients that round to 0, unless x is so small that nobody misses them."""
    most = low.magnitude(x.id) * 2.0 ** -low.frac(x.id) if isinstance(x, Secret) else 1.0
    for power, c in enumerate(factors):
        if isinstance(c, Secret):
            continue
        given = c if isinstance(c, Varying) else public(c)
        largest = float(np.abs(arith.elements(given)).max(initial=0)) * most**power
        if not power or most >= 1 or largest > 2.0 ** -(low.f + 3):
            arith.vanishing(low, given)


def _shape(low: Lowering, value: Value) -> tuple[int, ...]:
    return low.shape(value.id) if isinstance(value, Secret) else tuple(np.shape(value))


@structured("cond")
def cond(
    low: Lowering, out: list[Out], index: Value, *args: Value, branches: Any, **_: Any
) -> Sequence[Value]:
    """A public index takes its branch; a secret one computes all and selects."""
    if isinstance(index, Varying):
        return _cond_varying(low, out, index, args, branches)
    if not isinstance(index, Secret):
        taken = int(np.clip(int(public(index)), 0, len(branches) - 1))
        return lower_closed(low, branches[taken], args)
    results = [lower_closed(low, b, args) for b in branches]
    flag = _flag(low, index)
    if flag is not None:
        picks = [flag]
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


def _flag(low: Lowering, index: Secret) -> Secret | None:
    """The Boolean that lax.cond made an index of."""
    if kind_of(index.dtype) == "bool":
        return index
    made = low.builder.instruction(index.id)
    if made is not None and made.op == "b2a" and low.type(made.args[0]).width == 1:
        return Secret(made.args[0], BOOL)
    return None


def _cond_varying(
    low: Lowering, out: list[Out], index: Varying, args: Sequence[Value], branches: Any
) -> Sequence[Value]:
    """Iterations that take different branches compute all; the choice is public, hence local."""
    results = [lower_closed(low, b, args) for b in branches]
    number = np.clip(np.asarray(index.table).astype(np.int64), 0, len(branches) - 1)
    made = list(results[0])
    for i, candidate in enumerate(results[1:], start=1):
        which = index.with_(number == i)
        made = [
            select_public(low, o, which, yes, no)
            for o, yes, no in zip(out, candidate, made, strict=True)
        ]
    return made


@structured("scan")
def scan(
    low: Lowering,
    out: list[Out],
    *args: Value,
    jaxpr: Any,
    length: int,
    reverse: bool,
    **params: Any,
) -> Sequence[Value]:
    """A loop over a public number of steps; a single step needs none."""
    constants, carries = constants_and_carries(params)
    second = constants + carries
    spec = LoopSpec(jaxpr, args[:constants], args[constants:second], args[second:], length, reverse)
    if length > 1:
        return lower_loop(low, spec)
    if length == 0:
        return [*spec.carry, *(np.zeros(o.shape, o.dtype) for o in out[carries:])]
    made = lower_closed(low, jaxpr, [*args[:second], *(_first(low, x) for x in spec.xs)])
    return [*made[:carries], *(_only(low, v) for v in made[carries:])]


def _first(low: Lowering, x: Value) -> Value:
    """The only row of a scanned operand."""
    if isinstance(x, Secret):
        return Secret(low.reshape(x.id, low.shape(x.id)[1:]), x.dtype)
    if isinstance(x, Varying):
        return x.with_(x.table[(slice(None),) * x.loops + (0,)])
    return x[0]


def _only(low: Lowering, x: Value) -> Value:
    """A stack of one row."""
    if isinstance(x, Secret):
        return Secret(low.reshape(x.id, (1, *low.shape(x.id))), x.dtype)
    if isinstance(x, Varying):
        return x.with_(x.table[(slice(None),) * x.loops + (None,)])
    return x[None]


@structured("while")
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
    """A loop whose predicate stays public, or that is bounded by a part of it that does.

    Any other secret predicate is refused.

    Where a loop around it makes it run more often in some iterations than in others, it always
    runs as often as it ever does; a public choice leaves what it carries as it was.
    """
    first, second = cond_nconsts, cond_nconsts + body_nconsts
    cond_consts, body_consts, carry = args[:first], args[first:second], args[second:]
    secret = stopping.secret_part(
        cond_jaxpr, body_jaxpr, cond_consts, body_consts, carry, low.least
    )
    if secret is not None:
        return _bounded(low, secret, cond_jaxpr, body_jaxpr, (cond_consts, body_consts, carry))
    steps, even = count_steps(cond_jaxpr, body_jaxpr, cond_consts, body_consts, carry)
    if not even:
        body_jaxpr = _while_it_holds(cond_jaxpr, body_jaxpr, first, body_nconsts)
        body_consts = (*cond_consts, *body_consts)
    spec = LoopSpec(body_jaxpr, body_consts, carry, (), steps)
    if steps > 1:
        return lower_loop(low, spec)
    return lower_closed(low, body_jaxpr, [*body_consts, *carry]) if steps else list(carry)


def _bounded(
    low: Lowering, secret: Any, cond_jaxpr: Any, body_jaxpr: Any, operands: Any
) -> Sequence[Value]:
    """A loop that a secret may end before its public bound: as often as that allows, then frozen.

    What the public part says is true as long as the loop is not frozen, so that only the secret
    part is computed, unless a loop around makes the bound another one in every iteration.
    """
    cond_consts, body_consts, carry = operands
    steps, even = count_steps(
        secret.bound, body_jaxpr, cond_consts, body_consts, carry, stopping.MOST_STEPS
    )
    low.note(
        f"a secret may end this while loop earlier, so it always runs all {steps} steps that its "
        "public bound allows; a smaller bound is cheaper"
    )
    predicate = secret.rest if even or low.least else cond_jaxpr
    if low.least:  # what a solver does after its end must not leave the ring
        body = _while_it_holds(predicate, body_jaxpr, len(cond_consts), len(body_consts), "start")
        consts = (*cond_consts, *body_consts, *carry)
    else:
        body = _while_it_holds(predicate, body_jaxpr, len(cond_consts), len(body_consts))
        consts = (*cond_consts, *body_consts)
    if steps > 1:
        return lower_loop(low, LoopSpec(body, consts, carry, (), steps))
    return lower_closed(low, body, [*consts, *carry]) if steps else list(carry)


def _while_it_holds(
    cond_jaxpr: Any,
    body_jaxpr: Any,
    first: int,
    consts: int,
    otherwise: Literal["carry", "start"] = "carry",
) -> Any:
    """The body of a while loop that does nothing where the predicate is false.

    There it computes with the first carry, which are constants then, or with the present one.
    """
    predicate, body = core.jaxpr_as_fun(cond_jaxpr), core.jaxpr_as_fun(body_jaxpr)

    def step(*args: Any) -> Any:
        fixed, rest = args[first : first + consts], args[first + consts :]
        carry = rest[-len(body_jaxpr.out_avals) :]
        (go,) = predicate(*args[:first], *carry)
        if otherwise == "start":
            given = [jax.numpy.where(go, v, w) for v, w in zip(carry, rest, strict=False)]
            made = body(*fixed, *given)
            return [jax.numpy.where(go, v, w) for v, w in zip(made, carry, strict=True)]
        return lax.cond(go, lambda: body(*fixed, *carry), lambda: list(carry))

    start = body_jaxpr.out_avals if otherwise == "start" else []
    avals = [*cond_jaxpr.in_avals[:first], *body_jaxpr.in_avals[:consts], *start]
    avals += body_jaxpr.in_avals[consts:]
    return jax.make_jaxpr(step)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
