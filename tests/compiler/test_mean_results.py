"""Aggregates as results: means as their sums, weighted sums rounded in place; what is truncated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from reference import decode_all, encode_all
from variant import to_ints

import spuvm as sf
from spuvm.bytecode.text import parse, to_text
from spuvm.compiler import CompileConfig, Compiled, SecretSpec, compile_function
from spuvm.compiler.sums import dividing
from spuvm.functions import average, weighted_average
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

RINGS = (32, 64, 128)


def configuration(ring: int) -> CompileConfig:
    return CompileConfig(Ring(ring), Fxp(Ring(ring), DEFAULT_FRAC_BITS[ring]))


def made_of(
    fn: Any, *shapes: tuple[int, ...], ring: int = 64, ends: Any = (None, None), divisor: int = 1
) -> Compiled:
    specs = [SecretSpec(s, "float32", "a", *ends, divisor=divisor) for s in shapes]
    return compile_function(fn, specs, config=configuration(ring))


def divisors(compiled: Compiled) -> list[int]:
    return [out.divisor for out in compiled.program.outputs]


@pytest.mark.parametrize("ends", [(None, None), (-8, 8)])
@pytest.mark.parametrize("ring", RINGS)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 12))
def test_a_mean_of_vectors_sends_nothing(ring: int, ends: Any, seed: int, count: int) -> None:
    made = made_of(lambda *xs: average(xs), *[(5,)] * count, ring=ring, ends=ends)
    assert static_cost(made.program).bytes_sent == (0, 0, 0)
    assert static_cost(made.program).rounds == 0
    assert divisors(made) == [count]
    rng, config = np.random.default_rng(seed), configuration(ring)
    encoded = encode_all(made, [rng.uniform(-8, 8, 5) for _ in range(count)], config)
    outs = run_plain(made.program, encoded, rng, "ranges")
    (got,) = decode_all(made, outs, config)
    exact = [config.fxp.decode(e, "float64", config.fxp.frac_bits) for e in encoded]
    np.testing.assert_allclose(got, np.mean(exact, axis=0), rtol=1e-14, atol=1e-300)
    assert parse(to_text(made.program)).digest == made.program.digest


@pytest.mark.parametrize(
    "fn",
    [
        jnp.mean,
        lambda x: jnp.mean(x, 0),
        lambda x: (x[0] - x[1] + x[2]) / 3,
        lambda x: x.sum() / 7,
        lambda x: jnp.mean(x[1:], 0),
        lambda x: jnp.mean(jnp.concatenate([x[:1], x[2:]]).T),
        lambda x: (jnp.sum(x[0]) + jnp.sum(x[1])) / 6,
        lambda x: jnp.mean(x[None, ::-1] - 1, axis=(0, 1)),
    ],
)
def test_means_in_other_words(fn: Any) -> None:
    made = made_of(fn, (4, 3))
    assert divisors(made)[0] > 1
    assert static_cost(made.program).rounds == 0


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x / 3,  # no sum: what is scaled is used again and again
        lambda x: (x[0] - 0.5) / 3,
        lambda x: (x[0] + x[1]) / 2.5,
        lambda x: (x[0] + x[1]) / -2,
        lambda x: (x[0] + x[1]) / 0,
        lambda x: (x[0] + x[1]) / np.array([2.0, 3.0, 4.0]),
        lambda x: (x[0] + x[1]) / (1 << 24),  # a scale, no count
        lambda x: (3 * x[0] + 5 * x[1]) / 8,  # modulo 3 this is 2 x[1], modulo 5 3 x[0]
        lambda x: jnp.sum(x * np.array([[3.0], [5], [7], [1]]), 0) / 16,
        lambda x: (x[0] * 2 + x[1]) / 3,
        lambda x: np.array([3.0, 5, 7, 1], np.float32) @ x / 16,
        lambda x: weighted_average(list(x), np.array([3.0, 5, 7, 1])),  # by 16: sixteenths
        lambda x: jnp.sum(x * x, 0) / 4,
        lambda x: (x[0] * x[1] + x[2]) / 2 * x[3],
        lambda x: (x[0] + x[0] + x[1]) / 3,  # modulo 2 this is x[1]
        lambda x: jnp.mean(jnp.concatenate([x[:2], x[1:]]), 0),
        lambda x: jnp.mean(x[:3] + x[1:], 0),
        lambda x: jnp.mean(jnp.cumsum(x, 0), 0),
        lambda x: jnp.mean(x[np.array([0, 0, 1])], 0),
        lambda x: jnp.mean(x + x[0], 0),
        lambda x: jnp.mean(x @ np.array([[1.0, 2], [3, 5], [2, 2]], np.float32)),
        lambda x: (jnp.sum(x[0]) + jnp.sum(x[1]) + jnp.sum(x[0])) / 3,
        lambda x: (x[0] + x[1] * 3) / 2,
        lambda x: (x[:-1] + x[1:]) / 2,
        lambda x: (x[0:2][1] + x[1:3][0] + x[2]) / 3,
        lambda x: jnp.sum(x, 0) / 5,  # coarser than a mean
        lambda x: lax.map(lambda t: t[0] * t[1], (np.float32([3, 5, 1, 2]), x)).sum(0) / 4,
        lambda x: jnp.mean(jnp.sort(x, 0) * 3, 0),
        lambda x: jnp.mean(jnp.maximum(x, 0) + x, 0),
        lambda x: jnp.mean(jnp.broadcast_to(x[0], (7, 3)) + x[1], 0),
        lambda x: (jnp.sum(x) + x[0, 0]) / 3,
        lambda x: (x[0, 0] + jnp.sum(x)) / 3,
        lambda x: (x[0] + x[1] - (x[1] + x[2])) / 2,
    ],
)
def test_what_is_not_kept_as_a_sum(fn: Any) -> None:
    made = made_of(fn, (4, 3), ends=(-4, 4))
    assert divisors(made) == [1]
    config = configuration(64)
    x = np.random.default_rng(0).uniform(-4, 4, (4, 3))
    outs = run_plain(made.program, encode_all(made, [x], config), np.random.default_rng(0))
    want = np.asarray(fn(jnp.asarray(x, jnp.float32)))
    finite = np.isfinite(want)
    got = decode_all(made, outs, config)[0]
    np.testing.assert_allclose(got[finite], want[finite], rtol=2**-12, atol=2**-12)


def test_a_mean_that_is_used_is_a_value_like_any_other() -> None:
    made = made_of(lambda x: ((m := jnp.mean(x, 0)), m * 2 + x[0]), (4, 3))
    assert divisors(made) == [1, 1]


@pytest.mark.parametrize("ring", RINGS)
def test_a_sum_that_would_leave_the_range_is_divided_first(ring: int) -> None:
    top = configuration(ring).fxp.max_float * 0.9
    made = made_of(lambda x: jnp.mean(x, 0), (1 << 12, 1), ring=ring, ends=(-top, top))
    assert divisors(made) == [1]


@pytest.mark.parametrize("ends", [(None, None), (-8, 8)])
@pytest.mark.parametrize("ring", RINGS)
def test_a_sum_as_an_operand(ring: int, ends: Any) -> None:
    config = configuration(ring)
    made = made_of(lambda m: m * m, (5,), ring=ring, ends=ends, divisor=10)
    rng = np.random.default_rng(1)
    mean = rng.uniform(-8, 8, 5)
    total = config.fxp.encode(10 * mean)
    (got,) = decode_all(made, run_plain(made.program, [total], rng, "ranges"), config)
    unit = 2.0**-config.fxp.frac_bits
    np.testing.assert_allclose(got, mean * mean, atol=2**-4 if ring == 32 else 2**6 * unit)


def test_a_sum_is_passed_on_as_it_is() -> None:
    assert divisors(made_of(lambda m: m, (5,), divisor=10)) == [10]
    assert divisors(made_of(lambda m: (m, m[None]), (5,), divisor=10)) == [1, 1]


def test_the_mean_of_means() -> None:
    made = made_of(lambda *xs: average(xs), (5,), (5,), divisor=10)
    assert divisors(made) == [2]


def test_thousands_of_clients() -> None:
    """Trees of any depth; doubled values in a time that grows with the program only."""
    assert divisors(made_of(lambda *xs: average(xs), *[(2,)] * 1200)) == [1200]

    def doubled(x: Any, y: Any) -> Any:
        for _ in range(60):
            x = x + x
        return (x + y) / 2

    assert divisors(made_of(doubled, (2,), (2,))) == [1]


def test_a_promise_after_the_sum() -> None:
    """The operands leave no room, the promise does."""

    def promised(x: Any) -> Any:
        return sf.assume_range(jnp.float32(0.3) * x[0] + jnp.float32(0.7) * x[1], -1, 1)

    top = 63.99609375
    made = made_of(promised, (2, 3), ring=32, ends=(-top, top))
    assert any(i.op.startswith("round") for i in made.program.instructions)


@pytest.mark.parametrize("divisor", [3, 1000, 1 << 20])
@pytest.mark.parametrize("ring", RINGS)
def test_the_program_that_divides(ring: int, divisor: int) -> None:
    config, rng = configuration(ring), np.random.default_rng(2)
    program = dividing(config, SecretSpec((4,), "float32", "a+b", divisor=divisor))
    assert [out.divisor for out in program.outputs] == [1]
    total = np.array([-1.0, 0.0, 0.25, 1.0]) * min(divisor, config.fxp.max_float / 2)
    (out,) = run_plain(program, [config.fxp.encode(total)], rng, "ranges")
    got = config.fxp.decode(out, "float64", config.fxp.frac_bits)
    np.testing.assert_allclose(got, total / divisor, atol=4 * 2.0**-config.fxp.frac_bits)


def weighted(x: Any) -> Any:
    return weighted_average(list(x), np.array([3.0, 5, 7, 2]))


@pytest.mark.parametrize(
    "fn",
    [
        weighted,
        lambda x: sum(w * v for w, v in zip((0.1, 0.2, 0.3, 0.4), x, strict=True)),
        lambda x: (3 * x[0] + 5 * x[1] + x[2]) / 9,
        lambda x: x @ np.array([0.1, 0.5, 0.3], np.float32),
        lambda x: (jnp.float32(0.3) * x[0] + x[1] * 0.7).reshape(1, 3),
    ],
)
@pytest.mark.parametrize("ring", [64, 128])
def test_sums_with_public_weights_send_nothing(ring: int, fn: Any) -> None:
    """Without digits beyond the program's, which would tell two terms apart."""
    made, config = made_of(fn, (4, 3), ring=ring, ends=(-4, 4)), configuration(ring)
    assert static_cost(made.program).bytes_sent == (0, 0, 0)
    (out,) = made.program.outputs
    (maker,) = (i for i in made.program.instructions if i.op.startswith("round"))
    frac = made.program.types[out.value].frac
    assert maker.attrs["bits"] == frac - config.fxp.frac_bits
    rng = np.random.default_rng(0)
    x = rng.uniform(-4, 4, (4, 3))
    encoded = encode_all(made, [x], config)
    outs = run_plain(made.program, encoded, rng, "ranges")
    (got,) = decode_all(made, outs, config)
    clear = config.fxp.decode(encoded[0], "float64", config.fxp.frac_bits)
    with jax.enable_x64(True):
        want = np.asarray(fn(jnp.asarray(clear)))
    unit = 2.0**-config.fxp.frac_bits
    np.testing.assert_allclose(got, want, rtol=2.0**-22, atol=3 * unit)
    low = to_ints(config.ring, outs[0]) % (1 << maker.attrs["bits"])
    assert (low == 1 << maker.attrs["bits"] - 1).all()  # half a unit, whatever the terms are


