"""Matrix decompositions as JAX functions of one real matrix, for lowering: no order of operations,
size or number of steps depends on a value. What LAPACK does by pivots and convergence is done by
one-hot products and by fixed numbers of sweeps.

Fixed point sees absolute sizes: entries should be of the order of 1 to 100, and the stated accuracy
holds for condition numbers up to about 20 (5 at 8 fraction bits) and grows with them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.compiler.assume import assume_range

Array = Any


def cholesky(a: Array) -> Array:
    """Lower L with L L^T = a for a symmetric positive definite `a`, column by column."""
    n = a.shape[0]
    columns = []
    for j in range(n):
        root = jnp.sqrt(a[0, 0])
        below = a[1:, 0] / root
        columns.append(jnp.concatenate([jnp.zeros((j,), a.dtype), root[None], below]))
        a = a[1:, 1:] - below[:, None] * below[None, :]
    return jnp.stack(columns, 1)


def triangular_solve(a: Array, b: Array, *, unit_diagonal: bool) -> Array:
    """x with a x = b for a lower triangular `a`, row by row; all divisions are done at once."""
    n = a.shape[0]
    if not unit_diagonal:
        diagonal = jnp.diagonal(a)[:, None]
        a, b = jnp.split(jnp.concatenate([a, b], 1) / diagonal, [n], 1)
    rows = [b[:1]]
    for i in range(1, n):
        rows.append(b[i : i + 1] - a[i : i + 1, :i] @ jnp.concatenate(rows, 0))
    return jnp.concatenate(rows, 0)


def lu(a: Array) -> tuple[Array, Array, Array]:
    """LAPACK's getrf: packed factors, the row that step k swaps with, and the permutation.

    The pivot is the first of the largest entries; rows are swapped by products with its one-hot
    vector, in every step the whole matrix.
    """
    m, n = a.shape
    a = jnp.concatenate([a, jnp.arange(m, dtype=a.dtype)[:, None]], 1)
    pivots = []
    for k in range(min(m, n)):
        if k < m - 1:
            place = jnp.argmax(jnp.abs(a[k:, k]))
            pivots.append(place.astype(np.int32) + k)
            a = jnp.concatenate([a[:k], _swap_first(a[k:], place)], 0)
            factor = a[k + 1 :, k] / a[k, k]
            rest = a[k + 1 :, k + 1 : n] - factor[:, None] * a[k, k + 1 : n]
            lower = jnp.concatenate([a[k + 1 :, :k], factor[:, None], rest, a[k + 1 :, n:]], 1)
            a = jnp.concatenate([a[: k + 1], lower], 0)
        else:
            pivots.append(jnp.zeros((), np.int32) + k)
    order = assume_range(a[:, n], 0, m - 1).astype(np.int32)
    return a[:, :n], jnp.stack(pivots), assume_range(order, 0, m - 1)


def _swap_first(a: Array, place: Array) -> Array:
    """Rows 0 and `place` (secret) exchanged."""
    chosen = (jnp.arange(a.shape[0]) == place).astype(a.dtype)
    row = chosen @ a
    step = row - a[0]
    rest = a[1:] - chosen[1:, None] * step
    return jnp.concatenate([row[None], rest], 0)


def permutation(pivots: Array, size: int) -> Array:
    """The permutation that the swaps of `lu` make."""
    order = jnp.arange(size, dtype=np.int32)[:, None]
    for k in range(pivots.shape[0]):
        rest = order[k:]
        chosen = (jnp.arange(k, size) == pivots[k]).astype(np.int32)
        row = (chosen[:, None] * rest).sum(0)
        moved = rest[1:] - chosen[1:, None] * (row - rest[0])
        order = jnp.concatenate([order[:k], row[None], moved], 0)
    return assume_range(order[:, 0], 0, size - 1)


_FINER = 4.0
"""Reflectors v begin with it instead of 1, and their taus are as many times as large: what is lost
of their entries is multiplied by the longest columns."""


def geqrf(a: Array) -> tuple[Array, Array]:
    """LAPACK's geqrf: R with the reflectors below it, and their factors tau."""
    return _as_lapack(*_factors(a))


