"""Comparisons, selection, extremes, signs, and logic on bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.compiler import arith, moments, order
from spuvm.compiler.context import Choice, Lowering, Secret
from spuvm.compiler.facts import Limited, Relu, root
from spuvm.compiler.folded import eps
from spuvm.compiler.numeric.limits import clamped
from spuvm.compiler.rules import Out, integer, missing, rule
from spuvm.compiler.rules.elementwise import convert, operand, sub
from spuvm.compiler.values import Array, Value, kind_of, lift, public, wrap_int, xor_public
from spuvm.compiler.varying import Varying

BOOL = np.dtype(np.bool_)


def _dtype(x: Value, y: Value) -> np.dtype[Any]:
    return x.dtype if isinstance(x, Secret) else np.dtype(y.dtype)


def _result(low: Lowering, o: Out, bit: order.Bit) -> Value:
    if isinstance(bit, bool):
        return np.full(o.shape, bit)
    return Secret(bit, BOOL)


def _infinite(o: Out, x: Value, y: Value, op: str) -> Value | None:
    """A comparison with a public infinity or NaN: no representable value is either."""
    c = y if isinstance(x, Secret) else x
    if isinstance(c, Secret) or kind_of(_dtype(x, y)) != "float":
        return None
    wide = np.broadcast_to(public(c).astype(np.float64), o.shape)
    if not wide.size or np.isfinite(wide).any():
        return None
    zero = np.zeros(o.shape)
    left, right = (wide, zero) if c is x else (zero, wide)
    compare = {"lt": np.less, "le": np.less_equal, "eq": np.equal}[op]
    return np.asarray(compare(left, right))


def operands(low: Lowering, o: Out, x: Value, y: Value) -> tuple[int, int, np.dtype[Any]]:
    """Both sides as numbers of their dtype, integers reduced to it; public sides lifted."""
    dtype = _dtype(x, y)
    ids = []
    for v in (x, y):
        if not isinstance(v, Secret) and kind_of(dtype) == "float":
            v = arith.uniform(arith.saturated(low, public(v)))
        made = lift(low, v, dtype).id
        if kind_of(dtype) == "int":
            made = wrap_int(low, made, dtype)
        ids.append(low.spread(made, o.shape))
    return ids[0], ids[1], dtype


def _less(low: Lowering, out: list[Out], x: Value, y: Value) -> Value:
    (o,) = out
    if _is_same(x, y):
        return np.zeros(o.shape, np.bool_)
    if kind_of(_dtype(x, y)) == "bool":
        return logical(low, out, inverse(low, out, x), y, "and")
    known = _infinite(o, x, y, "lt")
    if known is not None:
        return known
    if kind_of(_dtype(x, y)) == "float":
        _doubt_tolerance(low, x, y)
        x, y = _limit(low, x, -1), _limit(low, y, 1)
    a, b, dtype = operands(low, o, x, y)
    return _result(low, o, order.less(low, a, b, dtype))


def _limit(low: Lowering, x: Value, sign: int) -> Value:
    """A side of x < y; public numbers that would round to 0 as the least that compares like them.

    0 < 1e-8 holds: of what can be encoded, that is below 1e-8 what is below one unit. `sign` is
    that of the side's numbers which are not as good as 0: 1 on the right, -1 on the left.
    """
    if isinstance(x, Secret | Varying):
        return x
    wide = public(x).astype(np.float64)
    lost = (wide != 0) & (np.abs(wide) < 2.0 ** -(low.f + 1))
    if not lost.any():
        return x
    return np.where(lost, np.where(wide * sign > 0, sign * 2.0**-low.f, 0.0), wide)


def _doubt_tolerance(low: Lowering, x: Value, y: Value) -> None:
    """Warn of a comparison of |a - b| with a number below a unit: it asks whether they are equal.

    As distributions do, to see whether probabilities add up to 1. What is too small to be a
    tolerance, as in jnp.interp, is a guard against division by 0, which equality serves as well.
    """
    for distance, c in ((x, y), (y, x)):
        if (
            low.lines != "own"
            or not isinstance(distance, Secret)
            or isinstance(c, Secret | Varying)
        ):
            continue
        most = public(c).astype(np.float64).max(initial=0)
        if eps(distance.dtype) <= most < 2.0**-low.f and root(low, distance.id) in low.distances:
            low.warn(
                f"with {low.f} fraction bits a distance below {most:g} is 0, so that the last bits "
                f"decide: compare it with more than {2.0**-low.f:.2g}, or choose a Config with "
                "more fraction bits (ring=128: up to 40)"
            )


def _is_same(x: Value, y: Value) -> bool:
    return isinstance(x, Secret) and isinstance(y, Secret) and x.id == y.id


def inverse(low: Lowering, out: list[Out], x: Value) -> Value:
    """not x."""
    if not isinstance(x, Secret):
        return ~public(x)
    return Secret(low.emit("not_b", x.id), BOOL)


@rule("lt", "lt_to")
def lt(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x < y."""
    return _less(low, out, x, y)


