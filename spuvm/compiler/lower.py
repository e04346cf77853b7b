"""The walker: what is public is evaluated with JAX, the rest lowered by rule, in order."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core, source_info_util

from spuvm.compiler import means, overflow, varying
from spuvm.compiler.by_numpy import by_numpy
from spuvm.compiler.config import Watched
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import refined
from spuvm.compiler.fresh import FRESH
from spuvm.compiler.refused import REFUSED
from spuvm.compiler.rules import PUBLIC_RULES, RULES, STRUCTURED, Out, missing, squares, terms
from spuvm.compiler.values import Value, lift
from spuvm.compiler.varying import Varying
from spuvm.errors import CompileError, SpuvmError, UnsupportedPrimitive

_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
FRAMES = 100  # of libraries inside of each other


def lower_closed(low: Lowering, closed: Any, args: Sequence[Value]) -> list[Value]:
    """Results of a closed jaxpr on Secret or public arguments."""
    return lower_jaxpr(low, closed.jaxpr, closed.consts, args)


def lower_jaxpr(
    low: Lowering, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]
) -> list[Value]:
    """Results of an open jaxpr; equations whose results nobody uses are skipped."""
    env: dict[Any, Value] = {}
    env.update(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Value:
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    _say_unprinted(low, jaxpr)
    zeros = _zeros(jaxpr)
    env.update({v: np.zeros(v.aval.shape, v.aval.dtype) for v in zeros})
    needed = _needed(jaxpr, zeros)
    uses = Counter(a for e in needed for a in e.invars if not isinstance(a, core.Literal))
    uses.update(a for a in (*jaxpr.outvars, *jaxpr.invars) if not isinstance(a, core.Literal))
    users = means.users_of_sums(needed, jaxpr.outvars)
    for eqn in needed:
        operands = [read(a) for a in eqn.invars]
        low.divisor = means.divisor(eqn.outvars[0], users, env)
        low.spent = {
            x.id
            for a, x in zip(eqn.invars, operands, strict=True)
            if isinstance(x, Secret) and uses[a] == 1
        }
        results = _equation(low, eqn, operands, jaxpr.debug_info)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _say_unprinted(low: Lowering, jaxpr: Any) -> None:
    """A warning for what would show values while a program runs, and has no results."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("debug_print", "debug_callback") and low.lines == "own":
            outer, low.source = low.source, user_line(eqn) or low.source
            low.warn("nothing is printed: return the value as a result to see it")
            low.source = outer


def _zeros(jaxpr: Any) -> set[Any]:
    """Products with 0, as derivatives have them of what does not vary: the rest is not needed."""
    found: set[Any] = set()
    products: set[Any] = set()

    def zero(a: Any) -> bool:
        return (
            np.size(a.val) > 0 and not np.any(a.val) if isinstance(a, core.Literal) else a in found
        )

    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "mul" and any(map(zero, eqn.invars)):
            products.update(eqn.outvars)
        elif name not in ("broadcast_in_dim", "convert_element_type") or not zero(eqn.invars[0]):
            continue
        found.update(eqn.outvars)
    return products


