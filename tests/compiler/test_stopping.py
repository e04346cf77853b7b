"""While loops that a secret may end before their public bound."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import Compiled, SecretSpec, compile_function
from spuvm.errors import CompileError
from spuvm.protocol.plain import run_plain

X = np.float32([1, 2, 3])


def build(fn: Any, *arrays: Any, ring: int = 64) -> Compiled:
    specs = [SecretSpec(a.shape, str(a.dtype), "a") for a in arrays]
    return compile_function(fn, specs, config=configuration(ring))


def results(fn: Any, *arrays: Any, ring: int = 64) -> list[Any]:
    config = configuration(ring)
    made = build(fn, *arrays, ring=ring)
    outs = run_plain(made.program, encode_all(made, arrays, config), np.random.default_rng(0))
    return decode_all(made, outs, config)


def grown(go: Any, x: Any) -> Any:
    return lax.while_loop(go, lambda s: (s[0] + 1, s[1] * 1.5), (0, x))


PREDICATES = {
    "and": lambda s: (s[0] < 6) & (s[1].sum() < 20),
    "logical_and": lambda s: jnp.logical_and(s[1].sum() < 20, s[0] < 6),
    "three": lambda s: (s[0] < 6) & jnp.logical_and(s[1].sum() < 20, s[1].max() < 9),
    "two bounds": lambda s: (s[0] < 8) & (s[1].sum() < 20) & (s[0] != 6),
    "never": lambda s: (s[0] < 0) & (s[1].sum() < 20),
    "once": lambda s: (s[0] < 1) & (s[1].sum() < 20),
    "public bound first": lambda s: (s[0] < 6) & (s[1].sum() < 1e6),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_ends_where_plain_jax_does(name: str) -> None:
    fn = jax.tree_util.Partial(grown, PREDICATES[name])
    want = jax.tree.leaves(fn(X))
    for got, exact in zip(results(fn, X), want, strict=True):
        np.testing.assert_allclose(got, exact, atol=1e-4)


def test_says_that_it_runs_all_steps() -> None:
    made = build(lambda x: grown(PREDICATES["and"], x), X)
    (note,) = made.notes
    assert note.startswith("test_stopping.py:")
    assert "all 6 steps" in note
    assert made.warnings == ()
    assert build(lambda x: grown(lambda s: s[0] < 6, x), X).notes == ()


def test_the_number_of_steps_is_no_secret() -> None:
    """The program is one loop of that many iterations, whatever runs in it."""
    made = build(lambda x: grown(PREDICATES["and"], x), X)
    (loop,) = [i for i in made.program.instructions if i.op == "loop"]
    assert dict(loop.attrs)["trip"] == 6


@pytest.mark.parametrize(
    "go",
    [
        lambda s: s[1].sum() < 20,
        lambda s: (s[0] < 6) | (s[1].sum() < 20),
        lambda s: ~((s[0] >= 6) & (s[1].sum() >= 20)),
    ],
    ids=["no bound", "or", "not and"],
)
def test_without_a_public_bound(go: Any) -> None:
    with pytest.raises(CompileError, match="depends on a secret") as caught:
        build(lambda x: grown(go, x), X)
    assert "sf.bounded_while" in str(caught.value.next)


def test_a_bound_that_is_only_a_guard() -> None:
    with pytest.raises(CompileError, match="10000 steps") as caught:
        build(lambda x: grown(lambda s: (s[0] < 2**31 - 1) & (s[1].sum() < 20), x), X)
    assert "sf.bounded_while" in str(caught.value.next)


def test_conjugate_gradients_end_before_rounding_decides() -> None:
    """Where residuals are mostly rounding, another step would divide by it."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 4))
    matrix, side = np.float32(a @ a.T / 4 + np.eye(4)), np.float32(rng.normal(size=4))
    exact = np.linalg.solve(matrix.astype(np.float64), side)

    def solved(a: Any, b: Any) -> Any:
        return jax.scipy.sparse.linalg.cg(a, b, maxiter=30)[0]

    for ring, limit in ((64, 2.0**-12), (128, 2.0**-20)):
        (got,) = results(solved, matrix, side, ring=ring)
        assert np.abs(got - exact).max() <= limit
