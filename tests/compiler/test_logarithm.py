"""log(0): a number that adds up, is beyond all others and gives 0 again (docs/adr/0018)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import configuration, decode_all, encode_all, tolerance

from spuvm.compiler import SecretSpec, compile_function
from spuvm.protocol.plain import run_plain
from spuvm.ring import WIDTHS

special, stats = jax.scipy.special, jax.scipy.stats
X = np.float32([0.0, 0.5, 1.0, 2.0])
Y = np.float32([0.0625, 0.5, 1.0, 3.0])
ZERO = np.zeros(4, np.float32)

# What is finite for 0 again: as in JAX.
FINITE: dict[str, Any] = {
    "exp of log": lambda x, y, o: jnp.exp(jnp.log(x)),
    "a broken power": lambda x, y, o: o**y,
    "a public power": lambda x, y, o: o**0.001,
    "a power of 0": lambda x, y, o: jnp.power(0.0, y),
    "whole powers": lambda x, y, o: jnp.power(o, jnp.round(y).astype(jnp.int32) + 1),
    "a cube root": lambda x, y, o: jnp.cbrt(x),
    "logsumexp": lambda x, y, o: special.logsumexp(jnp.log(x)),
    "softmax": lambda x, y, o: jax.nn.softmax(jnp.log(x)),
    "entropy": lambda x, y, o: special.entr(x),
    "xlogy": lambda x, y, o: special.xlogy(o, x),
    "binomial": lambda x, y, o: stats.binom.pmf(2.0 * jnp.minimum(x, 1), 2, jnp.minimum(x, 1)),
    "beta density": lambda x, y, o: stats.beta.pdf(jnp.minimum(x, 1), 2.0, 3.0),
}
# In units of log(0), for 0 at every place or at the first.
INFINITE: dict[str, tuple[Any, float]] = {
    "a sum": (lambda x, y, o: jnp.log(o).sum(), 4.0),
    "a product": (lambda x, y, o: 100.0 * jnp.log(x)[0], 100.0),
    "a secret product": (lambda x, y, o: (y * jnp.log(o)).sum(), float(Y.sum())),
    "log1p": (lambda x, y, o: jnp.log1p(o - 1).mean(), 1.0),
    "below": (lambda x, y, o: jnp.log(-y).mean(), 1.0),
    "log2": (lambda x, y, o: jnp.log2(x)[0], 1 / np.log(2)),
    "log_softmax": (lambda x, y, o: jax.nn.log_softmax(jnp.log(x))[0], 1.0),
    "all of a logsumexp": (lambda x, y, o: special.logsumexp(jnp.log(o)), 1.0),
    "xlogy": (lambda x, y, o: special.xlogy(-y, x)[0], -1.0),
    "lgamma": (lambda x, y, o: special.gammaln(x)[0], -1.0),
}


@pytest.mark.parametrize("bits", WIDTHS)
def test_log_of_zero(bits: int) -> None:
    config = configuration(bits)
    functions = {**FINITE, **{f"log: {k}": fn for k, (fn, _) in INFINITE.items()}}

    def everything(x: Any, y: Any, o: Any) -> Any:
        return [fn(x, y, o) for fn in functions.values()]

    compiled = compile_function(everything, [SecretSpec((4,), "float32", "a")] * 3, config=config)
    encoded = encode_all(compiled, [X, Y, ZERO], config)
    outs = run_plain(compiled.program, encoded, np.random.default_rng(bits), "ranges")
    made = dict(zip(functions, decode_all(compiled, outs, config), strict=True))
    unit = config.fxp.log_of_zero
    assert unit == -(2.0 ** ((bits - 2 - config.fxp.frac_bits) // 2))
    for name, fn in FINITE.items():
        want = np.asarray(fn(*map(jnp.asarray, (X, Y, ZERO))), np.float64)
        error = np.abs(made[name] - want) / np.maximum(1, np.abs(want))
        assert (error <= tolerance(config)).all(), (name, made[name], want)
    for name, (_, times) in INFINITE.items():
        got = made[f"log: {name}"]
        assert abs(got - times * unit) <= tolerance(config) * abs(times * unit), (name, got / unit)


@pytest.mark.parametrize("bits", WIDTHS)
def test_its_range_is_known(bits: int) -> None:
    """So what follows a logarithm is proven even where nothing was declared."""
    config = configuration(bits, "error")
    compile_function(
        lambda x, y: (jax.nn.sigmoid(y) * jnp.log(x)).sum() + 3 * jnp.log1p(x)[0],
        [SecretSpec((4,), "float32", "a")] * 2, config=config,
    )  # fmt: skip
