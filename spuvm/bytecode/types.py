"""The type of a value: kind, shape, fraction bits or bit width, and an interval that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["p", "a", "b", "z"]


@dataclass(frozen=True, slots=True)
class Type:
    """Type of one value of a program.

    kind   ``p`` public, ``a`` arithmetic shares over the ring, ``b`` Boolean shares of bits,
           ``z`` additive shares over the ring: party i holds z_i alone. Results that wait to be
           opened or re-shared; no instruction computes with them.
    shape  the numpy shape; scalars are ``()``.
    frac   fraction bits of the encoded integer (0 for integers); not kind ``b``.
    width  bits per element; 0 means "ring element", otherwise 1..ring bits. Kind ``b`` always has
           one, kind ``p`` has one when it is public bits.
    lo, hi inclusive bounds of the *signed encoded integer*; None: anything representable. A value
           may be congruent to its meaning only modulo 2^ring.
    """

    kind: Kind
    shape: tuple[int, ...]
    frac: int = 0
    width: int = 0
    lo: int | None = None
    hi: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bounds(self) -> tuple[int, int] | None:
        """(lo, hi), or None when any representable value is possible."""
        if self.lo is None or self.hi is None:
            return None
        return self.lo, self.hi

    def magnitude(self, default: int) -> int:
        """Largest |encoded value|; `default` when no bounds are known."""
        if self.lo is None or self.hi is None:
            return default
        return max(abs(self.lo), abs(self.hi))

    def with_(self, **changes: Any) -> Type:
        """A copy with some fields replaced."""
        return Type(
            changes.pop("kind", self.kind),
            changes.pop("shape", self.shape),
            changes.pop("frac", self.frac),
            changes.pop("width", self.width),
            changes.pop("lo", self.lo),
            changes.pop("hi", self.hi),
            **changes,  # nothing, or an error as the constructor's
        )
