"""Logarithms that are known by how their operand was made.

Of probabilities, as softmax and logistic have them, few digits are left where they are small, or
none: log(logistic(x)) is -softplus(-x). Of a quotient the logarithm is a difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.compiler import arith, facts, means, order
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.numeric import sigmoid
from spuvm.compiler.rules import RULES, Out
from spuvm.compiler.values import Value, public
from spuvm.compiler.varying import Varying

MOVES = frozenset(["broadcast", "reshape", "transpose", "slice", "take"])


def log(low: Lowering, x: Secret) -> Secret | None:
    """log(x) where more is known of x than its digits, else None."""
    if low.lines != "own":
        return None
    made = _log(low, x.id, x.dtype)
    if made is None:
        return None
    # A value of its own: it is better than what its equation makes of its operand.
    made = low.emit("lincomb_a", arith.settle(low, made), coefficients=[1])
    return Secret(facts.mark(low, made, facts.Logarithm(x.id, refined=True)), x.dtype)


def log1p(low: Lowering, x: Secret) -> Secret | None:
    """log(1 + x) where x is -logistic(v), else None."""
    fact = facts.negated(low, x.id)
    if low.lines != "own" or not isinstance(fact, facts.Logistic):
        return None
    made = _log_of_complement(low, fact.source)
    return Secret(facts.mark(low, made, facts.Logarithm(x.id, True, refined=True)), x.dtype)


def _log(low: Lowering, value: int, dtype: np.dtype[Any]) -> int | None:
    fact = low.facts.get(facts.root(low, value))
    if isinstance(fact, facts.Exponential):
        return fact.source
    if isinstance(fact, facts.Logistic):
        return arith.neg(low, sigmoid.softplus(low, arith.neg(low, fact.source)))
    if isinstance(fact, facts.Complement):
        return _log_of_complement(low, fact.source)
    made = low.made.get(facts.root(low, value))
    if made is not None and made.name in ("mul", "div"):
        return _of_parts(low, made.operands, made.shape, made.name == "div", dtype)
    moved = low.builder.instruction(facts.root(low, value))
    if moved is None or moved.op not in MOVES:
        return None
    inner = _log(low, moved.args[0], dtype)
    return None if inner is None else low.emit(moved.op, inner, *moved.args[1:], **moved.attrs)


def _log_of_complement(low: Lowering, v: int) -> int:
    """log(1 - logistic(v))."""
    return arith.neg(low, sigmoid.softplus(low, v))


def _of_parts(
    low: Lowering,
    operands: tuple[Value, ...],
    shape: tuple[int, ...],
    divides: bool,
    dtype: np.dtype[Any],
) -> int | None:
    """The logarithm of x y or x / y: of a quotient of secrets that are not negative, or where one
    of the two is public and positive; None elsewhere."""
    if any(isinstance(v, Varying) for v in operands) or means.among(low, operands):
        return None
    secret = [isinstance(v, Secret) for v in operands]
    if all(secret) and (not divides or not all(_not_negative(low, v.id) for v in operands)):
        return None
    if divides and not secret[0] and not _not_negative(low, operands[1].id):
        return None
    if not all(secret) and not (public(operands[secret.index(False)]) > 0).all():
        return None
    made: int | None = None
    shift = np.zeros(())
    for i, v in enumerate(operands):
        minus = divides and i == 1
        if not isinstance(v, Secret):
            shift = np.log(public(v).astype(np.float64)) * (-1 if minus else 1)
            continue
        part = RULES["log"](low, [Out(low.shape(v.id), dtype)], v)
        assert isinstance(part, Secret)
        of = low.spread(part.id, shape)
        if made is None:
            made = arith.neg(low, of) if minus else of
        else:
            made = arith.sub(low, made, of)
    assert made is not None
    shift = shift if shift.ndim == 0 else np.broadcast_to(shift, shape)
    return arith.add_public(low, made, shift) if shift.any() else made


def _not_negative(low: Lowering, value: int) -> bool:
    return order.negative(low, value) is False
