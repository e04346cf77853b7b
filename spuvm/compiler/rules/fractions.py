"""Products with quotients of a secret divisor, as derivatives of x / y have them: divided late.

Where y is large no digits are left of 1 / y and 1 / y^2, which a factor as large would show.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spuvm.compiler import arith, facts, inverses
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.rules import RULES, Out

MOVES = frozenset(["broadcast", "reshape", "transpose", "slice"])
POWERS = (2, 3)
Place = Callable[[int], int]


def note_power(low: Lowering, x: Secret, made: Secret, power: int) -> Secret:
    """`made` is 1 / x^power."""
    if power in POWERS and low.lines == "own":
        facts.mark(low, made.id, facts.OverPower(None, x.id, power))
        inverses.divided_by(low, made.id, np.ones(()), *[x.id] * power)
    return made


def product(low: Lowering, o: Out, x: Secret, y: Secret) -> Secret | None:
    """x y where one of them is such a quotient, else None."""
    if low.lines != "own":
        return None
    for q, z in ((x, y), (y, x)):
        made = _quotient(low, o, q, z) or _over_power(low, o, q, z)
        if made is not None:
            return made
    return None


def _quotient(low: Lowering, o: Out, q: Secret, z: Secret) -> Secret | None:
    """q z as (c z) / d where q is c / d and nothing else takes it."""
    fact = low.facts.get(facts.root(low, q.id))
    if not isinstance(fact, facts.Quotient) or q.id not in low.spent:
        return None
    if low.shape(q.id) != o.shape or low.shape(z.id) != o.shape:
        return None
    return _float(RULES["div"](low, [o], RULES["mul"](low, [o], fact.x, z), _of(fact.y, o)))


def _over_power(low: Lowering, o: Out, q: Secret, z: Secret) -> Secret | None:
    """q z where q is 1 / y^n: z / y / y; where it is x / y^n: (z / y) (x / y^(n - 1))."""
    found = _behind(low, low.spread(q.id, o.shape), lambda v: v)
    if found is None:
        return None
    fact, place, sign = found
    y, z = _of(place(fact.y), o), _of(low.spread(z.id, o.shape), o)
    if fact.x is None:
        made = _divided(low, o, z, y, fact.power)
        facts.mark(low, made.id, facts.OverPower(z.id, y.id, fact.power))
    else:
        rest = _divided(low, o, _of(place(fact.x), o), y, fact.power - 1)
        made = _float(RULES["mul"](low, [o], _divided(low, o, z, y, 1), rest))
    return made if sign > 0 else Secret(arith.neg(low, made.id), o.dtype)


def _divided(low: Lowering, o: Out, x: Secret, y: Secret, times: int) -> Secret:
    for _ in range(times):
        x = _float(RULES["div"](low, [o], x, y))
    return x


def _behind(low: Lowering, value: int, place: Place) -> tuple[facts.OverPower, Place, int] | None:
    """What was moved and negated to make `value`, how its parts are moved likewise, the sign."""
    value = facts.root(low, value)
    fact = low.facts.get(value)
    if isinstance(fact, facts.OverPower):
        return fact, place, 1
    made = low.builder.instruction(value)
    if made is None:
        return None
    if made.op == "neg_a":
        found = _behind(low, made.args[0], place)
        return None if found is None else (found[0], found[1], -found[2])
    if made.op not in MOVES:
        return None
    return _behind(low, made.args[0], lambda v: place(low.emit(made.op, v, **made.attrs)))


def _of(value: int, o: Out) -> Secret:
    return Secret(value, o.dtype)


def _float(made: object) -> Secret:
    assert isinstance(made, Secret)
    return made