def _as_lapack(packed: Array, taus: Array) -> tuple[Array, Array]:
    m, n = packed.shape
    below = np.tri(m, n, -1, dtype=bool)
    return jnp.where(below, packed / _FINER, packed).astype(packed.dtype), taus / _FINER


def _factors(a: Array) -> tuple[Array, Array]:
    """What geqrf returns, but of the finer reflectors."""
    taus = []
    for k in range(min(a.shape)):
        a, tau = _step(a, k)
        taus.append(tau)
    return a, jnp.stack(taus)


def _pivoted_factors(a: Array) -> tuple[Array, Array, Array]:
    """LAPACK's geqp3 of columns of which none is fixed: the factors, the taus, and the order.

    The next column is the first of those with the longest rest; columns are swapped by products
    with its one-hot vector, each with its number as a last row.
    """
    m, n = a.shape
    numbers, taus = jnp.arange(n, dtype=a.dtype)[None], []
    for k in range(min(m, n)):
        if k < n - 1:
            place = jnp.argmax(jnp.sum(a[k:, k:] ** 2, 0))
            whole = jnp.concatenate([a, numbers], 0)
            swapped = _swap_first(whole[:, k:].T, place).T
            a = jnp.concatenate([a[:, :k], swapped[:m]], 1)
            numbers = jnp.concatenate([numbers[:, :k], swapped[m:]], 1)
        a, tau = _step(a, k)
        taus.append(tau)
    order = assume_range(numbers[0], 0, n - 1).astype(np.int32)
    return a, jnp.stack(taus), assume_range(order, 0, n - 1)


def _step(a: Array, k: int) -> tuple[Array, Array]:
    """Step k of geqrf, and its tau."""
    if k == a.shape[0] - 1:
        return a, jnp.zeros((), a.dtype)
    beta, v, tau = _reflector(a[k:, k])
    rest = _reflected(v, tau, a[k:, k + 1 :])
    column = jnp.concatenate([beta[None], v[1:]])[:, None]
    lower = jnp.concatenate([a[k:, :k], column, rest], 1)
    return jnp.concatenate([a[:k], lower], 0), tau


def _reflector(x: Array) -> tuple[Array, Array, Array]:
    """(beta, v, tau) such that x reflected is (beta, 0, ...)."""
    norm = jnp.sqrt(jnp.sum(x * x))
    beta = jnp.where(x[0] > 0, -norm, norm)
    gap = x[0] - beta
    rest = assume_range(_FINER * x[1:] / gap, -1.5 * _FINER, 1.5 * _FINER)
    v = jnp.concatenate([jnp.full((1,), _FINER, x.dtype), rest])
    return beta, v, assume_range(-_FINER * gap / beta, 0, 2.5 * _FINER)


def _reflected(v: Array, tau: Array, x: Array) -> Array:
    """(1 - tau v v^T / _FINER^3) x: the columns of x reflected."""
    return x - (tau * v)[:, None] * (v @ x)[None, :] / _FINER**3


def gehrd(a: Array) -> tuple[Array, Array]:
    """LAPACK's gehrd: an upper Hessenberg matrix with the reflectors below it, and their taus."""
    n, taus = a.shape[0], []
    for k in range(n - 2):
        x = a[k + 1 :, k]  # may be small whatever the condition of the matrix
        size = jnp.max(jnp.abs(x))
        beta, v, tau = _reflector(assume_range(x / size, -1.01, 1.01))
        beta, rest = size * beta, a[:, k + 1 :]
        rest = _reflected(v, tau, rest.T).T
        below = _reflected(v, tau, rest[k + 1 :])
        column = jnp.concatenate([a[: k + 1, k], beta[None], v[1:] / _FINER])[:, None]
        rest = jnp.concatenate([rest[: k + 1], below], 0)
        a = jnp.concatenate([a[:, :k], column, rest], 1)
        taus.append(tau / _FINER)
    taus += [jnp.zeros((), a.dtype)] * (n - 1 - len(taus))
    return a, jnp.stack(taus) if taus else jnp.zeros((0,), a.dtype)


