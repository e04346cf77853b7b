"""NaN that a secret mask chooses: a secret bit beside the value says where it is one.

jnp.where(mask, x, jnp.nan) marks entries as missing, and jnp.nanmean and its relatives ask with
x != x which ones are. There is no NaN in the ring, where the value is any number; the bit goes
along through selections, moves, functions of elements, reductions and sorts, and answers
comparisons. Public NaN that is laid beside secrets becomes such a bit too. Where it would be lost,
in a product of matrices, a loop or a result, a warning names the line that chose NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler import order
from spuvm.compiler.context import Lowering, Missing, Secret
from spuvm.compiler.facts import Refined, mark, root
from spuvm.compiler.rules import RULES, Out
from spuvm.compiler.values import Array, Value, kind_of, lift, public
from spuvm.compiler.varying import Varying

BOOL = np.dtype(np.bool_)
_MOVES = """
broadcast_in_dim reshape transpose squeeze expand_dims slice rev concatenate split copy copy_p
stop_gradient optimization_barrier name
"""
_ELEMENTS = """
add add_any sub mul div neg square integer_pow pow max min abs sign floor ceil round sqrt rsqrt cbrt
exp exp2 expm1 log log1p log2 logistic tanh sin cos tan asin acos atan atan2 sinh cosh asinh acosh
atanh erf erfc erf_inv lgamma digamma bessel_i0e bessel_i1e igamma igammac polygamma zeta
regularized_incomplete_beta rem clamp reduce_precision polynomial one_minus_square
"""
_COMPARISONS = "lt le gt ge eq ne"
# What moves values to places that other operands name, and which operands are values.
_PLACED = {
    "gather": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "pad": (0, 1),
    "scatter": (0, 2),
}
_REDUCTIONS = "reduce_sum reduce_prod reduce_max reduce_min"
_CALLS = """
jit pjit closed_call core_call call remat remat2 checkpoint composite custom_vmap_call linear_call
custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr custom_lin call_hi_primitive eval_jaxpr
cond
"""
MOVES, ELEMENTS, CALLS, COMPARISONS, REDUCTIONS = (
    frozenset(names.split()) for names in (_MOVES, _ELEMENTS, _CALLS, _COMPARISONS, _REDUCTIONS)
)
OWN = frozenset(["sort"])  # rules that take the bits along themselves


def nan_to_zero(x: Value, o: Out) -> Value:
    """A case of a selection without NaN; where it is one `chosen` remembers."""
    if isinstance(x, Secret | Varying) or kind_of(o.dtype) != "float":
        return x
    return _without_nan(public(x)) if _is_nan(x) else x


def _without_nan(c: Array) -> Array:
    return np.where(np.isnan(c.astype(np.float64)), np.zeros((), c.dtype), c)


def chosen(low: Lowering, o: Out, bit: int, yes: Value, no: Value, made: Value) -> Value:
    """`made` is what the bit chose, which is missing where what it took is."""
    if kind_of(o.dtype) != "float" or not isinstance(made, Secret):
        return made
    first, second = _where(low, yes, o), _where(low, no, o)
    if not _possible(first) and not _possible(second):
        return made
    if isinstance(first, Secret) and _excludes(low, bit, first.id):  # jnp.where(x > 0, x, 0)
        first = np.zeros(o.shape, np.bool_)
    if isinstance(second, Secret) and _excludes(low, low.emit("not_b", bit), second.id):
        second = np.zeros(o.shape, np.bool_)  # jnp.where(jnp.isnan(x), 0, x)
    if not _possible(first) and not _possible(second):
        return made
    of_bits = Out(o.shape, BOOL)
    found = RULES["select_n"](low, [of_bits], Secret(bit, BOOL), second, first)
    own = _own_id(low, made.id)  # not the same with 0 for NaN
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
    low.missing[value] = Missing(lift(low, found, BOOL).id, source)
    return value


def is_nan(low: Lowering, x: Value) -> Secret | None:
    """The bit that answers x != x; None where nothing of x is missing."""
    known = low.missing.get(x.id) if isinstance(x, Secret) else None
    return None if known is None else Secret(known.bit, BOOL)


def answered(low: Lowering, bit: Secret) -> Secret:
    """A bit that says what the numbers in the ring do not."""
    low.facts.setdefault(bit.id, Refined())
    return bit


def lowered(
    low: Lowering, eqn: Any, rule: Any, out: list[Out], operands: Sequence[Value]
) -> Sequence[Value]:
    """The results of an equation by its rule, which knows nothing of what is missing."""
    name, given = eqn.primitive.name, operands
    if _keeps(name, operands):
        given = [_without_nan(public(x)) if _is_nan(x) else x for x in operands]
    with aside(low, operands if name in ELEMENTS else ()):
        made = rule(low, out, *given, **eqn.params)
    return _follow(low, eqn, operands, made if isinstance(made, (tuple, list)) else (made,))


def _moves(name: str, operands: Sequence[Value]) -> bool:
    """Whether an equation only moves data."""
    if name == "select_n":
        return not isinstance(operands[0], Secret)
    return name in MOVES or name in _PLACED


def _keeps(name: str, operands: Sequence[Value]) -> bool:
    """Whether where the results are NaN is known, also for public operands that are."""
    return name in ELEMENTS or name in COMPARISONS or _moves(name, operands)


def _follow(
    low: Lowering, eqn: Any, operands: Sequence[Value], results: Sequence[Value]
) -> Sequence[Value]:
    """The results, with the bits of an equation's operands, or a warning that they are lost."""
    name = eqn.primitive.name
    if name in CALLS or name in OWN or (name == "select_n" and isinstance(operands[0], Secret)):
        return results
    public_nan = _keeps(name, operands) and any(map(_is_nan, operands))
    if not public_nan and not any(isinstance(x, Secret) and x.id in low.missing for x in operands):
        return results
    if name in COMPARISONS:
        return [_compared(low, name, Out(tuple(eqn.outvars[0].aval.shape), BOOL), operands,
                          results[0])]  # fmt: skip
    if name == "is_finite":
        return results
    found = _found(low, eqn, operands)
    if found is None:
        lost(low, operands)
        return results
    return marked(low, results, found, _source(low, operands))


