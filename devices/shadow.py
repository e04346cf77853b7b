"""check="shadow": every equation of a simulated run beside plaintext JAX on the same operands.

The program opens what every equation takes and gives. Each is computed again in float64 from the
values that it really took, so that a difference belongs to the equation itself and not to an
earlier one: rounding does not add up, and a comparison of nearly equal numbers is judged fairly.
Equations inside of loops are compared in every iteration. For debugging, on data one owns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from spuvm.compiler import Compiled
from spuvm.compiler.config import Watched
from spuvm.compiler.context import Secret
from spuvm.compiler.lower import evaluate
from spuvm.compiler.varying import Varying
from spuvm.errors import ShadowError
from spuvm.fxp import Fxp

Array = npt.NDArray[Any]
# What is not a function of its operands, or has a meaning of its own here.
UNCHECKED = frozenset(
    {"fresh", "shuffled", "reduce_precision", "stop_gradient", "optimization_barrier"}
)

# Results beyond the representable numbers are the largest ones, which is as it should be.
SATURATING = (
    *("exp", "exp2", "expm1", "log", "log1p", "div", "pow", "rsqrt"),
    *("sinh", "cosh", "tan", "atanh", "erf_inv"),
)
LOGARITHMS = ("log", "log1p")  # have a lowest value of their own


def tolerance(fxp: Fxp) -> float:
    """The accuracy that every function promises, relative to max(1, |result|)."""
    return max(2.0**-22, 2.0**-4 if fxp.frac_bits == 8 else 2.0 ** (6 - fxp.frac_bits))


def check(compiled: Compiled, values: Sequence[Array], fxp: Fxp) -> None:
    """Compare all watched equations in the order in which they were lowered.

    Raises:
        ShadowError: at the first one whose result differs by more than the contract; it names the
            equation, the user's line, and by how much, in how many elements.
    """
    opened = dict(zip(compiled.watched_values, values, strict=True))
    for watched in compiled.watched:
        name = watched.equation.primitive.name
        if name in UNCHECKED:
            continue
        examine = _promise if name == "assume_range" else _compare
        for place in np.ndindex(watched.trips):
            examine(watched, opened, place, fxp)


def _value(x: Any, opened: Mapping[int, Array], place: tuple[int, ...]) -> Array:
    """An operand in one iteration of the loops around."""
    if isinstance(x, Secret):
        return np.asarray(opened[x.id][place])
    if isinstance(x, Varying):
        table = np.asarray(x.table)
        return np.asarray(
            table[tuple(min(i, n - 1) for i, n in zip(place, table.shape, strict=False))]
        )
    return np.asarray(x)


def _promise(
    watched: Watched, opened: Mapping[int, Array], place: tuple[int, ...], fxp: Fxp
) -> None:
    lo, hi = (watched.equation.params[k] for k in ("lo", "hi"))
    x = _value(watched.operands[0], opened, place).astype(np.float64)
    slack = tolerance(fxp) * max(1.0, abs(lo), abs(hi))
    outside = int(((x < lo - slack) | (x > hi + slack)).sum())
    if outside:
        raise ShadowError(
            f"a promise of assume_range does not hold{_in(place)}",
            at=watched.source or None,
            got=f"{outside} of {x.size} elements outside of it",
            expected=f"{lo:g} to {hi:g}",
            next="promise a wider range",
        )


def _in(place: tuple[int, ...]) -> str:
    """In which iteration of each of the loops around, outermost first."""
    return f", in iteration {', '.join(map(str, place))}" if place else ""


def _compare(
    watched: Watched, opened: Mapping[int, Array], place: tuple[int, ...], fxp: Fxp
) -> None:
    if not any(isinstance(r, Secret) for r in watched.results):
        return
    operands = [_value(x, opened, place) for x in watched.operands]
    expected, slack = _expected(watched, operands)
    name, params = watched.equation.primitive.name, watched.equation.params
    saturates = name in SATURATING or (name == "integer_pow" and params["y"] < 0)
    for result, want in zip(watched.results, expected, strict=True):
        if isinstance(result, Secret) and want is not None:
            got, right = opened[result.id][place], np.asarray(want)
            if saturates:
                limit = fxp.max_float * (1 - 2.0**-12)
                lowest = fxp.log_of_zero if name in LOGARITHMS else -limit
                got, right = (np.clip(v, lowest, limit) for v in (got, right))
            found = _difference(got, right, fxp, slack)
            if found is not None:
                _report(watched, found, place)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a result is not what it should be; no values, only counts and sizes."""

    wrong: int
    size: int
    most: float
    beyond: bool


def _difference(got: Array, want: Array, fxp: Fxp, slack: float) -> Difference | None:
    if want.dtype.kind in "biu":
        wrong = got != want.astype(got.dtype)
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
        beyond = False
    else:
        wide = want.astype(np.float64)
        known = np.isfinite(wide)
        wide = np.where(known, wide, 0.0)
        error = np.where(known, np.abs(got.astype(np.float64) - wide), 0.0)
        wrong = error > tolerance(fxp) * np.maximum(1.0, np.abs(wide)) + slack
        beyond = bool((np.abs(wide) >= fxp.max_float).any())
    count = int(np.sum(wrong))
    return Difference(count, want.size, float(error.max()), beyond) if count else None


def _report(watched: Watched, found: Difference, place: tuple[int, ...]) -> None:
    eqn = watched.equation
    shapes = ", ".join(v.aval.str_short() for v in eqn.invars)
    reason = "results beyond the representable numbers" if found.beyond else "a difference"
    raise ShadowError(
        f"{eqn.primitive.name}({shapes}): {reason}, seen against plaintext{_in(place)}",
        at=watched.source or None,
        got=f"{found.wrong} of {found.size} elements are off, by up to {found.most:.3g}",
        expected="the accuracy contract (README), on the operands that it really had",
        next="scale the data or clip it"
        if found.beyond
        else "check promised ranges and the domain of the function; otherwise report a bug",
    )


# --- plaintext -----------------------------------------------------------------------------------


def _expected(watched: Watched, operands: Sequence[Array]) -> tuple[Sequence[Any], float]:
    """Results in float64, and by how much they may be off themselves.

    An equation with functions inside is evaluated as it was traced, in its own dtypes.
    """
    eqn = watched.equation
    inner = any(_has_jaxpr(v) for v in eqn.params.values())
    if not inner:
        try:
            with jax.enable_x64(True):
                params = {k: _wide(v) for k, v in eqn.params.items()}
                made = eqn.primitive.bind(
                    *(jnp.asarray(_wide_array(x)) for x in operands), **params
                )
                return list(made) if eqn.primitive.multiple_results else [made], 0.0
        except (TypeError, ValueError, NotImplementedError):
            pass  # the primitive insists on the dtypes that it was traced with
    narrow = [
        jnp.asarray(np.asarray(x).astype(a.aval.dtype))
        for x, a in zip(operands, eqn.invars, strict=True)
    ]
    made = evaluate(eqn, narrow, watched.debug_info)
    largest = max((float(np.abs(x).max(initial=0)) for x in operands), default=0.0)
    return made, 2.0**-18 * max(1.0, largest)


def _has_jaxpr(value: Any) -> bool:
    parts = value if isinstance(value, tuple | list) else (value,)
    return any(hasattr(p, "eqns") or hasattr(p, "jaxpr") for p in parts)


def _wide(value: Any) -> Any:
    """A parameter that names a float dtype names float64."""
    if isinstance(value, np.dtype | type):
        try:
            dtype = np.dtype(value)
        except TypeError:
            return value
        return np.dtype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else value
    return value


def _wide_array(x: Array) -> Array:
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
