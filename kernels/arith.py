"""Arithmetic kernels: products of replicated pairs and the steps of truncation.

All arrays are flat and contiguous. Ring arrays are unsigned; `small` arrays hold integers modulo
2^m in the smallest unsigned dtype that has m bits. Ring elements of 128 bits have the dtype V16
(uint128.py). Shift counts and signs are plain integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.kernels.jit import kernel

WORDS = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4", "<u8", "V16"))


@kernel
def cross_terms(x0: Any, x1: Any, y0: Any, y1: Any, out: Any) -> None:
    """out += x0*y0 + x0*y1 + x1*y0."""
    for i in range(out.size):
        out[i] += x0[i] * (y0[i] + y1[i]) + x1[i] * y0[i]


@kernel
def split_terms(
    x0: Any, x1: Any, y0: Any, y1: Any, h0: Any, h1: Any, g0: Any, g1: Any, m: Any, out: Any
) -> None:
    """out += the cross terms of h (y - 2^m g) + (x - 2^m h) g."""
    T = out.dtype.type
    m = T(m)
    for i in range(out.size):
        a, b, c, d = h0[i], h1[i], g0[i], g1[i]
        v, w = T(y0[i] - T(c << m)), T(y1[i] - T(d << m))
        t, u = T(x0[i] - T(a << m)), T(x1[i] - T(b << m))
        out[i] += T(T(a * T(v + w) + b * v) + T(t * T(c + d) + u * c))


@kernel
def minus_sum(x: Any, y: Any, out: Any) -> None:
    """out = -(x + y); `out` may be `x`."""
    T = out.dtype.type
    for i in range(out.size):
        out[i] = T(T(0) - x[i] - y[i])


@kernel
def truncation_deal(
    z: Any, a0: Any, b0: Any, t0: Any, t2: Any, m: Any, a2: Any, b2: Any, z0: Any, z2: Any
) -> None:
    """Party 2 of the fused truncation: from its additive share z of x (mask r = -z).

    a = -(r mod 2^(k-1) >> m) + msb(r) 2^(k-1-m);  a2 = a - a0;  b2 = msb(r) - b0;
    z0 = a0 - t0 2^(k-m);  z2 = a2 - t2 2^(k-m). `z0` may be `a0`.
    """
    T = z0.dtype.type
    S = b2.dtype.type
    m = T(m)
    k1 = T(z0.itemsize * 8 - 1)
    low = T(T(T(1) << k1) - T(1))
    for i in range(z0.size):
        r = T(T(0) - z[i])
        top = T(r >> k1)
        second = T(T(top << T(k1 - m)) - T(T(r & low) >> m) - a0[i])
        a2[i] = second
        b2[i] = S(S(top) - b0[i])
        z2[i] = T(second - T(T(t2[i]) << T(k1 + T(1) - m)))
        z0[i] = T(a0[i] - T(T(t0[i]) << T(k1 + T(1) - m)))


@kernel
def truncation_correct(
    mine: Any, theirs: Any, a: Any, b: Any, t: Any, m: Any, c: Any, d: Any, z: Any
) -> None:
    """Parties 0 and 1: c = mine + theirs + 2^(k-2), d = msb(c) b - t, z = a - t 2^(k-m).

    `z` may be `a`.
    """
    T = c.dtype.type
    S = d.dtype.type
    m = T(m)
    k1 = T(c.itemsize * 8 - 1)
    offset = T(T(1) << T(k1 - T(1)))
    for i in range(c.size):
        total = T(mine[i] + theirs[i] + offset)
        c[i] = total
        d[i] = S(S(total >> k1) * b[i] - t[i])
        z[i] = T(a[i] - T(T(t[i]) << T(k1 + T(1) - m)))


@kernel
def truncation_finish(c: Any, d: Any, e: Any, m: Any, z1: Any) -> None:
    """z1 = (c mod 2^(k-1) >> m) + msb(c) 2^(k-1-m) - 2^(k-2-m) - (d + e) 2^(k-m)."""
    T = z1.dtype.type
    S = d.dtype.type
    m = T(m)
    k1 = T(z1.itemsize * 8 - 1)
    low = T(T(T(1) << k1) - T(1))
    half = T(T(1) << T(k1 - T(1) - m))
    for i in range(z1.size):
        q = S(d[i] + e[i])
        head = T(T(T(c[i] & low) >> m) + T(T(c[i] >> k1) << T(k1 - m)))
        z1[i] = T(head - half - T(T(q) << T(k1 + T(1) - m)))


@kernel
def shift_first(x: Any, c: Any, s0: Any, r: Any, m: Any, e: Any, z1: Any) -> None:
    """Party 0 of truncation by the sign bits: u = x + 2^(k-2) - 1, a = msb(u).

    e = a xor c;  z1 = asr(u, m) + (1 - 2e) s0 2^(k-m) - (2^(k-2-m) - 1) - r. `c` holds bits.
    """
    T = z1.dtype.type
    m = T(m)
    k1 = T(z1.itemsize * 8 - 1)
    one = T(1)
    offset = T(T(one << T(k1 - one)) - one)
    B = e.dtype.type
    after = T(T(one << T(k1 - one - m)) - one)
    up = T(k1 + one - m)
    for i in range(z1.size):
        u = T(x[i] + offset)
        a = T(u >> k1)
        bit = T(a ^ T(c[i] & 1))
        e[i] = B(bit)
        shifted = T(T(u >> m) - T(a << up))
        signed = T(T(one - bit - bit) * T(s0[i]))
        z1[i] = T(shifted + T(signed << up) - after - r[i])


@kernel
def shift_deal(x2: Any, c: Any, s0: Any, t2: Any, m: Any, s1: Any, z2: Any) -> None:
    """Party 1: b = msb(x2), s1 = c*b - s0, z2 = asr(x2, m) + t2 2^(k-m)."""
    T = z2.dtype.type
    S = s1.dtype.type
    m = T(m)
    k1 = T(z2.itemsize * 8 - 1)
    up = T(k1 + T(1) - m)
    for i in range(z2.size):
        b = T(x2[i] >> k1)
        s1[i] = S(S(b & T(c[i] & 1)) - s0[i])
        z2[i] = T(T(x2[i] >> m) - T(b << up) + T(T(t2[i]) << up))


@kernel
def shift_keep(x2: Any, t2: Any, m: Any, b: Any, z2: Any) -> None:
    """Party 2: b = msb(x2), z2 as party 1 computes it."""
    T = z2.dtype.type
    B = b.dtype.type
    m = T(m)
    k1 = T(z2.itemsize * 8 - 1)
    up = T(k1 + T(1) - m)
    for i in range(z2.size):
        top = T(x2[i] >> k1)
        b[i] = B(top)
        z2[i] = T(T(x2[i] >> m) - T(top << up) + T(T(t2[i]) << up))


@kernel
def shift_second(b: Any, e: Any, s1: Any, t2: Any, r: Any, m: Any, y: Any, z0: Any) -> None:
    """Party 2: y = e*b + (1 - 2e) s1 - t2, z0 = r + y 2^(k-m)."""
    T = z0.dtype.type
    S = y.dtype.type
    up = T(T(z0.itemsize * 8) - T(m))
    one = S(1)
    for i in range(z0.size):
        bit = S(e[i])
        part = S(S(bit * S(b[i])) + S(S(one - bit - bit) * s1[i]) - t2[i])
        y[i] = part
        z0[i] = T(r[i] + T(T(part) << up))


@kernel
def shift_finish(r: Any, y: Any, m: Any, z0: Any) -> None:
    """Party 0: z0 = r + y 2^(k-m)."""
    T = z0.dtype.type
    m = T(m)
    k = T(z0.itemsize * 8)
    for i in range(z0.size):
        z0[i] = T(r[i] + T(T(y[i]) << T(k - m)))


@kernel
def scale(x: Any, coefficients: Any, out: Any) -> None:
    """out = c0 x."""
    coefficient = coefficients[0]
    for i in range(out.size):
        out[i] = coefficient * x[i]


@kernel
def clear_low(x: Any, mask: Any, more: Any, out: Any) -> None:
    """out = (x and mask0) + more0."""
    keep, add = mask[0], more[0]
    for i in range(out.size):
        out[i] = (x[i] & keep) + add


@kernel
def accumulate(x: Any, coefficients: Any, out: Any) -> None:
    """out += c0 x."""
    coefficient = coefficients[0]
    for i in range(out.size):
        out[i] += coefficient * x[i]


@kernel
def accumulate2(x: Any, y: Any, coefficients: Any, out: Any) -> None:
    """out += c0 x + c1 y."""
    a, b = coefficients[0], coefficients[1]
    for i in range(out.size):
        out[i] += a * x[i] + b * y[i]


@kernel
def accumulate4(w: Any, x: Any, y: Any, z: Any, coefficients: Any, out: Any) -> None:
    """out += c0 w + c1 x + c2 y + c3 z: one pass over `out` for four operands."""
    a, b, c, d = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    for i in range(out.size):
        out[i] += a * w[i] + b * x[i] + c * y[i] + d * z[i]


@kernel
def accumulate8(
    s: Any, t: Any, u: Any, v: Any, w: Any, x: Any, y: Any, z: Any, coefficients: Any, out: Any
) -> None:
    """out += c0 s + ... + c7 z: memory delivers eight operands at once faster than one by one."""
    a, b, c, d = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    e, f, g, h = coefficients[4], coefficients[5], coefficients[6], coefficients[7]
    for i in range(out.size):
        first = a * s[i] + b * t[i] + c * u[i] + d * v[i]
        out[i] += first + (e * w[i] + f * x[i] + g * y[i] + h * z[i])


@kernel
def combine8(
    s: Any, t: Any, u: Any, v: Any, w: Any, x: Any, y: Any, z: Any, coefficients: Any, out: Any
) -> None:
    """out = c0 s + ... + c7 z."""
    a, b, c, d = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    e, f, g, h = coefficients[4], coefficients[5], coefficients[6], coefficients[7]
    for i in range(out.size):
        first = a * s[i] + b * t[i] + c * u[i] + d * v[i]
        out[i] = first + (e * w[i] + f * x[i] + g * y[i] + h * z[i])


@kernel
def sum_rows(x: Any, out: Any) -> None:
    """out[j] = sum over i of x[i, j], x of shape (rows, columns); four rows per pass."""
    T = out.dtype.type
    rows, columns = x.shape
    block = 2048
    fours = rows // 4 * 4
    for start in range(0, columns, block):
        stop = min(columns, start + block)
        o = out[start:stop]
        width = stop - start
        for j in range(width):
            o[j] = T(0)
        for i in range(0, fours, 4):
            a, b = x[i, start:stop], x[i + 1, start:stop]
            c, d = x[i + 2, start:stop], x[i + 3, start:stop]
            for j in range(width):
                o[j] += a[j] + b[j] + c[j] + d[j]
        for i in range(fours, rows):
            a = x[i, start:stop]
            for j in range(width):
                o[j] += a[j]


@kernel
def inject_first(
    b0: Any, b1: Any, x0: Any, x1: Any, s0: Any, s1: Any, c2: Any, m0: Any, m1: Any, c1: Any
) -> None:
    """Party 0 of bit injection, c = b0^b1, e = x0+x1.

    m0 = c e - s0, m1 = (1-c) e - s1, c1 = c - c2.
    """
    T = m0.dtype.type
    for i in range(m0.size):
        e = T(x0[i] + x1[i])
        c = T(T(b0[i] ^ b1[i]) & T(1))
        kept = T(c * e)
        m0[i] = T(kept - s0[i])
        m1[i] = T(e - kept - s1[i])
        c1[i] = T(c - c2[i])


@kernel
def inject_second(
    b2: Any, x2: Any, m0: Any, m1: Any, c: Any, sign: Any, mask: Any, out: Any
) -> None:
    """Parties 1 and 2: out = m_d + [first party: d x2] + c (1-2d) x2 - mask with d = b2.

    `sign` is 1 at the party that adds the public-to-both term d*x2, else 0.
    """
    T = out.dtype.type
    one = T(1)
    sign = T(sign)
    for i in range(out.size):
        d = T(T(b2[i]) & one)
        chosen = m1[i] if d else m0[i]
        out[i] = T(chosen + sign * d * x2[i] + c[i] * T(one - d - d) * x2[i] - mask[i])


@kernel
def bit_deal(b0: Any, b1: Any, c2: Any, c1: Any) -> None:
    """Party 0 of a bit's conversion: c1 = (b0 ^ b1) - c2."""
    T = c1.dtype.type
    for i in range(c1.size):
        c1[i] = T(T(T(b0[i] ^ b1[i]) & T(1)) - c2[i])


@kernel
def bit_to_ring(b2: Any, c: Any, sign: Any, mask: Any, out: Any) -> None:
    """out = c (1-2d) + sign*d - mask, d = b2 (bit): one additive part of an arithmetic bit."""
    T = out.dtype.type
    one = T(1)
    sign = T(sign)
    for i in range(out.size):
        d = T(T(b2[i]) & one)
        out[i] = T(c[i] * T(one - d - d) + sign * d - mask[i])


@kernel
def add_bit(b2: Any, c: Any, sign: Any, shift: Any, out: Any) -> None:
    """out += (c (1-2d) + sign*d) 2^shift with d = b2 (bit)."""
    T = out.dtype.type
    one = T(1)
    sign = T(sign)
    shift = T(shift)
    for i in range(out.size):
        d = T(T(b2[i]) & one)
        out[i] += T(T(c[i] * T(one - d - d) + sign * d) << shift)


def small_dtype(bits: int) -> np.dtype[Any]:
    """Smallest unsigned dtype that holds integers modulo 2^bits, bits <= 128."""
    for width, dtype in zip((8, 16, 32, 64, 128), WORDS, strict=True):
        if bits <= width:
            return dtype
    raise ValueError(f"no dtype of {bits} bits")
