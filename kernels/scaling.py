"""Kernels of products of a shared value with public factors, cut by m bits; see aby3/truncation.py.

All arrays are flat and contiguous. There is a factor f for each element, also where all are the
same: a step of 0 would keep the loops from being made of vector instructions. f 2^m fits into a
signed ring element, so (f x) / 2^m of a signed x is found from x / 2^m and the m bits below
without an overflow. Dtypes as in arith.py.
"""

from __future__ import annotations

from typing import Any

from spuvm.kernels.jit import kernel


@kernel
def scaled_first(f: Any, x: Any, c: Any, s0: Any, r: Any, m: Any, e: Any, z1: Any) -> None:
    """Party 0: u = x + 2^(k-2), a = msb(u), e = a xor c;  `c` holds bits.

    z1 = floor(f u / 2^m) + f (1 - 2e) s0 2^(k-m) - f 2^(k-2-m) - r, u read as signed.
    """
    T = z1.dtype.type
    B = e.dtype.type
    m = T(m)
    one = T(1)
    k1 = T(z1.itemsize * 8 - 1)
    up = T(k1 + one - m)
    below = T(T(one << m) - one)
    offset = T(one << T(k1 - one))
    after = T(k1 - one - m)
    for i in range(z1.size):
        factor = f[i]
        u = T(x[i] + offset)
        a = T(u >> k1)
        bit = T(a ^ T(c[i] & 1))
        e[i] = B(bit)
        high = T(factor * T(T(u >> m) - T(a << up)))
        low = T(factor * T(u & below))
        low = T(T(low >> m) - T(T(low >> k1) << up))
        signed = T(factor * T(T(one - bit - bit) * T(s0[i])))
        z1[i] = T(high + low + T(signed << up) - T(factor << after) - r[i])


@kernel
def scaled_keep(f: Any, x2: Any, t2: Any, m: Any, b: Any, z2: Any) -> None:
    """Parties 1 and 2: b = msb(x2), z2 = ceiling(f x2 / 2^m) + t2 2^(k-m)."""
    T = z2.dtype.type
    B = b.dtype.type
    m = T(m)
    one = T(1)
    k1 = T(z2.itemsize * 8 - 1)
    up = T(k1 + one - m)
    below = T(T(one << m) - one)
    for i in range(z2.size):
        factor = f[i]
        top = T(x2[i] >> k1)
        b[i] = B(top)
        high = T(factor * T(T(x2[i] >> m) - T(top << up)))
        low = T(T(factor * T(x2[i] & below)) + below)
        low = T(T(low >> m) - T(T(low >> k1) << up))
        z2[i] = T(high + low + T(T(t2[i]) << up))


@kernel
def scaled_second(
    f: Any, b: Any, e: Any, s1: Any, t2: Any, r: Any, m: Any, y: Any, z0: Any
) -> None:
    """Party 2: y = f (e*b + (1 - 2e) s1) - t2, z0 = r + y 2^(k-m)."""
    T = z0.dtype.type
    S = y.dtype.type
    up = T(T(z0.itemsize * 8) - T(m))
    one = S(1)
    for i in range(z0.size):
        bit = S(e[i])
        product = S(S(bit * S(b[i])) + S(S(one - bit - bit) * s1[i]))
        part = S(S(S(f[i]) * product) - t2[i])
        y[i] = part
        z0[i] = T(r[i] + T(T(part) << up))


@kernel
def parted_first(x: Any, c: Any, s0: Any, m: Any, e: Any, high: Any, low: Any) -> None:
    """Party 0: u = x + 2^(k-2), a = msb(u), e = a xor c;  `c` holds bits.

    high = u / 2^m + (1 - 2e) s0 2^(k-m), low = u mod 2^m, u read as signed.
    """
    T = high.dtype.type
    B = e.dtype.type
    m = T(m)
    one = T(1)
    k1 = T(high.itemsize * 8 - 1)
    up = T(k1 + one - m)
    below = T(T(one << m) - one)
    offset = T(one << T(k1 - one))
    for i in range(high.size):
        u = T(x[i] + offset)
        a = T(u >> k1)
        bit = T(a ^ T(c[i] & 1))
        e[i] = B(bit)
        low[i] = T(u & below)
        signed = T(T(one - bit - bit) * T(s0[i]))
        high[i] = T(T(u >> m) - T(a << up) + T(signed << up))


@kernel
def parted(x2: Any, m: Any, b: Any, high: Any, low: Any) -> None:
    """Parties 1 and 2: b = msb(x2), high = x2 / 2^m, low = x2 mod 2^m, x2 read as signed."""
    T = high.dtype.type
    B = b.dtype.type
    m = T(m)
    one = T(1)
    k1 = T(high.itemsize * 8 - 1)
    up = T(k1 + one - m)
    below = T(T(one << m) - one)
    for i in range(high.size):
        top = T(x2[i] >> k1)
        b[i] = B(top)
        low[i] = T(x2[i] & below)
        high[i] = T(T(x2[i] >> m) - T(top << up))


@kernel
def wraps(b: Any, e: Any, s1: Any, out: Any) -> None:
    """Party 2: out = e*b + (1 - 2e) s1, in the dtype of s1 before it is a ring element."""
    T = out.dtype.type
    S = s1.dtype.type
    one = S(1)
    for i in range(out.size):
        bit = S(e[i])
        out[i] = T(S(S(bit * S(b[i])) + S(S(one - bit - bit) * s1[i])))


@kernel
def joined(low: Any, ceiling: Any, m: Any, out: Any) -> None:
    """out += low / 2^m, low read as signed, rounded down, or up where `ceiling` is 1."""
    T = out.dtype.type
    m = T(m)
    one = T(1)
    k1 = T(out.itemsize * 8 - 1)
    up = T(k1 + one - m)
    extra = T(T(T(one << m) - one) * T(ceiling))
    for i in range(out.size):
        v = T(low[i] + extra)
        out[i] = T(out[i] + T(v >> m) - T(T(v >> k1) << up))
