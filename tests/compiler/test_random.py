"""sf.random: distributions, freshness, gradients; jax.random with public keys is JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import spuvm as sf
from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

N = 20_000


def sampled(fn, bits=64, seed=0, x=0.0):
    """Results of fn(x) on the plaintext protocol, decoded."""
    return sampler(fn, bits, x)(seed)


def sampler(fn, bits=64, x=0.0):
    """fn(x), compiled, as a function of a seed."""
    ring = Ring(bits)
    config = CompileConfig(ring, Fxp(ring, DEFAULT_FRAC_BITS[bits]))
    given = np.float32(x)
    compiled = compile_function(fn, [SecretSpec(given.shape, "float32", "a")], config=config)
    encoded = [config.fxp.encode(given)]

    def run(seed):
        outs = run_plain(compiled.program, encoded, np.random.default_rng(seed), "ranges")
        made = []
        for spec, value in zip(compiled.program.outputs, outs, strict=True):
            frac = compiled.program.types[spec.value].frac
            made.append(config.fxp.decode(value, spec.dtype, frac, spec.divisor))
        return jax.tree.unflatten(compiled.out_tree, made)

    return run


def close(values, mean, deviation):
    """The mean of many draws, within six standard errors."""
    assert abs(np.mean(values) - mean) < 6 * deviation / np.size(values) ** 0.5


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_uniform(bits):
    u = sampled(lambda x: sf.random.uniform((N,)), bits)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.dtype == np.float32
    close(u, 0.5, 12**-0.5)
    close(u**2, 1 / 3, (4 / 45) ** 0.5)
    v = sampled(lambda x: sf.random.uniform((N // 2, 2), -3.0, 5.0), bits)
    assert v.shape == (N // 2, 2)
    close(v, 1.0, 8 * 12**-0.5)


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_normal(bits):
    z = sampled(lambda x: sf.random.normal((N + 1,)), bits)
    assert z.shape == (N + 1,)
    close(z, 0, 1)
    close(z**2, 1, 2**0.5)
    close(z**3, 0, 15**0.5)
    close(z**4, 3, 96**0.5)
    close(z[: N // 2] * z[N // 2 : N], 0, 1)  # the two of a pair are unrelated
    for t in (0.5, 1.0, 2.0, 3.0):
        p = 2 * (1 - 0.5 * (1 + float(jax.scipy.special.erf(t / 2**0.5))))
        close(np.abs(z) > t, p, (p * (1 - p)) ** 0.5)


def test_whole_numbers_and_bits():
    fair, biased, below, power = sampled(
        lambda x: (
            sf.random.bernoulli(shape=(N,)),
            sf.random.bernoulli(jnp.full((N,), 0.25) + x),
            sf.random.randint((N,), -3, 7),
            sf.random.randint((N,), 0, 8),
        )
    )
    close(fair, 0.5, 0.5)
    close(biased, 0.25, (3 / 16) ** 0.5)
    assert below.dtype == np.int32
    for v, values in ((below + 3, 10), (power, 8)):
        counts = np.bincount(v, minlength=values)
        assert len(counts) == values
        for c in counts:
            assert abs(c / N - 1 / values) < 6 * (1 / values / N) ** 0.5


@pytest.mark.parametrize(
    ("bits", "n"), [(64, 3 << 29), (64, 3 << 15), (32, 3 << 20), (128, 3 << 29)]
)
def test_large_ranges_are_even(bits, n):
    """Also among neighbours, where a draw of few bits would leave out some more than others."""
    drawn = sampled(lambda x: sf.random.randint((N,), 0, n), bits).astype(np.int64)
    assert 0 <= drawn.min() < n // 100
    assert n - n // 100 < drawn.max() < n
    close(drawn / n, 0.5, 12**-0.5)
    for part in (drawn % 3, drawn * 3 // n):
        for c in np.bincount(part, minlength=3):
            assert abs(c / N - 1 / 3) < 6 * (2 / 9 / N) ** 0.5


def test_permutation():
    shuffled = sampler(lambda x: sf.random.permutation(6))
    orders = [shuffled(seed) for seed in range(200)]
    assert all(sorted(o) == list(range(6)) for o in orders)
    first = np.bincount([o[0] for o in orders], minlength=6) / 200
    assert np.abs(first - 1 / 6).max() < 6 * (5 / 36 / 200) ** 0.5
    table = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    rows = sampled(lambda x: sf.random.permutation(jnp.asarray(table) + x))
    assert sorted(map(tuple, rows)) == sorted(map(tuple, table))
    columns = sampled(lambda x: sf.random.permutation(jnp.asarray(table) + x, axis=1))
    assert sorted(map(tuple, columns.T)) == sorted(map(tuple, table.T))
    flags = sampled(lambda x: sf.random.permutation(jnp.asarray(table[:, 0] > 3) ^ (x > 1)))
    assert flags.dtype == bool
    assert flags.sum() == 3


def test_two_permutations_of_one_array_differ():
    first, second = sampled(
        lambda x: [sf.random.permutation(jnp.arange(30.0) + x) for _ in range(2)]
    )
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_permutations_of_a_batch_differ_and_slopes_go_back(bits):
    def batch(x):
        rows = jnp.zeros((40, 5)) + jnp.arange(5.0) + x
        return jax.vmap(sf.random.permutation)(rows)

    rows = sampled(batch, bits)
    assert (np.sort(rows, 1) == np.arange(5)).all()
    assert len(set(map(tuple, rows.tolist()))) > 20

    def weighted(x):
        def loss(v):
            made = sf.random.permutation(v)
            return jnp.sum(made * jnp.arange(4.0)), made

        return jax.value_and_grad(loss, has_aux=True)(jnp.arange(4.0) + x)

    (_, made), slope = sampled(weighted, bits)
    np.testing.assert_allclose(slope[made.astype(int)], np.arange(4.0), atol=1e-2)


def test_every_draw_is_another_one():
    inner = jax.jit(lambda: sf.random.uniform())

    def many(x):
        loop = lax.fori_loop(0, 3, lambda i, c: c.at[i].set(sf.random.uniform()), jnp.zeros(3) + x)
        _, steps = lax.scan(lambda c, _: (c, sf.random.uniform((2,))), x, None, length=4)
        _, again = lax.scan(lambda c, _: (c, sf.random.uniform((2,))), x, None, length=4)
        both = lax.cond(x > 0, lambda: sf.random.uniform(), lambda: sf.random.uniform())
        batch = jax.vmap(lambda v: sf.random.uniform(like=v))(jnp.zeros(3) + x)
        return jnp.concatenate([loop, steps.ravel(), again.ravel(), both[None], batch,
                                inner()[None], inner()[None]])  # fmt: skip

    values = sampled(many)
    assert len(set(values)) == len(values)
    run = sf.simulate(many, config=sf.Config(ring=128, frac_bits=40))
    first, second = run(0.0), run(0.0)  # of 50 numbers of 18 bits two are equal 1 time in 200
    together = [*first, *second]
    assert len(set(together)) == len(together)
    assert all(0 <= v < 1 for v in together)


def test_members_of_a_batch_draw_their_own_without_like():
    """Also where the draw is in a loop or a function of which no argument has the batch's axis."""

    def member(v):
        looped = lax.fori_loop(0, 2, lambda i, c: c.at[i].set(sf.random.uniform()), jnp.zeros(2))
        called = jax.jit(lambda: sf.random.uniform())()
        return jnp.stack([v + sf.random.uniform(), v + sf.random.normal(), *looped, called])

    values = sampled(lambda x: jax.vmap(member)(jnp.zeros(4) + x)).ravel()
    assert len(set(values)) == len(values)
    orders = sampled(lambda x: jax.vmap(lambda v: sf.random.permutation(9) + v)(jnp.zeros(4) + x))
    assert len(set(map(tuple, orders.tolist()))) == 4
    nested = sampled(
        lambda x: jax.vmap(lambda _: jax.vmap(lambda v: v + sf.random.uniform())(jnp.zeros(3) + x))(
            jnp.zeros(2)
        )
    )
    assert len(set(nested.ravel())) == 6