@pytest.mark.parametrize("ends", [(50.0, 500.0), (1.0, 100.0)])
def test_with_secret_weights_the_product_stays_additive(ends: Any) -> None:
    config = configuration(64)
    x, w = SecretSpec((4, 3), "float32", "a", -4, 4), SecretSpec((4,), "float32", "b", *ends)
    made = compile_function(lambda x, w: weighted_average(list(x), w), (x, w), config=config)
    ops = [i.op for i in made.program.instructions]
    assert ops[-3:] == ["additive_dot_aa", "reshape", "round_z"]
    assert not {"dot_aa", "round_a"} & set(ops)
    rng = np.random.default_rng(0)
    values = [rng.uniform(-4, 4, (4, 3)), rng.uniform(*ends, 4)]
    outs = run_plain(made.program, encode_all(made, values, config), rng, "ranges")
    want = np.average(values[0], axis=0, weights=values[1])
    np.testing.assert_allclose(decode_all(made, outs, config)[0], want, atol=2.0**-14)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x @ np.array([1.0, 2.0, 3.0], np.float32),
        lambda x: x @ np.array([0.25, 0.5, 0.75], np.float32),
        lambda x: x.T @ x,
        lambda x: x * 0.3,
        lambda x: x[0] * 0.3 + x[1] * x[2],
        lambda x: jnp.exp(x[0]) * 0.3 + 0.7 * x[1],
    ],
)
def test_what_is_exact_or_used_again_is_truncated(fn: Any) -> None:
    made = made_of(fn, (4, 3), ends=(-4, 4))
    (out,) = made.program.outputs
    assert made.program.types[out.value].frac <= 18
    assert not any(i.op.startswith("round") for i in made.program.instructions)


