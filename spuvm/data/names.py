"""Columns' names at their party: what was fitted on some is not used on others."""

from __future__ import annotations

from typing import Any

from spuvm.errors import UsageError

Names = list[str] | None  # None: an array's columns have none


def no_names() -> None:
    """What an array knows of its columns' names."""


def same_columns(value: Any, fitted: Names, names: Names) -> Any:
    """The value, when its columns are named as they were in training."""
    check_same_columns(fitted, names)
    return value


def check_same_columns(fitted: Names, names: Names) -> None:
    """Raise UsageError unless names and order are those of training; None: unknown.

    The text names no columns: it leaves the party.
    """
    if fitted is None or names is None or fitted == names:
        return
    same = sorted(fitted) == sorted(names)
    raise UsageError(
        "other columns than in training",
        got="the same names in another order" if same else f"other names, {len(names)} columns",
        expected=f"the {len(fitted)} columns of training in their order",
        next="choose and order them at their owner: df[[...]]",
    )
