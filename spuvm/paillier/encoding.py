"""Numbers as integers with a fixed, public scale: value = integer / 2^scale.

The scale is the same for all elements and belongs to the type of the data, never to its values:
exponents per value, as phe has them, would tell magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError, ValueRangeError
from spuvm.masked import refuse_masked

INT_BITS = 62  # encoded plaintexts are below 2^62, as in the ring of 64 bits
Ints = npt.NDArray[Any]  # int64, or Python integers in an array of objects


@dataclass(frozen=True)
class Encoding:
    """Fraction bits of floats, and the range that owners check.

    Raises:
        UsageError: an unusable number of fraction bits or an empty range.
    """

    frac_bits: int = 18
    input_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if type(self.frac_bits) is not int or not 0 <= self.frac_bits <= 40:
            raise UsageError("frac_bits is a number from 0 to 40", got=repr(self.frac_bits))
        if self.input_range is not None:
            lo, hi = map(float, self.input_range)
            if not (np.isfinite(lo) and np.isfinite(hi) and lo <= hi) or (
                max(abs(lo), abs(hi)) * 2.0**self.frac_bits >= 2.0**INT_BITS
            ):
                raise UsageError("input_range is empty or too wide", got=repr(self.input_range))
            object.__setattr__(self, "input_range", (lo, hi))

    def encode(self, values: npt.ArrayLike, name: str = "value") -> Plain:
        """floats times 2^frac_bits, rounded; integers and booleans as they are, with scale 0.

        Raises:
            ValueRangeError: NaN, infinity, or out of range; names the array and counts elements.
            UsageError: not an array of numbers.
        """
        refuse_masked(values, name)
        try:
            x = np.asarray(values)
        except ValueError as error:
            raise UsageError(f"{name}: not an array", got=type(values).__name__) from error
        if x.dtype.kind == "f" or x.dtype.name == "bfloat16":
            return self._floats(x.astype(np.float64), name)
        if x.dtype.kind not in "biu":
            raise UsageError(
                f"{name}: cannot encrypt values of dtype {x.dtype}",
                expected="bool, an integer type or a float type",
                next="convert it at its owner first",
            )
        bound = self._bound(0)
        _refuse(int(((x > bound) | (x < -bound)).sum()), x.size, f"|x| <= {bound}", name)
        self._check_declared(x, name)
        return Plain(x.astype(np.int64), 0, bound)

    def public(self, values: npt.ArrayLike, name: str = "a constant") -> Plain:
        """Numbers that everybody knows: bound by their own size, whatever range is declared."""
        found = Encoding(self.frac_bits).encode(values, name)
        bound = int(np.abs(found.ints).max(initial=0))
        return Plain(found.ints, found.scale, bound, public=True)

    def _floats(self, x: npt.NDArray[np.float64], name: str) -> Plain:
        _refuse(int((~np.isfinite(x)).sum()), x.size, "finite numbers", name)
        self._check_declared(x, name)
        bound = self._bound(self.frac_bits)
        scaled = np.rint(x * 2.0**self.frac_bits)
        limit = f"|x| < 2^{INT_BITS - self.frac_bits}"
        _refuse(int((np.abs(scaled) >= 2.0**INT_BITS).sum()), x.size, limit, name)
        return Plain(scaled.astype(np.int64), self.frac_bits, bound)

    def _check_declared(self, x: npt.NDArray[Any], name: str) -> None:
        if self.input_range is not None:
            lo, hi = self.input_range
            _refuse(int(((x < lo) | (x > hi)).sum()), x.size, f"{lo:g} <= x <= {hi:g}", name)

    def _bound(self, scale: int) -> int:
        if self.input_range is None:
            return (1 << INT_BITS) - 1
        return int(np.ceil(max(map(abs, self.input_range)) * 2.0**scale))


@dataclass(frozen=True, eq=False, slots=True)
class Plain:
    """Encoded numbers in clear, at their owner: integers, their scale and their public bound.

    `public`: everybody knows the numbers, so that the time of work may depend on them.
    """

    ints: Ints
    scale: int
    bound: int
    public: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ints.shape

    def decode(self) -> npt.NDArray[Any]:
        """float64 for fractions, int64 for integers."""
        return decode(self.ints, self.scale)

    def __repr__(self) -> str:
        return f"Plain(shape={self.shape}, scale={self.scale}, redacted)"


def decode(ints: Ints, scale: int) -> npt.NDArray[Any]:
    """Integers of a scale as numbers: float64, or int64 when the scale is 0.

    Raises:
        ValueRangeError: an integer of scale 0 that int64 cannot hold, or a fraction beyond float64.
    """
    try:
        if not scale:
            return ints.astype(np.int64)
        flat = [int(v) / (1 << scale) for v in ints.reshape(-1)]
    except OverflowError as error:
        kind = "float64" if scale else "int64"
        raise ValueRangeError(
            f"a result does not fit into {kind}", next="compute with smaller numbers"
        ) from error
    return np.array(flat, np.float64).reshape(ints.shape)


def _refuse(count: int, size: int, expected: str, name: str) -> None:
    if count:
        raise ValueRangeError(
            f"{name}: elements are out of range",
            got=f"{count} of {size} elements",
            expected=expected,
            next="clean or scale the data at its owner, or declare another range",
        )
