"""What is known about values beyond their types: how they were made, where that saves work.

exp of a difference is where such knowledge pays: exp(x - log(e^x + e^y)), which differentiation of
softplus and logaddexp leaves, is logistic(x - y); and exp(x - max x) is never above 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.program import Instruction
from spuvm.compiler.context import Choice, Lowering, Secret
from spuvm.compiler.moment_facts import FineRoot, Squared


@dataclass(frozen=True, slots=True)
class LogAddExp:
    """The value is log(e^x + e^y); None stands for a public 0. `difference` is x - y."""

    x: int | None
    y: int | None
    difference: int


@dataclass(frozen=True, slots=True)
class Logistic:
    """The value is logistic(source)."""

    source: int


@dataclass(frozen=True, slots=True)
class Complement:
    """The value is 1 - logistic(source)."""

    source: int


@dataclass(frozen=True, slots=True)
class LogisticSlope:
    """The value is the derivative of logistic at `source`: logistic (1 - logistic)."""

    source: int


@dataclass(frozen=True, slots=True)
class TanhSoftplus:
    """The value is tanh(log(1 + e^source))."""

    source: int


@dataclass(frozen=True, slots=True)
class Exponential:
    """The value is exp(source)."""

    source: int


@dataclass(frozen=True, slots=True)
class ExponentialLess1:
    """The value is exp(source) - 1."""

    source: int


@dataclass(frozen=True, slots=True)
class OneMore:
    """The value is source + 1."""

    source: int


@dataclass(frozen=True, slots=True)
class ScaledExponential:
    """The value is exp(source) times all of `above`, divided by all of `below`, plus `rest`.

    These are values or public numbers; a rest of None is 0.
    """

    source: int
    above: tuple[Any, ...] = ()
    below: tuple[Any, ...] = ()
    rest: Any = None


@dataclass(frozen=True, slots=True)
class BesselResidual:
    """What bessel_jn keeps for the way back: its operand.

    ways_back: how bessel_jn was called, by the body, as text, of the call that needs it.
    """

    source: int
    ways_back: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TwiceExponential:
    """The value is exp(-exp(source)) - 1."""

    source: int


@dataclass(frozen=True, slots=True)
class Product:
    """The value is the product of a value and of another one or of public numbers."""

    x: int
    y: int | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Quotient:
    """The value is x / y; x, a value or public numbers, is -1, 0 or 1."""

    x: Any
    y: int


@dataclass(frozen=True, slots=True)
class OverPower:
    """The value is x / y^power; an x of None is 1."""

    x: int | None
    y: int
    power: int


@dataclass(frozen=True, slots=True)
class Logarithm:
    """The value is log(source), or log(1 + source), or better than that (`refined`)."""

    source: int
    raised: bool = False
    refined: bool = False


@dataclass(frozen=True, slots=True)
class LogGamma:
    """The value is log |gamma(source)|."""

    source: int


@dataclass(frozen=True, slots=True)
class LogProduct:
    """The value is x log y; operands are secret values or public arrays."""

    x: Any
    y: Any


@dataclass(frozen=True, slots=True)
class RelativeEntropy:
    """The value is p log(p / q), with - p + q as a `whole`, and better than its parts."""

    p: Any
    q: Any
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Remainder:
    """The value is `source` - p, or of a choice whose `yes` is that source, less p."""

    source: RelativeEntropy
    choice: Choice | None
    p: Any


@dataclass(frozen=True, slots=True)
class Refined:
    """The value is better than what its equation makes of its operands."""


@dataclass(frozen=True, slots=True)
class Maximum:
    """The value is the maximum of `source` over `axes`."""

    source: int
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Relu:
    """The value is max(source, 0)."""

    source: int


@dataclass(frozen=True, slots=True)
class Limited:
    """The value is the maximum or minimum ("max", "min") of `source` and an encoded constant."""

    source: int
    op: str
    limit: int


@dataclass(frozen=True, slots=True)
class Peak:
    """All elements are at least 0, and along `axes` the largest one is 1."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """The value is a whole number near `source`, which is above it by `least` to `most`."""

    source: int
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Word:
    """The integer's residue modulo 2^width is Boolean value `id`, zero above what `id` is wide."""

    id: int
    width: int


