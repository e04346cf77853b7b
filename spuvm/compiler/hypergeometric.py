"""Hypergeometric functions of public parameters as JAX functions of one real array, for lowering.

JAX sums their series until the next term is small. Here they are Chebyshev series, made for the
parameters when the function is traced (gauss.py has their digits).

1F1 grows as exp(x): its logarithm less x is a series in t = (|x| - s) / (|x| + s) for x >= 0; below
0 the function times (1 + |x| / s)^a is one (asymptotics: Abramowitz and Stegun 13.5.1). 2F1, or its
logarithm where it is large, is a series in log(1 - x) on either side of 0: there its singularities
are at multiples of 2 pi i, whatever the parameters are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from spuvm.compiler.gauss import FAR, at_one, gauss, kummer, kummer_far
from spuvm.compiler.series import Array, chebyshev, finer, interpolated
from spuvm.errors import CompileError
from spuvm.fxp import Fxp

Series = tuple[float, ...]
SCALES = (4, 8, 16, 32, 64)  # of t
LONGEST, LARGEST = 90, 4.0  # of a series: its length, and the size of its terms
POINTS = 96
SPARE = 64  # numbers inside of `finer` must be smaller by that


def _error(f: int) -> float:
    return max(2.0 ** -(f + 2), 2.0**-39)  # floats have no more


def _of(function: Callable[[Decimal], Decimal]) -> Callable[[Array], Array]:
    return lambda x: np.array([float(function(Decimal(float(v)))) for v in x])


def _refused(name: str, got: str) -> CompileError:
    return CompileError(
        f"{name} of these parameters has no short series",
        got=got,
        next="use parameters nearer to 1; fewer fraction bits need less of a series",
    )


class Kummer(NamedTuple):
    """The scale of t, where the function is the largest number, and the series on both sides."""

    scale: int
    end: float
    above: Series
    below: Series


def _length(made: Kummer) -> int:
    return len(made.above) + len(made.below)


def _in_fractions(
    function: Callable[[Decimal], Decimal], scale: int, last: float, f: int
) -> Series:
    """The series of a function of y >= 0 in y / (y + scale), up to where that is `last`."""

    def at(t: Array) -> Array:
        fraction = last * (t + 1) / 2
        return _of(function)(scale * fraction / np.maximum(1 - fraction, 1e-12))

    return interpolated(at, _error(f), POINTS)


@cache
def _kummer(a: float, b: float, fxp: Fxp) -> Kummer:
    p, q, f = Decimal(a), Decimal(b), fxp.frac_bits
    most = Decimal(fxp.max_float).ln() + 1
    low, high = 0.0, 1.0
    while kummer(p, q, Decimal(high)).ln() < most:
        low, high = high, 2 * high
    while high - low > 0.1:
        middle = (low + high) / 2
        inside = kummer(p, q, Decimal(middle)).ln() < most
        low, high = (middle, high) if inside else (low, middle)

    def logarithm(scale: int) -> Callable[[Decimal], Decimal]:
        return lambda x: kummer(p, q, x).ln() - x - (p - q) * (1 + x / scale).ln()

    def scaled(scale: int) -> Callable[[Decimal], Decimal]:
        def function(y: Decimal) -> Decimal:
            if y > FAR:
                return kummer_far(p, q, y) * (p * (1 / y + Decimal(1) / scale).ln()).exp()
            return kummer(p, q, -y) * (p * (1 + y / scale).ln()).exp()

        return function

    found: list[Kummer] = []
    for scale in SCALES:
        above = _in_fractions(logarithm(scale), scale, high / (high + scale), f)
        below = _in_fractions(scaled(scale), scale, 1.0, f)
        if max(map(abs, above + below)) <= LARGEST:
            found.append(Kummer(scale, high, above, below))
        if len(found) > 1 and _length(found[-1]) >= _length(found[-2]):
            break
    made = min(found, key=_length, default=None)
    if made is None or max(len(made.above), len(made.below)) > LONGEST:
        raise _refused("hyp1f1", f"a={a:g}, b={b:g}")
    return made


def hyp1f1(x: Array, a: float, b: float, fxp: Fxp, sign: str) -> Array:
    """Kummer's function for a > 0 and b > 0; saturates."""
    if a == 0:
        return jnp.ones_like(x)
    if a == b:
        return jnp.exp(x)
    if min(a, b) < 0 or b == 0:
        raise _refused("hyp1f1", f"a={a:g}, b={b:g}")
    made = _kummer(a, b, fxp)
    inside = jnp.clip(x, 0.0 if sign == "positive" else -fxp.max_float / SPARE, made.end)
    size = inside if sign == "positive" else jnp.abs(inside)
    last = made.end / (made.end + made.scale)

    def above(size: Array, fraction: Array, logarithm: Array) -> Array:
        series = chebyshev(made.above, jnp.minimum(fraction * (2 / last) - 1, 1.0))
        return size + series + (a - b) * logarithm

    def parts(size: Array) -> Array:
        raised = size + made.scale
        fraction = size / raised
        logarithm = jnp.log(raised) - math.log(made.scale)
        grown = above(size, fraction, logarithm)
        kept = [grown]
        if sign != "positive":
            kept += [-a * logarithm, chebyshev(made.below, 2 * fraction - 1)]
        return jnp.stack(kept)

    grown, *rest = finer(parts)(size)
    if not rest:
        return jnp.exp(grown)
    negative = x < 0
    fallen, factor = rest
    return jnp.exp(jnp.where(negative, fallen, grown)) * jnp.where(negative, factor, 1.0)


