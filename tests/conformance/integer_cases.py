"""Records of integers: functions of operands of every dtype, and the operands they are run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

SIGNED = ("int8", "int16", "int32", "int64")
DTYPES = (*SIGNED, "uint8", "uint16", "uint32", "uint64")
N = 24


@dataclass(frozen=True)
class Op:
    """A function of integers and what its operands are: x secret, c public, s a shift amount."""

    name: str
    fn: Callable[..., Any]
    operands: str = "xx"
    dtypes: tuple[str, ...] = DTYPES


OPS = [
    Op("add", lambda x, y: x + y),
    Op("sub", lambda x, y: x - y),
    Op("mul", lambda x, y: x * y),
    Op("mulhi", lambda x, y: lax.mulhi(x, y)),
    Op("mulhi-public", lambda x, c: (lax.mulhi(x, c), lax.mulhi(c, x)), "xc"),
    Op("mul-wrapped", lambda x, y: (x * y + x) < (y * y)),
    Op("neg", lambda x: -x, "x"),
    Op("power", lambda x: x**5, "x"),
    Op("lt", lambda x, y: x < y),
    Op("le", lambda x, y: x <= y),
    Op("eq", lambda x, y: x == y),
    Op("lt-public", lambda x, c: (x < c, c < x), "xc"),
    Op("ge-sums", lambda x, y: x + y >= y - x),
    Op("max", lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, y))),
    Op("max-public", lambda x, c: (jnp.maximum(x, c) > c, jnp.minimum(x, c) + x), "xc"),
    Op("max-wrapped", lambda x, y: jnp.maximum(x * y, jnp.array(5, x.dtype)) >= y),
    Op("clamp", lambda x, y, z: lax.clamp(y, x, z), "xxx"),
    Op("abs", lambda x, y: (jnp.abs(x), jnp.abs(x + y))),
    Op("sign", lambda x: jnp.sign(x), "x"),
    Op("and", lambda x, y: x & y),
    Op("or", lambda x, y: x | y),
    Op("xor", lambda x, y: x ^ y),
    Op("not", lambda x, y: ~x & y),
    Op("and-public", lambda x, c: (x & c, x & 3, x & 0), "xc"),
    Op("or-public", lambda x, c: (x | c, x | 6, x | 0), "xc"),
    Op("xor-public", lambda x, c: (x ^ c, x ^ 5), "xc"),
    Op("hash", lambda x, y: ((x ^ (x >> 3)) + y) ^ (y << 2)),
    Op("shift-left", lambda x, s: lax.shift_left(x, s), "xs"),
    Op("shift-right", lambda x, s: lax.shift_right_logical(x, s), "xs"),
    Op("shift-arithmetic", lambda x, s: lax.shift_right_arithmetic(x, s), "xs"),
    Op("shift-left-public", lambda x, p: (lax.shift_left(x, p), x << 3), "xp"),
    Op("shift-right-public", lambda x, p: (lax.shift_right_logical(x, p), x >> 2), "xp"),
    Op("shift-arithmetic-public", lambda x, p: lax.shift_right_arithmetic(x, p), "xp"),
    Op("shift-of-public", lambda c, s: (lax.shift_left(c, s), lax.shift_right_logical(c, s)),
       "cs"),
    Op("shift-narrow", lambda x: ((x & 7) << 2, (x & 12) >> 2, (x & 12) >> 7), "x"),
    Op("population-count", lambda x: lax.population_count(x), "x"),
    Op("clz", lambda x: lax.clz(x), "x"),
    Op("clz-narrow", lambda x: lax.clz(x & 6), "x"),
    Op("div", lambda x, y: lax.div(x, y), dtypes=("int8", "uint8", "int16")),
    Op("div-wide", lambda x, y: lax.div(x, y), dtypes=("int32", "uint32", "int64", "uint64")),
    Op("rem", lambda x, y: lax.rem(x, y), dtypes=("int8", "uint16")),
    Op("rem-wide", lambda x, y: lax.rem(x, y), dtypes=("int32", "uint32", "uint64")),
    Op("div-public", lambda x, c: (lax.div(x, c), lax.rem(x, c)), "xc",
       ("int8", "int16", "uint16")),
    Op("div-constant", lambda x: (lax.div(x, jnp.array(7, x.dtype)), x // 3, x % 10, x // 16),
       "x", ("int8", "uint8", "int32", "uint32")),
    Op("div-negative", lambda x: (x // -3, x % -5, lax.div(x, jnp.array(-1, x.dtype))), "x",
       ("int8", "int32")),
    Op("div-large", lambda x: (x // 100_003, lax.rem(x, jnp.array(2**30, x.dtype))), "x",
       ("int32", "uint32", "int64")),
    Op("div-zero", lambda x: (x // 0, x % 0), "x", ("int8", "uint8")),
    Op("div-by-secret", lambda x: lax.div(jnp.array(100, x.dtype), x), "x", ("int8", "uint8")),
    Op("divmod", lambda x, y: jnp.divmod(x, y), dtypes=("int8", "uint8")),
    Op("gcd", lambda x, y: jnp.gcd(x >> 1, y >> 1), dtypes=("int8", "uint16", "int32", "uint64")),
    Op("lcm", lambda x, y: jnp.lcm(x >> 1, y >> 1), dtypes=("int8", "uint8")),
    Op("pow", lambda x, y: x ** (y & 3), dtypes=("int8", "uint16", "int32")),
    Op("convert", lambda x: tuple(x.astype(d) for d in DTYPES[:3] + DTYPES[4:7]), "x"),
    Op("convert-sum", lambda x, y: (x + y).astype(bool), "xx"),
    Op("convert-bool", lambda x: (x.astype(bool).astype(x.dtype), x.astype(bool)), "x"),
    Op("cast", lambda x: (lax.bitcast_convert_type(x, np.dtype(f"u{x.dtype.itemsize}")) > 3), "x"),
    Op("cast-back", lambda x: lax.bitcast_convert_type(x, np.dtype(f"i{x.dtype.itemsize}")) - 1,
       "x"),
    Op("widened", lambda x: x.astype(f"i{max(2, x.dtype.itemsize)}") * 2 < 100, "x", SIGNED),
    Op("reduce-and", lambda x: jnp.bitwise_and.reduce(x | 3), "x"),
    Op("reduce-or", lambda x: lax.reduce_or(x.reshape(4, -1), (0,)), "x"),
    Op("reduce-xor", lambda x: lax.reduce_xor(x.reshape(4, -1), (1,)), "x"),
    Op("sum", lambda x: (jnp.sum(x, dtype=x.dtype), jnp.cumsum(x, dtype=x.dtype)), "x"),
    Op("prod", lambda x: (jnp.prod(x[:5], dtype=x.dtype), jnp.cumprod(x[:5], dtype=x.dtype)), "x"),
    Op("extremes", lambda x: (x.max(), x.min(), lax.cummax(x), lax.cummin(x, reverse=True)), "x"),
    Op("arg-extremes", lambda x: (jnp.argmax(x), jnp.argmin(x)), "x"),
    Op("sort", lambda x, y: (jnp.sort(x), jnp.argsort(x - y)), "xx"),
    Op("sort-keys", lambda x, y: lax.sort((x & 3, y, x), num_keys=2), "xx"),
    Op("sort-descending", lambda x: (jnp.sort(x, descending=True), jnp.argsort(x, descending=True)),
       "x"),
    Op("top-k", lambda x: lax.top_k(x, 5), "x"),
    Op("dot", lambda x, y: (x.reshape(4, -1) @ y.reshape(-1, 4)).astype(x.dtype)),
    Op("where", lambda x, y: jnp.where(x > y, x * 3, y)),
]  # fmt: skip


def sample(rng: np.random.Generator, dtype: str, kind: str) -> np.ndarray:
    """Borders, small numbers and any numbers, with many equal ones."""
    info = np.iinfo(dtype)
    any_ = rng.integers(info.min, info.max, N, np.dtype(dtype), endpoint=True)
    if kind in "sp":
        small = rng.integers(0, 2 * info.bits, N).astype(dtype)
        return np.asarray(np.where(rng.random(N) < 0.8, small, any_), dtype)
    borders = np.array([info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max,
                        -1 if info.min else 3], dtype)  # fmt: skip
    few = rng.choice(borders, N)
    near = rng.integers(0, 9, N).astype(dtype)
    pick = rng.integers(0, 3, N)
    return np.asarray(np.select([pick == 0, pick == 1], [few, near], any_), dtype)
