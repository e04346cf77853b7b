"""What other systems get wrong, one test each, through the front door and on every ring it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import spuvm as sf
from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

CONFIGS = {
    "64": sf.Config(),
    "64, f=26": sf.Config(ring=64, frac_bits=26),
    "128": sf.Config(ring=128),
    "128, f=40": sf.Config(ring=128, frac_bits=40),
    "32": sf.Config(ring=32),
}
INF = float("inf")  # stands for the largest representable number
LOG_OF_ZERO = "log of zero"  # the documented value of its own
# Name: the function, its operand, and the value that is documented where JAX's is NaN.
VALUES: dict[str, tuple[Callable[[Any], Any], float, float | str | None]] = {
    "exp(15)": (jnp.exp, 15.0, None),
    "exp(-1000)": (jnp.exp, -1000.0, None),
    "exp(1000)": (jnp.exp, 1000.0, None),
    "1e5 * 1e5": (lambda x: x * x, 1e5, None),
    "8192 * 8192": (lambda x: x * x, 8192.0, None),
    "1/1e-6": (lambda x: 1 / x, 1e-6, None),
    "1/3e5": (lambda x: 1 / x, 3e5, None),
    "1/0": (lambda x: 1 / x, 0.0, None),
    "-1/0": (lambda x: -1 / x, 0.0, None),
    "0/0": (lambda x: x / x, 0.0, 0.0),
    "log(1e7)": (jnp.log, 1e7, None),
    "log(0)": (jnp.log, 0.0, LOG_OF_ZERO),
    "log(-2)": (jnp.log, -2.0, LOG_OF_ZERO),
    "sqrt(-2)": (jnp.sqrt, -2.0, 0.0),
    "sin(1e4)": (jnp.sin, 1e4, None),
    "cos(-1e4)": (jnp.cos, -1e4, None),
    "tan(1e4)": (jnp.tan, 1e4, None),
    "2 ** 30.5": (lambda x: jnp.power(2.0, x), 30.5, None),
    "1e4 ** 3": (lambda x: x**3, 1e4, None),
    "1e4 ** -3": (lambda x: x**-3, 1e4, None),
    "1e-3 ** -4": (lambda x: x**-4, 1e-3, None),
}
WRAPS = ("1e5 * 1e5", "8192 * 8192", "1e4 ** 3")  # where the product is not representable


def tolerance(fxp: Fxp) -> float:
    """The contract for float32."""
    return 2.0**-4 if fxp.frac_bits == 8 else max(2.0 ** (6 - fxp.frac_bits), 2.0**-22)


@pytest.mark.parametrize("ring", CONFIGS)
def test_single_values(ring: str) -> None:
    """All in one program: within the contract of JAX on what was encoded, or saturated."""
    fxp = CONFIGS[ring].fxp
    limit = fxp.max_float * (1 - 2.0**-12)
    unit = 2.0**-fxp.frac_bits
    xs, wants = {}, {}
    for name, (fn, x, known) in VALUES.items():
        exact = np.rint(np.float64(np.float32(x)) / unit) * unit
        with jax.enable_x64(True):
            want = float(fn(jnp.float64(exact))) if known is None else known
        want = fxp.log_of_zero if want == LOG_OF_ZERO else float(want)
        if abs(x) < limit and not (name in WRAPS and abs(want) >= limit):
            xs[name], wants[name] = np.float32(exact), float(np.clip(want, -limit, limit))
    f = sf.simulate(lambda xs: {k: VALUES[k][0](x) for k, x in xs.items()}, CONFIGS[ring])
    got = {k: float(np.clip(v, -limit, limit)) for k, v in f(xs).items()}
    allowed = {k: tolerance(fxp) * max(1.0, abs(v)) for k, v in wants.items()}
    assert not {k: (got[k], wants[k]) for k in xs if not abs(got[k] - wants[k]) <= allowed[k]}
    assert len(xs) >= len(VALUES) - 4  # the ring of 32 bits has no 1e4 ** 3, for example


def plainly(fn: Callable[..., Any], x: np.ndarray, ring: int, frac: int, *ends: float) -> float:
    """fn of one long column on the plaintext protocol, which does not copy it six times."""
    fxp = Fxp(Ring(ring), frac)
    spec = SecretSpec(x.shape, str(x.dtype), "a", *ends)
    made = compile_function(fn, [spec], config=CompileConfig(fxp.ring, fxp))
    (out,) = run_plain(made.program, [fxp.encode(x)], np.random.default_rng(0), "ranges")
    output = made.program.outputs[0]
    frac = made.program.types[output.value].frac
    return float(fxp.decode(out, "float64", frac, output.divisor))


@pytest.mark.parametrize(
    ("size", "ends"), [(5e6, ()), (1e12, ()), (1e12, (0.0, 1e12)), (1.0, (-1.0, 1.0))]
)
def test_a_mean_over_ten_million_rows(size: float, ends: tuple[float, ...]) -> None:
    x = np.float32(size) * np.sin(np.arange(10_000_000, dtype=np.float32)) ** 2
    exact = np.rint(x.astype(np.float64) * 2**18) / 2**18
    got = plainly(jnp.mean, x, 64, 18, *ends)
    assert abs(got - exact.mean()) <= 2.0**-12 * max(1, abs(exact.mean()))


@pytest.mark.parametrize("ends", [(), (0.0, 2.5e5)])
@pytest.mark.parametrize("frac", [18, 26])
def test_the_variance_of_a_long_column(frac: int, ends: tuple[float, ...]) -> None:
    """Salaries of a million people: the sum of squares is far from representable."""
    x = np.random.default_rng(3).lognormal(10.8, 0.5, 1_000_000).clip(0, 2.5e5).astype(np.float32)
    exact = np.rint(x.astype(np.float64) * 2**frac) / 2**frac
    got = plainly(jnp.var, x, 64, frac, *ends)
    assert abs(got - exact.var()) <= 2.0 ** (6 - frac) * exact.var()


def test_normal_numbers_with_a_constant_key() -> None:
    def noisy(x: Any) -> Any:
        return x + jax.random.normal(jax.random.key(0), x.shape) * 3

    x = np.zeros((4, 5), np.float32)
    np.testing.assert_allclose(sf.simulate(noisy)(x), noisy(x), atol=2.0**-17)


def test_a_secret_second_index_of_dynamic_update_slice() -> None:
    """Written at the right place, clamped as in JAX, and nothing but the result is opened."""

    def write(cache: Any, row: Any, i: Any) -> Any:
        return lax.dynamic_update_slice(cache, row, (1, i))

    f = sf.simulate(write)
    cache, row = np.arange(12, dtype=np.float32).reshape(3, 4), np.float32([[-1, -2]])
    for i in (0, 2, 7, -3):
        np.testing.assert_array_equal(f(cache, row, np.int32(i)), write(cache, row, i))
    assert [d.what for d in f.disclosures(cache, row, np.int32(0))] == ["output out"]


def test_tests_for_nan_and_infinity_are_constant() -> None:
    def clean(x: Any) -> Any:
        y = jnp.where(jnp.isnan(x) | ~jnp.isfinite(x), 0.0, x)
        return y, jnp.isinf(1 / x), jnp.nan_to_num(x)

    x = np.float32([0.0, -2.5, 1e6])
    f = sf.simulate(clean)
    same, infinite, clean_ = f(x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(clean_, x)
    assert not infinite.any()
