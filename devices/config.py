"""What a user may choose about an SPU: few words, checked when they are said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from spuvm.errors import UsageError
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.ring import Ring

OnOverflow = Literal["warn", "error"]


@dataclass(frozen=True)
class Config:
    """Numbers and habits of one SPU; equal at all parties.

    ring         width of the ring in bits, 32, 64 or 128; 64 unless you know better.
    frac_bits    fraction bits of the fixed-point encoding, an even number: 8 to 26 for 64
                 (None: 18), 8 or 10 for 32 (None: 8), 26 to 40 for 128 (None: 26).
    input_range  (lo, hi) that every float input keeps to: checked by its owner's encoder, and used
                 by the compiler to choose cheaper products. None: anything representable.
    on_overflow  "warn": a RangeWarning with line, range and bound where declared ranges do not rule
                 out an overflow; "error": a CompileError there, and wherever nothing is declared.
    deadline     seconds without progress after which a party gives up on its peers.

    Raises:
        UsageError: a value that makes no sense, at construction.
    """

    ring: int = 64
    frac_bits: int | None = None
    input_range: tuple[float, float] | None = None
    on_overflow: OnOverflow = "warn"
    deadline: float = 60.0

    def __post_init__(self) -> None:
        if self.on_overflow not in get_args(OnOverflow):
            raise UsageError(
                "unknown habit for overflow",
                got=f"on_overflow={self.on_overflow!r}",
                expected=" or ".join(repr(word) for word in get_args(OnOverflow)),
            )
        if isinstance(self.ring, bool) or not isinstance(self.ring, int):
            raise UsageError("ring is a number of bits", got=repr(self.ring), expected="64")
        if self.frac_bits is not None and type(self.frac_bits) is not int:
            raise UsageError("frac_bits is a number of bits or None", got=repr(self.frac_bits))
        if not _is_number(self.deadline) or not 0 < self.deadline < math.inf:
            raise UsageError(
                "deadline is a number of seconds", got=repr(self.deadline), expected="e.g. 60.0"
            )
        limit = self.fxp.max_float  # also checks the ring and the fraction bits
        if self.input_range is not None:
            object.__setattr__(self, "input_range", _checked_range(self.input_range, limit))

    @property
    def fxp(self) -> Fxp:
        """The encoding: ring and fraction bits."""
        ring = Ring(self.ring)
        frac = DEFAULT_FRAC_BITS[self.ring] if self.frac_bits is None else self.frac_bits
        return Fxp(ring, frac)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_range(value: object, limit: float) -> tuple[float, float]:
    expected = "(lo, hi) with lo <= hi, both finite and representable"
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
        raise UsageError("input_range is a pair of numbers", got=repr(value), expected=expected)
    lo, hi = float(value[0]), float(value[1])
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise UsageError("input_range is empty or infinite", got=repr(value), expected=expected)
    if max(abs(lo), abs(hi)) >= limit:
        raise UsageError(
            "input_range is wider than what the encoding can hold",
            got=repr(value),
            expected=f"|x| < {limit:g}",
            next="take fewer fraction bits or a wider ring, or leave input_range out",
        )
    return lo, hi
