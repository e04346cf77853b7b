"""The conformance table: one record per instruction, its operand types and attributes per ring.

A new protocol needs no new tests: every record runs on every protocol and ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from variant import Values, Variant, to_ints

from spuvm.bytecode.types import Type
from spuvm.fxp import DEFAULT_FRAC_BITS
from spuvm.ring import Ring

RINGS = (32, 64, 128)
SHAPES = ((), (0,), (1,), (7,), (8,), (9,), (2, 3))

# --- records -----------------------------------------------------------------------------------

Record = Callable[[Ring], Iterator[Variant]]
RECORDS: dict[str, Record] = {}


def record(*ops: str) -> Callable[[Callable[[Ring, str], Iterator[Any]]], None]:
    """Register the variants of instructions: tuples (types, attrs[, units[, adapt]])."""

    def register(fn: Callable[[Ring, str], Iterator[Any]]) -> None:
        for op in ops:
            RECORDS[op] = lambda ring, op=op: (Variant(ring, op, *v) for v in fn(ring, op))

    return register


def variants(op: str, bits: int) -> list[Variant]:
    """All variants of an instruction in a ring."""
    return list(RECORDS[op](Ring(bits)))


def a(shape: Sequence[int], lo: int | None = None, hi: int | None = None, frac: int = 0) -> Type:
    return Type("a", tuple(shape), frac, 0, lo, hi)


def b(shape: Sequence[int], width: int = 1) -> Type:
    return Type("b", tuple(shape), 0, width)


def p(shape: Sequence[int], width: int = 0) -> Type:
    return Type("p", tuple(shape), 0, width)


def each_kind(shape: Sequence[int]) -> Iterator[Type]:
    yield from (a(shape), b(shape), b(shape, 12), p(shape), p(shape, 1))


def widths(ring: Ring) -> list[int]:
    """Numbers of bits below, at and above those of every dtype, up to the ring's."""
    return [w for w in (1, 2, 3, 5, 8, 12, 16, 31, 33, 64, 65, 100, 128) if w <= ring.bits]


