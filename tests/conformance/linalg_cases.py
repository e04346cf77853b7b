"""Records of linear algebra: a function and the well-conditioned matrices it is run on.

The words of a record's name that are names of primitives say which ones it is about.
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as sl
import numpy as np
from jax import lax
from jax.scipy.sparse.linalg import cg


def conditioned(rng, m, n, condition):
    """A random matrix whose singular values run from 3 to 3 / condition."""
    u, _ = np.linalg.qr(rng.normal(size=(m, m)))
    v, _ = np.linalg.qr(rng.normal(size=(n, n)))
    k = min(m, n)
    s = np.geomspace(3, 3 / condition, k)
    return np.float32((u[:, :k] * s) @ v[:k])


def rebuilt_eigh(x):
    w, v = jnp.linalg.eigh(x)
    return w, (v * w) @ v.T, v.T @ v


def rebuilt_svd(x):
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    return s, (u * s) @ vt, u.T @ u, vt @ vt.T


def square_factors(x):
    u, s, vt = jnp.linalg.svd(x)
    k = s.shape[0]
    return (u[:, :k] * s) @ vt[:k], u.T @ u, vt @ vt.T


def packed(x):
    a, taus = jnp.linalg.qr(x, mode="raw")
    return a, lax.linalg.householder_product(a.T, taus)


def multiplied(x, y):
    a, taus = jnp.linalg.qr(x, mode="raw")
    turned = lax.linalg.ormqr(a.T, taus, y, transpose=True)
    return turned, lax.linalg.ormqr(a.T, taus, y.T, left=False)


def rebuilt_hessenberg(x):
    packed, taus = lax.linalg.hessenberg(x)
    return rebuilt(jnp.triu(packed, -1), packed, taus)


def rebuilt_tridiagonal(x, lower=True):
    """LAPACK's upper form is its lower one seen from the other end."""
    packed, d, e, taus = lax.linalg.tridiagonal(x, lower=lower)
    made = jnp.diag(d) + jnp.diag(e, 1) + jnp.diag(e, -1)
    if lower:
        return rebuilt(made, packed, taus)
    return rebuilt(made[::-1, ::-1], packed[::-1, ::-1], taus[::-1])


def rebuilt(made, packed, taus):
    """q made q^T and q^T q, the first column of q being that of the identity."""
    q = lax.linalg.householder_product(packed[1:, :-1], taus)
    made = made.at[1:].set(q @ made[1:])
    return made.at[:, 1:].set(made[:, 1:] @ q.T), q.T @ q


def checks(condition):
    """Name -> a function and its matrices, of this condition number."""
    rng = np.random.default_rng(7)
    square, tall = conditioned(rng, 4, 4, condition), conditioned(rng, 5, 3, condition)
    symmetric = np.float32((square + square.T) / 2)
    positive = np.float32(square @ square.T + 0.5 * np.eye(4))
    right = np.float32(rng.uniform(-3, 3, (4, 2)))
    lower = np.float32(np.tril(rng.uniform(-1, 1, (4, 4)), -1) + np.diag([1.5, -2, 0.7, 3]))
    return {
        "cholesky": (jnp.linalg.cholesky, positive),
        "cholesky batch": (jnp.linalg.cholesky, np.stack([positive, 3 * positive])[:, :3, :3]),
        "cholesky grad": (jax.grad(lambda x: jnp.linalg.cholesky(x).sum()), positive[:2, :2]),
        "cho_solve": (lambda a, b: sl.cho_solve(sl.cho_factor(a), b), positive[:3, :3], right[:3]),
        "triangular_solve lower": (
            lambda a, b: sl.solve_triangular(a, b, lower=True),
            lower,
            right,
        ),
        "triangular_solve unit": (
            lambda a, b: sl.solve_triangular(a, b, trans=1, lower=True, unit_diagonal=True),
            lower,
            right,
        ),
        "triangular_solve right": (
            lambda a, b: lax.linalg.triangular_solve(a, b, left_side=False, lower=True),
            lower,
            right.T,
        ),
        "triangular_solve public": (
            lambda b: sl.solve_triangular(jnp.asarray(lower.T, b.dtype), b),
            right,
        ),
        "lu": (lax.linalg.lu, square),
        "lu tall": (lax.linalg.lu, tall),
        "lu wide": (lax.linalg.lu, tall.T),
        "lu_pivots_to_permutation": (
            lambda x: lax.linalg.lu_pivots_to_permutation(sl.lu_factor(x)[1], 4),
            square,
        ),
        "det": (jnp.linalg.det, square),
        "slogdet": (jnp.linalg.slogdet, square[:3, :3]),
        "det small": (jnp.linalg.det, np.stack([square[:3, :3], positive[:3, :3]])),
        "qr": (jnp.linalg.qr, tall),
        "qr wide": (jnp.linalg.qr, tall.T[:2]),
        "qr complete": (lambda x: jnp.linalg.qr(x, mode="complete"), tall[:, :2]),
        "qr pivoted": (lambda x: sl.qr(x, pivoting=True), tall),
        "qr pivoted wide": (lambda x: sl.qr(x, pivoting=True, mode="economic"), tall.T),
        "geqrf householder_product": (packed, tall[:, :2]),
        "geqrf ormqr": (multiplied, tall, np.concatenate([right, right[:1]])),
        "hessenberg": (rebuilt_hessenberg, square),
        "tridiagonal": (rebuilt_tridiagonal, symmetric[:3, :3]),
        "tridiagonal upper": (
            lambda x: rebuilt_tridiagonal(x, lower=False),
            symmetric[:3, :3],
        ),
        "cholesky_update": (
            lax.linalg.cholesky_update,
            np.float32(np.linalg.cholesky(positive[:3, :3]).T),
            right[:3, 0],
        ),
        "symmetric_product": (
            lambda a, c: lax.linalg.symmetric_product(a, c, alpha=0.5, beta=2.0),
            tall.T,
            positive[:3, :3],
        ),
        "tridiagonal_solve": (
            lax.linalg.tridiagonal_solve,
            np.float32([0.0, 2.0, -0.5, 0.75]),
            np.float32([0.0, 1.0, 2.5, 2.0]),  # only exchanging rows solves it
            np.float32([2.0, 0.5, -1.0, 0.0]),
            right,
        ),
        "eigh": (rebuilt_eigh, symmetric[:3, :3]),
        "eigh two": (jnp.linalg.eigvalsh, symmetric[:2, :2]),
        "svd": (rebuilt_svd, tall),
        "svd square factors": (square_factors, tall[:, :2].T),
        "pinv": (lambda x: jnp.linalg.pinv(x, rtol=1e-3), tall[:, :2]),
        "lstsq": (lambda x, y: jnp.linalg.lstsq(x, y, rcond=1e-3)[0], tall[:, :2], tall[:, 2]),
        "norms": (
            lambda x: [jnp.linalg.norm(x, o) for o in (None, 2, -2, "nuc", 1, np.inf)],
            tall[:, :2],
        ),
        "cg": (lambda a, b: cg(a, b, tol=0.0, maxiter=8)[0], positive, right[:, 0]),
        "cg preconditioned": (
            lambda a, b: cg(a, b, maxiter=6, M=lambda v: v / jnp.diag(a))[0],
            positive,
            right[:, 0],
        ),
        "matrix_power": (lambda x: jnp.linalg.matrix_power(x, 3), square),
    }


CHECKS = checks(20)
SMALL = checks(5)  # for 8 fraction bits