def sytrd(a: Array, *, lower: bool) -> tuple[Array, Array, Array, Array]:
    """LAPACK's sytrd: reflectors in a triangle, the diagonal, the one beside it, and the taus.

    What is upper is the same from the other end.
    """
    n = a.shape[0]
    kept = np.tri(n, n, dtype=bool) if lower else np.tri(n, n, dtype=bool).T
    full = jnp.where(kept, a, a.T)
    made, taus = gehrd(full if lower else full[::-1, ::-1])
    diagonal, beside = jnp.diagonal(made), jnp.diagonal(made, -1)
    if lower:
        return jnp.where(kept, made, a), diagonal, beside, taus
    made = jnp.where(kept, made[::-1, ::-1], a)
    return made, diagonal[::-1], beside[::-1], taus[::-1]


def householder_product(a: Array, taus: Array) -> Array:
    """The first columns of the product of the reflectors of geqrf; shape of `a`."""
    return _product(_FINER * a, _FINER * taus)


def _product(packed: Array, taus: Array) -> Array:
    """householder_product of the finer reflectors."""
    m, n = packed.shape
    q = jnp.eye(m, n, dtype=packed.dtype)
    for k in reversed(range(taus.shape[0])):
        rest = assume_range(q[k:, k:], -1.5, 1.5)
        rest = _reflected(_unpacked(packed, k), taus[k], rest)
        right = jnp.concatenate([q[:k, k:], rest], 0)
        q = jnp.concatenate([q[:, :k], right], 1)
    return q


def _unpacked(packed: Array, k: int) -> Array:
    """The k-th finer reflector."""
    below = assume_range(packed[k + 1 :, k], -1.5 * _FINER, 1.5 * _FINER)
    return jnp.concatenate([jnp.full((1,), _FINER, packed.dtype), below])


def qr(a: Array, *, full_matrices: bool) -> tuple[Array, Array]:
    """Householder QR with LAPACK's signs."""
    return _q_and_r(*_factors(a), full_matrices=full_matrices)


def pivoted_qr(a: Array, *, full_matrices: bool) -> tuple[Array, Array, Array]:
    """Householder QR of the columns in an order that is secret, and that order."""
    packed, taus, order = _pivoted_factors(a)
    return *_q_and_r(packed, taus, full_matrices=full_matrices), order


def _q_and_r(packed: Array, taus: Array, *, full_matrices: bool) -> tuple[Array, Array]:
    m, n = packed.shape
    rank = m if full_matrices else min(m, n)
    wide = packed[:, :rank]
    if rank > n:
        wide = jnp.concatenate([packed, jnp.zeros((m, rank - n), packed.dtype)], 1)
    r = jnp.where(np.tri(rank, n, -1, dtype=bool), 0.0, packed[:rank])
    return _product(wide, taus), r.astype(packed.dtype)


def multiplied(a: Array, taus: Array, c: Array, *, left: bool, transpose: bool) -> Array:
    """LAPACK's ormqr: c times the product of the reflectors of geqrf, which is not built."""
    if not left:
        return multiplied(a, taus, c.T, left=True, transpose=not transpose).T
    packed, places = _FINER * a, range(taus.shape[0])
    for k in places if transpose else reversed(places):
        rest = _reflected(_unpacked(packed, k), _FINER * taus[k], c[k:])
        c = jnp.concatenate([c[:k], rest], 0)
    return c


def cholesky_update(r: Array, w: Array) -> Array:
    """The upper R with R^T R = r^T r + w w^T, by Givens rotations (Golub, Van Loan, 6.5.4)."""
    rows = []
    for k in range(w.shape[0]):
        norm = jnp.sqrt(r[k, k] * r[k, k] + w[k] * w[k])
        c, s = assume_range(jnp.stack([r[k, k], w[k]]) / norm, -1.01, 1.01)
        rows.append(c * r[k] + s * w)
        w = c * w - s * r[k]
    return jnp.triu(jnp.stack(rows))


def tridiagonal_solve(lower: Array, d: Array, upper: Array, b: Array) -> Array:
    """x with T x = b, as a full system: without pivots a 0 on the diagonal would be divided by."""
    full = jnp.diag(d) + jnp.diag(lower[1:], -1) + jnp.diag(upper[:-1], 1)
    return jnp.linalg.solve(full, b)


