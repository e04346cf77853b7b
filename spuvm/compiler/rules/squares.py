"""Sums of squares, of which roots, inverses and logarithms are right over the whole range.

x^2 leaves the range where x and the norm are far inside of it, and has no digits left where x is
small. So what is asked of such a sum is made of its root, and that of exact integers: the sums of
the squares of x / 2^t for a few t, of which the first t = 0. The largest t whose sum is not small
is taken, so that rounding x / 2^t does not show and nothing wraps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from spuvm.compiler import arith, facts, inverses, order
from spuvm.compiler.arith import Array
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.numeric import roots
from spuvm.compiler.numeric.reciprocal import divide
from spuvm.compiler.rules import RULES, Out
from spuvm.compiler.values import Value, kind_of
from spuvm.compiler.varying import Varying

MOVES = frozenset(["broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice"])
MADE = frozenset(
    ["mul", "square", "integer_pow", "pow", "reduce_sum", "dot_general", "add", "add_any"]
)
NOTED = MOVES | MADE | {"div", "max"}
MANY = 5  # squares; the mean of fewer is little smaller than their sum, and dearer this way
Place = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Term:
    """The squares of `source`, added up and moved as `place` does; each result is of `count`."""

    source: int
    place: Place
    count: int

    def then(self, step: Place, count: int = 1) -> Term:
        """The same, moved or added up once more."""
        return Term(self.source, lambda v: step(self.place(v)), self.count * count)


@dataclass(frozen=True, slots=True)
class Squares:
    """The value is scale * (the sum of the terms) + offset, scale > 0, offset >= 0."""

    terms: tuple[Term, ...]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def count(self) -> int:
        """Squares in every result."""
        return sum(term.count for term in self.terms)

    def then(self, step: Place, count: int = 1) -> Squares:
        """Every term moved or added up once more."""
        offset = self.offset * count
        return Squares(tuple(t.then(step, count) for t in self.terms), self.scale, offset)


# --- how sums of squares are made -----------------------------------------------------------------


def note(
    low: Lowering,
    name: str,
    o: Out,
    operands: Sequence[Value],
    params: dict[str, Any],
    made: Secret,
) -> None:
    """Remembers `made` if it is a sum of squares."""
    if name not in NOTED or low.lines != "own" or kind_of(o.dtype) != "float":
        return
    found = _made(low, name, o, operands, params)
    if found is not None and low.shape(made.id) == o.shape:
        low.squares[facts.root(low, made.id)] = found


def _made(
    low: Lowering, name: str, o: Out, operands: Sequence[Value], params: dict[str, Any]
) -> Squares | None:
    x, y = operands[0], operands[-1]
    if name == "square" or (name == "integer_pow" and params["y"] == 2):
        y = x
    if name == "pow":
        return _square(low, _id(x)) if isinstance(x, Secret) and public_number(y) == 2 else None
    if name in ("mul", "square", "integer_pow") and isinstance(x, Secret) and isinstance(y, Secret):
        if low.shape(x.id) != o.shape or facts.root(low, x.id) != facts.root(low, y.id):
            return None
        return None if name == "integer_pow" and params["y"] != 2 else _square(low, x.id)
    if name == "reduce_sum" or name in MOVES:
        return _moved(low, name, o, x, params)
    if name == "dot_general":
        return _with_itself(low, x, y, params["dimension_numbers"])
    if name in ("add", "add_any"):
        return _total(low, o, x, y)
    if name != "div" and not isinstance(x, Secret):
        x, y = y, x
    known = of(low, x)
    if name == "max":  # with 0, as variances are kept from it
        c = public_number(y) if known is not None and low.shape(_id(x)) == o.shape else None
        return None if c is None or c > 0 else known
    factor = public_number(y) if known is not None and low.shape(_id(x)) == o.shape else None
    if known is None or factor is None or not 0 < factor < math.inf:
        return None
    factor = 1 / factor if name == "div" else factor
    return replace(known, scale=known.scale * factor, offset=known.offset * factor)


def _square(low: Lowering, x: int) -> Squares | None:
    """The square of a value, but for one that may have left the range itself."""
    key = facts.root(low, x)
    made = low.builder.instruction(key)
    product = made is not None and made.op in ("mul_aa", "dot_aa")
    if low.type(x).bounds is None and (product or key in low.squares):
        return None
    return Squares((Term(x, lambda v: v, 1),))


def _with_itself(low: Lowering, x: Value, y: Value, dimensions: Any) -> Squares | None:
    """x @ x, row by row: every dimension is summed over or kept."""
    (summed, also_summed), (kept, also_kept) = (map(tuple, pair) for pair in dimensions)
    if not isinstance(x, Secret) or not isinstance(y, Secret):
        return None
    if (summed, kept) != (also_summed, also_kept) or facts.root(low, x.id) != facts.root(low, y.id):
        return None
    shape = low.shape(x.id)
    square = _square(low, x.id)
    if square is None or len(summed) + len(kept) != len(shape):
        return None
    order_of = tuple(sorted(kept).index(d) for d in kept)

    def place(v: int) -> int:
        total = low.emit("sum_a", v, axes=summed)
        return total if order_of == tuple(range(len(kept))) else low.transpose(total, order_of)

    return square.then(place, math.prod(shape[d] for d in summed))


def of(low: Lowering, x: Value) -> Squares | None:
    """How a value is a sum of squares, if it is known as one."""
    return low.squares.get(facts.root(low, x.id)) if isinstance(x, Secret) else None


def _id(x: Value) -> int:
    assert isinstance(x, Secret)
    return x.id


def public_number(x: Value) -> float | None:
    """A public number that is the same for all elements."""
    if isinstance(x, Secret | Varying):
        return None
    c = arith.uniform(np.asarray(x))
    return float(c) if c.ndim == 0 and c.dtype.kind in "iuf" else None


def _moved(low: Lowering, name: str, o: Out, x: Value, params: dict[str, Any]) -> Squares | None:
    known = of(low, x)
    if known is None:
        return None
    if name != "reduce_sum":
        rule = RULES[name]
        return known.then(lambda v: _id(rule(low, [o], Secret(v, o.dtype), **params)))
    axes = tuple(int(a) for a in params["axes"])
    count = math.prod(low.shape(_id(x))[a] for a in axes)
    return known.then(lambda v: low.emit("sum_a", v, axes=axes), count)


def _total(low: Lowering, o: Out, x: Value, y: Value) -> Squares | None:
    if not isinstance(x, Secret):
        x, y = y, x
    first, second = of(low, x), of(low, y)
    if first is None or low.shape(_id(x)) != o.shape:
        return None
    if second is not None:
        if low.shape(_id(y)) != o.shape or first.scale != second.scale:
            return None
        return Squares((*first.terms, *second.terms), first.scale, first.offset + second.offset)
    c = public_number(y)
    return None if c is None or not 0 <= c < math.inf else replace(first, offset=first.offset + c)


def deviation(low: Lowering, o: Out, x: Value, y: Value) -> Secret | None:
    """mean((v - mean v)^2) where x - y is mean(v^2) - mean(v)^2, which may leave the range."""
    first, second = of(low, x), of(low, y)
    if first is None or second is None or wrapping(low, Secret(_id(x), o.dtype)) is None:
        return None
    if len(first.terms) != 1 or second.count != 1 or first.offset or second.offset:
        return None
    (squares,), (centre,) = first.terms, second.terms
    v, n = squares.source, squares.count
    found = _mean_of(low, centre.source)
    if found is None or facts.root(low, found[0]) != facts.root(low, v):
        return None
    axes, by = found[1:]
    shape = low.shape(v)
    kept = tuple(1 if d in axes else m for d, m in enumerate(shape))
    close = (
        abs(first.scale * n - 1) < 2.0**-20 and second.scale == 1.0 and abs(by / n - 1) < 2.0**-20
    )
    if not close or math.prod(kept) != math.prod(low.shape(centre.source)):
        return None
    with low.unchecked():
        middle = low.spread(low.reshape(centre.source, kept), shape)
        term = Term(arith.sub(low, v, middle), squares.place, n)
        made = _mean(low, Squares((term,), first.scale), o.dtype)
    low.squares[facts.root(low, made)] = Squares((term,), first.scale)
    return Secret(made, o.dtype)


def _mean_of(low: Lowering, value: int) -> tuple[int, tuple[int, ...], float] | None:
    """(v, axes, n) where the value is the sum of v over axes divided by a public n."""
    by = 0.0
    while (made := low.made.get(facts.root(low, value))) is not None:
        inner = made.operands[0]
        if not isinstance(inner, Secret):
            return None
        if made.name == "reduce_sum":
            return (inner.id, tuple(made.params["axes"]), by) if by else None
        if made.name == "div" and not by:
            by = public_number(made.operands[1]) or 0.0
        elif made.name not in MOVES or math.prod(low.shape(inner.id)) != math.prod(made.shape):
            return None
        value = inner.id
    return None


# --- their roots ----------------------------------------------------------------------------------


def wrapping(low: Lowering, x: Secret) -> Squares | None:
    """The sum of squares that `x` is, if nothing proves that it stays in the range."""
    known = of(low, x) if low.lines == "own" else None
    if known is None or not known.count or low.magnitude(x.id) < low.full:
        return None
    unit = math.ldexp(known.offset / known.scale, 2 * low.f)
    return known if unit < low.bound >> 4 else None


def root(low: Lowering, x: Secret) -> int | None:
    """sqrt(x) where x may have left the range while it is a sum of squares, else None."""
    known = wrapping(low, x)
    if known is None:
        return None
    key = facts.root(low, x.id)
    if key not in low.square_roots:
        with low.unchecked():
            low.square_roots[key] = _root(low, known, x.dtype)
    return low.square_roots[key]


def _root(low: Lowering, s: Squares, dtype: np.dtype[Any]) -> int:
    chosen, far = _chosen(low, s, digits(low, dtype))
    even = low.f // 2 * 2
    made = roots.sqrt(low, arith.retype(low, chosen, even, 0, low.bound - 1))
    half = low.f - even // 2  # with low.f fraction bits this is 2^half times the integer's root
    made = arith.to_frac(low, arith.mul_public(low, made, np.asarray(math.sqrt(s.scale))), low.f)
    result = _put_back(low, made, far, lambda t: t - half)
    least = math.floor(math.ldexp(math.sqrt(s.offset) * (1 - 2.0**-8), low.f)) - 8
    result = low.narrowed(result, max(0, least), low.bound - 1)
    low.vague.add(result)
    low.norms[facts.root(low, result)] = frozenset(facts.root(low, t.source) for t in s.terms)
    return result


def mean(low: Lowering, x: Secret, factor: float, made: int) -> int:
    """`made` is x times a public factor; right where x is such a sum that may be too large."""
    known = wrapping(low, x)
    if known is None or known.count < MANY or not 0 < known.scale * factor < 1:
        return made
    with low.unchecked():
        return _mean(low, replace(known, scale=known.scale * factor), x.dtype)


def _mean(low: Lowering, s: Squares, dtype: np.dtype[Any]) -> int:
    chosen, far = _chosen(low, s, digits(low, dtype))
    chosen = arith.retype(low, chosen, low.f, 0, low.bound - 1)
    part, less = math.frexp(s.scale)  # the rest of the factor with the shifts
    whole = arith.to_frac(low, arith.mul_public(low, chosen, np.asarray(part)), low.f)
    return _put_back(low, whole, far, lambda t: 2 * t - low.f + less)


Far = tuple[tuple[int, order.Bit], ...]  # shifts but the first, and whether at least that is taken


def _chosen(low: Lowering, s: Squares, wanted: int) -> tuple[int, Far]:
    """The sum over the scale as an integer, of x / 2^t for the t that is taken; which that is."""
    sources = [arith.to_frac(low, arith.settle(low, t.source), low.f) for t in s.terms]
    low.answered.update(facts.root(low, t.source) for t in s.terms)
    largest = max(low.magnitude(v) for v in sources)
    shifts = steps(low, largest, s.count, wanted)
    chosen = _whole(low, s, sources, 0)
    far = []
    for before, t in pairwise(shifts):
        total = _whole(low, s, sources, t)
        least = low.integer(-threshold(low, s.count, t - before))
        below = order.negative(low, low.emit("add_ap", total, least))
        far.append((t, order.negate(low, below)))
        chosen = order.choose(low, far[-1][1], total, chosen)
    return chosen, tuple(far)


def _put_back(low: Lowering, made: int, far: Far, up: Callable[[int], int]) -> int:
    """`made` times 2^up(t) for the t that was taken."""
    result: int | None = None
    for t, bit in ((0, True), *far):
        by = min(up(t), low.bits - 3)  # by more nothing is representable
        if by > 0:
            moved = low.emit("shl_a", made, bits=by, frac=low.f)
        else:
            moved = arith.to_frac(low, arith.retype(low, made, low.f - by), low.f)
        result = moved if result is None else order.choose(low, bit, moved, result)
    assert result is not None
    return low.narrowed(result, 0, low.bound - 1)


def _whole(low: Lowering, s: Squares, sources: Sequence[int], shift: int) -> int:
    """The sum of the squares of x / 2^shift as an integer; anything where that is too large."""
    total: int | None = None
    for term, x in zip(s.terms, sources, strict=True):
        part = arith.retype(low, low.emit("trunc_a", x, bits=shift) if shift else x, 0)
        square = low.emit("mul_aa", part, part, trunc=0, form="narrow")
        placed = term.place(square)
        total = placed if total is None else low.emit("add_aa", total, placed)
    assert total is not None
    unit = round(math.ldexp(s.offset / s.scale, 2 * low.f - 2 * shift))
    return low.emit("add_ap", total, low.integer(unit)) if unit else total


def digits(low: Lowering, dtype: np.dtype[Any]) -> int:
    """Bits to which roots are right, of their own size."""
    if low.f <= 8:
        return 6
    return (low.f - 6 if dtype == np.float64 else min(low.f - 6, 22)) + 2


def steps(low: Lowering, largest: int, count: int, wanted: int) -> list[int]:
    """The shifts t: the sum of `count` squares of x / 2^t fits for the last one of them.

    From one to the next the root loses so few bits that `wanted` ones are left where the next one
    is taken, and that the squares of the roundings, which all add up, stay below them as well.
    """
    last = 0
    while count * ((largest >> last) + 1) ** 2 >= low.bound >> 1:
        last += 1
    kept = max(wanted, (wanted + math.ceil(math.log2(count))) // 2)
    parts = -(-last // max(1, (low.bits - 2) // 2 - 2 - kept))
    return [0, *(-(-last * i // parts) for i in range(1, parts + 1))]


def threshold(low: Lowering, count: int, step: int) -> int:
    """The least sum for x / 2^t; below it that for x / 2^(t - step) fits."""
    slack = math.isqrt(count) + 1
    return max(1, (math.isqrt(low.bound >> 1) - slack >> step) - slack) ** 2


# --- what else is made of them --------------------------------------------------------------------


def over(low: Lowering, o: Out, x: int | Array, y: Secret) -> int | None:
    """x / y where y is such a sum: divided by its root twice."""
    divisor = root(low, y)
    if divisor is None:
        return None
    above = root(low, Secret(x, o.dtype)) if isinstance(x, int) else None
    if above is not None:
        ratio = divide(low, above, divisor, o.shape)
        return arith.mul(low, ratio, ratio)
    made = divide(low, divide(low, x, divisor, o.shape), divisor, o.shape)
    inverses.divided_by(low, made, x, divisor, divisor)
    return made


def inverse_root(low: Lowering, o: Out, x: Secret) -> Secret | None:
    """1 / sqrt(x) where x is such a sum."""
    divisor = root(low, x)
    if divisor is None:
        return None
    made = divide(low, np.ones(()), divisor, o.shape)
    inverses.divided_by(low, made, np.ones(()), divisor)
    return Secret(made, x.dtype)


def logarithm(low: Lowering, o: Out, x: Secret, plus: float = 0.0) -> Secret | None:
    """log(x + plus) where x is such a sum: twice that of the root."""
    known = of(low, x)
    if known is None or not plus + known.offset or wrapping(low, x) is None:
        return None
    if plus:
        x = RULES["add"](low, [o], x, np.asarray(plus, o.dtype))
        low.squares[facts.root(low, x.id)] = replace(known, offset=known.offset + plus)
    size = root(low, x)
    if size is None:
        return None
    made = RULES["log"](low, [o], Secret(size, o.dtype))
    return Secret(arith.add(low, made.id, made.id), o.dtype)
