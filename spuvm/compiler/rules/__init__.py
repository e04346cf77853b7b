"""Lowering rules by name of the JAX primitive, one file per family of primitives.

A rule is ``fn(low, out, *operands, **params) -> value or tuple of values``: `out` has the shape and
dtype of each result, operands are Secret or public arrays (at least one is Secret), params are the
equation's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from spuvm.errors import CompileError

Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)
RULES: dict[str, Rule] = {}

PUBLIC_RULES: dict[str, Rule] = {}  # where operands may be public and differ between iterations
STRUCTURED: set[str] = set()  # primitives whose rules hand their operands on as they are


@dataclass(frozen=True, slots=True)
class Out:
    """Shape and dtype of one result of an equation."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def rule(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule for the primitives of these names; a name can have one rule only."""

    def register(fn: AnyRule) -> AnyRule:
        for name in names:
            if name in RULES:
                raise CompileError(f"two lowering rules for primitive {name!r}")
            RULES[name] = fn
        return fn

    return register


def public_rule(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule for operands that are Varying; without one they become shares."""

    def register(fn: AnyRule) -> AnyRule:
        for name in names:
            if name in PUBLIC_RULES:
                raise CompileError(f"two rules for varying operands of primitive {name!r}")
            PUBLIC_RULES[name] = fn
        return fn

    return register


def structured(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule that accepts any operand, Varying included, and hands it on."""
    STRUCTURED.update(names)
    return rule(*names)