def sweeps(n: int) -> int:
    """Sweeps after which the off-diagonal part is below 4e-6 of the largest entry, with one spare.

    Found by trial on random, clustered and nearly singular matrices of up to 32 rows.
    """
    return 1 if n <= 2 else 2 + (n - 1).bit_length() + (n > 8)


def _rotation(d: Array, h: Array, unit: float) -> tuple[Array, Array]:
    """Cosine and sine of the smaller angle that makes h = 2 a_pq vanish, d = a_qq - a_pp.

    All but one division are of numbers near 1, whatever the sizes of d and h. An h of a few units
    of the last place is noise: turning by it would add the errors of one more product, so it is
    exactly the identity.
    """
    ad, ah = jnp.abs(d), jnp.abs(h)
    small, large = jnp.minimum(ad, ah), jnp.maximum(ad, ah)
    q = assume_range(jnp.minimum(small / large, 1.0), 0, 1.0)
    s = assume_range(jnp.sqrt(1.0 + q * q), 1, 1.42)
    steep = ah > ad
    size = jnp.where(steep, 1.0, q) / assume_range(jnp.where(steep, q, 1.0) + s, 1, 2.5)
    t = assume_range(jnp.where((d < 0) ^ (h < 0), -size, size), -1.01, 1.01)
    c = assume_range(lax.rsqrt(1.0 + t * t), 0.7, 1.001)
    turn = ah > 4 * unit
    return jnp.where(turn, c, 1.0), jnp.where(turn, t * c, 0.0)


def _round_robin(k: int) -> np.ndarray[Any, Any]:
    """Where each of 2k players sits next; players 2i and 2i+1 meet. One stays, the rest move on."""
    top, bottom = list(range(0, 2 * k, 2)), list(range(1, 2 * k, 2))
    if k > 1:
        top, bottom = [top[0], bottom[0], *top[1:-1]], [*bottom[1:], top[-1]]
    return np.array([p for pair in zip(top, bottom, strict=True) for p in pair])


def eigh(a: Array, unit: float) -> tuple[Array, Array]:
    """Eigenvectors and eigenvalues, unsorted, of a symmetric matrix: cyclic Jacobi.

    In every step all pairs of a round of a tournament are rotated at once; n - 1 steps are a sweep.
    Ref: Golub, Van Loan, Matrix Computations, 8.5; ordering of Brent and Luk 1985.
    """
    n = a.shape[0]
    k = (n + 1) // 2
    a = jnp.pad(a, (0, 2 * k - n))
    if n == 1:
        return jnp.ones((1, 1), a.dtype), a[0, :1]
    seats = _round_robin(k)

    def step(_: Any, state: Array) -> Array:
        both = state  # the matrix above the eigenvectors
        m = both[: 2 * k].reshape(k, 2, k, 2)
        blocks = m[jnp.arange(k), :, jnp.arange(k), :]
        c, s = _rotation(blocks[:, 1, 1] - blocks[:, 0, 0], 2 * blocks[:, 0, 1], unit)
        j = jnp.stack([jnp.stack([c, s], -1), jnp.stack([-s, c], -1)], -2)  # [k, 2, 2]
        rows = jnp.einsum("iab,iar->ibr", j, both[: 2 * k].reshape(k, 2, 2 * k))
        both = jnp.concatenate([rows.reshape(2 * k, 2 * k), both[2 * k :]], 0)
        both = jnp.einsum("ria,iab->rib", both.reshape(-1, k, 2), j).reshape(-1, 2 * k)
        return both[:, seats][np.concatenate([seats, np.arange(2 * k, 4 * k)])]

    steps = sweeps(n) * (2 * k - 1)
    state = jnp.concatenate([a, jnp.eye(2 * k, dtype=a.dtype)], 0)
    state = lax.fori_loop(0, steps, step, state)
    # A whole number of rounds brings everybody back to the first seat, the padding to the last.
    return state[2 * k : 2 * k + n, :n], jnp.diagonal(state)[:n]


MANY = 64  # rows of vectors from which they are not sorted one by one
TALL = 8  # rows per column from which a QR decomposition first is faster, and more exact


