"""Products of shares: elementwise and matrix, exact or with fused truncation, narrow or full."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.isa import DROPPED
from spuvm.bytecode.types import Type
from spuvm.kernels import arith
from spuvm.kernels.matmul import matmul
from spuvm.protocol.aby3.combine import accumulate
from spuvm.protocol.aby3.share import Array, AShare, Reader, flat, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.aby3.truncation import (
    Accumulate,
    shift_cost,
    trunc_both,
    truncate_product,
    truncated_product_cost,
)
from spuvm.protocol.base import Exchange, OpCost, Party, Received, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import zeros

MANY_ROWS, LONG_ROW = 128, 1024
"""Up to so many rows of at least so many elements are added up without a matrix product."""

LocalProduct = Callable[[int, AShare, AShare], Accumulate]

SplitProduct = Callable[[int, AShare, AShare, AShare, AShare, int], tuple[Accumulate, Accumulate]]
"""Of x, y, xh, yh, h: the parts of xh yh and of xh yl + xl yh, where x = 2^h xh + xl."""


def reshare_cost(ring: Ring, size: int) -> OpCost:
    """One ring element per party and element, one round."""
    return OpCost(1, (ring.nbytes * size,) * 3)


def reshare(p: Party, accumulate: Accumulate, size: int) -> Steps:
    """Additive parts z_0 + z_1 + z_2 -> replicated shares of their sum, flat.

    `accumulate(out, where)` adds a piece of this party's part z_i to `out`.

    Local:    z_i += alpha_i with alpha_0 + alpha_1 + alpha_2 = 0 from the pair streams.
    Sends:    P_i -> P_{i-1}: z_i.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing; z_i is uniform to P_{i-1}, who lacks one of the two masks in alpha_i.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Araki et al. 2016, section 2 (the variant for rings), eprint 2016/768.
    """
    part = on_zero(p, accumulate, size)
    del accumulate  # and what it was made from
    return (yield from passed_back(p, part))


def on_zero(p: Party, accumulate: Accumulate, size: int) -> Array:
    """z_i + alpha_i, where alpha_0 + alpha_1 + alpha_2 = 0 are fresh; flat."""
    part = p.ring.empty(size)
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    for s in pieces(size):
        p.fill(nxt, part[s])
        (minus,) = p.draw(prv, (p.ring.dtype, s.stop - s.start))
        np.subtract(part[s], minus, out=part[s])
        accumulate(part[s], s)
    return part


def passed_back(p: Party, part: Array) -> Steps:
    """Each party's masked part to the one before it: replicated shares of their sum, flat."""
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    got = yield Exchange(send={prv: [part]}, receive={nxt: [spec(part.dtype, part.size)]})
    return AShare(part, got[nxt][0])


def elementwise(rank: int, x: AShare, y: AShare) -> Accumulate:
    """The additive part x_i y_i + x_i y_{i+1} + x_{i+1} y_i of x * y."""
    (x0, x1), (y0, y1) = x.readers(), y.readers()
    return lambda out, s: arith.cross_terms(x0(s), x1(s), y0(s), y1(s), out)


def split_elementwise(
    rank: int, x: AShare, y: AShare, xh: AShare, yh: AShare, half: int
) -> tuple[Accumulate, Accumulate]:
    """See SplitProduct; the low parts are never stored."""
    read = [r for share in (x, y, xh, yh) for r in share.readers()]

    def middle(out: Array, s: slice) -> None:
        x0, x1, y0, y1, h0, h1, g0, g1 = (r(s) for r in read)
        arith.split_terms(x0, x1, y0, y1, h0, h1, g0, g1, half, out)

    return elementwise(rank, xh, yh), middle


def matrix(rank: int, x: AShare, y: AShare) -> Accumulate:
    """An additive part of x @ y for x [B,M,K], y [B,K,N].

    The nine products x_i y_j are split so that five matrix products are enough, not six:
    P0 (x_0 + x_1)(y_0 + y_1), P1 x_1 y_2 + x_2 (y_1 + y_2), P2 x_2 y_0 + x_0 y_2.
    """
    rows = _long_rows(x, y)
    return weighted_rows(rank, x, rows) if rows else _adds(_entries(rank, x, y))


