"""exp, log, division, roots, logistic: the accuracy contract over every representable input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.fxp import Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring

FRAC = {32: 8, 64: 18}
TOLERANCE = {32: 2.0**-4, 64: 2.0**-12}
SIZE = 64
Array = Any


@dataclass(frozen=True)
class Case:
    """A function, its truth in float64, the sign of its domain, an optional declared range."""

    name: str
    fn: Callable[..., Any]
    truth: Callable[..., Any]
    domain: str = "all"
    arity: int = 1
    declared: tuple[float, float] | None = None


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(v, -700, 700)))


CASES = [
    Case("logistic", jax.nn.sigmoid, _sigmoid),
    Case("logistic, declared", jax.nn.sigmoid, _sigmoid, declared=(-8, 8)),
    Case("tanh", jnp.tanh, np.tanh),
    Case("exp", jnp.exp, np.exp),
    Case("exp, declared", jnp.exp, np.exp, declared=(-12, 0)),
    Case("exp2", jnp.exp2, np.exp2),
    Case("expm1", jnp.expm1, np.expm1),
    Case("log", jnp.log, np.log, "positive"),
    Case("log1p", jnp.log1p, np.log1p, "positive"),
    Case("log, declared", jnp.log, np.log, "positive", declared=(1, 2)),
    Case("1/x", lambda y: 1 / y, lambda y: 1 / y, "nonzero"),
    Case("1/x, declared", lambda y: 1 / y, lambda y: 1 / y, "positive", declared=(1, 64)),
    Case("3/x", lambda y: 3 / y, lambda y: 3 / y, "nonzero"),
    Case("x/y", lambda x, y: x / y, lambda x, y: x / y, "nonzero", 2),
    Case("sqrt", jnp.sqrt, np.sqrt, "positive"),
    Case("rsqrt", jax.lax.rsqrt, lambda v: 1 / np.sqrt(v), "positive"),
    Case("softplus", jax.nn.softplus, lambda v: np.logaddexp(v, 0)),
]
PROGRAMS: dict[tuple[str, int], Any] = {}


def compiled(case: Case, ring: int) -> Any:
    if (case.name, ring) not in PROGRAMS:
        config = CompileConfig(Ring(ring), Fxp(Ring(ring), FRAC[ring]))
        lo, hi = case.declared or (None, None)
        specs = [SecretSpec((SIZE,), "float32", "alice", lo, hi)] * case.arity
        PROGRAMS[case.name, ring] = compile_function(case.fn, specs, config=config).program
    return PROGRAMS[case.name, ring]


def evaluate(case: Case, ring: int, encoded: list[Array], seed: int) -> Array:
    program = compiled(case, ring)
    (out,) = run_plain(program, encoded, np.random.default_rng(seed))
    fxp = Fxp(Ring(ring), FRAC[ring])
    return fxp.decode(out, "float64", program.types[program.outputs[0].value].frac)


@st.composite
def operands(draw: st.DrawFn, ring: int, case: Case) -> list[Array]:
    """Encoded values: log-spaced magnitudes, both signs, the borders, whole and half numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frac, top = FRAC[ring], (1 << (ring - 2)) - 1
    made = []
    for _ in range(case.arity):
        size = np.exp2(rng.uniform(0, ring - 2, SIZE)).astype(np.int64)
        v = size * rng.choice([-1, 1], SIZE)
        near = np.round(rng.normal(scale=8, size=SIZE // 2) * 2.0**frac).astype(np.int64)
        v[: SIZE // 2] = near
        special = [0, 1, -1, top, -top, 1 << frac, -(1 << frac), 1 << (frac - 1), 16 << frac]
        v[: len(special)] = special
        if case.domain != "all":
            v = np.where(v == 0, 1, v)
        if case.domain == "positive":
            v = np.abs(v)
        if case.declared is not None:
            lo, hi = (int(b * 2**frac) for b in case.declared)
            v = lo + np.abs(v) % (hi - lo + 1)
        made.append(Ring(ring).array(v))
    return made


@pytest.mark.parametrize("ring", [64, 32])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@given(data=st.data())
def test_accuracy_over_the_whole_range(case: Case, ring: int, data: st.DataObject) -> None:
    encoded = data.draw(operands(ring, case))
    fxp = Fxp(Ring(ring), FRAC[ring])
    values = [fxp.decode(e, "float64", FRAC[ring]) for e in encoded]
    got = evaluate(case, ring, encoded, data.draw(st.integers(0, 9)))
    with np.errstate(all="ignore"):
        want = case.truth(*values)
    limit = fxp.max_float * (1 - 2.0**-12)
    want = np.where(np.isnan(want), 0, np.clip(want, -limit, limit))
    # What saturates is compared at the limit.
    error = np.abs(np.clip(got, -limit, limit) - want) / np.maximum(1, np.abs(want))
    assert error.max() <= TOLERANCE[ring], [v[error.argmax()] for v in values]


@pytest.mark.parametrize(
    ("name", "fn", "x", "want"),
    [
        ("exp(15)", jnp.exp, 15.0, np.exp(15.0)),
        ("exp(-1000)", jnp.exp, -1000.0, 0.0),
        ("1/1e-5", lambda x: 1 / x, 2.0**-17, 2.0**17),
        ("1/3e5", lambda x: 1 / x, 3e5, 1 / 3e5),
        ("log(1e7)", jnp.log, 1e7, np.log(1e7)),
    ],
)
def test_values_on_which_other_systems_fail(
    name: str, fn: Callable[..., Any], x: float, want: float
) -> None:
    fxp = Fxp(Ring(64), 18)
    case = Case(name, fn, fn)
    got = evaluate(case, 64, [fxp.encode(np.full(SIZE, x))], 0)
    assert np.abs(got - want).max() <= TOLERANCE[64] * max(1, abs(want))


@pytest.mark.parametrize("name", ["logistic", "tanh", "exp", "log", "sqrt"])
def test_monotone_functions_do_not_drop(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    fxp = Fxp(Ring(64), 18)
    grid = np.sort(
        np.concatenate(
            [
                np.linspace(0.01, 20, 40),
                [1 - 2**-18, 1, 1 + 2**-18, 2 - 2**-18, 2],
                np.linspace(15.999, 16.001, SIZE - 45),
            ]
        )
    )
    got = evaluate(case, 64, [fxp.encode(grid)], 3)
    slack = 8 * 2.0**-18 * np.maximum(1, np.abs(got[:-1]))
    assert (np.diff(got) >= -slack).all()


def test_documented_values_at_the_edges() -> None:
    fxp = Fxp(Ring(64), 18)
    zero = fxp.encode(np.zeros(SIZE))
    logs = evaluate(next(c for c in CASES if c.name == "log"), 64, [zero], 0)
    assert (logs < -1e13).all()
    inverse = evaluate(next(c for c in CASES if c.name == "1/x"), 64, [zero], 0)
    assert (inverse > 1e13).all()
    assert (evaluate(next(c for c in CASES if c.name == "sqrt"), 64, [zero], 0) == 0).all()
