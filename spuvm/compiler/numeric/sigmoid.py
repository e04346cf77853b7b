"""logistic, tanh, softplus: one polynomial in x^2 between limits beyond which nothing changes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.polynomial import constant
from spuvm.compiler.numeric.symmetric import odd, ramp, slack

Floats = npt.NDArray[np.float64]


def _flat(low: Lowering, lost: float) -> float:
    """Where exp(-x) is 2^lost units in the last place: a few for short fractions, more for long
    ones, inside the 2^6 units that are promised."""
    return (low.f - min(lost, 4.0)) * math.log(2.0)


def _half_logistic(x: Floats) -> Floats:
    return 0.5 * np.tanh(0.5 * x)


def logistic(low: Lowering, x: int) -> int:
    """1 / (1 + exp(-x)) with the program's fraction bits; error about 2^-f * 15 for f = 18.

    1/2 plus an odd polynomial on |x| <= 10 (f = 18), constant beyond; where the bounds of x are
    narrower, the comparisons are left out and the degree is lower.
    """
    f = low.f
    x, negated = _sign_aside(low, x)
    made = odd(low, x, _half_logistic, _flat(low, (f - 4) / 4), 0.5)
    with low.unchecked():
        half = constant(low, 0.5, f)
        made = low.emit("sub_pa", half, made) if negated else low.emit("add_ap", made, half)
    return low.narrowed(made, -slack(f), (1 << f) + slack(f))


def _sign_aside(low: Lowering, x: int) -> tuple[int, bool]:
    """(y, negated) where x is y or -y, so that f(x) and f(-x) share their work."""
    made = low.builder.instruction(x)
    return (made.args[0], True) if made is not None and made.op == "neg_a" else (x, False)


def tanh(low: Lowering, x: int) -> int:
    """tanh(x) with the program's fraction bits; error about 2^-f * 20 for f = 18; see logistic."""
    x, negated = _sign_aside(low, x)
    made = odd(low, x, np.tanh, (_flat(low, (low.f - 8) / 4) + math.log(2)) / 2, 1.0)
    made = low.emit("neg_a", made) if negated else made
    one = (1 << low.f) + slack(low.f)
    return low.narrowed(made, -one, one)


def _even_part(x: Floats) -> Floats:
    return np.logaddexp(0.5 * x, -0.5 * x)


def softplus(low: Lowering, x: int) -> int:
    """log(1 + exp(x)) with the program's fraction bits; error about 2^-f * 15 for f = 18.

    x/2 + log(2 cosh(x/2)), the second an even polynomial between limits; 0 or x beyond them.
    """
    positive, negated = _sign_aside(low, x)
    if negated:
        with low.unchecked():
            return arith.sub(low, softplus(low, positive), arith.settle(low, positive))
    return ramp(low, x, _even_part, _flat(low, (low.f - 4) / 4))


def _even_half(x: Floats) -> Floats:
    return 0.5 * x * np.tanh(0.5 * x)


def silu(low: Lowering, x: int) -> int:
    """x logistic(x) with the program's fraction bits; error about 2^-f * 15 for f = 18.

    A product would multiply the error of logistic, which is constant beyond its limits, by x.
    x/2 + x/2 tanh(x/2), the second an even polynomial between limits; 0 or x beyond them.
    """
    return ramp(low, x, _even_half, _reach_of_silu(low))


def _reach_of_silu(low: Lowering) -> float:
    """Where x exp(-x) is as small as exp(-x) is at the limit of logistic."""
    least = reach = _flat(low, (low.f - 4) / 4)
    for _ in range(8):
        reach = least + math.log(reach)
    return reach


def _bend(x: Floats) -> Floats:
    return np.asarray(0.25 * x / np.cosh(0.5 * x) ** 2)


def silu_bend(low: Lowering, x: int) -> int:
    """x logistic(x) (1 - logistic(x)), what bends silu; error about 2^-f * 15 for f = 18.

    An odd polynomial between limits beyond which it is 0: there 1 - logistic(x) is all rounding.
    """
    positive, negated = _sign_aside(low, x)
    made = odd(low, positive, _bend, _reach_of_silu(low), 0.0)
    most = math.ceil(math.ldexp(0.23, low.f)) + slack(low.f)
    return low.narrowed(low.emit("neg_a", made) if negated else made, -most, most)
