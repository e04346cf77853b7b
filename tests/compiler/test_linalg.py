"""Linear algebra on secret matrices, against JAX in float64; a few matrices of each kind."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as sl
import numpy as np
import pytest
import scipy.linalg
from hypothesis import example, given
from hypothesis import strategies as st
from jax import lax
from linalg_cases import CHECKS, SMALL, conditioned
from reference import configuration, decode_all, encode_all, tolerance
from scipy.linalg import expm

from spuvm.compiler import SecretSpec, compile_function, matrix
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain


def compiled_for(fn, arrays, bits=64):
    specs = tuple(SecretSpec(a.shape, str(a.dtype), "a") for a in arrays)
    return compiled(fn, specs, bits, jax.config.jax_enable_x64)


@cache
def compiled(fn, specs, bits, wide):
    return compile_function(fn, specs, config=configuration(bits))


def run(fn, arrays, bits):
    """Results on the plaintext protocol, and those of JAX."""
    config, compiled = configuration(bits), compiled_for(fn, arrays, bits)
    encoded = encode_all(compiled, arrays, config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(0), "ranges")
    with jax.enable_x64(True):
        plain = [config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded]
        want = [np.asarray(w) for w in jax.tree.leaves(fn(*map(jnp.asarray, plain)))]
    return decode_all(compiled, outs, config), want


@pytest.mark.parametrize("name", CHECKS)
def test_against_jax(name):
    fn, *arrays = CHECKS[name]
    for got, want in zip(*run(fn, arrays, 64), strict=True):
        assert got.shape == want.shape
        if want.dtype.kind in "iu":
            np.testing.assert_array_equal(got, want)
        else:
            assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("name", SMALL)
def test_the_small_ring(name):
    fn, *arrays = SMALL[name]
    for got, want in zip(*run(fn, arrays, 32), strict=True):
        limit = 0 if want.dtype.kind in "iu" else 2.0**-4 * np.maximum(1, np.abs(want))
        assert (np.abs(got - want) <= limit).all()


@pytest.mark.parametrize("n", [1, 4])
def test_reductions_are_packed_as_in_lapack(n):
    a = np.random.default_rng(n).normal(size=(n, n))
    with jax.enable_x64(True):
        pairs = [(jax.jit(matrix.gehrd)(a), lax.linalg.hessenberg(a))]
        for lower in (True, False):
            made = jax.jit(partial(matrix.sytrd, lower=lower))(a + a.T)
            pairs.append((made, lax.linalg.tridiagonal(a + a.T, lower=lower)))
    for got, want in pairs:
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, atol=1e-12, strict=True)


def test_a_matrix_that_is_reduced_already():
    """Columns below the diagonal may vanish, or be a few units."""
    for small in (0, 2.0**-14):
        x = np.float32(np.diag([3, 2, 1, 5]) + small)
        (rebuilt, orthogonal), want = run(CHECKS["hessenberg"][0], [x], 64)
        np.testing.assert_allclose(rebuilt, want[0], atol=2.0**-12)
        np.testing.assert_allclose(orthogonal, np.eye(3), atol=2.0**-12)


def test_pivots_are_taken_where_they_are_needed():
    leading_zero = np.float32([[0, 2, 1], [1, 0, 3], [-4, 1, 0]])
    for got, want in zip(*run(lax.linalg.lu, [leading_zero], 64), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_instructions_count_to_the_line_of_the_user():
    config = configuration(64)
    spec = SecretSpec((2, 2), "float32", "a")
    program = compile_function(lambda x: lax.linalg.cholesky(x), [spec], config=config).program
    assert {i.source.split(":")[0] for i in program.instructions if i.source} == {"test_linalg.py"}


PIVOTED = partial(sl.qr, pivoting=True, mode="economic")


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 1), (1, 3)])
@given(seed=st.integers(0, 2**16), batch=st.sampled_from([(), (2,)]))
@example(seed=2249, batch=())  # what is lost of the reflectors meets long columns
def test_factors_with_pivots(shape, bits, seed, batch):
    """They are factors, and of the rests of the columns the first is always the longest.

    Products of two results, each of up to five terms that are off by up to the contract, are off by
    a little more.
    """
    rng, condition = np.random.default_rng(seed), 5 if bits == 32 else 20
    x = np.stack([conditioned(rng, *shape, condition) for _ in range(2)])
    x = np.float32(np.rint((x if batch else x[0]) * 256) / 256)
    (q, r, order), wanted = run(PIVOTED, [x], bits)
    limit = tolerance(configuration(bits))
    assert (np.sort(order) == np.arange(shape[1])).all()
    taken = np.take_along_axis(x, order[..., None, :], -1)
    assert (np.abs(q @ r - taken) <= limit * np.maximum(1, np.abs(taken)) * 3).all()
    assert np.abs(np.swapaxes(q, -1, -2) @ q - np.eye(q.shape[-1])).max() <= limit * 3
    rests = np.sqrt(np.cumsum(r[..., ::-1, :] ** 2, -2)[..., ::-1, :])
    for k in range(min(shape)):
        assert (rests[..., k, k:] <= rests[..., k, k : k + 1] + limit).all()
    same = (order == wanted[2]).all(-1)
    signs = np.sign((q * wanted[0]).sum(-2))  # rounding decides where what is reflected begins at 0
    for g, w in ((q * signs[..., None, :], wanted[0]), (r * signs[..., :, None], wanted[1])):
        error = np.abs(g - w) / np.maximum(1, np.abs(w))
        assert (error.max((-1, -2))[same] <= limit).all()


def test_derivatives_of_factors_with_pivots():
    x = conditioned(np.random.default_rng(3), 4, 3, 5)
    fn = jax.jacfwd(lambda x: sl.qr(x, pivoting=True, mode="economic")[1])
    for got, want in zip(*run(fn, [x], 64), strict=True):
        assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])  # 3 needs squarings
def test_derivatives_of_the_exponential_of_a_matrix(scale):
    """Backwards cotangents meet its large coefficients; sizes up to those of the exponential."""
    x = np.float32(SMALL["det"][1][:3, :3] * scale / 3)
    weights = np.arange(9.0, dtype=np.float32).reshape(3, 3) - 4

    def loss(x):
        return (jax.scipy.linalg.expm(x) * jnp.asarray(weights, x.dtype)).sum()

    for fn in (
        jax.grad(loss),
        lambda x: jax.vmap(jax.grad(loss))(jnp.stack([x, x.T])),
        jax.jacrev(jax.scipy.linalg.expm),
        jax.jacfwd(jax.scipy.linalg.expm),
    ):
        for got, want in zip(*run(fn, [x], 64), strict=True):
            assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


def test_exponentials_of_matrices_that_lose_digits_are_refused():
    x = np.float32([[0.5, 0.25], [-0.5, 0.125]])

    def loss(x):
        return (jax.scipy.linalg.expm(x) ** 2).sum()

    with pytest.raises(CompileError, match="reverse mode") as caught:
        run(jax.hessian(loss), [x], 64)
    assert "jax.jacfwd(jax.jacfwd(f))" in caught.value.next
    ((got,), (want,)) = run(jax.jacfwd(jax.jacfwd(loss)), [x], 64)
    assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()
    with pytest.raises(CompileError, match=r"coefficients up to 2\^24") as caught:
        run(jax.scipy.linalg.expm, [x], 32)
    assert "ring=64" in caught.value.next
    with jax.enable_x64(True):
        with pytest.raises(CompileError, match=r"coefficients up to 2\^56") as caught:
            run(jax.scipy.linalg.expm, [x.astype(np.float64)], 64)
        assert "expm(x.astype(jnp.float32))" in caught.value.next
        y = x.astype(np.float64)
        ((got,), _) = run(lambda x: jax.scipy.linalg.expm(x.astype(jnp.float32)), [y], 64)
    want = expm(x.astype(np.float64))
    assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


EMPTY = {
    "det": jnp.linalg.det,
    "slogdet": jnp.linalg.slogdet,
    "inv": jnp.linalg.inv,
    "cholesky": jnp.linalg.cholesky,
    "qr": jnp.linalg.qr,
    "complete qr": lambda x: jnp.linalg.qr(x, mode="complete"),
    "svd": jnp.linalg.svd,
    "eigh": jnp.linalg.eigh,
    "solve": lambda x: jnp.linalg.solve(x, x + 1),
    "of nothing": lambda x: jnp.linalg.solve(jnp.eye(x.shape[-2]) + x.sum(), x),
    "expm": jax.scipy.linalg.expm,
    "pinv": jnp.linalg.pinv,
}


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (0, 3, 3), (2, 0, 0)])
@pytest.mark.parametrize("name", EMPTY)
def test_matrices_without_elements(name, shape):
    if name not in ("qr", "complete qr", "svd", "of nothing", "pinv") and shape[-2] != shape[-1]:
        return
    x = np.zeros(shape, np.float32)
    for got, want in zip(*run(EMPTY[name], [x], 64), strict=True):
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)


def test_gmres_solves_to_the_contract_with_two_restarts():
    """The first leaves the roundings of its basis times the condition."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    a = ((left * np.linspace(1, 10, 4)) @ right.T / 10**0.5).astype("float32")
    b = rng.normal(size=4).astype("float32")
    solve = partial(jax.scipy.sparse.linalg.gmres, maxiter=2, restart=4, solve_method="batched")
    (got,), _ = run(lambda a, b: solve(a, b)[0], (a, b), 64)
    want = np.linalg.solve(a.astype(np.float64), b)
    assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


