"""jnp.corrcoef of any representable numbers: of rows, of columns, of two tables, of integers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import configuration
from sweep import Setting

from spuvm import Config, simulate
from spuvm.ring import WIDTHS

TABLES = {
    "rows": (jnp.corrcoef, np.corrcoef),
    "columns": (
        lambda x: jnp.corrcoef(x[:3, :3], rowvar=False),  # as many rows as columns
        lambda x: np.corrcoef(x[:3, :3], rowvar=False),
    ),
    "two vectors": (lambda x: jnp.corrcoef(x[0], x[1]), lambda x: np.corrcoef(x[0], x[1])),
    "two tables": (lambda x: jnp.corrcoef(x[:2], x[2:]), np.corrcoef),
    "one vector": (lambda x: jnp.corrcoef(x[0]), lambda x: np.corrcoef(x[0])),
}


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_every_magnitude(name, bits):
    fxp = configuration(bits).fxp
    rng = np.random.default_rng(bits)
    base = rng.uniform(-1, 1, (4, 12))
    base[1] += base[0]
    base[3] = base[0] - 1e-3 * base[3]
    ours, theirs = TABLES[name]
    for size in (0.5, 30.0, fxp.max_float**0.5, fxp.max_float / 40):
        x = np.rint(base * size * 2.0**fxp.frac_bits) / 2.0**fxp.frac_bits
        x = x.astype("float32" if bits < 128 else "float64")
        got = simulate(ours, config=Config(ring=bits))(x)
        tolerance = Setting(bits, fxp.frac_bits).tolerance
        np.testing.assert_allclose(got, theirs(x.astype("float64")), atol=tolerance)


def test_columns_of_a_long_table():
    """Of which the correlations of the rows would not fit in memory."""
    x = np.random.default_rng(0).normal(size=(200_000, 2)).astype("float32")
    got = simulate(lambda x: jnp.corrcoef(x, rowvar=False)).lower(x)
    assert got.types[got.outputs[0].value].shape == (2, 2)


def test_integers():
    x = np.random.default_rng(0).integers(-128, 128, (3, 20))
    got = simulate(jnp.corrcoef)(x.astype("int8"))
    np.testing.assert_allclose(got, np.corrcoef(x), atol=2.0**-12)
