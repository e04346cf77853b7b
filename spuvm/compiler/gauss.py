"""Hypergeometric series with 60 digits and more, for the coefficients of hypergeometric.py.

Sums of Python's decimals: the same at all parties, and exact where floats cancel. 1F1 of negative
arguments is turned around by Kummer's transformation (Abramowitz and Stegun 13.1.27), or far from 0
is its asymptotic series (13.5.1). 2F1 is continued beyond x < 0 by Pfaff's transformation (15.3.4),
and to 1 by the two solutions of its equation there (15.3.6), whose factors follow from its value
and slope at 1/2; where c - a - b is an integer, or almost, c is moved by 1e-22.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import cache

DIGITS = 70
APART = Decimal("1e-22")
FAR = 100  # from there on 1F1 of a negative argument is its asymptotic series
HALF = Decimal("0.5")


def _series(above: Sequence[Decimal], below: Sequence[Decimal], x: Decimal) -> Decimal:
    """The sum of (a)_k ... / (b)_k ... x^k / k!, in the digits of the context."""
    with localcontext() as context:
        least = Decimal(10) ** -context.prec
        term = total = Decimal(1)
        k = 0
        while True:
            rising, falling = x, Decimal(k + 1)
            for p in above:
                rising *= p + k
            for p in below:
                falling *= p + k
            term = term * rising / falling
            total += term
            k += 1
            if not term or (abs(rising) < abs(falling) and abs(term) < least * abs(total)):
                return total


def kummer(a: Decimal, b: Decimal, x: Decimal) -> Decimal:
    """1F1(a, b, x)."""
    with localcontext() as context:
        context.prec = DIGITS
        if x >= 0:
            return _series((a,), (b,), x)
        context.prec += int(-x)  # terms of both signs are up to e^-x
        return x.exp() * _series((b - a,), (b,), -x)


def kummer_far(a: Decimal, b: Decimal, y: Decimal) -> Decimal:
    """1F1(a, b, -y) y^a for y from FAR on."""
    with localcontext() as context:
        context.prec = DIGITS
        term = total = Decimal(1)
        for k in range(400):
            new = term * (a + k) * (a - b + 1 + k) / (k + 1) / y
            if abs(new) < Decimal("1e-30") or (k > 3 and abs(new) >= abs(term)):
                break
            term = new
            total += term
        rest = float(b - a)
        if rest <= 0 and rest == int(rest):
            return Decimal(0)
        return total * Decimal(math.gamma(float(b)) / math.gamma(rest))


def gauss(a: Decimal, b: Decimal, c: Decimal, z: Decimal) -> Decimal:
    """2F1(a, b, c, 1 - z) for z > 0."""
    with localcontext() as context:
        context.prec = DIGITS
        if z > 1:
            return (-a * z.ln()).exp() * _up_to_one(a, c - b, c, 1 / z)
        return _up_to_one(a, b, c, z)


def _up_to_one(a: Decimal, b: Decimal, c: Decimal, z: Decimal) -> Decimal:
    if z >= HALF:
        return _series((a, b), (c,), 1 - z)
    d, first, second = _at_one(a, b, c)
    power = (d * z.ln()).exp()
    made = first * _series((a, b), (1 - d,), z)
    return made + second * power * _series((b + d, a + d), (1 + d,), z)


def at_one(a: Decimal, b: Decimal, c: Decimal) -> Decimal:
    """2F1(a, b, c, 1) where c > a + b."""
    return _at_one(a, b, c)[1]


@cache
def _at_one(a: Decimal, b: Decimal, c: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    """d = c - a - b, and the factors of 2F1(a, b, 1 - d, z) and z^d 2F1(c - a, c - b, 1 + d, z)."""
    with localcontext() as context:
        context.prec = DIGITS
        d = c - a - b
        if abs(d - d.to_integral_value()) < APART:
            d = d.to_integral_value() + APART
        c = a + b + d

        def solution(a: Decimal, b: Decimal, c: Decimal) -> tuple[Decimal, Decimal]:
            slope = a * b / c * _series((a + 1, b + 1), (c + 1,), HALF)
            return _series((a, b), (c,), HALF), slope

        value, slope = solution(a, b, c)
        u, du = solution(a, b, 1 - d)
        v, dv = solution(c - a, c - b, 1 + d)
        power = (d * HALF.ln()).exp()
        v, dv = power * v, power * (d / HALF * v + dv)
        slope = -slope  # z falls as x rises
        whole = u * dv - du * v
        return d, (value * dv - slope * v) / whole, (u * slope - du * value) / whole
