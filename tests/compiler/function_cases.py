"""Records of functions of one element: the domain over which the accuracy contract holds.

One record is one function of secret operands: its accuracy is swept over its whole domain, in every
ring, with and without declared ranges (test_functions_accuracy.py), and docs/ops.md lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from spuvm.ring import WIDTHS

MOST = float("inf")


@dataclass(frozen=True)
class Domain:
    """The interval an operand is taken from, as far as it is representable."""

    lo: float = -MOST
    hi: float = MOST


@dataclass(frozen=True)
class Function:
    """A function, the domain of each operand, and what else must hold.

    fn      also gives the truth, in float64 on the encoded operands, unless `truth` does.
    course  a rising or falling function may not turn back by more than 8 units anywhere.
    """

    primitive: str
    fn: Callable[..., Any]
    args: tuple[Domain, ...] = (Domain(),)
    name: str = ""
    course: Literal["rising", "falling", "any"] = "any"
    rings: tuple[int, ...] = WIDTHS
    truth: Callable[..., Any] | None = None

    @property
    def id(self) -> str:
        """Name in test reports."""
        return f"{self.primitive}-{self.name}" if self.name else self.primitive


ALL, POSITIVE = Domain(), Domain(lo=0.0)

FUNCTIONS = [
    Function("exp", jnp.exp, course="rising"),
    Function("exp2", jnp.exp2, course="rising"),
    Function("expm1", jnp.expm1, course="rising"),
    Function("log", jnp.log, (POSITIVE,), course="rising"),
    Function("log1p", jnp.log1p, (POSITIVE,), course="rising"),
    Function("logistic", jax.nn.sigmoid, course="rising"),
    Function("logistic", lambda x: jax.nn.sigmoid(jnp.clip(x, -4, 4)), name="clipped"),
    Function("tanh", jnp.tanh, course="rising"),
    Function("log1p", jax.nn.softplus, name="softplus", course="rising"),
    Function("sqrt", jnp.sqrt, (POSITIVE,), course="rising"),
    Function("rsqrt", lax.rsqrt, (POSITIVE,), course="falling"),
    Function("cbrt", jnp.cbrt, course="rising"),
    Function("div", lambda x, y: x / y, (ALL, ALL)),
    Function("div", lambda y: 1 / y, name="inverse"),
    Function("div", lambda y: -1e5 / y, name="public-numerator"),
    Function("div", lambda x: x / 3e-4, (Domain(-100, 100),), "public-divisor"),
    Function("floor", jnp.floor, course="rising"),
    Function("ceil", jnp.ceil, course="rising"),
    Function("round", jnp.round, course="rising"),
]  # fmt: skip