def _found(low: Lowering, eqn: Any, operands: Sequence[Value]) -> Sequence[Value] | None:
    """Where the results of an equation are missing; None if nothing is known of that."""
    name = eqn.primitive.name
    outs = [Out(tuple(v.aval.shape), BOOL) for v in eqn.outvars]
    if name in ELEMENTS or (
        name == "convert_element_type" and kind_of(eqn.outvars[0].aval.dtype) == "float"
    ):
        (o,) = outs
        return [_any(low, o, [_where(low, x, o) for x in operands])]
    if name in REDUCTIONS:
        made = RULES["reduce_or"](low, outs, _own(low, operands[0]), axes=eqn.params["axes"])
        return [made]
    if name not in MOVES and name not in _PLACED and name != "select_n":
        return None
    every = range(1 if name == "select_n" else 0, len(operands))
    values = _PLACED.get(name, every)
    bits = [_own(low, x) if i in values else x for i, x in enumerate(operands)]
    params = dict(eqn.params)
    if "fill_value" in params:  # what is outside is NaN, or a number
        params["fill_value"] = params["fill_value"] is None or bool(np.isnan(params["fill_value"]))
    if not any(isinstance(b, Secret) for b in bits):
        with jax.ensure_compile_time_eval():
            return [np.asarray(eqn.primitive.bind(*bits, **params))]
    made = RULES[name](low, outs, *bits, **params)
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _compared(low: Lowering, name: str, o: Out, operands: Sequence[Value], made: Value) -> Value:
    """NaN is not equal to anything, and neither above nor below it."""
    ids = [x.id if isinstance(x, Secret) else None for x in operands]
    if name in ("eq", "ne") and ids[0] is not None and ids[0] == ids[1]:
        return made  # answered by the bit already
    there = _any(low, o, [_where(low, x, o) for x in operands])
    if name == "ne":
        made = RULES["or"](low, [o], made, there)
    else:
        there = RULES["not"](low, [o], there) if isinstance(there, Secret) else ~public(there)
        made = RULES["and"](low, [o], made, there)
    return answered(low, made) if isinstance(made, Secret) else made


def _excludes(low: Lowering, bit: int, there: int) -> bool:
    """Whether `there` is known to be 0 where `bit` is 1."""
    if bit == low.emit("not_b", there):
        return True
    made = low.builder.instruction(bit)
    if made is None:
        return False
    if made.op == "not_b":  # of not: as jnp.logical_or makes it
        inner = low.builder.instruction(made.args[0])
        if inner is None or inner.op != "not_b":
            return False
        return _excludes(low, inner.args[0], there)
    if made.op != "and_bb":
        return False
    return any(_excludes(low, a, there) for a in made.args)