def svd(a: Array, unit: float, *, vectors: bool = True) -> tuple[Array, Array, Array]:
    """U [m, n], singular values [n] unsorted, V [n, n] for m >= n: one-sided Jacobi.

    Pairs of columns are rotated until all are orthogonal; their norms are the singular values. Of a
    tall matrix the columns of R are rotated, as each rotation rounds every row; without `vectors`
    U is then that of R.
    Ref: Hestenes 1958; Golub, Van Loan, 8.6; R first: Chan 1982.
    """
    m, n = a.shape
    if m >= TALL * n:
        packed, taus = geqrf(a)
        r = jnp.where(np.tri(n, n, -1, dtype=bool), 0.0, packed[:n]).astype(a.dtype)
        u, values, v = svd(r, unit)
        if vectors:
            full = jnp.concatenate([u, jnp.zeros((m - n, n), a.dtype)])
            u = _of_length_1(multiplied(packed, taus, full, left=True, transpose=False))
        return u, values, v
    k = (n + 1) // 2
    a = jnp.pad(a, ((0, 0), (0, 2 * k - n)))
    seats = _round_robin(k)

    def step(_: Any, state: Array) -> Array:
        pairs = state[:m].reshape(m, k, 2)
        left, right = pairs[..., 0], pairs[..., 1]
        sums = jnp.sum(jnp.stack([left * left, right * right, left * right]), 1)
        c, s = _rotation(sums[1] - sums[0], 2 * sums[2], unit)
        j = jnp.stack([jnp.stack([c, s], -1), jnp.stack([-s, c], -1)], -2)
        turned = jnp.einsum("ria,iab->rib", state.reshape(-1, k, 2), j).reshape(-1, 2 * k)
        return turned[:, seats]

    state = jnp.concatenate([a, jnp.eye(2 * k, dtype=a.dtype)], 0)
    if n > 1:
        state = lax.fori_loop(0, sweeps(n) * (2 * k - 1), step, state)
    columns, v = state[:m, :n], state[m : m + n, :n]
    values = jnp.sqrt(jnp.sum(columns * columns, 0))
    # The square of a short column has few digits; that of its direction shows how far it is off.
    return _of_length_1(columns / values), values, v


def _of_length_1(u: Array) -> Array:
    """Columns that are nearly so: a step of Newton's."""
    return u * (1.5 - 0.5 * jnp.sum(u * u, 0))


def ordered(values: Array, *rows: Array, descending: bool = False) -> tuple[Array, ...]:
    """`values` sorted, and the columns of the matrices in the same order."""
    key = -values if descending else values
    flat = [r for matrix in rows for r in matrix] if sum(map(len, rows)) < MANY else None
    if flat is None:  # rows that are not sorted along, but multiplied by the permutation
        key, order = lax.sort((key, jnp.arange(len(key))), num_keys=1)
        chosen = (order[None, :] == jnp.arange(len(key))[:, None]).astype(values.dtype)
        parts = np.cumsum([len(matrix) for matrix in rows[:-1]])
        return -key if descending else key, *jnp.split(jnp.concatenate(rows) @ chosen, parts)
    key, *moved = lax.sort((key, *flat), num_keys=1)
    made = [-key if descending else key]
    for matrix in rows:
        made.append(jnp.stack(moved[: len(matrix)]) if len(matrix) else matrix)
        moved = moved[len(matrix) :]
    return tuple(made)


def completed(u: Array) -> Array:
    """Orthonormal columns [m, n] and m - n more that make the matrix square."""
    m, n = u.shape
    if m == n:
        return u
    return jnp.concatenate([u, qr(u, full_matrices=True)[0][:, n:]], 1)


def matrices(fn: Any, batch: int) -> Any:
    """`fn` of single matrices for operands with `batch` leading axes."""
    for _ in range(batch):
        fn = jax.vmap(fn)
    return fn


def lengthened(*sides: Array, half: int) -> list[Array]:
    """The parts of a vector, scaled to length 2^half, and the length it had, at least 2^-half."""
    square = sum(jnp.vdot(b, b) for b in sides)
    length = jnp.maximum(jnp.sqrt(square), 2.0**-half)
    return [*(b * 2.0**half / length for b in sides), length]


def shortened(length: Array, *parts: Array, half: int) -> list[Array]:
    """The opposite."""
    return [x * length * 2.0**-half for x in parts]