def test_derivatives_of_expm_hold_up_to_a_norm_of_4():
    """Backwards too, where they solve with what JAX's polynomials are, 1e7."""
    rng = np.random.default_rng(1)
    expm = jax.scipy.linalg.expm
    for norm in (0.5, 4.0):
        a, w = rng.normal(size=(2, 3, 3)).astype("float32")
        a = np.float32(a / np.linalg.norm(a, 2) * norm)
        slope = jax.grad(lambda a, w: (expm(a) * w).sum())
        for fn, x in ((lambda a, w: jax.jvp(expm, (a,), (w,))[1], a), (slope, a.T)):
            want = scipy.linalg.expm_frechet(x.astype(np.float64), w, compute_expm=False)
            (got,), _ = run(fn, (a, w), 64)
            assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()


TALL = {
    "singular values of rows": lambda a, y: jnp.linalg.svd(a.T, compute_uv=False),
    "orthogonal": lambda a, y: (lambda u: u.T @ u)(jnp.linalg.svd(a, False)[0]),
    "fitted polynomial": lambda a, y: jnp.polyfit(a[:, 1], y, 2),
}


@pytest.mark.parametrize("name", TALL)
def test_tall_matrices(name):
    """As right for many rows as for few, by a program that does not grow with them."""
    rows = 2000
    rng = np.random.default_rng(rows)
    z = rng.normal(size=rows)
    a = np.float32(np.stack([np.ones(rows), z, z * z - 1], 1))
    y = np.float32(a @ [1, 0.5, 0.25] + rng.normal(0, 0.1, rows))
    for got, want in zip(*run(TALL[name], [a, y], 64), strict=True):
        assert (np.abs(got - want) <= 2.0**-12 * np.maximum(1, np.abs(want))).all()
    assert len(compiled_for(TALL[name], [a, y]).program.instructions) < 4000
