"""Records of the instructions in which the parties talk: see cases.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from records import MATRICES, SHAPES, a, b, p, record
from variant import Values, to_ints

from spuvm.bytecode.isa import DROPPED
from spuvm.bytecode.types import Type
from spuvm.fxp import DEFAULT_FRAC_BITS
from spuvm.ring import Ring


@record("msb_a", "eqz_a", "a2b")
def _compare(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape),), {"bits": ring.bits}
    for bits in (2, 3, 4, 5, 8, 9, 13, 16, 17, 29, 33, 64, 65, ring.bits - 1):
        if bits <= ring.bits:
            yield (a((9,)),), {"bits": bits}
    yield (a((9,), -3, 3),), {"bits": ring.bits}  # many zeros and small numbers
    if op != "msb_a":
        yield (a((9,)),), {"bits": 1}


@record("mul_ba")
def _inject(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape), a(shape)), {}


@record("trunc_a")
def _trunc(ring: Ring, op: str) -> Iterator[Any]:
    top = ring.bound - 1
    for shape in SHAPES:
        yield (a(shape, -top, top, 9),), {"bits": 9}, 1
    for bits in (1, 2, 7, 8, 16, 17, ring.bits - 3):
        yield (a((40,), -top, top),), {"bits": bits}, 1


@record("trunc_sum_a")
def _trunc_sum(ring: Ring, op: str) -> Iterator[Any]:
    top = ring.bound // 16
    for shape in SHAPES:
        operands = (a(shape, -top, top, 4), a(shape, -top, top, 4), a(shape, -9, 9, 4))
        yield operands, {"coefficients": (3, -5, 1 << 20), "bits": 9}, 1
    for bits in (1, 8, 16, ring.bits - 3):
        yield (a((40,), -top, top),) * 5, {"coefficients": (1, 2, 3, -4, 1), "bits": bits}, 1


@record("scale_ap")
def _scale(ring: Ring, op: str) -> Iterator[Any]:
    """Operands of any size, as long as the result has at most the ring's size."""
    top, most = ring.bound - 1, ring.bits - 3
    for bits in (1, 7, ring.bits // 2 - 4, ring.bits - 6):
        largest = 1 << min(bits, most - bits)
        for shape in SHAPES:
            for factors in ((), shape):
                c = Type("p", factors, 4, 0, -largest, largest - 1)
                yield (a(shape, -top, top, 4), c), {"bits": bits}, 1


@record("scale_dot_pa")
def _scale_dot(ring: Ring, op: str) -> Iterator[Any]:
    for bits in (1, 7, ring.bits // 2 - 6, ring.bits // 2 + 1, ring.bits - 9):
        for batch, m, k, n in MATRICES:
            most = min(1 << bits, ring.bound >> bits) // max(1, 2 * k)
            c = Type("p", (batch, m, k), 4, 0, -most, most)
            yield (c, a((batch, k, n), -ring.bound // 2, ring.bound // 2, 4)), {"bits": bits}, 1


@record("scale_sum_a")
def _scale_sum(ring: Ring, op: str) -> Iterator[Any]:
    top = ring.bound // 16
    for bits in (2, 8, ring.bits // 2 - 4):
        for factor in (1, 3, -(1 << bits) + 1):
            attrs = {"coefficients": (3, -5, 1 << 3), "factor": factor, "bits": bits}
            yield (a((40,), -top, top, 4),) * 2 + (a((40,), -9, 9, 4),), attrs, 1


def representable(m: int) -> Callable[[Ring, Values], Values]:
    """Shrink the second operand until the preconditions of a full product hold."""

    def adapt(ring: Ring, values: Values) -> Values:
        xs, ys = ([int(v) for v in to_ints(ring, a).reshape(-1)] for a in values)
        most = (ring.bound - 1) << m
        if values[0].ndim == 3:
            terms, worst = max(1, values[0].shape[2]), max(1, 1, *map(abs, xs))
            room = ring.bound // terms - worst - (2 << m // 2)  # see product._full
            limits = [min(most // (terms * worst), room)] * len(ys)
        else:
            limits = [min(ring.bound - 1, most // max(1, abs(x))) for x in xs]
        made = [min(top, max(-top, y)) for y, top in zip(ys, limits, strict=True)]
        return [values[0], ring.array(np.array(made, object)).reshape(values[1].shape)]

    return adapt


@record("mul_aa")
def _mul(ring: Ring, op: str) -> Iterator[Any]:
    f = DEFAULT_FRAC_BITS[ring.bits]
    top, narrow = ring.bound - 1, 1 << (ring.bits // 2 - 2)
    exact = {"trunc": 0, "form": "narrow"}
    for shape in SHAPES:
        yield (a(shape), a(shape)), exact
        t = a(shape, -narrow, narrow, f)
        yield (t, t), {"trunc": f, "form": "narrow"}, 1
        wide = a(shape, -top, top, f)
        yield (wide, wide), {"trunc": f, "form": "full"}, 2, representable(f)
    for m in (1, 7, 8, 9, ring.bits // 2, ring.bits - 3):
        t = a((40,), -narrow + 1, narrow - 1)
        yield (t, t), {"trunc": m, "form": "narrow"}, 1
    for m in (2, 4, (ring.bits - 4) // 2):
        t = a((40,), -top, top)
        yield (t, t), {"trunc": m, "form": "full"}, 2, representable(m)
    yield (a((9,), -top, top), a((9,), 0, 0)), {"trunc": f, "form": "narrow"}, 1


@record("dot_aa")
def _dot(ring: Ring, op: str) -> Iterator[Any]:
    f = DEFAULT_FRAC_BITS[ring.bits]
    top, narrow = ring.bound - 1, 1 << (ring.bits // 2 - 5)
    for batch, m, k, n in MATRICES:
        x, y = (batch, m, k), (batch, k, n)
        yield (a(x), a(y)), {"trunc": 0, "form": "narrow"}
        yield (
            (a(x, -narrow, narrow, f), a(y, -narrow, narrow, f)),
            {"trunc": f, "form": "narrow"},
            1,
        )
        most = top // max(1, 2 * k)
        wide = (a(x, -most, most, f), a(y, -most, most, f))
        yield wide, {"trunc": f, "form": "full"}, k + 1, representable(f)
    long = DROPPED + 3  # terms of which none is dropped
    most = top // (2 * long)
    wide = (a((1, 2, long), -most, most, f), a((1, long, 3), -most, most, f))
    yield wide, {"trunc": f, "form": "full"}, 3, representable(f)


@record("shuffle_a")
def _shuffle(ring: Ring, op: str) -> Iterator[Any]:
    """One row has one order; test_sort.py looks at the orders of more."""
    for shape in ((1, 1, 1), (5, 1, 3), (9, 1, 1)):
        yield (a(shape),), {"draw": 0}


@record("one_hot_a")
def _one_hot(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        for size in (2, 3, 8, 11):
            yield (a(shape),), {"size": size}
    yield (a((3,)),), {"size": 300}


@record("lookup_pa")
def _lookup(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        for table in ((2, 1), (3, 2), (8, 9), (11, 1)):
            yield (p(table), a(shape)), {"bits": 0}
    yield (p((300, 2)), a((3,))), {"bits": 0}


def keys(bits: int, low: int, count: int) -> dict[str, Any]:
    """Attributes of so many key columns of the same range."""
    return {"keys": (bits,) * count, "lows": (low,) * count}


@record("sort_a")
def _sort(ring: Ring, op: str) -> Iterator[Any]:
    widest = 1 << (ring.bits - 2)
    for groups, rows, columns in ((1, 2, 1), (3, 5, 2), (2, 9, 3), (1, 40, 1)):
        shape = (groups, rows, columns)
        whole = {"sizes": (rows,), "pairs": (groups * rows * (rows - 1) // 2,)}
        yield (a(shape, -3, 4),), {**keys(3, -3, min(2, columns)), **whole}
        for count in range(1, columns + 1):
            attrs = keys(ring.bits - 1, -widest, count)
            yield (a(shape, -widest, widest - 1),), {**attrs, **whole}
    phases = {"sizes": (3, 7, 20), "pairs": (6, 12, 156)}  # all pairs: never too many
    yield (a((2, 20, 2), -2, 1),), {**keys(2, -2, 2), **phases}
    yield (a((2, 20, 1), -widest, widest - 1),), {**keys(ring.bits - 1, -widest, 1), **phases}
