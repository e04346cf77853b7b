"""Predicates of while loops of which a part is public: ``(i < n) & (error > eps)``.

Such a loop has a bound that everybody knows: it runs that often, whatever the secret part says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
from jax import lax
from jax.extend import core

from spuvm.compiler.context import Secret
from spuvm.compiler.secrecy import carried, secret_results

MOST_STEPS = 10_000  # of loops that a secret ends: more is no bound but a guard


@dataclass(frozen=True, slots=True)
class Split:
    """A predicate is `bound` and `rest`: closed jaxprs of its operands, the first one public."""

    bound: Any
    rest: Any


def secret_part(
    cond: Any,
    body: Any,
    cond_consts: Sequence[Any],
    consts: Sequence[Any],
    carry: Sequence[Any],
    least: float,
) -> Split | None:
    """The two parts of a predicate, None if it is public or has no public part.

    In `rest`, x > y of floats also asks for x > `least`, if that is not 0.
    """
    given = [isinstance(v, Secret) for v in (*consts, *carry)]
    state = carried(body.jaxpr, given, len(consts), len(carry))[0][len(consts) :]
    inputs = [*(isinstance(v, Secret) for v in cond_consts), *state]
    (atom,) = cond.jaxpr.outvars
    if not secret_results(cond.jaxpr, inputs)[0]:
        return None
    made = {v: eqn for eqn in cond.jaxpr.eqns for v in eqn.outvars}
    atoms = list(dict.fromkeys(_factors(atom, made)))
    hidden = secret_results(_giving(cond.jaxpr, atoms), inputs)
    bound = [a for a, s in zip(atoms, hidden, strict=True) if not s]
    if not bound:
        return None
    rest = [a for a, s in zip(atoms, hidden, strict=True) if s]
    compared = [
        made[a].invars[0]
        for a in rest
        if least and a in made and made[a].primitive.name == "gt"
        and made[a].invars[0].aval.dtype.kind not in "biu"
    ]  # fmt: skip
    return Split(_all(cond, bound), _all(cond, rest, compared, least))


def _factors(atom: Any, made: dict[Any, Any]) -> Iterator[Any]:
    """The Booleans whose conjunction a Boolean scalar is."""
    eqn = None if isinstance(atom, core.Literal) else made.get(atom)
    operands = [] if eqn is None else _conjunction(eqn)
    if not operands:
        yield atom
    for operand in operands:
        yield from _factors(operand, made)


def _conjunction(eqn: Any) -> list[Any]:
    """The operands whose conjunction an equation is; none if it is something else."""
    name = eqn.primitive.name
    alone = [a for a in eqn.invars if not isinstance(a, core.Literal)]
    if len(alone) != len(eqn.invars) or any(a.aval.dtype != bool or a.aval.shape for a in alone):
        return []
    if name == "and":
        return alone
    if name in ("convert_element_type", "reduce_and", "reduce_or", "reshape", "squeeze"):
        return alone if eqn.outvars[0].aval.dtype == bool and not eqn.outvars[0].aval.shape else []
    if name not in ("jit", "pjit") or len(eqn.outvars) != 1:
        return []
    inner = eqn.params["jaxpr"].jaxpr
    places = dict(zip(inner.invars, alone, strict=True))
    made = {v: e for e in inner.eqns for v in e.outvars}
    factors = list(_factors(inner.outvars[0], made))
    if any(isinstance(f, core.Literal) or f not in places for f in factors):
        return []
    return [places[f] for f in factors]


def _giving(jaxpr: Any, atoms: Sequence[Any]) -> Any:
    debug = jaxpr.debug_info._replace(result_paths=None)
    return jaxpr.replace(outvars=list(atoms), debug_info=debug)


def _all(cond: Any, atoms: Sequence[Any], sizes: Sequence[Any] = (), least: float = 0.0) -> Any:
    """A predicate that is true where all of these are, and the sizes are above the least."""
    wanted = _giving(cond.jaxpr, [*atoms, *sizes])
    run = core.jaxpr_as_fun(core.ClosedJaxpr(wanted, cond.consts))

    def every(*operands: Any) -> Any:
        made = run(*operands)
        flags = [*made[: len(atoms)], *(v > least for v in made[len(atoms) :])]
        return [reduce(lax.bitwise_and, flags)]

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in cond.in_avals]
    return jax.make_jaxpr(every)(*shapes)