class Part(NamedTuple):
    """2F1, or its logarithm, as a series in log(1 - x) between two ends."""

    first: float
    last: float
    logarithm: bool
    series: Series


class Gauss(NamedTuple):
    """Both parts, and the value at 1."""

    above: Part
    below: Part
    one: float


@cache
def _gauss(a: float, b: float, c: float, fxp: Fxp) -> Gauss:
    p, q, r, f = Decimal(a), Decimal(b), Decimal(c), fxp.frac_bits

    def function(v: Decimal) -> Decimal:
        return gauss(p, q, r, v.exp())

    def part(first: float, last: float) -> Part:
        plain = interpolated(
            lambda t: _of(function)(first + (last - first) * (t + 1) / 2), _error(f), POINTS
        )
        if max(map(abs, plain)) <= LARGEST and len(plain) <= LONGEST:
            return Part(first, last, False, plain)
        try:
            series = interpolated(
                lambda t: _of(lambda v: function(v).ln())(first + (last - first) * (t + 1) / 2),
                _error(f), POINTS,
            )  # fmt: skip
        except InvalidOperation:  # of a number that is not above 0
            series = (0.0,) * POINTS
        if len(series) > LONGEST:
            raise _refused("hyp2f1", f"a={a:g}, b={b:g}, c={c:g}")
        return Part(first, last, True, series)

    most, least = Decimal(3 * fxp.max_float), Decimal(2.0 ** -(f + 3))
    ends = []
    for end in (-f * math.log(2), math.log(fxp.max_float / SPARE)):
        places = [end * (i + 1) / 128 for i in range(128)]
        sizes = [abs(function(Decimal(v))) for v in places]
        last = next((i for i, s in enumerate(sizes) if s > most), len(sizes) - 1)
        while last and sizes[last - 1] < least:
            last -= 1
        ends.append(places[last])
    d = c - a - b
    one = float(at_one(p, q, r)) if d > 1e-12 else fxp.max_float
    return Gauss(
        part(ends[0], 0.0), part(0.0, ends[1]), min(max(one, -fxp.max_float), fxp.max_float)
    )


def hyp2f1(x: Array, a: float, b: float, c: float, fxp: Fxp, sign: str) -> Array:
    """Gauss's function for -max / SPARE < x < 1, and for x = 1 where c > a + b; saturates."""
    if a == 0 or b == 0:
        return jnp.ones_like(x)
    if c <= 0 and c == int(c):
        raise _refused("hyp2f1", f"a={a:g}, b={b:g}, c={c:g}")
    made = _gauss(a, b, c, fxp)

    def parts(x: Array) -> Array:
        place = jnp.log(1 - x)
        chosen = [made.above] if sign == "positive" else [made.above, made.below]
        return jnp.stack([_at(part, place) for part in chosen])

    found = finer(parts)(jnp.clip(x, -fxp.max_float / SPARE, 1.0))
    if sign == "positive":
        value = jnp.exp(found[0]) if made.above.logarithm else found[0]
    else:
        value = _either(x < 0, made, found[1], found[0])
    return jnp.where(x < 1, value, made.one)


def _at(part: Part, place: Array) -> Array:
    middle, half = (part.first + part.last) / 2, (part.last - part.first) / 2
    return chebyshev(part.series, jnp.clip((place - middle) * (1 / half), -1.0, 1.0))


def _either(negative: Array, made: Gauss, below: Array, above: Array) -> Array:
    chosen = jnp.where(negative, below, above)
    logs = made.below.logarithm, made.above.logarithm
    if not any(logs):
        return chosen
    if all(logs):
        return jnp.exp(chosen)
    large = negative if logs[0] else ~negative
    return jnp.where(large, jnp.exp(jnp.where(large, chosen, 0.0)), chosen)


FUNCTIONS: dict[str, Callable[..., Any]] = {"hyp1f1": hyp1f1, "hyp2f1": hyp2f1}
"""By the name of JAX's own function."""
