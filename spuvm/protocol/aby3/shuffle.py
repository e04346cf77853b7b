"""Rows in an order that no party knows: three permutations, each known to two parties only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.protocol.aby3.share import Array, AShare, flat
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring

KEY = np.dtype(np.uint64)


def shuffle_cost(ring: Ring, size: int) -> OpCost:
    """Two ring elements per party and element, three rounds: 48 bytes in the ring of 64 bits."""
    return OpCost(3, (2 * ring.nbytes * size,) * 3)


def _cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return shuffle_cost(ring, args[0].size)


@TABLE.kernel("shuffle_a", _cost)
def shuffle_a(p: Party, x: AShare, *, draw: int) -> Steps:
    """[x] of shape [B,N,C] -> the rows x[b, :] of every b in a uniform order of their own.

    Local:    for i = 0, 1, 2: parties i and i+1 draw a permutation together (the order of N random
              64-bit keys). Party i adds its components up, party i+1 takes the third one: two
              additive parts, which both permute. y_i = r and y_{i+2} = s come from the streams of
              party i+2, which learns nothing; y_{i+1} is what is left of the sum.
    Sends:    step i: P_i -> P_{i+1} its part - r; P_{i+1} -> P_i its part - s.
    Requires: nothing.
    Error:    exact; equal keys, of probability below N^2 2^-65, keep their order.
    Opens:    nothing; r is unknown to P_{i+1}, s to P_i. Every party misses one permutation, so the
              order of the three together is uniform to it.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Laur, Willemson, Zhang 2011 (ISC), section 4; with seeded permutations and replicated
              shares: Chida et al. 2019, section 4, eprint 2019/695.
    """
    ring, n = p.ring, x.size
    rows = x.shape
    x0, x1 = x.flat()
    for i in range(3):
        nxt, third = (i + 1) % 3, (i + 2) % 3
        if p.rank == third:
            (y0,), (y1,) = p.draw(nxt, (ring.dtype, n)), p.draw(i, (ring.dtype, n))
            yield Exchange()
            x0, x1 = y0, y1
            continue
        other = nxt if p.rank == i else i
        (keys,) = p.draw(other, (KEY, rows[0] * rows[1]))
        (mask,) = p.draw(third, (ring.dtype, n))
        mine = _permuted(x0 + x1 if p.rank == i else x1, keys, rows) - mask
        got = yield Exchange(send={other: [mine]}, receive={other: [spec(ring.dtype, n)]})
        rest = mine + got[other][0]
        x0, x1 = (mask, rest) if p.rank == i else (rest, mask)
    return AShare(x0.reshape(rows), x1.reshape(rows))


def _permuted(part: Array, keys: Array, rows: tuple[int, ...]) -> Array:
    """Rows in the order of their keys, each batch for itself."""
    batch, n, _ = rows
    order = np.argsort(keys.reshape(batch, n), axis=1, kind="stable")
    where = (order + np.arange(batch)[:, None] * n).reshape(-1)
    return flat(part.reshape(batch * n, -1)[where])
