"""sf.simulate: the protocol in this process, and what is known about a function before it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf


def mix(x, y, flag=False):
    return {"z": jnp.where(x > y, x * y, y - 1.0), "flag": flag}


X, Y = np.float32([[1, 2, -3], [0.5, 7, 2]]), np.float32([2, 1, 0])


def test_runs_the_real_protocol():
    f = sf.simulate(mix, config=sf.Config(ring=64, frac_bits=18))
    with pytest.raises(sf.errors.UsageError, match="nothing was run yet"):
        _ = f.last_run
    got = f(X, Y, flag=True)
    np.testing.assert_allclose(got["z"], mix(X, Y)["z"], atol=1e-4)
    assert got["flag"].dtype == np.bool_
    assert got["flag"]
    assert isinstance(got["z"], np.ndarray)
    assert "mix" in repr(f)


def test_measured_equals_static():
    f = sf.simulate(mix)
    f(X, Y)
    cost, run = f.cost(X, Y), f.last_run
    assert (run.rounds, run.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert run.seconds > 0
    shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (X, Y)]
    assert f.cost(*shapes) == f.cost(jnp.asarray(X), Y)

    def bytes_of(rows):
        found = {}
        for row in rows:
            old = found.get((row.what, row.source), (0, 0, 0))
            found[row.what, row.source] = tuple(map(sum, zip(old, row.bytes_sent, strict=True)))
        return {k: v for k, v in found.items() if any(v)}

    assert bytes_of(run.rows) == bytes_of(cost.rows)
    assert [r.what for r in cost.rows if "share" in r.what] == [
        "share (160 bytes from the owner)",
        "share (112 bytes from the owner)",
    ]
    assert any("test_simulate.py" in row.source for row in cost.rows)


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [("int8", 10), ("uint16", 20), ("int32", 40), ("uint32", 40), ("bool", 2), ("float32", 80)],
)
def test_no_more_than_a_results_own_bits_are_opened(dtype, nbytes):
    """What a ring element of 64 bits holds above an integer's bits tells more than the result."""
    f = sf.simulate(lambda x: (x * 5 > 3) if dtype == "bool" else (x * 5).astype(dtype))
    x = np.arange(10, dtype="int32" if dtype == "bool" else dtype)
    f(x)
    for rows in (f.cost(x).rows, f.last_run.rows):
        assert [r.bytes_sent for r in rows if r.what == "open"] == [(nbytes,) * 3]


def test_every_leaf_is_secret_and_outputs_go_to_the_caller():
    f = sf.simulate(lambda x, k, n: x * k + n, static_argnums=2)
    assert f(X, 2.0, 1).shape == X.shape
    assert len(f.lower(X, 2.0, 1).inputs) == 2
    (out,) = f.disclosures(X, 2.0, 1)
    assert out.what.startswith("output")
    assert out.to == "caller"
    assert out.origins == ("caller",)
    assert out.shape == X.shape
    assert out.dtype == "float32"
    assert "test_simulate.py" in out.source


def test_program_and_digest():
    f = sf.simulate(mix)
    program = f.lower(X, Y)
    assert program.digest == sf.simulate(mix).lower(jnp.asarray(X), Y).digest
    assert program.digest != f.lower(X[:1], Y).digest
    assert "output" in str(program)


def test_static_arguments():
    f = sf.simulate(lambda x, axis, keep="no": jnp.sum(x, axis), static_argnames=("axis", "keep"))
    np.testing.assert_allclose(f(X, 0), X.sum(0), atol=1e-4)
    np.testing.assert_allclose(f(X, axis=1, keep="yes"), X.sum(1), atol=1e-4)
    with pytest.raises(sf.errors.UsageError, match="hashable"):
        f(X, [0])


def test_views_are_recorded():
    f = sf.simulate(lambda x: x * x, record="views")
    f(Y)
    views = f.last_run.views
    assert len(views) == 3
    assert all(isinstance(a, np.ndarray) for rank in views for a in rank)
    assert sum(a.nbytes for rank in views for a in rank) > 0
    g = sf.simulate(lambda x: x * x)
    g(Y)
    assert g.last_run.views is None


def test_misuse():
    for words in ({"record": "all"}, {"config": 64}):
        with pytest.raises(sf.errors.UsageError):
            sf.simulate(mix, **words)
    with pytest.raises(sf.errors.UsageError, match="runs functions"):
        sf.simulate(3)
    f = sf.simulate(lambda x: x)
    with pytest.raises(sf.errors.ValueRangeError, match=r"(?s)args\[0\]\['k'\]: .* NaN.* 1 of 1"):
        f({"k": np.array([np.nan])})
    with pytest.raises(sf.errors.UsageError, match="64-bit types are off"):
        f(np.arange(3))
    with pytest.raises(sf.errors.UsageError, match="cannot share"):
        f("text")


def test_ranges_are_checked_and_used():
    f = sf.simulate(lambda x: x * x, config=sf.Config(input_range=(-8, 8)))
    wide = sf.simulate(lambda x: x * x)
    np.testing.assert_allclose(f(Y), Y * Y, atol=1e-4)
    assert sum(f.cost(Y).bytes_sent) < sum(wide.cost(Y).bytes_sent)
    with pytest.raises(sf.errors.ValueRangeError, match="outside the declared range"):
        f(Y + 10)


def test_overflow_is_reported():
    config = {"input_range": (-6e6, 6e6)}
    f = sf.simulate(lambda x: x * x, config=sf.Config(**config))
    with pytest.warns(sf.errors.RangeWarning, match=r"test_simulate.py:\d+"):
        f(Y)
    strict = sf.simulate(lambda x: x * x, config=sf.Config(**config, on_overflow="error"))
    with pytest.raises(sf.errors.CompileError, match="representable range"):
        strict(Y)


def test_64_bit_types():
    with jax.enable_x64(True):
        f = sf.simulate(lambda x, y: (x * 3, y / 2))
        whole, half = f(np.array([2**40, -5]), np.array([1.0, 3.0]))
    assert whole.dtype == np.int64
    assert whole.tolist() == [3 * 2**40, -15]
    assert half.dtype == np.float64
    np.testing.assert_allclose(half, [0.5, 1.5], atol=1e-5)


def test_ring_of_32_bits():
    f = sf.simulate(lambda x: x * x - 1, config=sf.Config(ring=32))
    np.testing.assert_allclose(f(Y), Y * Y - 1, atol=2.0**-4)