def marked(
    low: Lowering, results: Sequence[Value], found: Sequence[Value], source: str
) -> Sequence[Value]:
    """Results that are missing where `found` says so."""
    made: list[Value] = []
    for x, bits in zip(results, found, strict=True):
        if isinstance(x, Secret) and _possible(bits) and kind_of(x.dtype) == "float":
            x = Secret(_mark(low, _own_id(low, x.id), bits, source), x.dtype)
        made.append(x)
    return made


def _own_id(low: Lowering, x: int) -> int:
    """The same value under another name: elsewhere it may be one that is not missing."""
    t = low.type(x)
    return low.emit("retype_a", x, frac=t.frac, range=t.bounds or ())


def of_elements(
    low: Lowering,
    out: Sequence[Out],
    operands: Sequence[Value],
    places: Sequence[Any],
    results: Sequence[Value],
) -> Sequence[Value]:
    """Results of a function that takes of every operand the elements at `places`, None for all."""
    o = Out(out[0].shape, BOOL)
    found: list[Value] = []
    for x, at in zip(operands, places, strict=True):
        if at is None:
            found.append(_where(low, x, o))
        else:
            bits = _own(low, x)
            if isinstance(bits, Secret):
                found.append(Secret(low.take(bits.id, at), BOOL))
            else:
                found.append(public(bits).ravel()[at])
    there = _any(low, o, found)
    return marked(low, results, [there for _ in results], _source(low, operands))


def sorted_with(
    low: Lowering, out: list[Out], xs: Sequence[Value], dimension: int, num_keys: int
) -> Sequence[Value]:
    """The operands of a sort with their bits beside them: of a key its bit goes before it."""
    columns: list[Value] = []
    keys, first, place = 0, {}, []
    for i, (x, o) in enumerate(zip(xs, out, strict=True)):
        known = low.missing.get(x.id) if isinstance(x, Secret) else None
        if known is not None:
            first[i] = len(columns)
            columns.append(Secret(known.bit, BOOL))
            if i < num_keys and len(xs) > 1:  # one as good as the other
                there = low.emit("not_b", known.bit)
                x = Secret(order.times(low, there, x.id), o.dtype)
        place.append(len(columns))
        columns.append(x)
        keys = len(columns) if i < num_keys else keys
    outs = [
        Out(o.shape, BOOL if i in first.values() else out[place.index(i)].dtype)
        for i, o in enumerate([out[0]] * len(columns))
    ]
    with aside(low, xs):
        made = RULES["sort"](low, outs, *columns, dimension=dimension, num_keys=keys)
    nowhere = np.zeros(out[0].shape, np.bool_)
    found = [made[first[i]] if i in first else nowhere for i in range(len(xs))]
    results = [made[i] for i in place]
    for x in results:  # as numbers the operands are in another order
        mark(low, x.id, Refined())
    return marked(low, results, found, _source(low, xs))


@contextmanager
def aside(low: Lowering, operands: Sequence[Value]) -> Iterator[None]:
    """Inside, the operands count as numbers: whoever computes with them marks the results."""
    ids = {x.id for x in operands if isinstance(x, Secret)}
    kept = {i: low.missing.pop(i) for i in ids if i in low.missing}
    try:
        yield
    finally:
        low.missing.update(kept)


def _is_nan(x: Value) -> bool:
    """Whether public numbers have NaN among them."""
    if isinstance(x, Secret | Varying):
        return False
    if not jnp.issubdtype(x.dtype if hasattr(x, "dtype") else type(x), np.floating):
        return False
    return bool(np.isnan(public(x).astype(np.float64)).any())


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


def opened(low: Lowering, results: Sequence[Value]) -> list[Value]:
    """Results of the program: 0 where they are missing, and a warning that they are."""
    lost(low, results)
    made: list[Value] = []
    for x in results:
        known = low.missing.get(x.id) if isinstance(x, Secret) else None
        if known is not None:
            there = low.emit("not_b", known.bit)
            value = low.builder.instruction(root(low, x.id))
            if value is None or value.op != "mul_ba" or value.args[0] != there:
                x = Secret(order.times(low, there, x.id), x.dtype)
        made.append(x)
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