def test_each_step_of_a_differentiated_loop_draws_without_like():
    def loss(v):
        def step(c, row):
            keep = sf.random.permutation(16)[0]
            noise = jax.jit(lambda r: r * sf.random.uniform())(row)
            return c + noise + sf.random.uniform() * row + row * keep, row

        return lax.scan(step, 0.0, v)[0]

    slope = sampled(lambda x: jax.grad(loss)(jnp.zeros(8) + x))
    assert len(set(slope)) == 8


def test_the_columns_of_a_jacobian_cannot_be_of_different_draws():
    with pytest.raises(ValueError, match="out_axes"):
        sampled(lambda x: jax.jacfwd(lambda v: v * sf.random.uniform())(jnp.zeros(2) + x))
    drawn = sampled(
        lambda x: (lambda u: jax.jacfwd(lambda v: v * u)(jnp.zeros(2) + x))(sf.random.uniform())
    )
    assert drawn[0, 0] == drawn[1, 1] > 0


def test_gradients_see_the_values_that_were_used():
    def noisy(w):
        def step(c, _):
            u = sf.random.uniform()
            return c + w * u, u

        total, used = lax.scan(step, jnp.zeros(()), None, length=3)
        return total, used

    (total, used), slope = sampled(jax.value_and_grad(noisy, has_aux=True), x=2.0)
    assert len(set(used)) == 3
    assert abs(total - 2 * used.sum()) < 1e-4
    assert abs(slope - used.sum()) < 1e-4


