"""Records of local instructions, and of and_bb and b2a beside their likes: see cases.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from records import MATRICES, SHAPES, a, b, each_kind, p, record, widths

from spuvm.bytecode.types import Type
from spuvm.ring import Ring


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


@record("round_a")
def _round(ring: Ring, op: str) -> Iterator[Any]:
    top = ring.bound // 16
    for shape in SHAPES:
        yield (a(shape, -top, top, 9),), {"bits": 9}, 2 << 9
    for bits in (1, 2, 7, 8, 16, 17, ring.bits - 6):
        yield (a((40,), -top, top),), {"bits": bits}, 2 << bits


@record("round_sum_a")
def _round_sum(ring: Ring, op: str) -> Iterator[Any]:
    top = ring.bound // 64
    for shape in SHAPES:
        operands = (a(shape, -top, top, 4), a(shape, -top, top, 4), a(shape, -9, 9, 4))
        yield operands, {"coefficients": (3, -5, 1 << 8), "bits": 9}, 2 << 9


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
    for by, width in ((0, 20), (5, 5), (-11, 1), (14, 16), (-12, 12)):
        yield (b((9,), 12),), {"by": by, "width": width}
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
