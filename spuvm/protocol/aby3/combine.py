"""Public combinations of shared values, and their rounding: nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from spuvm.kernels import arith
from spuvm.kernels.threads import both
from spuvm.protocol.aby3.share import PIECE, Array, AShare, Reader, flat, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Party
from spuvm.ring import Ring
from spuvm.wide import empty

Read = Callable[[int, slice], Array]
"""A piece of a component: (which, where)."""


@TABLE.on_shares("lincomb_a")
def lincomb_a(p: Party, *xs: AShare, coefficients: tuple[int, ...]) -> AShare:
    cs, shape, size = public_factors(p.ring, coefficients), xs[0].shape, xs[0].size
    if size <= PIECE:
        first, second = (weighted_sum([flat(x) for x in c], cs) for c in _components(xs))
        return AShare(first.reshape(shape), second.reshape(shape))
    each = [x.readers() for x in xs]
    first, second = both(lambda i: _combine([r[i] for r in each], cs, size), size * len(xs))
    return AShare(first.reshape(shape), second.reshape(shape))


def _components(xs: Sequence[AShare]) -> tuple[list[Array], list[Array]]:
    return [x.x0 for x in xs], [x.x1 for x in xs]


@lru_cache(256)
def public_factors(ring: Ring, coefficients: tuple[int, ...]) -> Array:
    """Public integers as ring elements, made once per program: nobody writes to them."""
    return ring.array(np.array(coefficients, object))


def _combine(readers: list[Reader], coefficients: Array, size: int) -> Array:
    # Piece by piece, so that the accumulator stays in the cache and every operand is read once.
    out = empty(size, coefficients.dtype)
    for where in pieces(size):
        weighted_sum([read(where) for read in readers], coefficients, out[where])
    return out


def weighted_sum(parts: list[Array], coefficients: Array, out: Array | None = None) -> Array:
    """sum c_i x_i over a piece of each x, flat; `out` is none of them."""
    out = empty(parts[0].size, coefficients.dtype) if out is None else out
    if len(parts) < 8:
        begun = 1
        arith.scale(parts[0], coefficients[:1], out)
    else:
        begun = 8
        combine: Callable[..., None] = arith.combine8
        combine(*parts[:8], coefficients[:8], out)
    accumulate(parts[begun:], coefficients[begun:], out)
    return out


def accumulate(parts: list[Array], coefficients: Array, out: Array) -> None:
    """out += sum c_i x_i over a piece of each x, flat."""
    begun = 0
    for count, add in _SUMS:
        while len(parts) - begun >= count:
            end = begun + count
            add(*parts[begun:end], coefficients[begun:end], out)
            begun = end


_SUMS: tuple[tuple[int, Callable[..., None]], ...] = (
    (8, arith.accumulate8),
    (4, arith.accumulate4),
    (2, arith.accumulate2),
    (1, arith.accumulate),
)


@TABLE.on_shares("round_a")
def round_a(p: Party, x: AShare, *, bits: int) -> AShare:
    """[x] -> [sum of floor(x_i / 2^m) 2^m, plus 3 2^(m-1)]: what may be opened of x, as it is.

    The result has no lower digits than an odd multiple of 2^(m-1). A party that learns it, and
    knows the two components x_i, x_j, learns floor((x - a) / 2^m) for a = x_i + x_j mod 2^m, which
    is uniform: what trunc_a by m bits tells it, where the threshold is the party's own share too.
    The same shares are rounded alike, however often.

    Local:    the low m bits of each component are cleared; component 0 takes the 3 2^(m-1).
    Sends:    nothing.
    Requires: |x| + 3 2^(m-1) < 2^(k-2); components of which any two have a uniform sum modulo 2^m,
              as dealing and every interactive instruction leave them.
    Error:    at most 1.5 2^m, without bias but for half of the last bit.
    Opens:    nothing.
    Security: as trunc_a; perfect, nothing is sent.
    Ref:      rounding of components as in SecureML (Mohassel, Zhang 2017, section 4.1, eprint
              2017/396), but without their shift: no carry is lost, so there is no large error.
    """
    readers = x.readers()
    return _rounded(p, lambda which, s: readers[which](s), x.shape, bits, x.size)


@TABLE.on_shares("round_sum_a")
def round_sum_a(p: Party, *xs: AShare, coefficients: tuple[int, ...], bits: int) -> AShare:
    """[x_1], ..., [x_n], public c -> [sum c_i x_i], rounded as in round_a.

    Local:    as round_a of the sum, piece by piece, so that no sum is ever stored.
    Sends, Requires, Error, Opens, Security, Ref: as round_a.
    """
    cs, each = public_factors(p.ring, coefficients), [x.readers() for x in xs]

    def total(which: int, s: slice) -> Array:
        return weighted_sum([readers[which](s) for readers in each], cs)

    return _rounded(p, total, xs[0].shape, bits, xs[0].size * len(xs))


def _rounded(p: Party, read: Read, shape: tuple[int, ...], bits: int, words: int) -> AShare:
    n = math.prod(shape)

    def made(which: int) -> Array:
        out, clear = p.ring.empty(n), cleared(p.ring, bits, first=(p.rank + which) % 3 == 0)
        for s in pieces(n):
            clear(read(which, s), out[s])
        return out.reshape(shape)

    return AShare(*both(made, words))


def cleared(ring: Ring, bits: int, *, first: bool) -> Callable[[Array, Array], None]:
    """Writes a piece without its low m bits: (piece, out); the first part takes 3 2^(m-1)."""
    constants = public_factors(ring, (-1 << bits, 3 << bits - 1 if first else 0))
    mask, more = constants[:1], constants[1:]
    clear: Callable[..., None] = arith.clear_low
    return lambda piece, out: clear(piece, mask, more, out)
