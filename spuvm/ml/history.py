"""What a model was after each epoch: handles of weights, at their owners."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from spuvm.errors import UsageError

Model = TypeVar("Model")


def at_epoch(model: Model, history: list[Any], epoch: int) -> Model:
    """The model as it was after an epoch, 1 for the first."""
    if not 1 <= epoch <= len(history):
        raise UsageError(
            "the model was not trained for so long", got=str(epoch), expected=f"1 to {len(history)}"
        )
    earlier = copy.copy(model)
    earlier._weights = history[epoch - 1]  # type: ignore[attr-defined]
    return earlier
