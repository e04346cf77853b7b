"""Records of loops: all kinds of carries and rows, public work in bodies, transformations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax_cases import SMALL, Arg, B, Case, I

UNIT = Arg(limit=1.0)
ROWS = (((4, 3),),)
BOTH = (((4, 3), (3,)),)
VECTOR = (((3,),),)


def _rows(x: Any, w: Any, reverse: bool = False) -> Any:
    return lax.scan(lambda c, r: (c * 0.5 + r, (c * r, r > 0)), w, x, reverse=reverse)


def _sgd(w: Any, x: Any) -> Any:
    def loss(w: Any, rows: Any) -> Any:
        return jnp.mean((rows @ w) ** 2)

    def step(i: Any, w: Any) -> Any:
        rows = lax.dynamic_slice(x, ((i % 2) * 2, 0), (2, 3))
        return w - 0.1 / (1 + i) * jax.grad(loss)(w, rows)

    return lax.fori_loop(0, 4, step, w)


def _where(x: Any) -> Any:
    return lax.while_loop(lambda c: c[0] < 20, lambda c: (c[0] * 2, c[1] * 0.5 + c[0]), (1, x))[1]


def _ended(n: Any, public: Any = 9) -> Any:
    def digit(s: Any) -> Any:
        return s[0] + 1, lax.shift_right_arithmetic(s[1], jnp.array(2, n.dtype)), s[2] + s[1]

    start = (jnp.int32(0), n, jnp.zeros_like(n))
    return lax.while_loop(lambda s: (s[0] < public) & (s[1] > 0).any(), digit, start)


def _ended_inside(n: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, v: _ended(v, i + 1)[2], n)


def _nested(x: Any, w: Any) -> Any:
    def outer(e: Any, w: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, w: w * 0.5 + x[i] * (e + 1) + (4 * e + i) % 3, w)

    return lax.fori_loop(0, 3, outer, w)


def _triangular(x: Any) -> Any:
    def row(i: Any, v: Any) -> Any:
        return lax.fori_loop(i, 4, lambda j, v: v * 0.5 + x[j] * i, v)

    return lax.fori_loop(0, 4, row, jnp.zeros(3))


def _now_and_then(x: Any) -> Any:
    def step(i: Any, v: Any) -> Any:
        start = (jnp.int32(0), v)
        return lax.while_loop(lambda s: s[0] < i % 2, lambda s: (s[0] + 1, s[1] + x[i]), start)[1]

    return lax.fori_loop(0, 4, step, jnp.zeros(3))


def _randoms(x: Any) -> Any:
    def step(carry: Any, i: Any) -> Any:
        key, v = carry
        key, now = jax.random.split(key)
        return (key, v + jax.random.uniform(now, v.shape, jnp.float32)), v * i

    (_, v), rows = lax.scan(step, (jax.random.key(0), x), jnp.arange(4.0))
    return v, rows


def _public(x: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        n, v = carry
        return (n * 3 + 1, v + row), (n, jnp.float32(n) + 0.5, v)

    (n, v), (numbers, halves, rows) = lax.scan(step, (jnp.int32(1), jnp.zeros(3)), x)
    return n, v, numbers, halves, rows


def _writes(x: Any) -> Any:
    def step(i: Any, v: Any) -> Any:
        v = v.at[i].set(x[3 - i] * i)
        v = v.at[i % 2, 1].add(x[i, 0])
        return lax.dynamic_update_slice(v, v[2:3] + 1, (i // 3, 0))

    return lax.fori_loop(0, 4, step, jnp.zeros_like(x))


def _branches(x: Any, w: Any) -> Any:
    def step(i: Any, w: Any) -> Any:
        w = lax.cond(i % 2 == 0, lambda w: w + x[i], lambda w: w * 0.5, w)
        w = lax.switch(i, [lambda w: w + 1, lambda w: w - 2, lambda w: -w], w)
        return jnp.where(jnp.arange(3) < i, w, w * 0.25)

    return lax.fori_loop(0, 4, step, w)


def _in_branch(b: Any, x: Any) -> Any:
    def loop(x: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, v: v * 0.5 + i, x)

    return lax.cond(b, loop, lambda x: x * 2, x)


def _secret_branch(x: Any) -> Any:
    def step(i: Any, v: Any) -> Any:
        # Alike where the sum is 0, so that a rounding decides nothing.
        return i * 0.25 + lax.cond(
            v.sum() > 0, lambda v: v - 0.5 * v.sum(), lambda v: v + 0.25 * v.sum(), v
        )

    return lax.fori_loop(0, 3, step, x)


def _integers(n: Any) -> Any:
    return lax.fori_loop(0, 5, lambda i, c: (c[0] * 3 + i.astype(n.dtype), c[1] ^ (c[0] > 4)),
                         (n, n > 0))  # fmt: skip


def _clipped(x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, v: jnp.clip(v * v - 1, -2, 2), x)


def _matrices(x: Any) -> Any:
    table = jnp.arange(24.0).reshape(4, 3, 2) / 8
    return lax.scan(lambda c, p: (c + x @ p, c[0] @ p.T), jnp.zeros((4, 2)), table)


def _remat(x: Any, w: Any) -> Any:
    @jax.checkpoint
    def step(c: Any, r: Any) -> Any:
        return jax.jit(lambda c: c * 0.5 + r * c)(c), (c * c).sum()

    def loss(w: Any) -> Any:
        end, rows = lax.scan(step, w, x)
        return rows.sum() + end.sum()

    return jax.grad(loss)(w)


def _hessian(w: Any) -> Any:
    def energy(w: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, v: v * v * 0.25 + w, w).sum()

    return jax.hessian(energy)(w)


def _associative(x: Any) -> Any:
    return lax.map(lambda r: r.cumsum() * 0.5, x)


LOOP_CASES = [
    Case("scan", _rows, (SMALL, SMALL), BOTH, name="rows"),
    Case("scan", lambda x, w: _rows(x, w, True), (SMALL, SMALL), BOTH, name="reverse"),
    Case("scan", _sgd, (UNIT, UNIT), (((3,), (4, 3)),), name="sgd"),
    Case("while", _where, (SMALL,), VECTOR, name="public-predicate"),
    Case("scan", _nested, (SMALL, SMALL), BOTH, name="nested"),
    Case("while", _ended, (I,), VECTOR, exact="exact", name="bounded"),
    Case("while", _ended_inside, (I,), VECTOR, exact="exact", name="bounded-inside"),
    Case("while", _triangular, (SMALL,), ROWS, name="triangular"),
    Case("while", _now_and_then, (SMALL,), ROWS, name="now-and-then"),
    Case("scan", _randoms, (SMALL,), VECTOR, name="keys"),
    Case("scan", _public, (SMALL,), ROWS, name="public"),
    Case("scan", _writes, (SMALL,), ROWS, name="writes"),
    Case("scan", _branches, (SMALL, SMALL), BOTH, name="branches"),
    Case("scan", _in_branch, (B, SMALL), (((), (3,)),), name="in-a-branch"),
    Case("scan", _secret_branch, (SMALL,), VECTOR, name="secret-branch"),
    Case("scan", _integers, (I,), VECTOR, exact="exact", name="integers"),
    Case("scan", _clipped, (SMALL,), VECTOR, name="clipped"),
    Case("scan", _matrices, (SMALL,), (((4, 3),),), name="public-matrices"),
    Case("scan", _remat, (UNIT, UNIT), BOTH, name="remat-grad"),
    Case("scan", _hessian, (UNIT,), (((2,),),), name="hessian"),
    Case("scan", _associative, (SMALL,), ROWS, name="map"),
    Case("scan", lambda x, w: jax.vmap(_nested, (None, 0))(x, jnp.stack([w, w * 0.5])),
         (SMALL, SMALL), BOTH, name="vmap"),
]  # fmt: skip