@record("const")
def _const(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (p(shape),), {}
    yield (p((9,), 1),), {}
    yield (p((9,), 12),), {}


@record("reshape")
def _reshape(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((2, 3)):
        yield (t,), {"shape": (3, 2)}
    yield (a(()),), {"shape": (1, 1)}
    yield (a((1,)),), {"shape": ()}
    yield (a((0, 3)),), {"shape": (3, 0)}


@record("transpose")
def _transpose(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((2, 3, 4)):
        yield (t,), {"permutation": (2, 0, 1)}
    yield (a(()),), {"permutation": ()}


@record("broadcast")
def _broadcast(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((3, 1)):
        yield (t,), {"shape": (3, 2, 4), "dims": (0, 2)}
    yield (a(()),), {"shape": (2,), "dims": ()}
    yield (a((1,)),), {"shape": (0,), "dims": (0,)}


@record("slice")
def _slice(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((7, 5)):
        yield (t,), {"start": (1, 0), "limit": (7, 4), "stride": (2, 3)}
    yield (a(()),), {"start": (), "limit": (), "stride": ()}
    yield (a((3,)),), {"start": (2,), "limit": (2,), "stride": (1,)}


@record("reverse")
def _reverse(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((2, 3)):
        yield (t,), {"axes": (1,)}
    yield (a((2, 3)),), {"axes": ()}
    yield (a(()),), {"axes": ()}


@record("concat")
def _concat(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((2, 3)):
        yield (t, t.with_(shape=(4, 3)), t.with_(shape=(0, 3))), {"axis": 0}
    yield (a((2, 3)), a((2, 1))), {"axis": 1}
    yield (a((2,)),), {"axis": 0}


@record("pad")
def _pad(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((3, 4)):
        yield (t,), {"low": (1, -2), "high": (-1, 3), "interior": (2, 1)}
    for low, high, interior in (((-1,), (-1,), (3,)), ((-9,), (0,), (0,)), ((2,), (0,), (1,))):
        yield (a((3,)),), {"low": low, "high": high, "interior": interior}
        yield (a((0,)),), {"low": low, "high": high, "interior": interior}
    yield (a(()),), {"low": (), "high": (), "interior": ()}


@record("take")
def _take(ring: Ring, op: str) -> Iterator[Any]:
    index = Type("p", (2, 3), 0, 0, 0, 5)
    for t in each_kind((2, 3)):
        yield (t, index), {"shape": (3, 2)}
    yield (a((6,)), index.with_(shape=())), {"shape": ()}
    yield (a((6,)), index.with_(shape=(0,))), {"shape": (0,)}


@record("window")
def _window(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((4, 3, 2)):
        yield (t, Type("p", (2,), 0, 0, 0, 1)), {"sizes": (2, 2)}
    yield (a((5,)), Type("p", (1,), 0, 0, 0, 5)), {"sizes": (0,)}
    yield (a(()), Type("p", (0,))), {"sizes": ()}


@record("put")
def _put(ring: Ring, op: str) -> Iterator[Any]:
    for t in each_kind((4, 3)):
        yield (t, t.with_(shape=(2, 2)), Type("p", (2,), 0, 0, 0, 1)), {}
    yield (a((5,)), a((0,)), Type("p", (1,), 0, 0, 0, 5)), {}
    yield (a(()), a(()), Type("p", (0,))), {}


@record("add_pp", "mul_pp")
def _public(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (p(shape), p(shape)), {}
        yield (p(()), p(shape)), {}
        yield (p(shape), p(())), {}


@record("rem_p")
def _rem_p(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (Type("p", shape, 0, 0, 0, 1000),), {"modulus": 7}
    yield (Type("p", (3,), 0, 0, 0, 5),), {"modulus": 1}


@record("clip_p")
def _clip_p(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (p(shape),), {"range": (-5, 7)}
    yield (Type("p", (3,), 0, 0, -9, 9),), {"range": (20, 30)}


@record("add_aa", "sub_aa")
def _linear(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape), a(shape)), {}


@record("neg_a")
def _neg(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape),), {}


@record("lincomb_a")
def _lincomb(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape),) * 3, {"coefficients": (3, -5, 1 << (ring.bits - 2))}
    yield (a((9,)),), {"coefficients": (0,)}
    for count in (8, 15, 16):  # operands are taken by eights, fours, twos and one
        yield (a((9,)),) * count, {"coefficients": tuple(range(-5, count - 5))}


@record("add_ap", "mul_ap")
def _right(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape), p(shape)), {}
        yield (a(shape), p(())), {}


@record("sub_pa")
def _left(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (p(shape), a(shape)), {}
        yield (p(()), a(shape)), {}


@record("shl_a")
def _shl(ring: Ring, op: str) -> Iterator[Any]:
    for shape, bits in zip(SHAPES, (0, 1, 3, 8, 17, 30, ring.bits - 1), strict=True):
        yield (a(shape),), {"bits": bits, "frac": bits}


@record("retype_a")
def _retype(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (a(shape, -5, 5),), {"frac": 3, "range": (-5, 5)}
    yield (a((3,)),), {"frac": 3, "range": ()}


@record("sum_a")
def _sum(ring: Ring, op: str) -> Iterator[Any]:
    for axes in ((), (0,), (1,), (0, 1), (1, 2), (0, 1, 2)):
        yield (a((2, 3, 4)),), {"axes": axes}
    yield (a((10, 100)),), {"axes": (0,)}  # wide enough for the kernel
    yield (a((0, 100)),), {"axes": (0,)}
    yield (a(()),), {"axes": ()}


MATRICES = ((1, 1, 1, 1), (2, 3, 4, 5), (1, 5, 7, 9), (1, 9, 17, 1), (2, 0, 3, 4), (1, 3, 0, 9))


@record("dot_ap", "dot_pa")
def _public_dot(ring: Ring, op: str) -> Iterator[Any]:
    first, second = (a, p) if op == "dot_ap" else (p, a)
    for batch, m, k, n in MATRICES:
        yield (first((batch, m, k)), second((batch, k, n))), {}


@record("and_bb", "xor_bb")
def _bits(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape), b(shape)), {}
    for width in widths(ring):
        yield (b((9,), width), b((9,), width)), {}


@record("xor_bp", "and_bp")
def _public_bits(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape), p(shape, 1)), {}
    for width in widths(ring):
        yield (b((9,), width), p((), width)), {}
        yield (b((9,), width), p((9,), width)), {}


@record("not_b", "b2a")
def _one_of_bits(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape),), {}
    for width in widths(ring):
        yield (b((9,), width),), {}


@record("shift_b")
def _shift(ring: Ring, op: str) -> Iterator[Any]:
    for by, width in ((0, 20), (3, 12), (-3, 12), (5, 5), (-11, 1), (14, 16), (-12, 12)):
        yield (b((9,), 12),), {"by": by, "width": width}
    yield (b((9,), 1),), {"by": ring.bits - 1, "width": ring.bits}
    yield (b((9,), ring.bits),), {"by": 1, "width": ring.bits}
    yield (b(()),), {"by": 2, "width": 3}


@record("reverse_b")
def _reverse_bits(ring: Ring, op: str) -> Iterator[Any]:
    for width in (1, 3, 8, 12, ring.bits - 2, ring.bits):
        yield (b((9,), width),), {}
    yield (b((), 5),), {}


@record("bits_b")
def _cut(ring: Ring, op: str) -> Iterator[Any]:
    for low, width in ((0, 1), (11, 1), (3, 8), (2, 10), (0, 12)):
        yield (b((9,), 12),), {"low": low, "width": width}
    yield (b((9,), ring.bits),), {"low": 1, "width": ring.bits - 1}
    yield (b(()),), {"low": 0, "width": 1}


@record("shift_b")
def _shift(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape, 12),), {"by": 3, "width": 12}
    for width in widths(ring):
        for by, out in ((0, width), (1, 1), (-1, width), (-width + 1, 1), (5, ring.bits), (9, 8)):
            yield (b((9,), width),), {"by": by, "width": out}
    yield (b((9,), ring.bits),), {"by": 1 - ring.bits, "width": ring.bits}
    yield (b((9,), ring.bits),), {"by": ring.bits - 1, "width": ring.bits}
    yield (b((9,), 3),), {"by": 2 - ring.bits, "width": 3}


@record("reverse_b")
def _reverse_bits(ring: Ring, op: str) -> Iterator[Any]:
    for shape in SHAPES:
        yield (b(shape, 12),), {}
    for width in widths(ring):
        yield (b((9,), width),), {}


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
    for bits in (1, 7, ring.bits // 2 - 6):
        for batch, m, k, n in MATRICES:
            most = max(1, min(1 << bits, ring.bound >> bits) // max(1, 2 * k))
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
