"""Primitives that have no lowering rule, and why: errors and docs/ops.md say it in these words.

Rules that always refuse (generators of secret random numbers) say it themselves. What JAX's own
functions with such primitives, or with loops that a secret ends, are written as instead is at the
end; tests execute it.
"""

from __future__ import annotations

import re
from typing import Any

_WHY = {
    "fixed point has no neighbouring float; add or subtract a number of your own": "nextafter",
    "eigenvalues of a general matrix are complex; "
    "of a symmetric one: w, v = jnp.linalg.eigh(x)": "eig schur",
    "JAX's own part of a factorisation; take jax.scipy.linalg.qr(x, pivoting=True)": "geqp3",
    "part of a random generator: keys are public; sf.random draws secret numbers": ""
    "iota_2x32_shape philox2x32 philox4x32 rng_uniform threefry4x32",
    "code outside of JAX would see a secret; return the value as a result instead": "check "
    "ffi_call io_callback pure_callback call_exported inspect_sharding custom_partitioning",
    "left out, with a warning; return the value as a result to see it": "debug_callback "
    "debug_print",
    "sends between devices of one owner; spuvm's three parties are one device": "all_gather "
    "all_gather_done all_gather_invariant all_gather_reduced all_gather_reduced_start "
    "all_gather_start all_to_all all_to_all_done all_to_all_start axis_index pbroadcast_done "
    "ppermute ppermute_done ppermute_start precv preduced psend psum_done "
    "psum_invariant psum_invariant_start psum_start pvary ragged_all_to_all "
    "reduce_scatter reduce_scatter_done reduce_scatter_start reduced_vary_cast_p shard_map "
    "unreduced_psum unreduced_psum_start unreduced_reduce_scatter unreduced_reduce_scatter_start "
    "vary_unreduced_cast_p reduced_vary_cast unreduced_pmax unreduced_pmin vary_unreduced_cast "
    "global_array_to_host_local_array host_local_array_to_global_array",
    "made for accelerators; use dot_general, jax.nn.dot_product_attention without an "
    "implementation, or einsum": "dot_product_attention_bwd_wrapper "
    "dot_product_attention_fp8_bwd_wrapper dot_product_attention_fp8_fwd_wrapper "
    "dot_product_attention_fwd_wrapper scaled_dot scaled_matmul "
    "scaled_matmul_wrapper",
    "its selection may be any function; only maxima and minima, as in gradients of pooling, have a "
    "rule (select_and_scatter_add)": "select_and_scatter",
    "shapes are known before anything runs; trace with numbers as shapes": "dim_as_value "
    "dimension_size shape_assertion",
    "JAX's own bookkeeping; it takes no secret operand in a traced function": "after_all core_map "
    "broadcast_to remat_opt create_linear create_token dce_sink empty empty2 from_edtype iota pin "
    "platform_index run_state stage tie to_edtype unpin unreachable with_memory_space_constraint",
}
REFUSED: dict[str, str] = {name: why for why, names in _WHY.items() for name in names.split()}

_SYMMETRIC = (
    "of a symmetric matrix: w, v = jnp.linalg.eigh(x); then schur(x) is jnp.diag(w), v, and "
    "funm(x, f) is (v * f(w)) @ v.T"
)
CALLS = {
    "_sqrtm": "of a symmetric matrix without negative eigenvalues: w, v = jnp.linalg.eigh(x); "
    "root = (v * jnp.sqrt(w)) @ v.T",
    "_schur": _SYMMETRIC,
    "rsf2csf": _SYMMETRIC,
    "solve_sylvester": "solve it as one system: m, n = q.shape; k = jnp.kron(a, jnp.eye(n)) + "
    "jnp.kron(jnp.eye(m), b.T); x = jnp.linalg.solve(k, q.ravel()).reshape(m, n)",
    "eigvals": "of a symmetric matrix: w = jnp.linalg.eigvalsh(x)",
    "_roots_with_zeros": "take steps of Newton from a start of your own: x = jax.lax.fori_loop(0, "
    "20, lambda i, x: x - jnp.polyval(p, x) / jnp.polyval(jnp.polyder(p), x), x0)",
}
"""By the name of the function in JAX's files of linear algebra: what to write instead."""

LOOPS = {
    "scipy/optimize/": "take a fixed number of steps, of Newton for few variables: "
    "x = jax.lax.fori_loop(0, 20, lambda i, x: x - jnp.linalg.solve(jax.hessian(f)(x), "
    "jax.grad(f)(x)), x0), or along the gradient: jax.lax.fori_loop(0, 200, lambda i, x: "
    "x - rate * jax.grad(f)(x), x0); sf.bounded_while also ends them when a secret says so",
    "random": "draw with public parameters; of a secret rate up to 30, "
    "jnp.sum(jnp.cumsum(jax.random.exponential(key, (70, *rate.shape)), 0) < rate, 0) is poisson, "
    "of a secret probability jax.random.bernoulli(key, p, (n, *p.shape)).sum(0) is binomial",
    "lax/special.py": "give its parameters as public numbers: then JAX computes it",
    "experimental/ode.py": "take n steps of a fixed length h = t / n: y = jax.lax.fori_loop(0, n, "
    "lambda i, y: y + h * f(y + h / 2 * f(y, i * h), (i + 0.5) * h), y0)",
    "linesearch.py": "take steps of a fixed length in the place of a search: "
    "optax.lbfgs(learning_rate=0.5, linesearch=None)",
}
"""By the file of a while loop that a secret ends."""

_FILES = r"(\w+) at .*jax._src.(?:scipy.linalg|numpy.linalg|numpy.polynomial)\.py"


def instead_of_call(jaxpr: Any) -> str | None:
    """What to write instead of JAX's function that was traced to `jaxpr`, None if it is no such."""
    found = re.match(_FILES, jaxpr.debug_info.func_src_info or "")
    return CALLS.get(found[1]) if found else None


def instead_of_loop(body: Any) -> str | None:
    """What to write instead of the installed function that has a loop with this body."""
    source = (body.debug_info.func_src_info or "").replace("\\", "/")
    places = ("/jax/", "/jax/_src/", "/optax/_src/")
    return next((text for part, text in LOOPS.items()
                 if any(place + part in source for place in places)), None)  # fmt: skip
