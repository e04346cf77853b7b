"""Additive shares, z_i at party i alone: results that wait, and cost nothing until something comes.

A product of shares is one sum of three local parts, which a zero sharing makes uniform. Re-sharing
them, a word per party and element, is for whoever computes on: an opening takes the parts as they
are. So what is only opened is never re-shared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spuvm.bytecode.types import Type
from spuvm.protocol.aby3.combine import cleared
from spuvm.protocol.aby3.product import matrix, on_zero, passed_back, reshare_cost
from spuvm.protocol.aby3.share import AShare, ZShare, flat, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import OpCost, Party, Steps
from spuvm.ring import Ring


@TABLE.on_shares("additive_dot_aa")
def additive_dot_aa(p: Party, x: AShare, y: AShare) -> ZShare:
    """[x] of shape [B,M,K], [y] of shape [B,K,N] -> additive shares of x @ y.

    Local:    z_i = this party's part of the product (matrix()) + alpha_i, alpha_0 + alpha_1 +
              alpha_2 = 0 from the pair streams.
    Sends:    nothing.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing; any two of the z_i are uniform, to a party the other two are up to their sum.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Araki et al. 2016, section 2, eprint 2016/768, before the parts are sent.
    """
    shape = (x.shape[0], x.shape[1], y.shape[2])
    return ZShare(on_zero(p, matrix(p.rank, x, y), math.prod(shape)).reshape(shape))


@TABLE.on_shares("round_z")
def round_z(p: Party, x: ZShare, *, bits: int, range: tuple[int, ...]) -> ZShare:
    """[x] -> [sum of floor(z_i / 2^m) 2^m, plus 3 2^(m-1)]: what may be opened of x.

    As round_a, by the low digits of the additive shares. Whoever opens the result gets its sum
    alone (part_of), so it learns floor((x - a) / 2^m) and not more, where a is uniform: the low
    digits of two shares. A party that opens it knows of one of them.

    Local:    the low m bits of each share are cleared; share 0 takes the 3 2^(m-1).
    Sends:    nothing.
    Requires: |x| + 3 2^(m-1) < 2^(k-2); two of the shares uniform, as additive_dot_aa leaves them.
    Error:    at most 1.5 2^m, without bias but for half of the last bit.
    Opens:    nothing.
    Security: as round_a.
    Ref:      as round_a.
    """
    z, out, clear = flat(x.z), p.ring.empty(x.size), cleared(p.ring, bits, first=p.rank == 0)
    for s in pieces(x.size):
        clear(z[s], out[s])
    return ZShare(out.reshape(x.shape))


def _reshare_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    return reshare_cost(ring, args[0].size)


@TABLE.kernel("reshare_z", _reshare_cost)
def reshare_z(p: Party, x: ZShare) -> Steps:
    """Additive shares -> replicated shares of the same value.

    Local:    nothing.
    Sends:    P_i -> P_{i-1}: z_i.
    Requires: shares that a zero sharing has made uniform, as additive_dot_aa leaves them; round_z
              takes digits from them, and nothing else.
    Error:    exact.
    Opens:    nothing; z_i is uniform to P_{i-1}, as in reshare.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      Araki et al. 2016, section 2, eprint 2016/768.
    """
    return (yield from passed_back(p, flat(x.z))).reshaped(x.shape)
