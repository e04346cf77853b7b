"""The ring of 128 bits through the front door: every primitive, and what only it can do.

Every record of the compiler's table runs on the real protocol; conformance has its instructions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf

sys.path.insert(0, str(Path(__file__).parents[1] / "compiler"))
from jax_cases import CASES, Case
from reference import configuration, sample

CONFIG = sf.Config(ring=128)
FIRST = list({c.primitive: c for c in CASES}.values())


@pytest.mark.parametrize("case", FIRST, ids=lambda c: c.id)
def test_every_primitive_on_the_real_protocol(case: Case) -> None:
    rng = np.random.default_rng(0)
    shapes = max(case.shapes, key=lambda s: (len(s[0]) <= 2, sum(map(np.prod, s))))
    args = [
        sample(arg, shape, configuration(128), rng, "uniform", arg.dtypes[-2:][0])[0]
        for arg, shape in zip(case.args, shapes, strict=True)
    ]
    f = sf.simulate(case.fn, config=CONFIG)
    got = jax.tree.leaves(f(*args))
    assert (f.last_run.rounds, f.last_run.bytes_sent) == (
        f.cost(*args).rounds, f.cost(*args).bytes_sent
    )  # fmt: skip
    with jax.enable_x64(True):
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in args]
        want = [np.asarray(w) for w in jax.tree.leaves(case.fn(*map(jnp.asarray, wide)))]
    for g, w in zip(got, want, strict=True):
        if g.dtype.kind != "f":
            np.testing.assert_array_equal(g, w.astype(g.dtype))
            continue
        error = np.abs(g.astype(np.float64) - w) / np.maximum(1, np.abs(w))
        assert error.max(initial=0) <= 2.0**-20


def test_products_that_leave_the_ring_of_64_bits() -> None:
    x = np.array([1e5, -2.5e9, 3e14, 2.0**-24])
    y = np.array([1e5, 4e9, -2e14, 2.0**24])
    with jax.enable_x64(True):
        f = sf.simulate(lambda x, y: (x * y, x @ y, jnp.sum(x * x), x / y), config=CONFIG)
        got = f(x, y)
        assert got[0].dtype == np.float64
        assert f.lower(x, y).ring == 128
    for g, w in zip(got, (x * y, x @ y, np.sum(x * x), x / y), strict=True):
        assert (np.abs(g - w) <= 2.0**-20 * np.maximum(1, np.abs(w))).all()


@pytest.mark.parametrize("frac_bits", [28, 40])
def test_fraction_bits_up_to_40(frac_bits: int) -> None:
    x = np.array([0.1, -3.7, 12.25, 1e-6, 250.0])

    def fn(x):
        return jnp.exp(-jnp.abs(x)), jnp.log1p(x * x), jax.nn.sigmoid(x), 1 / (x * x + 1), x * x * x

    with jax.enable_x64(True):
        got = sf.simulate(fn, config=sf.Config(ring=128, frac_bits=frac_bits))(x)
        want = [np.asarray(w) for w in fn(np.rint(x * 2.0**frac_bits) / 2.0**frac_bits)]
    for g, w in zip(got, want, strict=True):
        assert (np.abs(g - w) <= 2.0 ** (6 - frac_bits) * np.maximum(1, np.abs(w))).all()


@pytest.mark.parametrize("frac_bits", [24, 27, 42])
def test_other_fraction_bits_are_refused(frac_bits: int) -> None:
    with pytest.raises(sf.errors.UsageError, match="an even number from 26 to 40"):
        sf.Config(ring=128, frac_bits=frac_bits)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_of_64_bits_over_their_full_range(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min, info.max, info.max, 0, 3, info.max // 2, 7], dtype)
    y = np.array([info.max, info.min, info.max, info.min, info.max, 5, info.max // 2 + 1, 0], dtype)

    def fn(x, y):
        return x + y, x - y, x * y, x < y, x == y, jnp.maximum(x, y), jnp.sum(x), -x, x > 5

    with jax.enable_x64(True):
        got = sf.simulate(fn, config=CONFIG)(x, y)
        for g, w in zip(got, fn(jnp.asarray(x), jnp.asarray(y)), strict=True):
            assert g.dtype == w.dtype
            np.testing.assert_array_equal(g, w)


def test_opened_integers_say_nothing_of_what_is_above_their_dtype() -> None:
    """8 bytes of each part travel, not 16."""
    with jax.enable_x64(True):
        f = sf.simulate(lambda x: x * x, config=CONFIG)
        f(np.arange(10))
        (row,) = (r for r in f.last_run.rows if r.what.startswith("open"))
    assert row.bytes_sent == (80, 80, 80)


def test_the_device_deals_opens_and_names_its_ring() -> None:
    sf.init(parties=["alice", "bob", "carol"], backend="inprocess")
    try:
        alice, bob = sf.PYU("alice"), sf.PYU("bob")
        spu = sf.SPU(["alice", "bob", "carol"], config=CONFIG)
        x = alice(lambda: np.float32([1e5, -3.5]))().to(spu)
        y = bob(lambda: np.float32([1e5, 2.0]))().to(spu)
        z = spu(lambda a, b: (a * b, a < b))(x, y)
        product, less = sf.reveal(z)
        np.testing.assert_allclose(product, [1e10, -7.0], rtol=2**-20)
        assert less.tolist() == [False, True]
        np.testing.assert_array_equal(sf.reveal(x.to(alice)), np.float32([1e5, -3.5]))
    finally:
        sf.shutdown()
