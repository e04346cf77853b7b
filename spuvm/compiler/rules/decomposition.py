"""Linear algebra beyond products: the algorithms of compiler/matrix.py, lowered in place.

Signs of eigenvectors and singular vectors are free, as between any two implementations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler import arith, matrix
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Value, public


def by_jax(low: Lowering, fn: Any, batch: int, *operands: Value) -> list[Value]:
    """fn(*operands) over `batch` leading axes, lowered; all of it counts to the user's line."""
    ready = [_settled(low, x) for x in operands]
    shapes = [
        jax.ShapeDtypeStruct(low.shape(x.id) if isinstance(x, Secret) else public(x).shape, x.dtype)
        for x in ready
    ]
    closed = jax.make_jaxpr(matrix.matrices(fn, batch))(*shapes)
    with low.one_line():
        return lower_closed(low, closed, ready)


def _settled(low: Lowering, x: Value) -> Value:
    if isinstance(x, Secret) and low.type(x.id).kind == "a":
        return Secret(arith.settle(low, x.id), x.dtype)
    return x


def _batch(o: Out, rank: int) -> int:
    return len(o.shape) - rank


@rule("cholesky")
def cholesky(low: Lowering, out: list[Out], x: Secret, **_: Any) -> list[Value]:
    """Lower Cholesky factor; n square roots and divisions one after the other."""
    return by_jax(low, matrix.cholesky, _batch(out[0], 2), x)


@rule("triangular_solve")
def triangular_solve(
    low: Lowering,
    out: list[Out],
    a: Value,
    b: Value,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    unit_diagonal: bool,
    **_: Any,
) -> list[Value]:
    """Substitution; with a public matrix a product with its inverse."""
    (o,) = out

    def solve(m: Any, y: Any) -> Any:
        m = m.T if transpose_a else m
        below = lower != transpose_a
        if not left_side:
            m, y, below = m.T, y.T, not below
        if not below:
            m, y = m[::-1, ::-1], y[::-1]
        n = m.shape[0]
        kept = np.tri(n, n, -1 if unit_diagonal else 0, dtype=bool)
        m = jnp.where(kept, m, jnp.zeros_like(m))
        x = _solved(m, y)
        x = x if below else x[::-1]
        return x if left_side else x.T

    def _solved(m: Any, y: Any) -> Any:
        if isinstance(a, Secret):
            return matrix.triangular_solve(m, y, unit_diagonal=unit_diagonal)
        full = m + jnp.eye(m.shape[0], dtype=m.dtype) if unit_diagonal else m
        return (
            jax.scipy.linalg.solve_triangular(full, jnp.eye(len(m), dtype=m.dtype), lower=True) @ y
        )

    return by_jax(low, solve, _batch(o, 2), a, b)


@rule("lu")
def lu(low: Lowering, out: list[Out], x: Secret, **_: Any) -> list[Value]:
    """LU with partial pivoting; pivots and permutation are secret."""
    return by_jax(low, matrix.lu, _batch(out[0], 2), x)


@rule("lu_pivots_to_permutation")
def lu_pivots_to_permutation(
    low: Lowering, out: list[Out], pivots: Secret, *, permutation_size: int, **_: Any
) -> list[Value]:
    """The permutation of secret pivots."""
    return by_jax(low, lambda p: matrix.permutation(p, permutation_size), _batch(out[0], 1), pivots)


@rule("qr")
def qr(
    low: Lowering, out: list[Out], x: Secret, *, full_matrices: bool, pivoting: bool, **_: Any
) -> list[Value]:
    """Householder QR; with pivots the order of the columns is secret."""
    form = matrix.pivoted_qr if pivoting else matrix.qr
    return by_jax(low, partial(form, full_matrices=full_matrices), _batch(out[0], 2), x)


@rule("geqrf")
def geqrf(low: Lowering, out: list[Out], x: Secret, **_: Any) -> list[Value]:
    """Householder QR, packed."""
    return by_jax(low, matrix.geqrf, _batch(out[0], 2), x)


@rule("hessenberg")
def hessenberg(low: Lowering, out: list[Out], x: Secret, **_: Any) -> list[Value]:
    """An upper Hessenberg matrix by Householder reflectors, packed."""
    return by_jax(low, matrix.gehrd, _batch(out[0], 2), x)


@rule("tridiagonal")
def tridiagonal(low: Lowering, out: list[Out], x: Secret, *, lower: bool, **_: Any) -> list[Value]:
    """A symmetric matrix as a tridiagonal one by Householder reflectors, packed."""
    return by_jax(low, lambda a: matrix.sytrd(a, lower=lower), _batch(out[0], 2), x)


@rule("householder_product")
def householder_product(low: Lowering, out: list[Out], a: Value, taus: Value, **_: Any) -> Any:
    """The orthogonal matrix of packed reflectors."""
    return by_jax(low, matrix.householder_product, _batch(out[0], 2), a, taus)


