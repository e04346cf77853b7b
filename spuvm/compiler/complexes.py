"""Complex numbers as pairs of real ones: a jaxpr with complex values made one without, beforehand.

`split` walks the jaxpr and traces it again. A complex value is a `Pair`; what moves elements moves
both parts, products, quotients and functions are written in real and imaginary parts
(complex_rules.py), Fourier transforms are products with public matrices (fourier.py). Equations
that see no complex number stay as they are, and all keep the user's line. Complex results leave
the program as two real ones and are put together where they are revealed (`Parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src import source_info_util as source_internals
from jax.extend import core

from spuvm.compiler import complex_rules
from spuvm.compiler.calls import body_of
from spuvm.compiler.complex_rules import Pair
from spuvm.compiler.fresh import FRESH
from spuvm.compiler.lower import evaluate, user_line
from spuvm.compiler.refused import REFUSED, instead_of_call
from spuvm.compiler.secrecy import constants_and_carries
from spuvm.compiler.trace import Traced
from spuvm.errors import CompileError, UnsupportedPrimitive

INLINED = (
    *("jit", "closed_call", "eval_jaxpr", "custom_jvp_call", "custom_vjp_call"),
    *("checkpoint", "remat2", "call_hi_primitive"),
)
INSTEAD = (
    "write it in real and imaginary parts (x.real, x.imag); jnp.fft, sums, products, quotients, "
    "absolute values, powers, exp, log, sqrt and sines have a form for complex numbers"
)


@jax.tree_util.register_pytree_with_keys_class
@dataclass
class Parts:
    """A complex result whose parts are not here (yet)."""

    real: Any
    imag: Any

    def tree_flatten_with_keys(self) -> tuple[Any, None]:
        """Both parts, under their names."""
        key = jax.tree_util.GetAttrKey
        return ((key("real"), self.real), (key("imag"), self.imag)), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Any) -> Any:
        """The complex array where both parts are arrays; otherwise their pair."""
        re, im = parts
        if isinstance(re, np.ndarray | np.generic) and isinstance(im, np.ndarray | np.generic):
            return re + np.asarray(1j, np.result_type(re.dtype, np.complex64)) * im
        if isinstance(re, jax.Array) and isinstance(im, jax.Array):
            return lax.complex(re, im)
        return cls(re, im)


def split(traced: Traced) -> Traced:
    """The same function without complex numbers."""
    closed = traced.closed
    if not has_complex(closed.jaxpr):
        return traced
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]

    def real(*args: Any) -> list[Any]:
        return _flat(_run(closed.jaxpr, closed.consts, args, traced.asked_at))

    is_complex = [_is_complex(v.aval) for v in closed.jaxpr.outvars]
    leaves = [Parts(0, 0) if c else 0 for c in is_complex]
    names: list[str] = []
    for name, c in zip(traced.out_names, is_complex, strict=True):
        names += [f"{name}.real", f"{name}.imag"] if c else [name]
    tree = jax.tree.structure(jax.tree.unflatten(traced.out_tree, leaves))
    made = jax.make_jaxpr(real)(*shapes)
    return replace(traced, closed=made, out_tree=tree, out_names=tuple(names))


def has_complex(jaxpr: Any) -> bool:
    """Whether any value of a jaxpr, or of one inside, is complex."""
    return any(
        any(_is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars))
        or any(has_complex(inner) for inner in _inner(eqn))
        for eqn in jaxpr.eqns
    ) or any(_is_complex(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars))


def _inner(eqn: Any) -> list[Any]:
    found = jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr)
    return [getattr(x, "jaxpr", x) for x in found if _is_jaxpr(x)]


def _is_jaxpr(x: Any) -> bool:
    return isinstance(x, core.Jaxpr | core.ClosedJaxpr)


def _is_complex(aval: Any) -> bool:
    return bool(jnp.issubdtype(getattr(aval, "dtype", np.bool_), np.complexfloating))


def _flat(values: Sequence[Any]) -> list[Any]:
    """Results in a row, complex ones as two."""
    made: list[Any] = []
    for v in values:
        made += list(complex_rules.both(v)) if complex_rules.is_complex(v) else [v]
    return made


def _packed(values: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """The reverse of `_flat`, for values of such types."""
    rest = iter(values)
    return [Pair(next(rest), next(rest)) if _is_complex(a) else next(rest) for a in avals]


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], line: str = "") -> list[Any]:
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        operands = [read(a) for a in eqn.invars]
        stack = source_internals.current_name_stack() + eqn.source_info.name_stack
        with (
            source_internals.user_context(eqn.source_info.traceback, name_stack=stack),
            eqn.ctx.manager,
        ):
            results = _equation(eqn, operands, jaxpr.debug_info, user_line(eqn) or line)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _equation(eqn: Any, operands: list[Any], debug_info: Any, line: str) -> Sequence[Any]:
    name = eqn.primitive.name
    if not any(isinstance(x, jax.core.Tracer | Pair) for x in operands) and (
        FRESH not in eqn.effects
    ):
        return evaluate(eqn, operands, debug_info)
    inside = any(has_complex(inner) for inner in _inner(eqn))
    if not inside and not any(_is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        made = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
        return made if eqn.primitive.multiple_results else [made]
    if name in INLINED:
        inner = body_of(eqn.params)
        _refuse_known(getattr(inner, "jaxpr", inner), str(eqn.params.get("name", name)), line)
        return _run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands, line)
    if name in LOOPS:
        return LOOPS[name](eqn, operands, line)
    rule = complex_rules.find(name)
    try:
        if rule is None:
            raise UnsupportedPrimitive(
                f"no lowering rule for jax primitive {name!r}"
                + ("" if name in REFUSED else " of secret complex numbers"),
                next=REFUSED.get(name, INSTEAD),
            )
        made = rule(eqn, *operands)
    except CompileError as error:
        if error.at is not None:
            raise
        results = ", ".join(v.aval.str_short() for v in eqn.outvars)
        raise type(error)(
            error.message, at=f"{line or 'unknown line'}: {results} = {name}", next=error.next
        ) from error
    return made if isinstance(made, list) else [made]


def _refuse_known(jaxpr: Any, name: str, line: str) -> None:
    instead = instead_of_call(jaxpr)
    if instead is not None:
        raise CompileError(
            f"{name.strip('_')} of a secret has no form here",
            at=line or "unknown line",
            next=instead,
        )


def _body(closed: Any, line: str) -> Callable[..., list[Any]]:
    """A closed jaxpr on flat values."""
    avals = [v.aval for v in closed.jaxpr.invars]
    return lambda *xs: _flat(_run(closed.jaxpr, closed.consts, _packed(xs, avals), line))


def _scan(eqn: Any, operands: list[Any], line: str) -> list[Any]:
    """A scan whose carry, rows or constants are complex."""
    params, closed = eqn.params, eqn.params["jaxpr"]
    first, carries = constants_and_carries(params)
    last = first + carries
    constants, carry, rows = (
        _flat(part) for part in (operands[:first], operands[first:last], operands[last:])
    )
    body = _body(closed, line)

    def step(state: Any, row: Any) -> tuple[Any, Any]:
        made = body(*constants, *state, *row)
        return made[: len(carry)], made[len(carry) :]

    end, stacked = lax.scan(step, carry, rows, length=params["length"], reverse=params["reverse"])
    return _packed([*end, *stacked], [v.aval for v in eqn.outvars])


def _while(eqn: Any, operands: list[Any], line: str) -> list[Any]:
    """A while loop whose state or constants are complex."""
    params = eqn.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    ours, theirs, state = (
        _flat(part) for part in (operands[:first], operands[first:second], operands[second:])
    )
    goes_on = _body(params["cond_jaxpr"], line)
    body = _body(params["body_jaxpr"], line)
    made = lax.while_loop(lambda s: goes_on(*ours, *s)[0], lambda s: body(*theirs, *s), state)
    return _packed(made, [v.aval for v in eqn.outvars])


def _cond(eqn: Any, operands: list[Any], line: str) -> list[Any]:
    """A choice between functions of complex numbers."""
    index, *rest = operands
    made = lax.switch(index, [_body(b, line) for b in eqn.params["branches"]], *_flat(rest))
    return _packed(made, [v.aval for v in eqn.outvars])


LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
