"""Means of long columns: a sum that is only divided may be larger than what is representable.

Such a sum is kept as sum / 2^s: every element is split into high and low digits, which are added up
apart. The division then multiplies by 2^s / n.
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
_MOVES = ("broadcast_in_dim", "reshape", "squeeze")
Users = Mapping[Any, Sequence[Any]]


def users_of_sums(eqns: Sequence[Any], results: Sequence[Any]) -> Users:
    """Equations by the variables they take; a result of the function has the user None."""
    if all(e.primitive.name != "reduce_sum" for e in eqns):
        return {}
    users: dict[Any, list[Any]] = {}
    for user, atoms in (*((e, e.invars) for e in eqns), (None, results)):
        for a in atoms:
            if not isinstance(a, core.Literal):
                users.setdefault(a, []).append(user)
    return users


def only_divided(variable: Any, users: Users, env: Mapping[Any, Any]) -> bool:
    """Whether all that happens to a variable is a division by a public number."""

    def divides(user: Any) -> bool:
        if user is None:
            return False
        if user.primitive.name in _MOVES:
            return only_divided(user.outvars[0], users, env)
        if user.primitive.name != "div" or user.invars[0] is not variable:
            return False
        by = user.invars[1]
        return isinstance(by, core.Literal) or not isinstance(
            env.get(by, Secret(0, by.aval.dtype)), Secret | Varying
        )

    return variable in users and all(map(divides, users[variable]))


def split_sum(low: Lowering, x: int, axes: Sequence[int], count: int) -> int | None:
    """The sum of `x` over axes divided by 2^s, in low.totals with s; None if no split is needed.

    Exact up to 2 units of the mean. Where even the low digits are too many, parts of the column are
    summed so, and their sums again.
    """
    if low.magnitude(x) * count < low.bound:
        return None
    if low.type(x).bounds is None and count < LONG:
        return None
    x = arith.settle(low, x)
    f, most = low.frac(x), low.magnitude(x) * count
    s = most.bit_length() - (low.bits - 2) + 1
    if most < low.bound:
        return None
    if (count + 1) << s >= low.bound:
        return _in_parts(low, x, axes, count)
    with low.unchecked():
        x = arith.retype(low, x, f + s)
        high = low.emit("trunc_a", x, bits=s)
        rest = low.emit("sub_aa", x, low.emit("shl_a", high, bits=s, frac=f + s))
        rest = low.narrowed(rest, -(1 << s), 1 << s)
        sums = [low.emit("sum_a", v, axes=tuple(axes)) for v in (high, rest)]
        sums[0] = low.narrowed(sums[0], 1 - low.bound, low.bound - 1)
        made = low.emit("add_aa", sums[0], low.emit("trunc_a", sums[1], bits=s))
        made = low.narrowed(made, 1 - low.bound, low.bound - 1)
    low.totals[made] = s, most << max(0, low.f - f)
    return made


def _in_parts(low: Lowering, x: int, axes: Sequence[int], count: int) -> int | None:
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
        total = split_sum(low, made, (axis,), length)
        if total is None:
            with low.unchecked():
                total = low.emit("sum_a", made, axes=(axis,))
        made = total
        shift += low.totals[made][0] if made in low.totals else 0
    low.totals[made] = shift, low.magnitude(x) * count << max(0, low.f - low.frac(x))
    return made


def divided(low: Lowering, x: int, factor: Any) -> int:
    """x * factor, one over a public divisor; x may be a sum that was divided by 2^s."""
    shift, most = _total(low, x)
    if not shift:
        return _times(low, x, factor)
    with low.unchecked():
        made = arith.to_frac(low, _times(low, x, factor * 2.0**shift), low.f)
    largest = math.ceil(most * float(np.abs(factor).max())) + 8
    if largest > low.bound + (low.bound >> 6):  # the divisor is not as large as the column is long
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


def _total(low: Lowering, x: int) -> tuple[int, int]:
    """(s, largest sum) where x is a sum divided by 2^s, moved or repeated; else (0, 0)."""
    while x not in low.totals:
        made = low.builder.instruction(x)
        if made is None or made.op not in ("broadcast", "reshape"):
            return 0, 0
        x = made.args[0]
    return low.totals[x]