def _needed(jaxpr: Any, zeros: set[Any]) -> list[Any]:
    """Equations that the results depend on, in order, without those that give `zeros`."""
    wanted = {a for a in jaxpr.outvars if not isinstance(a, core.Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in wanted and v not in zeros for v in eqn.outvars):
            kept.append(eqn)
            wanted.update(a for a in eqn.invars if not isinstance(a, core.Literal))
    return kept[::-1]


def _equation(low: Lowering, eqn: Any, operands: list[Value], debug_info: Any) -> Sequence[Value]:
    if not any(isinstance(x, Secret) for x in operands) and FRESH not in eqn.effects:
        if any(isinstance(x, Varying) for x in operands):
            return _evaluate_varying(low, eqn, operands, debug_info)
        return evaluate(eqn, operands, debug_info)
    operands = [_agreed(low, x) for x in operands]
    outer = low.source, low.checked
    if low.lines == "own":
        low.source = user_line(eqn) or low.source
    out = [Out(tuple(v.aval.shape), _dtype(v.aval)) for v in eqn.outvars]
    made = _of_nothing(eqn, out, operands, debug_info)
    if made is not None:
        low.source = outer[0]
        return made
    if low.lines == "own":  # otherwise whoever lowers a function of its own has said it
        low.checked = "float" if out and out[0].dtype.kind not in "biu" else "wrapping"
    try:
        seen = len(low.watched) if low.watched is not None else 0
        results = missing.lowered(low, eqn, _rule(low, eqn, operands), out, operands)
        if len(results) == 1 and isinstance(results[0], Secret):
            terms.note(low, eqn.primitive.name, operands, eqn.params, results[0])
            squares.note(low, eqn.primitive.name, out[0], operands, eqn.params, results[0])
        overflow.note_saturation(low, eqn.primitive.name, operands, results)
        overflow.note_vague(low, eqn.primitive.name, operands, results)
        overflow.prove(low, eqn.primitive.name, operands, results)
        inside = low.watched is not None and len(low.watched) > seen
        other = inside or means.among(low, [*operands, *results]) or refined(low, results)
        if low.watched is not None and not other:
            low.watched.append(
                Watched(eqn, debug_info, tuple(operands), tuple(results), low.source)
            )
        return results
    except SpuvmError as error:
        if error.at is not None:
            raise
        raise type(error)(
            f"{eqn.primitive.name}: {error.message}" if _bare(error) else error.message,
            at=_where(low, eqn),
            got=error.got,
            expected=error.expected,
            next=error.next,
        ) from error
    finally:
        low.source, low.checked = outer


def _of_nothing(
    eqn: Any, out: Sequence[Out], operands: Sequence[Value], debug_info: Any
) -> Sequence[Any] | None:
    """Results without elements, or of secrets without any: nothing in them is secret."""
    if eqn.primitive.name in STRUCTURED or any(isinstance(x, Varying) for x in operands):
        return None
    if any(o.dtype == object for o in out) or FRESH in eqn.effects:
        return None
    if all(0 in o.shape for o in out):
        return [np.zeros(o.shape, o.dtype) for o in out]
    secrets = [a.aval for a, x in zip(eqn.invars, operands, strict=True) if isinstance(x, Secret)]
    if not secrets or not all(0 in a.shape for a in secrets):
        return None
    given = [
        np.zeros(a.aval.shape, a.aval.dtype) if isinstance(x, Secret) else x
        for a, x in zip(eqn.invars, operands, strict=True)
    ]
    return evaluate(eqn, given, debug_info)


def _bare(error: SpuvmError) -> bool:
    return not isinstance(error, UnsupportedPrimitive)


def _agreed(low: Lowering, x: Value) -> Value:
    """A public operand as all parties have it."""
    if isinstance(x, Secret):
        return x
    return x.with_(low.folded.take(x.table)) if isinstance(x, Varying) else low.folded.take(x)


def _dtype(aval: Any) -> np.dtype[Any]:
    """The dtype of a result; keys of jax.random, which stay public, have none of numpy's."""
    key = jax.numpy.issubdtype(aval.dtype, jax.dtypes.prng_key)
    return np.dtype(object) if key else np.dtype(aval.dtype)


def _rule(low: Lowering, eqn: Any, operands: list[Value]) -> Any:
    """The rule of a primitive; operands that vary between iterations become shares for most."""
    name = eqn.primitive.name
    if name not in STRUCTURED and any(isinstance(x, Varying) for x in operands):
        if name in PUBLIC_RULES:
            return PUBLIC_RULES[name]
        for i, (value, atom) in enumerate(zip(operands, eqn.invars, strict=True)):
            if isinstance(value, Varying):
                operands[i] = lift(low, value, np.dtype(atom.aval.dtype))
    if name in RULES:
        return RULES[name]
    if name in REFUSED:
        raise UnsupportedPrimitive(
            f"no lowering rule for jax primitive {name!r}", next=REFUSED[name]
        )
    near = difflib.get_close_matches(name, RULES, n=8, cutoff=0.5)
    raise UnsupportedPrimitive(
        f"no lowering rule for jax primitive {name!r}",
        expected=f"{', '.join(near or sorted(RULES))}" + (" and others" if near else ""),
        next="rewrite with these, or add a rule: ARCHITECTURE.md#new-primitive",
    )


def _where(low: Lowering, eqn: Any) -> str:
    results, operands = _types(eqn.outvars), _types(eqn.invars)
    return f"{low.source or 'unknown line'}: {results} = {eqn.primitive.name}({operands})"


def _types(atoms: Sequence[Any]) -> str:
    """Their types; loops may have dozens."""
    shown = [a.aval.str_short() for a in atoms[:6]]
    return ", ".join(shown + [f"{len(atoms) - 6} more"] * (len(atoms) > 6))


def evaluate(eqn: Any, operands: Sequence[Any], debug_info: Any) -> Sequence[Any]:
    """An equation on public operands, as JAX computes it."""
    if eqn.primitive.name == "broadcast_in_dim" and len(operands) == 1:
        return (_broadcast(np.asarray(operands[0]), **eqn.params),)  # a view, not a copy
    made = by_numpy(eqn, operands)
    return _by_jax(eqn, operands, debug_info) if made is None else (made,)


def _by_jax(eqn: Any, operands: Sequence[Any], debug_info: Any) -> Sequence[Any]:
    given = [a for a in eqn.invars if not isinstance(a, core.Literal)]
    values = [v for a, v in zip(eqn.invars, operands, strict=True) if a in given]
    used = [v for v in eqn.outvars if not isinstance(v, core.DropVar)]
    debug = debug_info._replace(arg_names=None, result_paths=None)
    one = core.Jaxpr((), given, used, [eqn], eqn.effects, debug)
    with jax.ensure_compile_time_eval():
        results = iter(core.jaxpr_as_fun(core.ClosedJaxpr(one, ()))(*values))
    return [None if isinstance(v, core.DropVar) else next(results) for v in eqn.outvars]


def _evaluate_varying(
    low: Lowering, eqn: Any, operands: Sequence[Any], debug_info: Any
) -> Sequence[Any]:
    """An equation on public operands of which some vary, for all iterations."""
    outer = low.source
    low.source = user_line(eqn) or low.source
    outs = [v.aval for v in eqn.outvars]
    try:
        return varying.evaluate(
            eqn.primitive.name, lambda *xs: tuple(_by_jax(eqn, xs, debug_info)), operands, outs
        )
    except CompileError as error:
        if error.at is not None:
            raise
        raise CompileError(
            error.message,
            at=_where(low, eqn), got=error.got, expected=error.expected, next=error.next,
        ) from error  # fmt: skip
    finally:
        low.source = outer


def _broadcast(x: Any, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> Any:
    inner = [1] * len(shape)
    for n, d in zip(x.shape, broadcast_dimensions, strict=True):
        inner[d] = n
    return np.broadcast_to(x.reshape(inner), shape)


def user_line(eqn: Any) -> str:
    """``model.py:12 in loss``: the user's line of an equation; "" when unknown.

    Of what an installed library does, as optax, the line that called it and the one in it:
    ``train.py:7 in step, through transform.py:283``.
    """
    inner = source_info_util.summarize(eqn.source_info)
    if not _INSTALLED.search(inner):
        return _short(inner)
    frames = source_info_util.summarize(eqn.source_info, num_frames=FRAMES).split("\n")
    own = next((f for f in reversed(frames) if not _INSTALLED.search(f)), inner)
    place = _short(inner)
    return place if own is inner else f"{_short(own)}, through {place.split(' in ')[0]}"


def _short(frame: str) -> str:
    m = re.fullmatch(r"(?:.*[/\\])?([^/\\]*?):(\d+)(?::\d+)?(?: \((.*)\))?", frame)
    if m is None:
        return ""
    return f"{m[1]}:{m[2]}" + (f" in {m[3]}" if m[3] else "")
