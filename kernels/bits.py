"""Bit kernels: the carry tree on words whose bits are ordered so that each level halves them.

Bit i of a word of w = 2^n bits moves to the position whose n-bit index is i's index reversed
(`fold_order`). Neighbours 2j and 2j+1 then sit in the lower and the upper half at the same place,
and after combining halves the same holds for the result: every level is a shift by half a word.
"""

from __future__ import annotations

from typing import Any

from spuvm.kernels.jit import bits_of, kernel

_BLOCK = 2048  # elements that stay in the cache while they are moved


@kernel
def fold_order(x: Any, up: Any, masks: Any, shifts: Any, out: Any) -> None:
    """out = bits of (x * 2^up) in index-reversed order; see `fold_constants` for the tables."""
    T = out.dtype.type
    up = T(up)
    for start in range(0, out.size, _BLOCK):
        stop = min(out.size, start + _BLOCK)
        words, block = x[start:stop], out[start:stop]
        for i in range(block.size):
            block[i] = T(T(words[i]) << up)
        for s in range(masks.size):
            mask, shift = masks[s], shifts[s]
            for i in range(block.size):
                v = block[i]
                moved = T(T(T(v >> shift) ^ v) & mask)
                block[i] = T(v ^ moved ^ T(moved << shift))


@kernel
def carry_deal(u: Any, mask_u: Any, mask_m: Any, out_u: Any, out_m: Any) -> None:
    """Party 0 of the sign circuit: mask u and the products of neighbouring bits (upper * lower).

    The upper bit of the last pair is the sign bit; the carry chain must pass that place, so its
    product is taken as if that bit were 1.
    """
    W = u.dtype.type
    H = out_m.dtype.type
    half = W(bits_of(u) // 2)
    top = W(W(1) << W(half - W(1)))
    for i in range(u.size):
        w = u[i]
        out_u[i] = W(w ^ mask_u[i])
        out_m[i] = H(H(W(W(W(w >> half) | top) & w)) ^ mask_m[i])


@kernel
def carry_first(u: Any, m: Any, v: Any, public: Any, mask: Any, out: Any) -> None:
    """Parties 1 and 2: their part of (generate, propagate) of all pairs, v known to both.

    u, m: this party's share of party 0's bits and neighbour products. `public` is 1 at the party
    that adds what depends on v alone. out = generate | propagate << half, xor mask.
    """
    W = out.dtype.type
    half = W(bits_of(out) // 2)
    low = W(W(W(1) << half) - W(1))
    top = W(W(1) << W(half - W(1)))
    for i in range(out.size):
        u_low = W(u[i] & low)
        u_high = W(W(u[i] >> half) & W(~top))
        v_low = W(v[i] & low)
        v_high = W(W(v[i] >> half) & W(~top))
        both = W(v_high & v_low)
        product = W(m[i])
        generate = W(W(v_high & u_high) ^ W(v_low & product) ^ W(both & u_low))
        propagate = W(product ^ W(v_low & u_high) ^ W(v_high & u_low))
        if public:
            propagate = W(propagate ^ both ^ W(v_low & top))
        out[i] = W(W(generate | W(propagate << half)) ^ mask[i])


@kernel
def carry_level(s0: Any, s1: Any, mask0: Any, mask1: Any, out: Any) -> None:
    """One level of the carry tree on replicated words: additive part of the combined word.

    A word holds n generate bits below n propagate bits, 2 n of them in all; upper halves absorb
    lower ones: g = g_high ^ p_high g_low, p = p_high p_low.
    """
    W = s0.dtype.type
    H = out.dtype.type
    q = bits_of(s0) // 4
    quarter, third = W(q), W(3 * q)
    half = W(2 * q)
    low = W(W(W(1) << quarter) - W(1))
    for i in range(out.size):
        a = s0[i]
        b = s1[i]
        p0 = W(W(a >> third) & low)
        p1 = W(W(b >> third) & low)
        # lower halves of generate and propagate side by side, times p_high twice
        l0 = W(W(a & low) | W(W(W(a >> half) & low) << quarter))
        l1 = W(W(b & low) | W(W(W(b >> half) & low) << quarter))
        q0 = W(p0 | W(p0 << quarter))
        q1 = W(p1 | W(p1 << quarter))
        z = W(W(q0 & W(l0 ^ l1)) ^ W(q1 & l0) ^ W(W(a >> quarter) & low))
        out[i] = H(H(z) ^ mask0[i] ^ mask1[i])


@kernel
def carry_last(s0: Any, s1: Any, mask0: Any, mask1: Any, out: Any) -> None:
    """The last level, of words of four bits: g_high ^ p_high g_low in bit 0, the rest is noise."""
    W = s0.dtype.type
    for i in range(out.size):
        a = s0[i]
        b = s1[i]
        p0 = W(W(a >> W(3)) & W(1))
        p1 = W(W(b >> W(3)) & W(1))
        z = W(W(p0 & W(a ^ b)) ^ W(p1 & a) ^ W(a >> W(1)))
        out[i] = W(z ^ mask0[i] ^ mask1[i])


@kernel
def and_terms(x0: Any, x1: Any, y0: Any, y1: Any, mask0: Any, mask1: Any, out: Any) -> None:
    """out = x0&y0 ^ x0&y1 ^ x1&y0 ^ mask0 ^ mask1."""
    T = out.dtype.type
    for i in range(out.size):
        out[i] = T((x0[i] & (y0[i] ^ y1[i])) ^ (x1[i] & y0[i]) ^ mask0[i] ^ mask1[i])


@kernel
def sign_share(carry: Any, word: Any, top: Any, out: Any) -> None:
    """out = (carry ^ bit `top` of word) & 1."""
    W = word.dtype.type
    B = out.dtype.type
    top = W(top)
    for i in range(out.size):
        out[i] = B(B(carry[i]) ^ B(word[i] >> top)) & B(1)
