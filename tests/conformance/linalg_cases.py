"""Records of linear algebra: a function and the well-conditioned matrices it is run on.

The words of a record's name that are names of primitives say which ones it is about.
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as sl
import numpy as np
from jax import lax

RNG = np.random.default_rng(7)


def conditioned(m, n, condition):
    """A random matrix whose singular values run from 3 to 3 / condition."""
    u, _ = np.linalg.qr(RNG.normal(size=(m, m)))
    v, _ = np.linalg.qr(RNG.normal(size=(n, n)))
    k = min(m, n)
    s = np.geomspace(3, 3 / condition, k)
    return np.float32((u[:, :k] * s) @ v[:k])


SQUARE, TALL = conditioned(4, 4, 20), conditioned(5, 3, 20)
SYMMETRIC = np.float32((SQUARE + SQUARE.T) / 2)
POSITIVE = np.float32(SQUARE @ SQUARE.T + 0.5 * np.eye(4))
RIGHT = np.float32(RNG.uniform(-3, 3, (4, 2)))
LOWER = np.float32(np.tril(RNG.uniform(-1, 1, (4, 4)), -1) + np.diag([1.5, -2, 0.7, 3]))


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


CHECKS = {
    "cholesky": (jnp.linalg.cholesky, POSITIVE),
    "cholesky batch": (jnp.linalg.cholesky, np.stack([POSITIVE, 3 * POSITIVE])[:, :3, :3]),
    "cholesky grad": (jax.grad(lambda x: jnp.linalg.cholesky(x).sum()), POSITIVE[:2, :2]),
    "cho_solve": (lambda a, b: sl.cho_solve(sl.cho_factor(a), b), POSITIVE[:3, :3], RIGHT[:3]),
    "triangular_solve lower": (lambda a, b: sl.solve_triangular(a, b, lower=True), LOWER, RIGHT),
    "triangular_solve unit": (
        lambda a, b: sl.solve_triangular(a, b, trans=1, lower=True, unit_diagonal=True),
        LOWER,
        RIGHT,
    ),
    "triangular_solve right": (
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=False, lower=True),
        LOWER,
        RIGHT.T,
    ),
    "triangular_solve public": (
        lambda b: sl.solve_triangular(jnp.asarray(LOWER.T, b.dtype), b),
        RIGHT,
    ),
    "lu": (lax.linalg.lu, SQUARE),
    "lu tall": (lax.linalg.lu, TALL),
    "lu wide": (lax.linalg.lu, TALL.T),
    "lu_pivots_to_permutation": (
        lambda x: lax.linalg.lu_pivots_to_permutation(sl.lu_factor(x)[1], 4),
        SQUARE,
    ),
    "det": (jnp.linalg.det, SQUARE),
    "slogdet": (jnp.linalg.slogdet, SQUARE[:3, :3]),
    "det small": (jnp.linalg.det, np.stack([SQUARE[:3, :3], POSITIVE[:3, :3]])),
    "qr": (jnp.linalg.qr, TALL),
    "qr wide": (jnp.linalg.qr, TALL.T[:2]),
    "qr complete": (lambda x: jnp.linalg.qr(x, mode="complete"), TALL[:, :2]),
    "geqrf householder_product": (packed, TALL[:, :2]),
    "eigh": (rebuilt_eigh, SYMMETRIC[:3, :3]),
    "eigh two": (jnp.linalg.eigvalsh, SYMMETRIC[:2, :2]),
    "svd": (rebuilt_svd, TALL),
    "svd square factors": (square_factors, TALL[:, :2].T),
    "pinv": (lambda x: jnp.linalg.pinv(x, rtol=1e-3), TALL[:, :2]),
    "lstsq": (lambda x, y: jnp.linalg.lstsq(x, y, rcond=1e-3)[0], TALL[:, :2], TALL[:, 2]),
    "norms": (
        lambda x: [jnp.linalg.norm(x, o) for o in (None, 2, -2, "nuc", 1, np.inf)],
        TALL[:, :2],
    ),
    "matrix_power": (lambda x: jnp.linalg.matrix_power(x, 3), SQUARE),
}
