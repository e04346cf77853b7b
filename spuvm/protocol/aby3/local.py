"""Instructions that each party does alone: shapes of any kind, linear arithmetic, public bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from spuvm.errors import ProtocolError
from spuvm.kernels import arith
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.matmul import matmul
from spuvm.protocol.aby3.lazy import JoinedShare
from spuvm.protocol.aby3.share import PIECE, Array, AShare, BShare, ZShare, flat
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Party
from spuvm.wide import cast, elements, zeros

Value = AShare | BShare | Array


def each(value: Any, fn: Callable[[Array], Array]) -> Any:
    """Apply a data movement to a public array or to what a party has of a shared one."""
    if isinstance(value, AShare):
        return AShare(fn(value.x0), fn(value.x1))
    if isinstance(value, BShare):
        return BShare(fn(value.x0), fn(value.x1), value.width)
    if isinstance(value, ZShare):
        return ZShare(fn(value.z))
    return np.asarray(fn(value))


@TABLE.on_shares("reshape")
def reshape(p: Party, x: Any, *, shape: tuple[int, ...]) -> Any:
    return x.reshaped(shape) if isinstance(x, AShare) else each(x, lambda a: a.reshape(shape))


@TABLE.on_shares("transpose")
def transpose(p: Party, x: Any, *, permutation: tuple[int, ...]) -> Any:
    return each(x, lambda a: a.transpose(permutation))


@TABLE.on_shares("broadcast")
def broadcast(p: Party, x: Any, *, shape: tuple[int, ...], dims: tuple[int, ...]) -> Any:
    def spread(a: Array) -> Array:
        inner = [1] * len(shape)
        for n, d in zip(a.shape, dims, strict=True):
            inner[d] = n
        return np.broadcast_to(a.reshape(inner), shape)

    return each(x, spread)


@TABLE.on_shares("slice")
def slice_(
    p: Party,
    x: Any,
    *,
    start: tuple[int, ...],
    limit: tuple[int, ...],
    stride: tuple[int, ...],
) -> Any:
    index = tuple(slice(a, b, s) for a, b, s in zip(start, limit, stride, strict=True))
    return each(x, lambda a: a[index])


@TABLE.on_shares("reverse")
def reverse(p: Party, x: Any, *, axes: tuple[int, ...]) -> Any:
    return each(x, lambda a: np.flip(a, axes))


@TABLE.on_shares("concat")
def concat(p: Party, *xs: Any, axis: int) -> Any:
    first = xs[0]
    if isinstance(first, AShare) and axis == 0 and first.size >= PIECE // 8:
        sizes = {x.size for x in xs}
        if len(sizes) == 1:
            return JoinedShare(xs, (sum(x.shape[0] for x in xs), *first.shape[1:]))
    if isinstance(first, AShare | BShare):
        parts = (np.concatenate([x.x0 for x in xs], axis), np.concatenate([x.x1 for x in xs], axis))
        return AShare(*parts) if isinstance(first, AShare) else BShare(*parts, first.width)
    return np.concatenate(xs, axis)


@TABLE.on_shares("pad")
def pad(
    p: Party, x: Any, *, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]
) -> Any:
    def fill(a: Array) -> Array:
        # Negative padding crops after the interior gaps are in, so build the uncropped array first.
        shape = [
            n + max(lo, 0) + max(hi, 0) + max(0, n - 1) * i
            for n, lo, hi, i in zip(a.shape, low, high, interior, strict=True)
        ]
        out = np.zeros(shape, a.dtype)
        where = tuple(
            slice(max(lo, 0), max(lo, 0) + (n - 1) * (i + 1) + 1 if n else 0, i + 1)
            for n, lo, i in zip(a.shape, low, interior, strict=True)
        )
        out[where] = a
        crop = tuple(
            slice(max(0, -lo), max(0, n - max(0, -hi)))
            for n, lo, hi in zip(shape, low, high, strict=True)
        )
        return out[crop]

    return each(x, fill)


@TABLE.on_shares("take")
def take(p: Party, x: Any, index: Array, *, shape: tuple[int, ...]) -> Any:
    positions = index.reshape(shape).astype(np.int64)
    return each(x, lambda a: a.reshape(-1)[positions])


def _place(x: Array, start: Array, sizes: tuple[int, ...]) -> tuple[slice, ...]:
    first = [int(a) for a in elements(start).astype(np.int64)]
    if any(a + n > m for a, n, m in zip(first, sizes, x.shape, strict=False)):
        raise ProtocolError("a public start is out of range", got=f"{first} of {x.shape}")
    return tuple(slice(a, a + n) for a, n in zip(first, sizes, strict=True))


@TABLE.on_shares("window")
def window(p: Party, x: Any, start: Array, *, sizes: tuple[int, ...]) -> Any:
    return each(x, lambda a: a[_place(a, start, sizes)])


@TABLE.on_shares("put")
def put(p: Party, x: Any, y: Any, start: Array) -> Any:
    def write(a: Array, b: Array) -> Array:
        made = a.copy()
        made[_place(a, start, b.shape)] = b
        return made

    if isinstance(x, AShare):
        return AShare(write(x.x0, y.x0), write(x.x1, y.x1))
    if isinstance(x, BShare):
        return BShare(write(x.x0, y.x0), write(x.x1, y.x1), x.width)
    return write(x, y)


# Public values are arrays, never numpy scalars, which warn when they wrap.


@TABLE.on_shares("add_pp")
def add_pp(p: Party, x: Array, y: Array) -> Array:
    return np.asanyarray(np.add(x, y))


@TABLE.on_shares("mul_pp")
def mul_pp(p: Party, x: Array, y: Array) -> Array:
    return np.asanyarray(np.multiply(x, y))


@TABLE.on_shares("rem_p")
def rem_p(p: Party, x: Array, *, modulus: int) -> Array:
    if p.ring.bits == 128:
        return p.ring.array(p.ring.signed(x) % modulus)
    return np.asarray(np.remainder(x, x.dtype.type(modulus)))


@TABLE.on_shares("clip_p")
def clip_p(p: Party, x: Array, *, range: tuple[int, int]) -> Array:
    return p.ring.array(np.clip(p.ring.signed(x), *range))


def add_public(p: Party, x: AShare, public: Array) -> AShare:
    """x + public: component 0 takes it, which parties 0 (first) and 2 (second) hold."""
    if p.rank == 0:
        return AShare(x.x0 + public, x.x1)
    if p.rank == 2:
        return AShare(x.x0, x.x1 + public)
    return x


@TABLE.on_shares("add_aa")
def add_aa(p: Party, x: AShare, y: AShare) -> AShare:
    return AShare(x.x0 + y.x0, x.x1 + y.x1)


@TABLE.on_shares("sub_aa")
def sub_aa(p: Party, x: AShare, y: AShare) -> AShare:
    return AShare(x.x0 - y.x0, x.x1 - y.x1)


@TABLE.on_shares("neg_a")
def neg_a(p: Party, x: AShare) -> AShare:
    return AShare(np.negative(x.x0), np.negative(x.x1))


@TABLE.on_shares("add_ap")
def add_ap(p: Party, x: AShare, public: Array) -> AShare:
    return add_public(p, x, public)


@TABLE.on_shares("sub_pa")
def sub_pa(p: Party, public: Array, x: AShare) -> AShare:
    return add_public(p, neg_a(p, x), public)


@TABLE.on_shares("mul_ap")
def mul_ap(p: Party, x: AShare, public: Array) -> AShare:
    return AShare(x.x0 * public, x.x1 * public)


@TABLE.on_shares("shl_a")
def shl_a(p: Party, x: AShare, *, bits: int, frac: int) -> AShare:
    return AShare(x.x0 << bits, x.x1 << bits)


@TABLE.on_shares("retype_a")
def retype_a(p: Party, x: AShare, *, frac: int, range: tuple[int, ...]) -> AShare:
    return x


@TABLE.on_shares("sum_a")
def sum_a(p: Party, x: AShare, *, axes: tuple[int, ...]) -> AShare:
    return AShare(_sum(x.x0, axes), _sum(x.x1, axes))


def _sum(a: Array, axes: tuple[int, ...]) -> Array:
    if axes and a.size and sorted(axes) == list(range(len(axes))) and a.flags.c_contiguous:
        rest = a.shape[len(axes) :]
        if math.prod(rest) >= 64:
            out = np.empty(math.prod(rest), a.dtype)
            arith.sum_rows(flat(a).reshape(-1, out.size), out)
            return out.reshape(rest)
    total: Array = a.sum(axis=tuple(axes), dtype=a.dtype)
    return np.asarray(total)


def product(x: Array, y: Array) -> Array:
    """Batched matrix product modulo 2^k."""
    out = np.zeros((x.shape[0], x.shape[1], y.shape[2]), x.dtype)
    matmul(x, y, out)
    return out


@TABLE.on_shares("dot_ap")
def dot_ap(p: Party, x: AShare, public: Array) -> AShare:
    return AShare(product(x.x0, public), product(x.x1, public))


@TABLE.on_shares("dot_pa")
def dot_pa(p: Party, public: Array, x: AShare) -> AShare:
    return AShare(product(public, x.x0), product(public, x.x1))


@TABLE.on_shares("xor_bb")
def xor_bb(p: Party, x: BShare, y: BShare) -> BShare:
    return BShare(x.x0 ^ y.x0, x.x1 ^ y.x1, x.width)


@TABLE.on_shares("xor_bp")
def xor_bp(p: Party, x: BShare, public: Array) -> BShare:
    # Public words may be wider than the shares.
    return add_public_bits(p, x, cast(public, x.x0.dtype))


def add_public_bits(p: Party, x: BShare, public: Array | int) -> BShare:
    """x ^ public: component 0 takes it, as in add_public."""
    if p.rank == 0:
        return BShare(x.x0 ^ public, x.x1, x.width)
    if p.rank == 2:
        return BShare(x.x0, x.x1 ^ public, x.width)
    return x


@TABLE.on_shares("not_b")
def not_b(p: Party, x: BShare) -> BShare:
    return add_public_bits(p, x, (1 << x.width) - 1)


@TABLE.on_shares("and_bp")
def and_bp(p: Party, x: BShare, public: Array) -> BShare:
    own = cast(public, x.x0.dtype)
    return BShare(x.x0 & own, x.x1 & own, x.width)


@TABLE.on_shares("bits_b")
def bits_b(p: Party, x: BShare, *, low: int, width: int) -> BShare:
    def cut(a: Array) -> Array:
        return cast((a >> low) & ((1 << width) - 1), arith.small_dtype(width))

    return BShare(cut(x.x0), cut(x.x1), width)


@TABLE.on_shares("shift_b")
def shift_b(p: Party, x: BShare, *, by: int, width: int) -> BShare:
    word = arith.small_dtype(max(width, x.width))

    def move(a: Array) -> Array:
        wide = cast(a, word)
        if abs(by) >= word.itemsize * 8:
            return zeros(wide.shape, arith.small_dtype(width))
        moved = wide << by if by >= 0 else wide >> -by
        return cast(moved & ((1 << width) - 1), arith.small_dtype(width))

    return BShare(move(x.x0), move(x.x1), width)


@TABLE.on_shares("reverse_b")
def reverse_b(p: Party, x: BShare) -> BShare:
    bits = x.x0.dtype.itemsize * 8

    def turn(a: Array) -> Array:
        step = 1
        while step < bits:  # neighbours, then pairs, ... change places
            mask = sum(((1 << step) - 1) << i for i in range(0, bits, 2 * step))
            a = ((a >> step) & mask) | ((a & mask) << step)
            step *= 2
        return np.asanyarray(a >> (bits - x.width))

    return BShare(turn(x.x0), turn(x.x1), x.width)


@TABLE.on_shares("random_b")
def random_b(p: Party, *, shape: tuple[int, ...], width: int, draw: int) -> BShare:
    """Uniform bits [r] that no party knows.

    Local:    component i is drawn from the stream of the pair that holds it.
    Sends:    nothing.
    Requires: nothing.
    Error:    exact; fresh in every execution, because a mask's place counts executions.
    Opens:    nothing; every party lacks the component that the other two draw.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Cramer, Damgård, Ishai 2005 (TCC), pseudo-random secret sharing.
    """
    word, n = small_dtype(width), math.prod(shape)
    mask = word.type((1 << width) - 1)
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    (x0,) = p.draw(prv, (word, n))
    (x1,) = p.draw(nxt, (word, n))
    return BShare((x0 & mask).reshape(shape), (x1 & mask).reshape(shape), width)