def test_without_a_range_there_is_no_room_for_more_digits() -> None:
    made = made_of(weighted, (4, 3))
    assert not any(i.op.startswith("round") for i in made.program.instructions)


def test_a_rounded_result_as_an_operand() -> None:
    config, unit = configuration(64), 2.0**-18
    spec = SecretSpec((4,), "float32", "a", -16, 16, 45)
    made = compile_function(lambda m: (m * m, m + 1, m * 0.5), (spec,), config=config)
    x = np.array([0.3, -4.0, 15.9, 2.0**-20])
    words = config.ring.array(np.rint(x * 2.0**45).astype(np.int64))
    outs = run_plain(made.program, [words], np.random.default_rng(0), "ranges")
    square, more, half = decode_all(made, outs, config)
    np.testing.assert_allclose(square, x * x, rtol=2.0**-22, atol=40 * unit)
    np.testing.assert_allclose(more, x + 1, atol=2 * unit)
    np.testing.assert_allclose(half, x / 2, atol=2 * unit)
    assert not made.warnings


@pytest.mark.parametrize(
    ("fn", "additive"),
    [
        (lambda x, w: (x @ w, (x @ w)[:1]), 2),
        (lambda x, w: ((x @ w)[:1], (x @ w)[1:].reshape(1, -1)), 2),
        (lambda x, w: (x @ w, 2 * (x @ w)), 0),
        (lambda x, w: (x @ w, (x @ w)[0] > 1), 0),
        (lambda x, w: sf.assume_range(x @ w, -4, 4), 1),
    ],
)
def test_all_of_a_product_is_additive_or_nothing(fn: Any, additive: int) -> None:
    """Rounded in two ways it would have two thresholds."""
    x, w = SecretSpec((3, 4), "float32", "a", -4, 4), SecretSpec((4,), "float32", "b", 1, 9)
    made = compile_function(lambda x, w: fn(x, w / jnp.sum(w)), (x, w), config=configuration(64))
    ops = [i.op for i in made.program.instructions]
    assert ops.count("round_z") == additive
    assert ops.count("additive_dot_aa") == bool(additive)
    assert ("dot_aa" in ops) == (not additive)