Fact = (
    LogAddExp
    | Logistic
    | Complement
    | LogisticSlope
    | TanhSoftplus
    | Exponential
    | ExponentialLess1
    | BesselResidual
    | OneMore
    | ScaledExponential
    | TwiceExponential
    | Product
    | Quotient
    | OverPower
    | Squared
    | FineRoot
    | Logarithm
    | LogGamma
    | LogProduct
    | Refined
    | RelativeEntropy
    | Remainder
    | Maximum
    | Relu
    | Limited
    | Peak
    | Whole
    | Word
)


def logistic_argument(low: Lowering, exponent: int) -> tuple[int, int] | None:
    """(d, sign) where exp(exponent) = logistic(sign * d), if it was made so."""
    made = low.builder.instruction(exponent)
    if made is None or made.op not in ("sub_aa", "neg_a"):
        return None
    fact = low.facts.get(root(low, made.args[-1]))
    if not isinstance(fact, LogAddExp):
        return None
    first = root(low, made.args[0]) if made.op == "sub_aa" else None
    for term, sign in ((fact.x, 1), (fact.y, -1)):
        if first == (None if term is None else root(low, term)):
            return fact.difference, sign
    return None


def negated(low: Lowering, value: int) -> Fact | None:
    """What is known of x where `value` is -x."""
    made = low.builder.instruction(root(low, value))
    if made is None or made.op != "neg_a":
        return None
    return low.facts.get(root(low, made.args[0]))


def squared(low: Lowering, value: int) -> Squared | None:
    """What is known of a square, or of a sum of parts of squares."""
    fact = low.facts.get(root(low, value))
    return fact if isinstance(fact, Squared) else None


def refined(low: Lowering, values: Sequence[Any]) -> bool:
    """Whether one of the values is better than what its equation makes of its operands."""
    facts = [low.facts.get(root(low, v.id)) for v in values if isinstance(v, Secret)]
    return any(
        isinstance(fact, Refined | RelativeEntropy)
        or (isinstance(fact, Logarithm) and fact.refined)
        for fact in facts
    )


def mark(low: Lowering, value: int, fact: Fact) -> int:
    """`value`, of which that is known from now on."""
    low.facts[root(low, value)] = fact
    return value


def above_whole(low: Lowering, x: int, y: int, made: int) -> int:
    """`made` is x - y: of a known range where y is x rounded to a whole number."""
    fact = low.facts.get(root(low, y))
    if not isinstance(fact, Whole) or root(low, fact.source) != root(low, x):
        return made
    unit = 1 << low.frac(made)
    return low.narrowed(made, math.floor(fact.least * unit), math.ceil(fact.most * unit))


def of_itself(
    low: Lowering, x: int, y: int, kind: type[Logistic] | type[TanhSoftplus]
) -> int | None:
    """The value v where x and y are v and that function of v, in any order."""
    for v, factor in ((x, y), (y, x)):
        fact = low.facts.get(root(low, factor))
        if isinstance(fact, kind) and root(low, fact.source) == root(low, v):
            return v
    return None


def grown_by(low: Lowering, x: int, y: Any) -> tuple[int, int] | None:
    """(u, b) where x is exp(u) - 1, u is a b and y is a; y is a value or public numbers."""
    fact = low.facts.get(root(low, x))
    if not isinstance(fact, ExponentialLess1):
        return None
    product = low.facts.get(root(low, fact.source))
    if not isinstance(product, Product):
        return None
    for a, b in ((product.y, product.x), (product.x, product.y)):
        if not isinstance(b, int):
            continue
        if isinstance(a, int) and isinstance(y, int):
            same = root(low, a) == root(low, low.spread(y, low.shape(a)))
        else:
            same = not isinstance(a, int) and not isinstance(y, int) and bool(np.all(a == y))
        if same:
            return fact.source, b
    return None