def test_what_cannot_be_is_refused():
    with pytest.raises(sf.errors.UsageError, match="none in plain JAX"):
        sf.random.uniform()
    with pytest.raises(sf.errors.UsageError, match="no such range"):
        sf.random.randint((), 3, 3)
    with pytest.raises(sf.errors.UsageError, match="permutation"):
        sf.random.permutation(jnp.zeros(()))
    with pytest.raises(NotImplementedError, match="checkpoint"):
        sampled(jax.grad(jax.checkpoint(lambda w: w * sf.random.uniform())))


def public_draws(key):
    """Everything that jax.random is asked for, from one key."""
    a, b, c = jax.random.split(jax.random.fold_in(key, 7), 3)
    return (
        jax.random.normal(a, (5,)),
        jax.random.uniform(b, (3,), minval=-2, maxval=2),
        jax.random.permutation(c, 8),
        jax.random.bernoulli(a, 0.3, (6,)),
        jax.random.randint(b, (4,), 0, 100),
        jax.random.choice(b, jnp.arange(10), (3,), replace=False),
    )


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_public_keys_give_the_values_of_jax(make):
    def plus(x, key):
        inside = jax.jit(public_draws)(key)
        looped = lax.fori_loop(
            0, 3, lambda i, c: c + jax.random.normal(jax.random.fold_in(key, i)), x * 0
        )
        return [v + x.astype(v.dtype) if v.dtype != bool else v ^ (x > 0) for v in inside], looped

    def constant(x):
        return plus(x, make(42))

    want = constant(jnp.zeros(()))
    for got, expected in zip(
        jax.tree.leaves(sampled(constant)), jax.tree.leaves(want), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5)
    run = sf.simulate(lambda x: plus(x, make(42))[0])
    for got, expected in zip(run(0.0), want[0], strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: jax.random.normal(jax.random.PRNGKey(x.astype(jnp.int32)), (3,)),
        lambda x: jax.random.bits(
            jax.random.wrap_key_data(jnp.stack([x, x]).astype(jnp.uint32)), (3,)
        ),
        lambda x: jax.random.uniform(jax.random.fold_in(jax.random.key(1), x.astype(jnp.int32))),
    ],
)
def test_secret_keys_are_refused(draw):
    with pytest.raises(sf.errors.CompileError, match="secret key or seed") as caught:
        sampled(draw, x=3.0)
    assert "sf.random" in caught.value.next


def test_truncated_normal_between_secret_bounds():
    """JAX's values, up to what erf and its inverse round, and never outside of the bounds."""
    lower, upper = np.float32([-2.0, 0.25, -0.5, -1.0]), np.float32([-1.0, 1.5, 0.5, 2.0])

    def drawn(a, b):
        return jax.random.truncated_normal(jax.random.key(3), a, b, dtype=jnp.float32)

    config = CompileConfig(Ring(64), Fxp(Ring(64), DEFAULT_FRAC_BITS[64]))
    specs = [SecretSpec((4,), "float32", "a"), SecretSpec((4,), "float32", "b")]
    made = compile_function(drawn, specs, config=config)
    encoded = [np.asarray(config.fxp.encode(v)) for v in (lower, upper)]
    (out,) = run_plain(made.program, encoded, np.random.default_rng(0))
    got = config.fxp.decode(out, "float64", config.fxp.frac_bits)
    np.testing.assert_allclose(got, drawn(lower, upper), atol=2.0**-12)
    assert ((lower <= got) & (got <= upper)).all()