def split_matrix(
    rank: int, x: AShare, y: AShare, xh: AShare, yh: AShare, half: int
) -> tuple[Accumulate, Accumulate]:
    """See SplitProduct: xh yl + xl yh = xh y + x yh - 2^(h+1) xh yh."""
    rows, high_rows = _long_rows(x, y), _long_rows(xh, yh)
    if rows and high_rows:
        rest = AShare(x.x0 - (xh.x0 << half + 1), x.x1 - (xh.x1 << half + 1))
        both = [
            np.concatenate([flat(a), flat(b)]) for a, b in zip(xh.flat(), rest.flat(), strict=True)
        ]
        middle = weighted_rows(rank, AShare(*both), [*rows, *high_rows])
        return weighted_rows(rank, xh, high_rows), middle
    upper = _entries(rank, xh, yh)
    entries = np.negative(upper) << half + 1
    _entries(rank, xh, y, entries)
    _entries(rank, x, yh, entries)
    return _adds(upper), _adds(entries)


def _long_rows(x: AShare, y: AShare) -> list[AShare] | None:
    """The rows of y, if they are to be weighted one by one."""
    if x.shape[:2] == (1, 1) and y.shape[2] >= LONG_ROW and x.size <= MANY_ROWS:
        return y.rows(x.size)
    return None


def _entries(rank: int, x: AShare, y: AShare, out: Array | None = None) -> Array:
    """This party's part of x @ y, added to `out` if that is given."""
    if out is None:
        out = zeros((x.shape[0], x.shape[1], y.shape[2]), x.dtype)
    if rank == 0:
        matmul(x.total(), y.total(), out)
    elif rank == 1:
        matmul(x.x0, y.x1, out)
        matmul(x.x1, y.x0 + y.x1, out)
    else:
        matmul(x.x0, y.x1, out)
        matmul(x.x1, y.x0, out)
    return out


def _adds(entries: Array) -> Accumulate:
    z = entries.reshape(-1)

    def accumulate(out: Array, s: slice) -> None:
        np.add(out, z[s], out=out)

    return accumulate


def weighted_rows(rank: int, weights: AShare, rows: list[AShare]) -> Accumulate:
    """An additive part of sum_k w_k y_k, the split of `matrix`: every component is read once.

    P0 needs the rows' sums of both components only, and the rows need not lie in one array.
    """
    w0, w1 = weights.flat()
    readers: list[Reader] = []
    factors: list[Array] = []
    for k, row in enumerate(rows):
        a, b = w0[k : k + 1], w1[k : k + 1]
        if rank == 0:
            parts = row.summands()
            factors += [a + b] * len(parts)
        else:
            parts = row.readers()
            factors += [b, a + b] if rank == 1 else [b, a]
        readers += parts
    table = np.concatenate(factors)
    return lambda out, s: accumulate([read(s) for read in readers], table, out)


def _product(
    p: Party,
    x: AShare,
    y: AShare,
    shape: tuple[int, ...],
    terms: int,
    trunc: int,
    form: str,
    multiply: LocalProduct,
    split: SplitProduct,
) -> Steps:
    size = math.prod(shape)
    if trunc == 0:
        z = yield from reshare(p, multiply(p.rank, x, y), size)
    elif form == "narrow":
        z = yield from truncate_product(p, multiply(p.rank, x, y), size, trunc)
    else:
        z = yield from _full(p, x, y, size, terms, trunc, multiply, split)
    return AShare(z.x0.reshape(shape), z.x1.reshape(shape))


def _full(
    p: Party,
    x: AShare,
    y: AShare,
    size: int,
    terms: int,
    trunc: int,
    multiply: LocalProduct,
    split: SplitProduct,
) -> Steps:
    """[x], [y] -> [x y / 2^m] whenever the result is representable.

    Local:    h = m/2; xh = x / 2^h, xl = x - 2^h xh, the same for y;
              x y / 2^m = xh yh + (xh yl + xl yh) / 2^h + xl yl / 2^m. The last term is dropped of
              sums of K <= DROPPED products: xl, yl are independent and 0 on average (trunc_both).
    Sends:    as trunc_a (both operands at once), then truncate_product, for K > DROPPED twice,
              beside reshare.
    Requires: |x|, |y| < 2^(k-2), |xh yl + xl yh| < 2^(k-2) and |x y| / 2^m < 2^(k-2). For single
              products the second follows from the third while m <= (k-4)/2; for a dot product of K
              terms it holds where the sum of all |x| + |y| is below 2^(k-2) - K 2^(h+1).
    Error:    less than 2 units, of a dot product 3, where terms are dropped K + 1, and sqrt(K) / 6
              as a rule; exact for multiples of 2^h.
    Opens:    nothing of its own.
    Security: as its parts.
    Ref:      schoolbook splitting; parts as cited there.
    """
    half = trunc // 2
    high = yield from trunc_both(p, x, y, bits=half)
    xh = AShare(high.x0[: x.size].reshape(x.shape), high.x1[: x.size].reshape(x.shape))
    yh = AShare(high.x0[x.size :].reshape(y.shape), high.x1[x.size :].reshape(y.shape))
    upper, middle = split(p.rank, x, y, xh, yh, half)
    runs = [reshare(p, upper, size), truncate_product(p, middle, size, half)]
    if terms > DROPPED:
        lowest = multiply(p.rank, _rest(x, xh, half), _rest(y, yh, half))
        runs.append(truncate_product(p, lowest, size, trunc))
        del lowest
    sums = together(*runs)
    del high, xh, yh, upper, middle, runs  # the sub-protocols let go of them before they wait
    z, *lower = yield from sums
    return AShare(z.x0 + sum(s.x0 for s in lower), z.x1 + sum(s.x1 for s in lower))


