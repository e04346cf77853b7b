"""compile_function: inputs, outputs, errors with the user's line, warnings, disclosures."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import configuration, decode_all, encode_all

from spuvm.compiler import SecretSpec, assume_range, compile_function
from spuvm.errors import CompileError, UnsupportedPrimitive, UsageError
from spuvm.protocol.plain import run_plain

CONFIG = configuration(64)
X = SecretSpec((3,), "float32", "alice")
UNIT = SecretSpec((3,), "float32", "alice", -1.0, 1.0)
Y = SecretSpec((3,), "float32", "bob")
N = SecretSpec((3,), "int32", "bob")
BIT = SecretSpec((3,), "bool", "carol")


def build(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return compile_function(fn, args, kwargs, config=CONFIG)


def run(compiled: Any, *arrays: Any) -> list[np.ndarray]:
    encoded = encode_all(compiled, [np.asarray(a) for a in arrays], CONFIG)
    return decode_all(compiled, run_plain(compiled.program, encoded, None, "ranges"), CONFIG)


def ops(compiled: Any) -> list[str]:
    return [i.op for i in compiled.program.instructions]


# --- arguments and results -------------------------------------------------------------------


def test_pytrees_of_arguments_and_results() -> None:
    made = build(
        lambda d, k, scale=1.0: {"sum": d["a"] + k[0], "x": (d["b"] * scale,)},
        {"b": X, "a": Y},
        [np.float32(2.0)],
        scale=0.5,
    )
    assert [i.origin for i in made.program.inputs] == ["bob", "alice"]  # keys in order: a, b
    assert [o.name for o in made.program.outputs] == ["out['sum']", "out['x'][0]"]
    assert made.public_arguments == ("args[1][0]", "kwargs['scale']")
    got = jax.tree_util.tree_unflatten(made.out_tree, run(made, np.ones(3), np.full(3, 4.0)))
    np.testing.assert_array_equal(got["sum"], np.full(3, 3.0))
    np.testing.assert_array_equal(got["x"][0], np.full(3, 2.0))


def test_static_arguments_are_bound_by_the_caller() -> None:
    made = build(partial(lambda n, x: x[:n].sum(), 2), X)
    assert made.out_specs == (((), "float32"),)


def test_public_results_and_inputs_passed_through() -> None:
    made = build(lambda x, n: (x, jnp.ones(2), n, jnp.array([True, False])), X, N)
    got = run(made, np.array([1.0, 2, 3]), np.array([4, 5, 6], np.int32))
    np.testing.assert_array_equal(got[0], [1, 2, 3])
    np.testing.assert_array_equal(got[1], [1, 1])
    np.testing.assert_array_equal(got[2], [4, 5, 6])
    np.testing.assert_array_equal(got[3], [True, False])
    assert [d.origins for d in made.disclosures] == [("alice",), (), ("bob",), ()]


def test_a_program_without_arithmetic_inputs() -> None:
    made = build(lambda b: (jnp.float32(1.5), b), BIT)
    assert run(made, np.array([True, False, True]))[0] == 1.5


def test_random_numbers_with_a_public_key_are_jax_numbers() -> None:
    key = jax.random.key(7)
    made = build(lambda x: x + jax.random.normal(key, (3,)), X)
    want = np.asarray(jax.random.normal(key, (3,)))
    np.testing.assert_allclose(run(made, np.zeros(3))[0], want, atol=2.0**-18)
    made = build(lambda x, k: x + jax.random.uniform(k, (3,)), X, key)
    assert made.public_arguments == ("args[1]",)


def test_digest_is_the_same_in_another_process() -> None:
    code = (
        "import jax.numpy as jnp\n"
        "from spuvm.compiler import *\n"
        "from spuvm.fxp import Fxp\n"
        "from spuvm.ring import Ring\n"
        "c = CompileConfig(Ring(64), Fxp(Ring(64), 18))\n"
        "x = SecretSpec((4, 3), 'float32', 'alice')\n"
        "f = lambda x: (jnp.sort(x, 0), x.mean(0), x @ x.T, x[jnp.array([1, 2])])\n"
        "print(compile_function(f, (x,), config=c).program.digest)\n"
    )
    digests = set()
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


# --- what is cheap ---------------------------------------------------------------------------


def test_mean_of_many_is_one_pass() -> None:
    made = build(lambda *xs: jnp.stack(xs).mean(0), *[UNIT] * 10)
    assert ops(made) == ["lincomb_a"]
    made = build(lambda *xs: jnp.stack(xs).mean(0) * 2, *[UNIT] * 10)
    assert ops(made) == ["trunc_sum_a", "retype_a"]


def test_public_weights_are_one_pass_too() -> None:
    w = np.arange(1.0, 6.0, dtype=np.float32)
    made = build(lambda *xs: jnp.average(jnp.stack(xs), axis=0, weights=w), *[UNIT] * 5)
    assert [op for op in ops(made) if op != "retype_a"] == ["round_sum_a"]
    made = build(lambda *xs: jnp.average(jnp.stack(xs), axis=0, weights=w) * 2, *[UNIT] * 5)
    assert [op for op in ops(made) if op != "retype_a"] == ["trunc_sum_a"]


def test_secret_weights_are_one_matrix_product() -> None:
    weights = SecretSpec((5,), "float32", "bob", 0.0, 100.0)
    x = SecretSpec((5, 7), "float32", "alice", -8.0, 8.0)
    made = build(lambda x, w: (x * w[:, None]).sum(0), x, weights)
    assert [o for o in ops(made) if o not in ("reshape", "retype_a")] == ["dot_aa"]


def test_relu_is_a_sign_and_a_product() -> None:
    made = build(jax.nn.relu, X)
    assert [o for o in ops(made) if o not in ("retype_a",)] == ["msb_a", "not_b", "mul_ba"]


def test_comparisons_use_few_bits_where_the_range_is_known() -> None:
    made = build(lambda x: x > 0.25, UNIT)
    (bits,) = [i.attrs["bits"] for i in made.program.instructions if i.op == "msb_a"]
    assert bits == 20
    made = build(lambda x: x > 2, UNIT)  # never
    assert "msb_a" not in ops(made)


def test_products_are_narrow_only_where_it_is_proven() -> None:
    forms = [
        [i.attrs["form"] for i in build(lambda x: x * x, spec).program.instructions
         if i.op == "mul_aa"]
        for spec in (UNIT, X)
    ]  # fmt: skip
    assert forms == [["narrow"], ["full"]]


def test_constants_are_stored_once() -> None:
    made = build(lambda x: x * np.full((3,), 0.3, np.float32) + jnp.broadcast_to(0.5, (3,)), X)
    assert all(c.size == 1 for c in made.program.constants)


def test_assumed_ranges_are_used_and_do_nothing_in_jax() -> None:
    made = build(lambda x: assume_range(x, -1.0, 1.0) * x, UNIT)
    assert [i.attrs["form"] for i in made.program.instructions if i.op == "mul_aa"] == ["narrow"]
    x = jnp.array([1.0, 2.0])
    f = jax.jit(jax.vmap(lambda v: assume_range(v * v, 0, 10)))
    np.testing.assert_array_equal(f(x), x * x)
    np.testing.assert_array_equal(jax.grad(lambda v: assume_range(v * v, 0, 10).sum())(x), 2 * x)
    assert assume_range({"a": 1}, 0, 2) == {"a": 1}
    with pytest.raises(UsageError, match="unusable bounds"):
        assume_range(x, 2, 1)
    with pytest.raises(UsageError, match="unusable bounds"):
        assume_range(x, 0, float("inf"))


def test_what_rounds_to_zero_and_what_cannot_be_chosen_is_said() -> None:
    (text,) = build(lambda x: 1 / (x * x + 1e-8), UNIT).warnings
    assert "1e-08 is 0 with 18 fraction bits" in text
    assert "test_compile.py:" in text
    assert not build(lambda x: 1 / (x * x + 1e-5), UNIT).warnings
    made = build(lambda x, b: jnp.where(b, x, jnp.nan), X, BIT)
    assert "NaN cannot be represented" in made.warnings[0]
    np.testing.assert_array_equal(run(made, np.full(3, 2.0), [True, False, True]), [[2, 0, 2]])
    assert not build(lambda x: (x.var(0), jnp.nanmean(x)), X).warnings  # chosen publicly


def test_the_epsilon_of_a_normalisation_keeps_a_small_variance_from_zero() -> None:
    def normalised(x: Any) -> Any:
        centred = x - x.mean()
        return centred * lax.rsqrt((centred * centred).mean() + 1e-6)

    made = build(normalised, X)
    assert not made.warnings
    for x in ([1.0, 1.0, 1.0], [-1e-3, 0.0, 1e-3], [1.0, 2.0, 4.0]):
        (got,) = run(made, np.asarray(x))
        want = np.asarray(normalised(np.asarray(x, np.float32)))
        # A root of 340 units, as the second one is, is rounded to one of them.
        np.testing.assert_allclose(got, want, atol=2.0**-10)
    np.testing.assert_allclose(got, want, atol=2.0**-12)


# --- errors ----------------------------------------------------------------------------------


def test_unsupported_primitive_names_primitive_line_and_neighbours() -> None:
    with pytest.raises(UnsupportedPrimitive) as caught:
        build(lambda x: lax.nextafter(x, x), X)
    text = str(caught.value)
    assert "'nextafter'" in text
    assert "test_compile.py:" in text
    assert "float32[3] = nextafter(float32[3], float32[3])" in text
    assert "next" in text


@pytest.mark.parametrize(("fn", "count"), [(jnp.linalg.eig, 1), (jnp.nextafter, 2)])
def test_a_jax_function_passed_as_it_is_fails_at_the_line_that_asked(fn: Any, count: int) -> None:
    with pytest.raises(UnsupportedPrimitive) as caught:
        build(fn, *(SecretSpec((3, 3), "float32", "alice"),) * count)
    assert re.match(r"test_compile.py:\d+ in build: ", caught.value.at or "")


def test_errors_in_nested_calls_are_wrapped_once() -> None:
    @jax.jit
    def inner(x: Any) -> Any:
        return jax.jit(lambda v: lax.nextafter(v, v))(x)

    with pytest.raises(UnsupportedPrimitive) as caught:
        build(lambda x: inner(x) + 1, X)
    assert str(caught.value).count("\n  at ") == 1
    assert "test_compile.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: lax.while_loop(lambda v: v[0] < 1, lambda v: v + 1, x), "lax.fori_loop"),
        (lambda x: x if x[0] > 0 else -x, "jnp.where"),
        (lambda x: x @ jnp.full(3, jnp.nan), "NaN"),
        (lambda x: x * 1e20, "out of range"),
        (lambda x: jnp.tanh(x + 1j), "x.real, x.imag"),
    ],
)
def test_refusals_say_what_to_do(fn: Any, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        build(fn, X)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "argument", [SecretSpec((3,), "float64", "alice"), np.ones(3), np.arange(3), np.float64(2)]
)
def test_what_jax_would_cut_is_refused(argument: Any) -> None:
    with pytest.raises(UsageError, match=r"args\[1\]: JAX would cut \w+64 to 32 bits"):
        build(lambda x, y: x, X, argument)


def test_64_bits_with_x64() -> None:
    with jax.enable_x64(True):
        spec = SecretSpec((2,), "int64", "alice")
        made = build(lambda x: (x + 1, x * 3 < x), spec)
        x = np.array([2**62, -5])
        got = run(made, x)
        np.testing.assert_array_equal(got[0], x + 1)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(got[1], x * 3 < x)


def test_dtypes_wider_than_the_ring_are_refused() -> None:
    with jax.enable_x64(True), pytest.raises(CompileError, match="wider than the ring"):
        compile_function(
            lambda x: x, (SecretSpec((2,), "int64", "alice"),), config=configuration(32)
        )


# --- disclosures -----------------------------------------------------------------------------


def test_disclosures_name_outputs_origins_and_lines() -> None:
    made = build(lambda x, y, n: {"s": x + y, "n": n}, X, Y, N)
    n, s = made.disclosures
    assert (n.what, n.origins, n.source) == ("output out['n']", ("bob",), "")
    assert (s.what, s.origins, s.shape, s.dtype) == (
        "output out['s']", ("alice", "bob"), (3,), "float32",
    )  # fmt: skip
    assert s.source.startswith("test_compile.py:")


def test_origins_go_round_in_loops() -> None:
    """What a later iteration brings into a carry counts, also through other carries."""

    def chain(x: Any, y: Any, b: Any) -> Any:
        def step(_: Any, c: Any) -> Any:
            return c[0] + c[1], c[1] + c[2], c[2]

        return lax.fori_loop(0, 3, step, (x, y, b.astype("float32")))

    made = build(chain, X, Y, BIT)
    assert [d.origins for d in made.disclosures] == [
        ("alice", "bob", "carol"), ("bob", "carol"), ("carol",),
    ]  # fmt: skip


def test_branches_with_a_secret_predicate_are_both_computed() -> None:
    made = build(lambda b, x: lax.cond(b[0], lambda v: v * 2.0, lambda v: v + 1.0, x), BIT, UNIT)
    for bit, want in ((True, 0.5), (False, 1.25)):
        assert run(made, np.array([bit] * 3), np.full(3, 0.25))[0][0] == want


def test_source_lines_are_where_the_user_wrote() -> None:
    made = build(lambda x: jnp.median(x), X)
    lines = {i.source for i in made.program.instructions if i.op == "sort_a"}
    assert len(lines) == 1
    assert lines.pop().startswith("test_compile.py:")
