"""Which results of a jaxpr depend on secrets, through calls, branches and loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core

from spuvm.compiler.calls import body_of
from spuvm.compiler.fresh import FRESH


def secret_results(jaxpr: Any, secret: Sequence[bool]) -> list[bool]:
    """Per result of an open jaxpr, whether a secret operand decides it."""
    known = {v for v, s in zip(jaxpr.invars, secret, strict=True) if s}

    def is_secret(atom: Any) -> bool:
        return not isinstance(atom, core.Literal) and atom in known

    for eqn in jaxpr.eqns:
        given = [is_secret(a) for a in eqn.invars]
        if any(given) or FRESH in eqn.effects:
            made = _results(eqn, given)
            known.update(v for v, s in zip(eqn.outvars, made, strict=True) if s)
    return [is_secret(a) for a in jaxpr.outvars]


def _results(eqn: Any, given: list[bool]) -> list[bool]:
    name, params = eqn.primitive.name, eqn.params
    everything = [True] * len(eqn.outvars)
    if name == "scan":
        constants, carries = constants_and_carries(params)
        body = params["jaxpr"].jaxpr
        return carried(body, given, constants, carries)[1]
    if name == "while":
        return _while(params, given)
    if name == "cond":
        if given[0]:
            return everything
        parts = [secret_results(b.jaxpr, given[1:]) for b in params["branches"]]
        return [any(column) for column in zip(*parts, strict=True)]
    inner = body_of(params)
    if inner is not None:
        inner = getattr(inner, "jaxpr", inner)
        if len(inner.invars) == len(given):
            return secret_results(inner, given)
    return everything


def _while(params: dict[str, Any], given: list[bool]) -> list[bool]:
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    body = params["body_jaxpr"].jaxpr
    inner, carry = carried(body, given[first:], second - first, len(given) - second)
    (stops,) = secret_results(
        params["cond_jaxpr"].jaxpr, [*given[:first], *inner[second - first :]]
    )
    return [True] * len(carry) if stops else carry


def carried(
    body: Any, given: Sequence[bool], constants: int, carries: int
) -> tuple[list[bool], list[bool]]:
    """For the body of a loop: which of its inputs, and which of its results, are secret.

    A carry that becomes secret in some iteration is secret from the start.
    """
    inputs = list(given)
    while True:
        results = secret_results(body, inputs)
        fresh = [k for k in range(carries) if results[k] and not inputs[constants + k]]
        if not fresh:
            for k in range(carries):
                results[k] = inputs[constants + k]
            return inputs, results
        for k in fresh:
            inputs[constants + k] = True


def constants_and_carries(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants and carry; JAX 0.12 says it by a tree of leaves."""
    if "ft_in" in params:
        constants, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
        return constants, carry
    return params["num_consts"], params["num_carry"]
