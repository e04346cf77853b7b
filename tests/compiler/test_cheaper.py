"""What is known of a range (declared, assumed, from a clip) makes functions cheaper: see `cost`.

floor, ceil and round look at the fraction alone, and cost the same for every range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.scipy import special

import spuvm as sf
from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.fxp import Fxp
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

CONFIG = CompileConfig(Ring(64), Fxp(Ring(64), 18))
SIZE = 10**5
Bounds = tuple[float | None, float | None]
ALL: Bounds = (None, None)

RANGES: dict[str, tuple[Callable[..., Any], tuple[float, float]]] = {
    "exp": (jnp.exp, (-2, 2)),
    "exp2": (jnp.exp2, (-2, 2)),
    "expm1": (jnp.expm1, (-1, 1)),
    "log": (jnp.log, (0.5, 4)),
    "log1p": (jnp.log1p, (0, 1)),
    "sigmoid": (jax.nn.sigmoid, (-4, 4)),
    "tanh": (jnp.tanh, (-2, 2)),
    "softplus": (jax.nn.softplus, (-4, 4)),
    "gelu": (jax.nn.gelu, (-1, 1)),
    "erf": (special.erf, (-1, 1)),
    "erfc": (special.erfc, (-1, 1)),
    "erf_inv": (special.erfinv, (-0.5, 0.5)),
    "sqrt": (jnp.sqrt, (0.5, 4)),
    "rsqrt": (lax.rsqrt, (0.5, 4)),
    "cbrt": (jnp.cbrt, (0.5, 4)),
    "reciprocal": (jnp.reciprocal, (0.5, 4)),
    "power": (lambda x: x**1.75, (0.5, 4)),
    "square": (jnp.square, (-4, 4)),
    "sin": (jnp.sin, (-1.5, 1.5)),
    "cos": (jnp.cos, (-3, 3)),
    "tan": (jnp.tan, (-1, 1)),
    "asin": (jnp.arcsin, (-0.5, 0.5)),
    "acos": (jnp.arccos, (-0.5, 0.5)),
    "atan": (jnp.arctan, (-1, 1)),
    "sinh": (jnp.sinh, (-1, 1)),
    "cosh": (jnp.cosh, (-1, 1)),
    "asinh": (jnp.arcsinh, (-1, 1)),
    "acosh": (jnp.arccosh, (1, 2)),
    "atanh": (jnp.arctanh, (-0.5, 0.5)),
    "sign": (jnp.sign, (-4, 4)),
    "relu": (jax.nn.relu, (-4, 4)),
    "softmax": (lambda x: jax.nn.softmax(x.reshape(-1, 100)), (-2, 2)),
    "argmax": (jnp.argmax, (-4, 4)),
    "sort": (lambda x: jnp.sort(x[:1000]), (-4, 4)),
    "top_k": (lambda x: lax.top_k(x, 10)[0], (-4, 4)),
}


def cost(fn: Callable[..., Any], *bounds: Bounds) -> tuple[int, int]:
    """(rounds, bytes)."""
    specs = [SecretSpec((SIZE,), "float32", "owner", lo, hi) for lo, hi in bounds]
    made = static_cost(compile_function(fn, specs, config=CONFIG).program)
    return made.rounds, sum(made.bytes_sent)


@pytest.mark.parametrize("name", RANGES)
def test_known_ranges_make_functions_cheaper(name: str) -> None:
    fn, (lo, hi) = RANGES[name]
    full = cost(fn, ALL)
    clip = cost(lambda x: jnp.clip(x, lo, hi), ALL)
    known = {
        "declared": cost(fn, (lo, hi)),
        "assumed": cost(lambda x: fn(sf.assume_range(x, lo, hi)), ALL),
        "clipped": tuple(
            whole - part
            for whole, part in zip(cost(lambda x: fn(jnp.clip(x, lo, hi)), ALL), clip, strict=True)
        ),
    }
    for how, one in known.items():
        assert one[0] < full[0], how
        assert one[1] < full[1], how
    assert all(a <= b for a, b in zip(known["declared"], known["assumed"], strict=True))


def test_two_operands() -> None:
    for fn in (jnp.divide, jnp.arctan2, jnp.hypot):
        full, declared = cost(fn, ALL, ALL), cost(fn, (-4, 4), (0.5, 4))
        assert declared < full
        assert declared[1] < full[1]


def test_a_clip_compares_both_sides_at_once() -> None:
    one, both = cost(lambda x: jnp.maximum(x, -1), ALL), cost(lambda x: jnp.clip(x, -1, 1), ALL)
    assert both == (one[0], 2 * one[1])


def test_a_clipped_sigmoid_costs_less_than_a_whole_one() -> None:
    assert cost(lambda x: jax.nn.sigmoid(jnp.clip(x, -4, 4)), ALL) < cost(jax.nn.sigmoid, ALL)


@pytest.mark.parametrize("rounded", [jnp.floor, jnp.ceil, jnp.round, lax.round])
def test_what_rounding_cuts_off_is_known_to_be_small(rounded: Callable[..., Any]) -> None:
    """The square of an unknown number takes the full form, which sends more."""
    small = cost(lambda x: (x - rounded(x)) ** 2, ALL)[1] - cost(rounded, ALL)[1]
    assert small == cost(jnp.square, (-1, 1))[1] < cost(jnp.square, ALL)[1]


def test_a_square_of_what_waits_for_its_truncation_is_not_negative() -> None:
    """So a variance with an epsilon has no zero to look for, nor a root that saturates."""

    def normalised(x: Any) -> Any:
        x = x - jnp.mean(x, -1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)

    spec = SecretSpec((1000, 100), "float32", "owner", -8, 8)
    program = compile_function(normalised, [spec], config=CONFIG).program
    (last,) = (program.types[o.value] for o in program.outputs)
    products = [i for i in program.instructions if i.op == "mul_aa" and i.types[0].size == SIZE]
    assert [i.attrs["form"] for i in products] == ["narrow", "narrow"]
    assert last.bounds is not None
