"""What is known of squares, of means of squares and of their roots: see moments.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Squared:
    """The value is a square ("whole"), or a sum of small parts of squares ("parts").

    Such parts, as the second moments of optimisers are, keep more fraction bits than the program
    has where ranges allow it: their root would show that they were cut, as it does of "cut" ones.

    source: what a whole one is the square of, but for something public and small: `more`.
    origins: of what was cut, the squares that it was made of (as CutSquares counts them), and
        -1 - k for carry k of the loop around.
    """

    form: Literal["whole", "parts", "cut"]
    source: int | None = None
    more: float = 0.0
    origins: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class FineRoot:
    """The value is a square root of parts of squares that were not cut."""


@dataclass(slots=True)
class CutSquares:
    """Squares in a program that means were made of, with fewer digits than a root shows.

    count: how many there were so far.
    below_roots: origins of what a root was taken of that had lost digits.
    limited: which of them are made of values that are limited, so that they keep their digits.
    """

    count: int = 0
    below_roots: set[int] = field(default_factory=set)
    limited: frozenset[int] = frozenset()
