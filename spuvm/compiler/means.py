"""Means of long columns: a sum that is only divided may be larger than what is representable.

Such a sum is kept as sum / 2^s: every element is split into high and low digits, which are added up
apart, or multiplied apart where it is a sum of products. The division then multiplies by 2^s / n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.varying import Varying

LONG = 1 << 12  # so many elements of which nothing is known are worth a truncation each
LONG_PRODUCT = 1 << 8  # a sum of squares leaves the range at the root of what a sum does
_MOVES = ("broadcast_in_dim", "reshape", "squeeze")
Users = Mapping[Any, Sequence[Any]]


def users_of_sums(eqns: Sequence[Any], results: Sequence[Any]) -> Users:
    """Equations by the variables they take; a result of the function has the user None."""
    if all(e.primitive.name not in ("reduce_sum", "dot_general") for e in eqns):
        return {}
    users: dict[Any, list[Any]] = {}
    for user, atoms in (*((e, e.invars) for e in eqns), (None, results)):
        for a in atoms:
            if not isinstance(a, core.Literal):
                users.setdefault(a, []).append(user)
    return users


def divisor(variable: Any, users: Users, env: Mapping[Any, Any]) -> float:
    """The least public number that a variable is divided by, 0 if anything else happens to it.

    A product with a public number is a division by its inverse.
    """

    def of(user: Any) -> float:
        if user is None:
            return 0.0
        if user.primitive.name in _MOVES:
            return divisor(user.outvars[0], users, env)
        if user.primitive.name not in ("div", "mul"):
            return 0.0
        at = [a is variable for a in user.invars]
        if sum(at) != 1 or (user.primitive.name == "div" and not at[0]):
            return 0.0
        by = user.invars[at.index(False)]
        value = by.val if isinstance(by, core.Literal) else env.get(by, Secret(0, by.aval.dtype))
        if isinstance(value, Secret | Varying):
            return 0.0
        sizes = np.abs(np.asarray(value, np.float64))
        if user.primitive.name == "div":
            return float(sizes[sizes > 0].min(initial=np.inf)) if sizes.any() else 0.0
        return 1 / largest if (largest := float(sizes.max(initial=0))) > 0 else 0.0

    return min(map(of, users[variable])) if users.get(variable) else 0.0


def _shift(by: float, most: int, low: Lowering) -> int:
    """Bits that a sum loses: enough for its quotient to be representable, and for the sum itself.

    Where the divisor is smaller than the column is long, no more digits are lost than it hides.
    """
    enough = most.bit_length() - (low.bits - 2) + 1
    return min(enough, math.ceil(math.log2(by))) if by > 1 else 0


def split_sum(low: Lowering, x: int, axes: Sequence[int], count: int, by: float) -> int | None:
    """The sum of `x` over axes divided by 2^s, in low.totals with s; None if no split is needed.

    by: what it will be divided by, at least.

    Exact up to 2 units of the mean. Where even the low digits are too many, parts of the column are
    summed so, and their sums again.
    """
    declared = not low.undeclared(x, low.full)
    if low.magnitude(x) * count < low.bound:
        return None
    if low.type(x).bounds is None and count < LONG:
        return None
    x = arith.settle(low, x)
    f, most = low.frac(x), low.magnitude(x) * count
    s = _shift(by, most, low)
    if most < low.bound or s <= 0:
        return None
    if (count + 1) << s >= low.bound:
        return _in_parts(low, x, axes, count, by)
    with low.unchecked():
        x = arith.retype(low, x, f + s)
        sums = [low.emit("sum_a", v, axes=tuple(axes)) for v in _digits(low, x, s)]
        sums[0] = low.narrowed(sums[0], 1 - low.bound, low.bound - 1)
        made = low.emit("add_aa", sums[0], low.emit("trunc_a", sums[1], bits=s))
        made = low.narrowed(made, 1 - low.bound, low.bound - 1)
    low.totals[made] = s, most << max(0, low.f - f), declared
    return made


def split_dot(low: Lowering, x: int, y: int, by: float) -> int | None:
    """x @ y / 2^s of x [B,M,K], y [B,K,N], in low.totals with s; None if no split is needed.

    by: what it will be divided by, at least.

    With x = xh 2^h + xl and y = yh 2^h + yl, 2h bits more than f being cut off:
    xh yh + (xh yl + xl yh) / 2^h + xl yl / 2^2h. Off by 4 units. As in the full form of a product,
    the second term has to fit: the sum of |x| + |y|.
    """
    count, known = low.shape(x)[2], all(low.type(v).bounds is not None for v in (x, y))
    surplus = low.frac(x) + low.frac(y) - low.f
    largest = low.magnitude(x) * low.magnitude(y) * count
    most = largest >> surplus if surplus > 0 else largest << -surplus
    if most < low.bound or (not known and count < LONG_PRODUCT):
        return None
    declared = not any(low.undeclared(v, low.full) for v in (x, y))
    s = _shift(by, most, low)
    if s <= 0:
        return None
    x, y = arith.settle(low, x), arith.settle(low, y)
    surplus = low.frac(x) + low.frac(y) - low.f + s
    s, half = s + surplus % 2, (surplus + 1) // 2
    if half <= 0 or count << 2 * half + 2 >= low.bound:
        return None

    def product(u: int, v: int) -> int:
        return low.emit("dot_aa", u, v, trunc=0, form="narrow")

    with low.unchecked():
        (xh, xl), (yh, yl) = _digits(low, x, half), _digits(low, y, half)
        middle = low.emit("add_aa", product(xh, yl), product(xl, yh))
        made = low.emit("add_aa", product(xh, yh), low.emit("trunc_a", middle, bits=half))
        made = low.emit("add_aa", made, low.emit("trunc_a", product(xl, yl), bits=2 * half))
        made = low.narrowed(arith.retype(low, made, low.f), 1 - low.bound, low.bound - 1)
    low.totals[made] = s, most if known else low.bound * count, declared
    return made


def _digits(low: Lowering, x: int, bits: int) -> tuple[int, int]:
    """x / 2^bits rounded, and what is left of x."""
    high = low.emit("trunc_a", x, bits=bits)
    rest = low.emit("sub_aa", x, low.emit("shl_a", high, bits=bits, frac=low.frac(x)))
    return high, low.narrowed(rest, -(1 << bits), 1 << bits)


def _in_parts(low: Lowering, x: int, axes: Sequence[int], count: int, by: float) -> int | None:
    """split_sum over parts so long that it can do them, then over their sums."""
    part = 1 << (low.bits - 6) // 2
    if part >= count:
        return None
    shape = low.shape(x)
    kept = [i for i in range(len(shape)) if i not in axes]
    flat = low.reshape(low.transpose(x, [*kept, *axes]), (*(shape[i] for i in kept), count))
    parts, last = -(-count // part), len(kept)
    edge = (0,) * last
    flat = low.emit(
        "pad", flat, low=(*edge, 0), high=(*edge, parts * part - count), interior=(*edge, 0)
    )
    flat = low.reshape(flat, (*(shape[i] for i in kept), parts, part))
    shift, made = 0, flat
    for axis, length in ((last + 1, part), (last, parts)):
        total = split_sum(low, made, (axis,), length, by / 2.0**shift)
        if total is None:
            with low.unchecked():
                total = low.emit("sum_a", made, axes=(axis,))
        made = total
        shift += low.totals[made][0] if made in low.totals else 0
    most = low.magnitude(x) * count << max(0, low.f - low.frac(x))
    low.totals[made] = shift, most, not low.undeclared(x, low.full)
    return made


def divided(low: Lowering, x: int, factor: Any) -> int:
    """x * factor, one over a public divisor; x may be a sum that was divided by 2^s."""
    shift, most, known = _total(low, x)
    if not shift:
        return _times(low, x, factor)
    with low.unchecked():
        made = arith.to_frac(low, _times(low, x, factor * 2.0**shift), low.f)
    largest = math.ceil(most * float(np.abs(factor).max())) + 8
    small = largest > low.bound + (low.bound >> 6)  # the divisor, for a column of this length
    if small and (known or low.config.on_overflow == "error"):
        size = math.ldexp(largest, -low.f)
        low.doubt(
            "a value may leave the representable range",
            f"values from {-size:g} to {size:g} are possible",
            f"representable is |x| < {low.config.fxp.max_float:g}",
        )
    top = min(largest, low.bound - 1)
    return low.narrowed(made, -top, top)


def among(low: Lowering, values: Sequence[Any]) -> bool:
    """Whether one of the values is a sum divided by 2^s, and so not what its equation says."""
    return any(isinstance(v, Secret) and _total(low, v.id)[0] > 0 for v in values)


def _times(low: Lowering, x: int, factor: Any) -> int:
    """arith.mul_public; a factor of which few digits would be kept is scaled first."""
    if factor.ndim == 0 and factor:
        small = -math.frexp(float(factor))[1]
        if small > low.bits + 6 - 2 * low.f:
            x = arith.retype(low, x, low.frac(x) + small)
            return arith.to_frac(low, arith.mul_public(low, x, factor * 2.0**small), low.f)
    return arith.mul_public(low, x, factor)


def _total(low: Lowering, x: int) -> tuple[int, int, bool]:
    """What low.totals says where x is a sum divided by 2^s, moved or repeated; else zeros."""
    while x not in low.totals:
        made = low.builder.instruction(x)
        if made is None or made.op not in ("broadcast", "reshape"):
            return 0, 0, True
        x = made.args[0]
    return low.totals[x]
