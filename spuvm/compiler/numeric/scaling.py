"""Bringing a positive value of unknown size to [1/4, 1) by a secret power of two.

In few stages: a stage compares the value with up to four powers of two at once and multiplies it
by what is missing. Later stages see only the leading bits, so their comparisons are short. What a
stage does is linear in its bits, and so is every function of its shift: the exponent of a logarithm
takes no product, a power of two one per stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from spuvm.compiler import arith, order
from spuvm.compiler.context import Lowering
from spuvm.compiler.numeric.limits import minus, plus
from spuvm.compiler.numeric.polynomial import working_bits

SPAN = 2  # log2 of the range that is left
GAIN = 21  # what brings the range that is left to one of length 2, in eighths
FUZZ = 7  # a window may take a value for a power of two that is smaller by 2^-FUZZ
COMPARE = {8: 6, 16: 12, 32: 25, 64: 51, 128: 102}  # bytes of a comparison by its bits
ROUND = 3  # bytes per element that a round counts as, and 2^17 bytes in all
NEVER = 1 << 60  # cost of what cannot be done
COUNT = 24  # comparisons of one stage, at most
Plan = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """shift = step * (n - sum of bits): bit i (0 or 1, arithmetic) where x >= 2^(top - i step).

    positive is 1 where the value was at least 1 unit, None if it always is; where it is 0 the value
    counts as 1 unit.
    """

    step: int
    bits: tuple[int, ...]
    positive: int | None

    @property
    def most(self) -> int:
        """The largest shift."""
        return self.step * len(self.bits)

    def weigh(self, low: Lowering, function: Callable[[int], int], missing: int | None) -> int:
        """function(shift) as an integer; `missing` (if given) where the value was not positive."""
        steps = [function(self.step * i) for i in range(len(self.bits), -1, -1)]
        terms = [(b, steps[i + 1] - steps[i]) for i, b in enumerate(self.bits[::-1])]
        base = steps[0]
        if self.positive is not None:
            other = base if missing is None else missing
            terms.append((self.positive, base - other))
            base = other
        with low.unchecked():
            made = low.emit("lincomb_a", *(b for b, _ in terms), coefficients=[c for _, c in terms])
            return low.narrowed(plus(low, made, base), min(*steps, base), max(*steps, base))


@dataclass(frozen=True, slots=True)
class Normal:
    """|x| = mantissa * 2^(top - shift) as encoded integers, shift being summed over the stages.

    mantissa is in [least, 1]; `signed` are the stages' factors, the sign of x in the first. What
    is not positive (zero, if both signs are taken) counts as 1 unit; there the bit `zero` is set
    (None where that cannot be), and the first factor is 0.
    """

    mantissa: int
    least: float
    top: int
    stages: tuple[Stage, ...]
    signed: tuple[int, ...]
    zero: int | None

    @property
    def most(self) -> int:
        """The largest shift."""
        return sum(s.most for s in self.stages)

    def missing(self, low: Lowering) -> int:
        """`zero` as a number; for None the public 0 as shares."""
        positive = self.stages[0].positive if self.stages else None
        if positive is None:
            nothing = low.emit("lincomb_a", self.mantissa, coefficients=[0])
            return arith.retype(low, nothing, 0)
        return low.emit("sub_pa", low.integer(1), positive)

    def total(self, low: Lowering, function: Callable[[int], int], missing: int) -> int | None:
        """The sum over the stages of function(shift of the stage); None if there are none.

        `missing` takes the place of the first one where x was not positive.
        """
        parts = [s.weigh(low, function, missing) for s in self.stages]
        return low.emit("lincomb_a", *parts, coefficients=[1] * len(parts)) if parts else None

    def product(
        self, low: Lowering, function: Callable[[int, int], int], missing: int | None = None
    ) -> int | None:
        """The product over the stages of function(shift, largest shift); None if there are none."""
        factors = []
        for s in self.stages:
            values = {i * s.step: function(i * s.step, s.most) for i in range(len(s.bits) + 1)}
            factors.append(s.weigh(low, values.__getitem__, missing))
        return _chain(low, factors)

    def scale(self, low: Lowering) -> int | None:
        """2^shift with the sign of x; None if there are no stages."""
        return _chain(low, self.signed)


@dataclass(frozen=True, slots=True)
class Centred:
    """w in [-1, 1], with working_bits, goes linearly with the mantissa in [lo, hi]."""

    w: int
    lo: float
    hi: float
    normal: Normal


def centred(low: Lowering, x: int, parity: int = 1) -> Centred:
    """An encoded x brought to [1/4, 1], and that range to [-1, 1], as polynomials want it."""
    f = working_bits(low)
    least = _left(low, x, _plan(low, x, f - 3, GAIN, parity))
    slope = math.floor(16 / (1 - least))  # in eighths: GAIN where there are stages
    normal = normalise(low, x, f - 3, slope, parity)
    middle = round((1 + least) / 2 * slope / 8 * 2**f)
    with low.unchecked():
        w = plus(low, arith.retype(low, normal.mantissa, f), -middle)
    centre = middle * 8 / slope / 2**f
    return Centred(w, centre - 8 / slope, centre + 8 / slope, normal)


def normalise(
    low: Lowering, x: int, frac: int, gain: int = 1, parity: int = 1, signs: str = "positive"
) -> Normal:
    """An encoded x brought to [1/4, 1] by shifts that are multiples of `parity`.

    The mantissa is multiplied by `gain` and has `frac` fraction bits. signs="both" takes |x|.
    """
    top, plan = _range(low, x)[0], _plan(low, x, frac, gain, parity)
    least = _left(low, x, plan)
    with low.unchecked():
        zero, sign = _zero(low, x, signs)
        good = None if zero is None else low.emit("b2a", low.emit("not_b", zero))
        stages: list[Stage] = []
        signed: list[int] = []
        for number, (count, step, width) in enumerate(plan or (((0, 0, 0),) if good else ())):
            first, last = number == 0, number >= len(plan) - 1
            kept = top
            if last:
                x, kept = _leading(low, x, top, frac + gain.bit_length() + 1 + count * step)
            both = first and sign is not None
            bits = tuple(_thresholds(low, x, kept, count, step, width, both)) if count else ()
            stage = Stage(step, bits, good if first else None)
            stages.append(stage)
            factor = stage.weigh(low, lambda s: 1 << s, 0)
            factor = _product(low, factor, sign) if both and sign is not None else factor
            signed.append(factor)
            if last:
                x = _finished(low, x, factor, kept, frac, gain)
            else:
                x = _filled(low, _product(low, x, factor), stage.positive, 1 << stage.most)
                x = low.narrowed(x, 1, min(1 << top, low.ring.modulus // 2 - 1))
            if last:
                x = _filled(low, x, stage.positive, (gain << stage.most) * 2**frac >> top)
        if not stages:
            x, kept = _leading(low, x, top, frac + gain.bit_length() + 1)
            x = _cut(low, low.emit("lincomb_a", x, coefficients=[gain]), kept - frac)
        lowest = max(0, math.floor(gain * least * 2**frac) - 2)
        x = low.narrowed(arith.retype(low, x, frac), lowest, (gain << frac) + 1)
    return Normal(x, least, top, tuple(stages), tuple(signed), zero)


def _zero(low: Lowering, x: int, signs: str) -> tuple[int | None, int | None]:
    """(the bit of what is not positive, or zero for both signs; 1 or -1): None where known."""
    if signs == "positive":
        bad = order.negative(low, plus(low, x, -1))
        if bad is True:  # never positive: a bit all the same
            bad = low.emit("msb_a", plus(low, x, -1), bits=low.bits)
        return (None if bad is False else bad), None
    below = order.negative(low, x)
    assert not isinstance(below, bool), "of a known sign: take the positive one"
    bits = low.bits if low.type(x).bounds is None else min(_range(low, x)[0] + 1, low.bits)
    zero = low.emit("eqz_a", x, bits=bits)
    sign = low.emit("lincomb_a", low.emit("b2a", below), coefficients=[-2])
    return zero, low.narrowed(plus(low, sign, 1), -1, 1)


def _thresholds(
    low: Lowering, x: int, bits: int, count: int, step: int, width: int, both: bool
) -> Iterator[int]:
    """1 where |x| >= 2^(bits - i step), for i = 1 .. count."""
    window, bits = _leading(low, x, bits, width - 1)
    for i in range(1, count + 1):
        above = order.negate(low, order.negative(low, plus(low, window, -(1 << bits - i * step))))
        if both:
            inside = order.negative(low, minus(low, -(1 << bits - i * step), window))
            if not isinstance(inside, bool):  # otherwise no x is so far below 0
                below = low.emit("not_b", inside)
                above = below if isinstance(above, bool) else low.emit("xor_bb", above, below)
        if isinstance(above, bool):  # x is small where it is positive
            known = arith.retype(low, low.emit("lincomb_a", window, coefficients=[0]), 0)
            yield plus(low, known, int(above))
        else:
            yield low.emit("b2a", above)


def _finished(low: Lowering, x: int, factor: int, kept: int, frac: int, gain: int) -> int:
    """The mantissa of `kept` leading bits and the last factor."""
    factor = low.emit("lincomb_a", factor, coefficients=[gain])
    cut = kept - frac
    if cut > 0 and low.magnitude(x) * low.magnitude(factor) < low.bound:
        return low.emit("mul_aa", *sorted((x, factor)), trunc=cut, form="narrow")
    return _cut(low, low.narrowed(_product(low, x, factor), 0, gain << kept), cut)


def _chain(low: Lowering, factors: Sequence[int]) -> int | None:
    """The product of all, the later ones first."""
    made: int | None = None
    for factor in factors[::-1]:
        made = factor if made is None else _product(low, made, factor)
    return made


def _leading(low: Lowering, x: int, bits: int, kept: int) -> tuple[int, int]:
    """(the leading `kept` of `bits` bits of x, how many these are)."""
    return (x, bits) if kept >= bits else (low.emit("trunc_a", x, bits=bits - kept), kept)


def _cut(low: Lowering, x: int, bits: int) -> int:
    """x / 2^bits."""
    if bits <= 0:
        return low.emit("shl_a", x, bits=-bits, frac=low.frac(x)) if bits else x
    return low.emit("trunc_a", x, bits=bits)


def _product(low: Lowering, x: int, y: int) -> int:
    return low.emit("mul_aa", *sorted((x, y)), trunc=0, form="narrow")


def _filled(low: Lowering, x: int, positive: int | None, value: int) -> int:
    """x plus `value` where `positive` is 0."""
    if positive is None:
        return x
    gap = arith.retype(low, low.emit("lincomb_a", positive, coefficients=[-value]), low.frac(x))
    return low.emit("add_aa", x, plus(low, gap, value))


def _range(low: Lowering, x: int) -> tuple[int, int]:
    """(bits of the largest |x|, smallest |x| that is not 0)."""
    t = low.type(x)
    if t.lo is None or t.hi is None:
        return low.bits - 2, 1
    largest = min(low.bound - 1, max(1, t.hi, -t.lo))  # bounds of a sum may lie beyond
    return largest.bit_length(), min(largest, max(1, t.lo))


def _plan(low: Lowering, x: int, frac: int, gain: int, parity: int) -> Plan:
    """Stages (comparisons, step, bits of a comparison) that leave a range of 2^SPAN.

    The fewer elements, the more a round is worth.
    """
    top, smallest = _range(low, x)
    span = math.ceil(top - math.log2(smallest))
    room = low.bits - 3 - frac - 2 * gain.bit_length()  # of the last stage, whose factor has `gain`
    if top + gain.bit_length() <= low.bits - 2:
        room = span
    weight = ROUND + (1 << max(0, 17 - math.prod(low.shape(x)).bit_length()))
    if span <= SPAN:
        return ()
    plan = cheapest(parity, top, low.bits, room, weight)[span]
    assert plan is not None, (span, parity, top, room)
    return plan


def _left(low: Lowering, x: int, plan: Plan) -> float:
    """The least mantissa that `normalise` makes of x."""
    top, smallest = _range(low, x)
    return 2.0**-SPAN * (1 - 2.0**-FUZZ) ** len(plan) if plan else smallest / (1 << top)


@cache
def cheapest(parity: int, top: int, ring: int, room: int, weight: int) -> list[Plan | None]:
    """For every span up to `top` the plan of least cost, shorter spans first; None: there is none.

    The stage that a plan begins with leaves a span whose plan is known, so that one look at all
    first stages is enough.
    """
    pairs = [(n, s) for n in range(1, COUNT + 1) for s in range(parity, top, parity)]
    count, step = np.array(pairs, np.int64).reshape(-1, 2).T
    reach = count * step
    fitting = [next(w for w in COMPARE if n < w or w == ring) for n in range(top + 1)]
    width = np.array(fitting)[np.minimum(top, reach + FUZZ)]
    window = width <= top
    rounds = 3 + np.array([w.bit_length() for w in width.tolist()]) + 2 * window
    each = np.array([COMPARE[w] + 24 for w in width.tolist()])
    cost = count * each + 20 * window + 30 + weight * rounds
    plans: list[Plan | None] = [()] * (top + 1)
    least = np.zeros(top + 1, np.int64)
    reached = np.zeros(top + 1, np.int64)
    for span in range(SPAN + 1, top + 1):
        left = np.maximum(step, span - reach)
        fits = (step < span) & (reach - step < span - SPAN) & ((left > SPAN) | (reach <= room))
        left = np.where(fits, left, 0)
        fits &= reach + reached[left] < max(span, ring - 3)  # the largest shift's powers of two fit
        total = np.where(fits, cost + least[left], NEVER)
        i = int(total.argmin()) if total.size else 0
        rest = plans[left[i]] if total.size else None
        least[span] = min(NEVER, total[i]) if total.size else NEVER
        if rest is None or least[span] == NEVER:
            plans[span], least[span] = None, NEVER
            continue
        plans[span] = ((int(count[i]), int(step[i]), int(width[i])), *rest)
        reached[span] = reach[i] + reached[left[i]]
    return plans