@rule("gt")
def gt(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x > y."""
    return _less(low, out, y, x)


@rule("ge")
def ge(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x >= y."""
    return inverse(low, out, _less(low, out, x, y))


@rule("le", "le_to")
def le(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x <= y."""
    return inverse(low, out, _less(low, out, y, x))


@rule("eq", "eq_to")
def equal(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x == y: zero test of the difference."""
    (o,) = out
    dtype = _dtype(x, y)
    if _is_same(x, y):
        nan = missing.is_nan(low, x)
        if nan is not None:
            return missing.answered(low, inverse(low, out, nan))
        return np.ones(o.shape, np.bool_)
    if kind_of(dtype) == "bool":
        return inverse(low, out, logical(low, out, x, y, "xor"))
    known = _infinite(o, x, y, "eq")
    if known is not None:
        return known
    if kind_of(dtype) == "int":  # modulo 2^width nothing needs to be reduced first
        a, b = (low.spread(lift(low, v, dtype).id, o.shape) for v in (x, y))
        with low.unchecked():
            delta = low.emit("sub_aa", a, b)
        width = dtype.itemsize * 8
    else:
        a, b = operands(low, o, x, y)[:2]
        with low.unchecked():
            delta = arith.sub(low, a, b)
        width = low.bits
    bounds = low.type(delta).bounds
    if bounds is not None:
        top = low.type(delta).magnitude(0)
        if top < 1 << width and (bounds[0] > 0 or bounds[1] < 0):
            return np.zeros(o.shape, np.bool_)
        width = min(width, max(1, top.bit_length()))
    return Secret(low.emit("eqz_a", delta, bits=width), BOOL)


@rule("ne")
def not_equal(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x != y."""
    if _is_same(x, y) and (nan := missing.is_nan(low, x)) is not None:
        return missing.answered(low, nan)
    return inverse(low, out, equal(low, out, x, y))


@rule("is_finite")
def is_finite(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Value:
    """True, the ring has neither infinity nor NaN, but where a mask chose NaN."""
    if (nan := missing.is_nan(low, x)) is not None:
        return missing.answered(low, inverse(low, out, nan))
    return np.ones(out[0].shape, np.bool_)


def logical(low: Lowering, out: list[Out], x: Value, y: Value, op: str) -> Value:
    """x and y, x xor y, bit by bit."""
    (o,) = out
    if not isinstance(x, Secret) and not isinstance(y, Secret):
        x, y = public(x), public(y)
        return np.broadcast_to(x & y if op == "and" else x ^ y, o.shape)
    if not isinstance(x, Secret):
        x, y = y, x
    a = operand(low, x, o.shape)
    if isinstance(y, Secret):
        b = operand(low, y, o.shape)
        return Secret(low.emit(f"{op}_bb", *sorted((a, b))), BOOL)
    c = np.broadcast_to(public(y), o.shape)
    if op == "xor":
        return Secret(xor_public(low, a, c), BOOL)
    if c.all():
        return Secret(a, BOOL)
    if not c.any():
        return np.zeros(o.shape, np.bool_)
    return Secret(low.emit("and_bp", a, low.constant(c.astype(np.uint8), 0, 1)), BOOL)


@rule("and")
def logical_and(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x and y of Booleans or of the bits of integers."""
    if kind_of(_dtype(x, y)) != "bool":
        return integer.bitwise(low, out, x, y, "and")
    return logical(low, out, x, y, "and")


@rule("xor")
def logical_xor(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x xor y of Booleans or of the bits of integers."""
    if kind_of(_dtype(x, y)) != "bool":
        return integer.bitwise(low, out, x, y, "xor")
    return logical(low, out, x, y, "xor")


@rule("or")
def logical_or(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """x or y of Booleans, not (not x and not y), or of the bits of integers."""
    if kind_of(_dtype(x, y)) != "bool":
        return integer.bitwise(low, out, x, y, "or")
    both = logical(low, out, inverse(low, out, x), inverse(low, out, y), "and")
    return inverse(low, out, both)


@rule("not")
def logical_not(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Value:
    """not x: bits flipped, integers -x - 1."""
    if kind_of(x.dtype) == "bool":
        return inverse(low, out, x)
    return integer.complement(low, x)


# --- selection -------------------------------------------------------------------------------


@rule("select_n")
def select_n(low: Lowering, out: list[Out], which: Value, *cases: Value, **_: Any) -> Value:
    """cases[which], element by element."""
    (o,) = out
    if not isinstance(which, Secret):
        return _select_public(low, o, public(which), cases)
    if kind_of(which.dtype) == "int":
        made = cases[0]
        for i, case in enumerate(cases[1:], start=1):
            bit = ge(low, [Out(o.shape, BOOL)], which, np.asarray(i, which.dtype))
            made = select_n(low, out, bit, made, case)
        return made
    return select(low, o, which, cases[1], cases[0])


def _case(low: Lowering, case: Value, o: Out) -> Value:
    """A case as it can be represented."""
    if isinstance(case, Secret) or kind_of(o.dtype) != "float":
        return case
    c = public(case)
    wide = c.astype(np.float64)
    if (np.abs(wide) < low.config.fxp.max_float).all():  # False for NaN
        return case
    return arith.saturated(low, c)


def select(low: Lowering, o: Out, bit: Secret, yes: Value, no: Value) -> Value:
    """yes where the secret bit is set, else no."""
    b = low.spread(bit.id, o.shape)
    made = _chosen(low, o, b, missing.nan_to_zero(yes, o), missing.nan_to_zero(no, o))
    made = missing.chosen(low, o, b, yes, no, made)
    if isinstance(made, Secret):
        low.choices.setdefault(made.id, Choice(b, yes, no))
    return made


def _chosen(low: Lowering, o: Out, b: int, yes: Value, no: Value) -> Value:
    yes, no = _case(low, yes, o), _case(low, no, o)
    if kind_of(o.dtype) == "bool":
        differ = logical(low, [o], yes, no, "xor")
        return logical(low, [o], logical(low, [o], differ, Secret(b, BOOL), "and"), no, "xor")
    if not isinstance(yes, Secret) and not isinstance(no, Secret):
        return _between_public(low, o, b, public(yes), public(no))
    if isinstance(yes, Secret) and not isinstance(no, Secret) and not public(no).any():
        return Secret(order.times(low, b, low.spread(yes.id, o.shape)), o.dtype)
    if isinstance(no, Secret) and not isinstance(yes, Secret) and not public(yes).any():
        keep = low.emit("not_b", b)
        return Secret(order.times(low, keep, low.spread(no.id, o.shape)), o.dtype)
    a, c = (low.spread(lift(low, v, o.dtype).id, o.shape) for v in (yes, no))
    return Secret(order.choose(low, b, a, c), o.dtype)


def _between_public(low: Lowering, o: Out, bit: int, yes: Array, no: Array) -> Secret:
    number = low.emit("b2a", bit)
    if kind_of(o.dtype) == "int":
        yes, no = (np.broadcast_to(c, o.shape) for c in (yes, no))
        step = low.ring.array(yes) - low.ring.array(no)
        made = low.emit("mul_ap", number, low.constant(arith.uniform(step)))
        base = low.constant(arith.uniform(low.ring.array(no)))
        return Secret(low.emit("add_ap", made, base), o.dtype)
    yes, no = (np.broadcast_to(arith.finite(low, c), o.shape) for c in (yes, no))
    frac = min(low.f, arith.fraction_bits(np.concatenate([yes.ravel(), no.ravel()])))
    yes, no = (np.ldexp(np.rint(np.ldexp(c, frac)), -frac) for c in (yes, no))
    p = arith.encode(low, arith.uniform(yes - no), frac)
    return Secret(arith.add_public(low, low.emit("mul_ap", number, p), no), o.dtype)


def _select_public(low: Lowering, o: Out, which: Array, cases: tuple[Value, ...]) -> Value:
    """A public choice only moves data: an index into all cases, one after the other."""
    number = which.astype(np.int64)
    if number.size and (number == number.ravel()[0]).all():
        case = cases[int(number.ravel()[0])]
        if isinstance(case, Secret):
            return Secret(low.spread(case.id, o.shape), o.dtype)
        return np.broadcast_to(public(case), o.shape)
    size = int(np.prod(o.shape))
    ids = [low.spread(lift(low, _case(low, c, o), o.dtype).id, o.shape) for c in cases]
    if kind_of(o.dtype) != "bool":
        ids = arith.align(low, ids)
    joined = low.concat([low.reshape(i, (size,)) for i in ids], 0)
    index = np.broadcast_to(number, o.shape) * size + np.arange(size).reshape(o.shape)
    return Secret(low.take(joined, index), o.dtype)


# --- extremes and signs ----------------------------------------------------------------------


def _extreme(low: Lowering, out: list[Out], x: Value, y: Value, op: str) -> Value:
    (o,) = out
    if kind_of(o.dtype) == "bool":
        return (logical_or if op == "max" else logical_and)(low, out, x, y)
    if _is_same(x, y):
        return x
    infinite = -np.inf if op == "max" else np.inf
    for one, other in ((x, y), (y, x)):
        public_other = isinstance(one, Secret) and not isinstance(other, Secret)
        if public_other and (public(other) == infinite).all():  # never the one that is taken
            return Secret(low.spread(one.id, o.shape), o.dtype)
    a, b, dtype = operands(low, o, x, y)
    if dtype.kind == "f" and isinstance(x, Secret) != isinstance(y, Secret):
        secret, constant = (a, b) if isinstance(x, Secret) else (b, a)
        return Secret(_limited(low, secret, constant, op, dtype), o.dtype)
    pick = order.maximum if op == "max" else order.minimum
    return Secret(moments.one_of(low, a, b, pick(low, a, b, dtype)), o.dtype)


def _limited(low: Lowering, x: int, constant: int, op: str, dtype: np.dtype[np.generic]) -> int:
    """max or min of x and a public value; after one comes the other, both in the same rounds."""
    x, constant = arith.align(low, (x, constant))
    first, last = low.type(constant).bounds or (0, 1)
    limit = first if first == last else None
    before = low.facts.get(x)
    if isinstance(before, Relu):
        before = Limited(before.source, "max", 0)
    if limit is not None and isinstance(before, Limited) and before.op != op:
        lo, hi = sorted((limit, before.limit))
        if (lo == before.limit) == (op == "min") and low.frac(before.source) == low.frac(x):
            return clamped(low, before.source, lo, hi)
    made = (order.maximum if op == "max" else order.minimum)(low, x, constant, dtype)
    if made != x and limit is not None:
        relu = op == "max" and limit == 0
        low.facts.setdefault(made, Relu(x) if relu else Limited(x, op, limit))
    return made


@rule("max")
def maximum(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """max(x, y)."""
    return _extreme(low, out, x, y, "max")


@rule("min")
def minimum(low: Lowering, out: list[Out], x: Value, y: Value, **_: Any) -> Value:
    """min(x, y)."""
    return _extreme(low, out, x, y, "min")


@rule("clamp")
def clamp(low: Lowering, out: list[Out], lo: Value, x: Value, hi: Value, **_: Any) -> Value:
    """min(max(x, lo), hi)."""
    x = lift(low, x, out[0].dtype) if not isinstance(x, Secret) else x
    return minimum(low, out, maximum(low, out, x, lo), hi)


@rule("abs")
def absolute(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Secret:
    """|x|; the least integer of a signed dtype stays itself, as in JAX."""
    if kind_of(x.dtype) == "int":
        if x.dtype.kind == "u":
            return x
        return Secret(order.absolute(low, wrap_int(low, x.id, x.dtype)), x.dtype)
    made = low.builder.instruction(root(low, x.id))
    result = Secret(order.absolute(low, x.id), x.dtype)
    if made is not None and made.op.startswith(("add", "sub")):
        low.distances.add(root(low, result.id))
    return result


@rule("sign")
def sign(low: Lowering, out: list[Out], x: Secret, **_: Any) -> Value:
    """(0 < x) - (x < 0)."""
    zero, numbers = np.zeros((), x.dtype), []
    for left, right in ((zero, x), (x, zero)):
        bit = _less(low, [Out(out[0].shape, BOOL)], left, right)
        secret = isinstance(bit, Secret)
        numbers.append(convert(low, out, bit) if secret else public(bit).astype(x.dtype))
    if any(isinstance(n, Secret) for n in numbers):
        return sub(low, out, *numbers)
    return public(numbers[0]) - public(numbers[1])
