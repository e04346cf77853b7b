"""NaN that a secret mask chooses: a secret bit beside the value says where it is one.

jnp.where(mask, x, jnp.nan) marks entries as missing, and jnp.nanmean and its relatives ask with
x != x which ones are. There is no NaN in the ring, where the value is 0; the bit goes along through
selections, moves and operations on elements, and answers x != x. Where it would be lost, in a sum,
a comparison, a loop or a result, a warning names the line that chose NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spuvm.compiler.context import Lowering, Missing, Secret
from spuvm.compiler.facts import Refined
from spuvm.compiler.rules import RULES, Out
from spuvm.compiler.values import Value, kind_of, public
from spuvm.compiler.varying import Varying

BOOL = np.dtype(np.bool_)
_MOVES = """
broadcast_in_dim reshape transpose squeeze expand_dims slice rev concatenate copy copy_p
stop_gradient optimization_barrier name
"""
_ELEMENTS = """
add add_any sub mul div neg square integer_pow pow max min abs sign floor ceil round sqrt rsqrt cbrt
exp exp2 expm1 log log1p logistic tanh sin cos tan atan atan2 sinh cosh erf erfc rem clamp
reduce_precision
"""
_CALLS = """
jit pjit closed_call core_call call remat remat2 checkpoint composite custom_vmap_call linear_call
custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr custom_lin call_hi_primitive eval_jaxpr
cond
"""
MOVES, ELEMENTS, CALLS = (frozenset(names.split()) for names in (_MOVES, _ELEMENTS, _CALLS))


def nan_to_zero(x: Value, o: Out) -> Value:
    """A case of a selection without NaN; where it is one `chosen` remembers."""
    if isinstance(x, Secret | Varying) or kind_of(o.dtype) != "float":
        return x
    nan = np.isnan(public(x).astype(np.float64))
    return np.where(nan, np.zeros((), x.dtype), public(x)) if nan.any() else x


def chosen(low: Lowering, o: Out, bit: int, yes: Value, no: Value, made: Value) -> Value:
    """`made` is what the bit chose, which is missing where what it took is."""
    if kind_of(o.dtype) != "float" or not isinstance(made, Secret):
        return made
    first, second = _where(low, yes, o), _where(low, no, o)
    if not _possible(first) and not _possible(second):
        return made
    nowhere = np.zeros(o.shape, np.bool_)  # jnp.where(jnp.isnan(x), 0, x), or asked by the mask
    if isinstance(first, Secret) and low.emit("not_b", first.id) == bit:
        first = nowhere
    if isinstance(first, Secret) and first.id == low.emit("not_b", bit):
        first = nowhere
    if isinstance(second, Secret) and second.id == bit:
        second = nowhere
    if not _possible(first) and not _possible(second):
        return made
    of_bits = Out(o.shape, BOOL)
    found = RULES["select_n"](low, [of_bits], Secret(bit, BOOL), second, first)
    t = low.type(made.id)
    bounds = () if t.bounds is None else t.bounds
    own = low.emit("retype_a", made.id, frac=t.frac, range=bounds)  # not the same with 0 for NaN
    return Secret(_mark(low, own, found, _source(low, [yes, no])), made.dtype)


def _possible(bits: Value) -> bool:
    return isinstance(bits, Secret) or bool(bits.any())


def _where(low: Lowering, x: Value, o: Out) -> Value:
    """Where an operand is missing, with the shape of the result."""
    if isinstance(x, Secret):
        known = low.missing.get(x.id)
        if known is None:
            return np.zeros(o.shape, np.bool_)
        return Secret(low.spread(known.bit, o.shape), BOOL)
    if isinstance(x, Varying):
        return np.zeros(o.shape, np.bool_)
    return np.broadcast_to(np.isnan(public(x).astype(np.float64)), o.shape)


def _source(low: Lowering, operands: Sequence[Value]) -> str:
    """The line that chose NaN."""
    known = [low.missing.get(x.id) for x in operands if isinstance(x, Secret)]
    return next((m.source for m in known if m is not None), low.source)


def _mark(low: Lowering, value: int, found: Value, source: str) -> int:
    if isinstance(found, Secret):
        low.missing[value] = Missing(found.id, source)
    return value


def is_nan(low: Lowering, x: Value) -> Secret | None:
    """The bit that answers x != x; None where nothing of x is missing."""
    known = low.missing.get(x.id) if isinstance(x, Secret) else None
    return None if known is None else Secret(known.bit, BOOL)


def answered(low: Lowering, bit: Secret) -> Secret:
    """A bit that says what the numbers in the ring do not."""
    low.facts.setdefault(bit.id, Refined())
    return bit


def follow(low: Lowering, eqn: Any, operands: Sequence[Value], results: Sequence[Value]) -> None:
    """Take the bits of an equation's operands along to its results, or say that they are lost."""
    name = eqn.primitive.name
    if not low.missing or name in CALLS:
        return
    if all(not isinstance(x, Secret) or x.id not in low.missing for x in operands):
        return
    if name == "select_n" and isinstance(operands[0], Secret):
        return
    same = [x.id for x in operands if isinstance(x, Secret)]
    if name == "is_finite" or (name in ("ne", "eq") and len(same) == 2 and same[0] == same[1]):
        return
    outs = [Out(tuple(v.aval.shape), BOOL) for v in eqn.outvars]
    kept = name == "convert_element_type" and kind_of(eqn.outvars[0].aval.dtype) == "float"
    public_choice = name == "select_n"
    if not (name in MOVES or name in ELEMENTS or kept or public_choice):
        lost(low, operands)
        return
    source = _source(low, operands)
    if name in ELEMENTS or kept:
        (o,) = outs
        found: list[Value] = [_any(low, o, [_where(low, x, o) for x in operands])]
    else:
        bits = [_own(low, x) for x in operands]
        if public_choice:
            bits[0] = operands[0]
        made = RULES[name](low, outs, *bits, **eqn.params)
        found = list(made) if isinstance(made, (tuple, list)) else [made]
    for result, bit in zip(results, found, strict=True):
        if isinstance(result, Secret) and result.id not in low.missing:
            _mark(low, result.id, bit, source)


def _own(low: Lowering, x: Value) -> Value:
    """Where an operand is missing, with its own shape."""
    shape = low.shape(x.id) if isinstance(x, Secret) else np.shape(x)
    return _where(low, x, Out(tuple(shape), BOOL))


def _any(low: Lowering, o: Out, bits: Sequence[Value]) -> Value:
    made = bits[0]
    for b in bits[1:]:
        if _possible(b):
            made = RULES["or"](low, [o], made, b) if _possible(made) else b
    return made


def lost(low: Lowering, values: Sequence[Value]) -> None:
    """A warning per line whose NaN these values were."""
    before = low.source
    for x in values:
        known = low.missing.get(x.id) if isinstance(x, Secret) else None
        if known is not None:
            low.source = known.source
            low.warn("NaN cannot be represented: where this choice takes it the result is 0")
    low.source = before
