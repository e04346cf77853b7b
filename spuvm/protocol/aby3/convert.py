"""Between arithmetic and Boolean shares: a2b, b2a, and bit times value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.kernels import arith
from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3.boolean import BYTE, and_part, deal_known
from spuvm.protocol.aby3.share import Array, AShare, BShare, pieces
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Exchange, OpCost, Party, Steps, spec
from spuvm.ring import Ring
from spuvm.wide import cast


def _a2b_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    word = small_dtype(attrs["bits"])
    n = args[0].size * word.itemsize
    levels = (word.itemsize * 8).bit_length() - 1
    tree = (2 * levels - 1) * n
    return OpCost(2 + levels, (n + tree, n + tree, n + tree))


@TABLE.kernel("a2b", _a2b_cost)
def a2b(p: Party, x: AShare, *, bits: int) -> Steps:
    """[x] arithmetic -> Boolean shares of its low bits.

    Local:    x = u + v, u = x_0 + x_1 dealt by P0 as bits, v = x_2 known to P1 and P2;
              generate = u v (P1 and P2 multiply their parts by v), propagate = u ^ v;
              prefix adder: g ^= p (g << d), p &= p << d for d = 1, 2, 4, ...
    Sends:    round 1: P0 -> P1 masked u, P2 -> P1 its part of generate; round 2: P1 -> P2 its part;
              then per level two and_bb of whole words (one at the last).
    Requires: nothing.
    Error:    exact.
    Opens:    nothing.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      ABY3 section 5.3, eprint 2018/403; adder of Kogge and Stone 1973.
    """
    word, n = small_dtype(bits), x.size
    x0, x1 = x.flat()
    if p.rank == 0:
        u0, u1 = yield from deal_known(p, (x0 + x1).astype(word), word, n)
        (g1,) = p.draw(1, (word, n))
        (g0,) = p.draw(2, (word, n))
        yield Exchange()
        g, q = (g0, g1), (u0, u1)
    elif p.rank == 1:
        v = x1.astype(word)
        (g1,) = p.draw(0, (word, n))
        got = yield Exchange(receive={0: [spec(word, n)], 2: [spec(word, n)]})
        u1 = got[0][0]
        mine = (u1 & v) ^ g1
        yield Exchange(send={2: [mine]})
        g, q = (g1, mine ^ got[2][0]), (u1, v)
    else:
        v = x0.astype(word)
        (u0,) = p.draw(0, (word, n))
        (g0,) = p.draw(0, (word, n))
        mine = (u0 & v) ^ g0
        yield Exchange(send={1: [mine]})
        got = yield Exchange(receive={1: [spec(word, n)]})
        g, q = (mine ^ got[1][0], g0), (v, u0)
    propagate = q
    distance = 1
    while distance < word.itemsize * 8:
        last = 2 * distance >= word.itemsize * 8
        g, propagate = yield from _adder_level(p, g, propagate, distance, last)
        distance *= 2
    out0, out1 = (q[i] ^ (g[i] << 1) for i in (0, 1))
    mask = (1 << bits) - 1
    return BShare((out0 & mask).reshape(x.shape), (out1 & mask).reshape(x.shape), bits)


Pair = tuple[Array, Array]


def _adder_level(p: Party, g: Pair, q: Pair, distance: int, last: bool) -> Steps:
    word, n = g[0].dtype, g[0].size
    if last:
        left, right = q, (g[0] << distance, g[1] << distance)
    else:
        left = tuple(np.concatenate([a, a]) for a in q)  # type: ignore[assignment]
        right = tuple(  # type: ignore[assignment]
            np.concatenate([g[i] << distance, q[i] << distance]) for i in (0, 1)
        )
    z = and_part(p, *left, *right, word.itemsize * 8)
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    got = yield Exchange(send={prv: [z]}, receive={nxt: [spec(word, z.size)]})
    second = got[nxt][0]
    generate = (g[0] ^ z[:n], g[1] ^ second[:n])
    return generate, (q if last else (z[n:], second[n:]))


def _b2a_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    word = ring.nbytes * args[0].size
    return OpCost(2, (word * args[0].width, word, word))


@TABLE.kernel("b2a", _b2a_cost)
def b2a(p: Party, x: BShare) -> Steps:
    """[x] Boolean -> [x] arithmetic, read as an unsigned integer.

    Local:    per bit: b = c ^ d with c = b_0 ^ b_1 at P0 and d = b_2 at P1 and P2;
              b = d + c (1 - 2d), linear in c: P0 deals c = c_1 + c_2 in the ring, P1 and P2
              multiply by what they know; the sum over bits with weights 2^i is re-shared once.
    Sends:    round 1: P0 -> P1 c_1 per bit; P2 -> P1 its part - z_0.
              round 2: P1 -> P2 its part - z_1.
    Requires: nothing.
    Error:    exact modulo 2^k.
    Opens:    nothing; c_1, and both parts, are masked by draws that the receiver cannot make.
    Security: semi-honest, one of three corrupt; computational (PRF).
    Ref:      the split of ABY3 section 5.4, eprint 2018/403; linear form in c: this file.
    """
    ring, n, width, shape = p.ring, x.size, x.width, x.shape
    b0, b1 = x.flat()
    if p.rank == 0:
        z0, z1, c1 = ring.empty(n), ring.empty(n), ring.empty(n * width)
        for s in pieces(n):
            p.fill(2, z0[s])
            p.fill(1, z1[s])
            for i in range(width):
                (c2,) = p.draw(2, (ring.dtype, s.stop - s.start))
                dealt = c1[i * n + s.start : i * n + s.stop]
                arith.bit_deal(_bit(b0[s], i, width), _bit(b1[s], i, width), c2, dealt)
        yield Exchange(send={1: [c1]})
        del c1
        yield Exchange()
        return AShare(z0.reshape(shape), z1.reshape(shape))
    mine, z = ring.empty(n), ring.empty(n)
    if p.rank == 1:
        for s in pieces(n):
            p.fill(0, z[s])
        got = yield Exchange(receive={0: [spec(ring.dtype, n * width)], 2: [spec(ring.dtype, n)]})
        (c1,), (theirs,) = got.pop(0), got.pop(2)
        for s in pieces(n):
            parts = [c1[i * n + s.start : i * n + s.stop] for i in range(width)]
            _weighted_bits(b1[s], parts, 1, z[s], mine[s])
        del c1
        second = mine + theirs
        del theirs
        yield Exchange(send={2: [mine]})
        return AShare(z.reshape(shape), second.reshape(shape))
    for s in pieces(n):
        p.fill(0, z[s])
        parts = [p.draw(0, (ring.dtype, s.stop - s.start))[0] for _ in range(width)]
        _weighted_bits(b0[s], parts, 0, z[s], mine[s])
    yield Exchange(send={1: [mine]})
    got = yield Exchange(receive={1: [spec(ring.dtype, n)]})
    return AShare((mine + got[1][0]).reshape(shape), z.reshape(shape))


def _weighted_bits(d: Array, c: Sequence[Array], sign: int, mask: Array, out: Array) -> None:
    """out = sum over bits i of 2^i (c_i (1 - 2 d_i) + sign d_i), less the mask."""
    width = len(c)
    arith.bit_to_ring(_bit(d, 0, width), c[0], sign, mask, out)
    for i in range(1, width):
        arith.add_bit(_bit(d, i, width), c[i], sign, i, out)


def _bit(words: Array, i: int, width: int) -> Array:
    """Bit i of words of `width` bits in bytes, with whatever above it."""
    return words if width == 1 else cast(words >> i & 1, BYTE)


def _mul_ba_cost(ring: Ring, args: Sequence[Type], attrs: Mapping[str, Any]) -> OpCost:
    word = ring.nbytes * args[1].size
    return OpCost(2, (3 * word, word, word))


@TABLE.kernel("mul_ba", _mul_ba_cost)
def mul_ba(p: Party, b: BShare, x: AShare) -> Steps:
    """[b] one bit, [x] -> [b x].

    Local:    c = b_0 ^ b_1, e = x_0 + x_1 at P0; d = b_2, x_2 at P1 and P2.
              b x = [c e if d = 0 else (1-c) e] + d x_2 + c (1 - 2d) x_2: P0 deals c e, (1-c) e and
              c additively, P1 and P2 take the one that d names and multiply c by what they know.
    Sends:    round 1: P0 -> P1 c e - s0, (1-c) e - s1, c - c2; P2 -> P1 its part - z_0.
              round 2: P1 -> P2 its part - z_1.
    Requires: nothing.
    Error:    exact.
    Opens:    nothing; all messages are masked by draws that the receiver cannot make.
    Security: semi-honest, one of three corrupt; computational (PRF). P0 receives nothing.
    Ref:      bit injection, ABY3 section 5.4.1, eprint 2018/403, with dealt parts instead of OT.
    """
    ring, n, shape = p.ring, x.size, x.shape
    b0, b1 = b.flat()
    (x0, x1), word = x.readers(), ring.dtype
    if p.rank == 0:
        z0, z1 = ring.empty(n), ring.empty(n)
        m0, m1, c1 = ring.empty(n), ring.empty(n), ring.empty(n)
        for s in pieces(n):
            k = s.stop - s.start
            s0, s1, c2 = p.draw(2, (word, k), (word, k), (word, k))
            p.fill(2, z0[s])
            p.fill(1, z1[s])
            arith.inject_first(b0[s], b1[s], x0(s), x1(s), s0, s1, c2, m0[s], m1[s], c1[s])
        yield Exchange(send={1: [m0, m1, c1]})
        del m0, m1, c1
        yield Exchange()
        return AShare(z0.reshape(shape), z1.reshape(shape))
    mine, z = ring.empty(n), ring.empty(n)
    if p.rank == 1:
        for s in pieces(n):
            p.fill(0, z[s])
        got = yield Exchange(receive={0: [spec(word, n)] * 3, 2: [spec(word, n)]})
        (m0, m1, c1), (theirs,) = got.pop(0), got.pop(2)
        for s in pieces(n):
            arith.inject_second(b1[s], x1(s), m0[s], m1[s], c1[s], 1, z[s], mine[s])
        del m0, m1, c1
        second = mine + theirs
        del theirs
        yield Exchange(send={2: [mine]})
        return AShare(z.reshape(shape), second.reshape(shape))
    for s in pieces(n):
        k = s.stop - s.start
        s0, s1, c2 = p.draw(0, (word, k), (word, k), (word, k))
        p.fill(0, z[s])
        arith.inject_second(b0[s], x0(s), s0, s1, c2, 0, z[s], mine[s])
    yield Exchange(send={1: [mine]})
    got = yield Exchange(receive={1: [spec(word, n)]})
    return AShare((mine + got[1][0]).reshape(shape), z.reshape(shape))
