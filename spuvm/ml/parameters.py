"""Parameters of models, checked when a model is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from spuvm.errors import UsageError

Scores = Literal["shares", "clear"]


@dataclass(frozen=True)
class Parameters:
    """How a model is trained.

    epochs         passes over the rows, in their order.
    batch_size     rows per step; see worker.batches for the last one.
    learning_rate  of the mean gradient of a batch.
    l2             penalty: l2/2 times the squared weights, without the intercept.
    tol            training ends when an epoch moves the weights less than this; None: never.
    progress       whether a progress bar is shown.

    Raises:
        UsageError: a value that makes no sense.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 0.1
    l2: float = 0.0
    tol: float | None = None
    progress: Literal["none", "bar"] = "none"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if type(value) is bool or not isinstance(value, Integral) or value < 1:
                raise UsageError(f"{name} is a whole number from 1 on", got=repr(value))
            object.__setattr__(self, name, int(value))
        for name, least in (("learning_rate", 1e-12), ("l2", 0.0), ("tol", 0.0)):
            value = getattr(self, name)
            if name == "tol" and value is None:
                continue
            if not _number(value) or not least <= value < math.inf:
                raise UsageError(f"{name} is a number", got=repr(value))
        if self.progress not in ("none", "bar"):
            raise UsageError("progress is 'none' or 'bar'", got=repr(self.progress))


def checked_scores(scores: str) -> Scores:
    """Where partial scores meet, or an error."""
    if scores not in get_args(Scores):
        raise UsageError(
            "unknown place for partial scores", got=repr(scores), expected="'shares' or 'clear'"
        )
    return "clear" if scores == "clear" else "shares"


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