def _rest(x: AShare, high: AShare, half: int) -> AShare:
    return AShare(x.x0 - (high.x0 << half), x.x1 - (high.x1 << half))


def together(*runs: Steps) -> Steps:
    """Run sub-protocols in shared rounds; the results in order."""
    results: list[Any] = [None] * len(runs)
    inbox: list[Received | None] = [None] * len(runs)
    live = list(range(len(runs)))
    while live:
        joint, shares, still = Exchange(), {}, []
        for i in live:
            try:
                got_i, inbox[i] = inbox[i], None
                step = next(runs[i]) if got_i is None else runs[i].send(got_i)
            except StopIteration as stop:
                results[i] = stop.value
                continue
            still.append(i)
            shares[i] = {peer: len(specs) for peer, specs in step.receive.items()}
            for peer, arrays in step.send.items():
                joint.send.setdefault(peer, []).extend(arrays)
            for peer, specs in step.receive.items():
                joint.receive.setdefault(peer, []).extend(specs)
        live = still
        if not live:
            break
        got = yield joint
        queues = {peer: iter(arrays) for peer, arrays in got.items()}
        for i in live:
            inbox[i] = {
                peer: [next(queues[peer]) for _ in range(count)]
                for peer, count in shares[i].items()
            }
        got.clear()
        del joint, step, queues
    return results


def _cost(
    out_size: int, terms: int, ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]
) -> OpCost:
    trunc = attrs["trunc"]
    if trunc == 0:
        return reshare_cost(ring, out_size)
    if attrs["form"] == "narrow":
        return truncated_product_cost(ring, out_size, trunc)
    split = shift_cost(ring, args[0].size + args[1].size, trunc // 2)
    parts = [
        reshare_cost(ring, out_size),
        truncated_product_cost(ring, out_size, trunc // 2),
    ]
    if terms > DROPPED:
        parts.append(truncated_product_cost(ring, out_size, trunc))
    b0, b1, b2 = map(sum, zip(split.bytes_sent, *(c.bytes_sent for c in parts), strict=True))
    return OpCost(split.rounds + max(c.rounds for c in parts), (b0, b1, b2))


def _mul_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return _cost(args[0].size, 1, ring, args, attrs)


def _dot_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    x, y = args
    return _cost(x.shape[0] * x.shape[1] * y.shape[2], x.shape[2], ring, args, attrs)


@TABLE.kernel("mul_aa", _mul_cost)
def mul_aa(p: Party, x: AShare, y: AShare, *, trunc: int, form: str) -> Steps:
    """[x], [y] -> [x y / 2^trunc], elementwise.

    Local:    elementwise(), then reshare (trunc = 0), truncate_product (narrow) or _full.
    Sends:    as those.
    Requires: narrow: |x y| < 2^(k-2) before truncation; full: after it, see _full.
    Error:    exact (trunc = 0), < 1 unit (narrow), < 2 units (full); see those.
    Opens:    as those.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Araki et al. 2016, section 2, eprint 2016/768; ABY3 section 5.1, eprint 2018/403.
    """
    forms = elementwise, split_elementwise
    return (yield from _product(p, x, y, x.shape, 1, trunc, form, *forms))


@TABLE.kernel("dot_aa", _dot_cost)
def dot_aa(p: Party, x: AShare, y: AShare, *, trunc: int, form: str) -> Steps:
    """[x] of shape [B,M,K], [y] of shape [B,K,N] -> [x @ y / 2^trunc].

    Local:    matrix(), then as mul_aa.
    Sends:    as mul_aa.
    Requires: as mul_aa, for the sum of K absolute products; full: see _full.
    Error:    exact (trunc = 0), < 1 unit (narrow: one truncation per entry); full: see _full.
    Opens:    as mul_aa.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      ABY3 section 5.2 (vectorised multiplication), eprint 2018/403.
    """
    shape = (x.shape[0], x.shape[1], y.shape[2])
    return (yield from _product(p, x, y, shape, x.shape[2], trunc, form, matrix, split_matrix))