@rule("ormqr")
def ormqr(
    low: Lowering,
    out: list[Out],
    a: Value,
    taus: Value,
    c: Value,
    *,
    left: bool,
    transpose: bool,
    **_: Any,
) -> Any:
    """A product with the orthogonal matrix of packed reflectors."""
    fn = partial(matrix.multiplied, left=left, transpose=transpose)
    return by_jax(low, fn, _batch(out[0], 2), a, taus, c)


@rule("cholesky_update")
def cholesky_update(low: Lowering, out: list[Out], r: Value, w: Value, **_: Any) -> Any:
    """The upper Cholesky factor after a symmetric update of rank one."""
    return by_jax(low, matrix.cholesky_update, _batch(out[0], 2), r, w)


@rule("symmetric_product")
def symmetric_product(
    low: Lowering, out: list[Out], a: Value, c: Value, *, alpha: float, beta: float, **_: Any
) -> Any:
    """alpha a a^T + beta c."""
    return by_jax(low, lambda a, c: alpha * (a @ a.T) + beta * c, _batch(out[0], 2), a, c)


@rule("tridiagonal_solve")
def tridiagonal_solve(
    low: Lowering, out: list[Out], lower: Value, d: Value, upper: Value, b: Value, **_: Any
) -> Any:
    """A tridiagonal system."""
    return by_jax(low, matrix.tridiagonal_solve, _batch(out[0], 2), lower, d, upper, b)


@rule("eigh")
def eigh(
    low: Lowering,
    out: list[Out],
    x: Secret,
    *,
    lower: bool,
    sort_eigenvalues: bool,
    subset_by_index: Any,
    **_: Any,
) -> list[Value]:
    """Eigenvectors and eigenvalues of a symmetric matrix, in ascending order."""

    def run(a: Any) -> Any:
        n = a.shape[0]
        kept = np.tri(n, n, dtype=bool) if lower else np.tri(n, n, dtype=bool).T
        a = jnp.where(kept, a, a.T)
        vectors, values = matrix.eigh(a, 2.0**-low.f)
        if sort_eigenvalues or subset_by_index:
            values, vectors = matrix.ordered(values, vectors)
        first, last = subset_by_index or (0, n)
        return vectors[:, first:last], values[first:last]

    return by_jax(low, run, _batch(out[0], 2), x)


@rule("svd")
def svd(
    low: Lowering,
    out: list[Out],
    x: Secret,
    *,
    full_matrices: bool,
    compute_uv: bool,
    subset_by_index: Any,
    **_: Any,
) -> list[Value]:
    """Singular values in descending order, and the vectors."""

    def run(a: Any) -> Any:
        wide = a.shape[0] < a.shape[1]
        u, s, v = matrix.svd(a.T if wide else a, 2.0**-low.f, vectors=compute_uv)
        if not compute_uv:
            (s,) = matrix.ordered(s, descending=True)
            return (s[slice(*subset_by_index)] if subset_by_index else s,)
        s, u, v = matrix.ordered(s, u, v, descending=True)
        if subset_by_index:
            keep = slice(*subset_by_index)
            s, u, v = s[keep], u[:, keep], v[:, keep]
        elif full_matrices:
            u = matrix.completed(u)
        return (s, v, u.T) if wide else (s, u, v.T)

    return by_jax(low, run, _batch(out[0], 1), x)


@rule("custom_linear_solve")
def custom_linear_solve(
    low: Lowering, out: list[Out], *args: Value, const_lengths: Any, jaxprs: Any, **_: Any
) -> Sequence[Value]:
    """The solver that the function was given.

    One that iterates until the square of a residual is small, as conjugate gradients do: that
    square needs twice the fraction bits. From 0 it solves for a right side of length 2^(f/2), and
    it stops where what is left of the square says nothing any more.
    """
    first = const_lengths.matvec + const_lengths.vecmat
    last = first + const_lengths.solve
    rest = last + const_lengths.transpose_solve
    fixed, sides = args[first:last], args[rest:]
    if not any(eqn.primitive.name == "while" for eqn in jaxprs.solve.jaxpr.eqns):
        return lower_closed(low, jaxprs.solve, [*fixed, *sides])
    zeros = [v.shape for v in fixed if not isinstance(v, Secret) and not np.any(public(v))]
    scaled = all(isinstance(v, Secret) and low.shape(v.id) in zeros for v in sides)
    if not scaled:
        with low.solving():
            return lower_closed(low, jaxprs.solve, [*fixed, *sides])
    shapes = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in out]
    ready = [_settled(low, v) for v in sides]
    long = jax.make_jaxpr(partial(matrix.lengthened, half=low.f // 2))(*shapes)
    *scaled_sides, length = lower_closed(low, long, ready)
    with low.solving():
        made = lower_closed(low, jaxprs.solve, [*fixed, *scaled_sides])
    back = jax.make_jaxpr(partial(matrix.shortened, half=low.f // 2))(
        jax.ShapeDtypeStruct((), long.out_avals[-1].dtype), *shapes
    )
    return lower_closed(low, back, [length, *(_settled(low, v) for v in made)])