def slope_source(low: Lowering, x: int, y: int) -> int | None:
    """The value v where x and y are logistic(v) and 1 - logistic(v), in any order."""
    for a, b in ((x, y), (y, x)):
        fact, other = low.facts.get(root(low, a)), low.facts.get(root(low, b))
        if isinstance(fact, Logistic) and isinstance(other, Complement):
            return fact.source if root(low, fact.source) == root(low, other.source) else None
    return None


def slope_times(low: Lowering, x: int, y: int) -> tuple[int, Any] | None:
    """(v, g) where x and y are v g and the derivative of logistic at v, in any order.

    g is a value or public numbers.
    """
    for given, slope in ((x, y), (y, x)):
        fact = low.facts.get(root(low, slope))
        if not isinstance(fact, LogisticSlope):
            continue
        v = root(low, fact.source)
        if root(low, given) == v:
            return fact.source, np.ones(())
        product = low.facts.get(root(low, given))
        if not isinstance(product, Product):
            continue
        if root(low, product.x) == v:
            return fact.source, product.y
        if isinstance(product.y, int) and root(low, product.y) == v:
            return fact.source, product.x
    return None


def below_maximum(low: Lowering, value: int) -> tuple[int, ...] | None:
    """Axes along which `value` is something minus its maximum, hence at most 0."""
    made = low.builder.instruction(value)
    if made is None or made.op != "sub_aa":
        return None
    chain: list[Instruction] = []
    inner = made.args[1]
    while not isinstance(low.facts.get(inner), Maximum):
        step = low.builder.instruction(inner)
        if step is None or step.op not in ("broadcast", "reshape"):
            return None
        chain.append(step)
        inner = step.args[0]
    fact = low.facts[inner]
    if not isinstance(fact, Maximum) or fact.source != made.args[0]:
        return None
    shape = low.shape(fact.source)
    places = np.arange(low.type(inner).size).reshape(low.shape(inner))
    wanted = np.broadcast_to(np.expand_dims(places, fact.axes), shape)
    return fact.axes if np.array_equal(_moved(places, chain), wanted) else None


def sum_bounds(low: Lowering, value: int, axes: Sequence[int], total: int) -> int:
    """The sum of `value` over `axes`, which is at least 1 if one of its elements is."""
    fact = low.facts.get(value)
    if not isinstance(fact, Peak) or sorted(fact.axes) != sorted(axes):
        return total
    one = 1 << low.frac(total)
    return low.narrowed(total, one - (one >> 7), low.bound - 1)


def root(low: Lowering, value: int) -> int:
    """What `value` is with other fraction bits or bounds."""
    while True:
        made = low.builder.instruction(value)
        if made is None or made.op not in ("shl_a", "trunc_a", "retype_a"):
            return value
        gained = low.frac(value) - low.frac(made.args[0])
        bits: Any = made.attrs.get("bits", 0)
        if gained != (-bits if made.op == "trunc_a" else bits):  # a scaling by a power of two
            return value
        value = made.args[0]


def _moved(places: npt.NDArray[Any], chain: Sequence[Instruction]) -> npt.NDArray[Any]:
    """`places` through reshapes and broadcasts, the last first."""
    for step in reversed(chain):
        shape: Any = step.attrs["shape"]
        if step.op == "reshape":
            places = places.reshape(shape)
            continue
        inner = [1] * len(shape)
        dims: Any = step.attrs["dims"]
        for n, d in zip(places.shape, dims, strict=True):
            inner[d] = n
        places = np.broadcast_to(places.reshape(inner), shape)
    return places
