"""Fixed-point encoding: floats to ring elements and back, with every refusal spelled out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError, ValueRangeError
from spuvm.ring import Ring, RingArray

DEFAULT_FRAC_BITS = {32: 8, 64: 18, 128: 26}


@dataclass(frozen=True)
class Fxp:
    """A ring and the number of fraction bits that encode a float: v = round(x * 2^frac_bits)."""

    ring: Ring
    frac_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.frac_bits <= (self.ring.bits - 4) // 2 or self.frac_bits % 2:
            raise UsageError(
                "unusable number of fraction bits",
                got=f"frac_bits={self.frac_bits} for ring={self.ring.bits}",
                expected=f"an even number from 2 to {(self.ring.bits - 4) // 2}",
                next=f"the default is {DEFAULT_FRAC_BITS[self.ring.bits]}",
            )

    @property
    def max_float(self) -> float:
        """Representable means |x| < max_float."""
        return float(self.ring.bound) / (1 << self.frac_bits)

    def encode(
        self,
        values: npt.ArrayLike,
        *,
        name: str = "value",
        input_range: tuple[float, float] | None = None,
    ) -> RingArray:
        """Encode numbers as ring elements of the same shape.

        bool becomes uint8 bits, integers themselves modulo 2^ring, floats round(x * 2^frac_bits).

        Raises:
            ValueRangeError: NaN, infinity, a float or integer out of range (the message names the
                array and counts the elements, and shows no value).
        """
        x = np.asarray(values)
        if x.dtype == np.bool_:
            return np.asarray(x, order="C").view(np.uint8) & np.uint8(1)
        if x.dtype.kind in "iu":
            _refuse_outside(x, input_range, name)
            if x.dtype.itemsize > self.ring.nbytes:
                raise ValueRangeError(
                    f"{name}: {x.dtype} is wider than the ring",
                    got=f"{x.dtype} in a ring of {self.ring.bits} bits",
                    expected=f"at most {self.ring.bits} bits",
                    next="use Config(ring=64), or convert to a narrower dtype first",
                )
            return np.asarray(x, order="C").astype(self.ring.signed_dtype).view(self.ring.dtype)
        if x.dtype.kind != "f" and str(x.dtype) != "bfloat16":
            raise ValueRangeError(
                f"{name}: cannot share values of dtype {x.dtype}",
                expected="bool, an integer type or a float type",
            )
        return self._encode_floats(x, name, input_range)

    def _encode_floats(
        self, x: npt.NDArray[Any], name: str, input_range: tuple[float, float] | None
    ) -> RingArray:
        wide = np.asarray(x, np.float64)
        finite = np.isfinite(wide)
        if not finite.all():
            raise ValueRangeError(
                f"{name}: {int((~finite).sum())} of {wide.size} elements are NaN or infinite",
                expected="finite numbers; the ring cannot represent NaN or infinity",
                next="clean the data at its owner (numpy.nan_to_num, or drop the rows)",
            )
        outside = np.abs(wide) >= self.max_float
        if outside.any():
            raise ValueRangeError(
                f"{name}: {int(outside.sum())} of {wide.size} elements are out of range",
                expected=f"|x| < {self.max_float:g} for ring={self.ring.bits}, "
                f"frac_bits={self.frac_bits}",
                next="scale the data, or take fewer fraction bits",
            )
        _refuse_outside(wide, input_range, name)
        scaled = np.rint(wide * float(1 << self.frac_bits))
        return np.asarray(scaled, self.ring.signed_dtype, order="C").view(self.ring.dtype)

    def decode(self, encoded: RingArray, dtype: str, frac: int) -> npt.NDArray[Any]:
        """Decode ring elements with `frac` fraction bits (or bits) to a numpy dtype."""
        target = np.dtype(dtype)
        if target == np.bool_:
            return np.asarray(encoded & encoded.dtype.type(1), np.bool_)
        if target.kind in "iu":
            return encoded.astype(target)
        return np.ldexp(self.ring.signed(encoded).astype(np.float64), -frac).astype(target)


def _refuse_outside(
    x: npt.NDArray[Any], input_range: tuple[float, float] | None, name: str
) -> None:
    if input_range is None:
        return
    outside = (x < input_range[0]) | (x > input_range[1])
    if outside.any():
        raise ValueRangeError(
            f"{name}: {int(outside.sum())} of {x.size} elements are outside the declared range",
            expected=f"{input_range[0]:g} <= x <= {input_range[1]:g}",
            next="declare a wider Config(input_range=...), or clip the data at its owner",
        )
