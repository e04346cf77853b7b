"""Fixed-point encoding: floats to ring elements and back, with every refusal spelled out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError, ValueRangeError
from spuvm.ring import Ring, RingArray
from spuvm.wide import elements

DEFAULT_FRAC_BITS = {32: 8, 64: 18, 128: 26}
_FRAC_BITS = {32: (8, 10), 64: (8, 26), 128: (26, 40)}  # where functions keep what they promise


@dataclass(frozen=True)
class Fxp:
    """A ring and the number of fraction bits that encode a float: v = round(x * 2^frac_bits)."""

    ring: Ring
    frac_bits: int

    def __post_init__(self) -> None:
        first, last = _FRAC_BITS[self.ring.bits]
        if not first <= self.frac_bits <= last or self.frac_bits % 2:
            raise UsageError(
                "unusable number of fraction bits",
                got=f"frac_bits={self.frac_bits} for ring={self.ring.bits}",
                expected=f"an even number from {first} to {last}",
                next=f"the default is {DEFAULT_FRAC_BITS[self.ring.bits]}",
            )

    @property
    def max_float(self) -> float:
        """Representable means |x| < max_float."""
        return float(self.ring.bound) / (1 << self.frac_bits)

    @property
    def log_of_zero(self) -> float:
        """What stands for log(0): minus the root of the bound (docs/adr/0018), so that sums of as
        many such values, and products with numbers as large, are representable."""
        return -float(1 << (self.ring.bits - 2 - self.frac_bits) // 2)

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
            return self.ring.array(x)
        if x.dtype.kind != "f" and str(x.dtype) != "bfloat16":
            raise ValueRangeError(
                f"{name}: cannot share values of dtype {x.dtype}",
                expected="bool, an integer type or a float type",
            )
        return self._encode_floats(x, name, input_range)

    def _encode_floats(
        self, x: npt.NDArray[Any], name: str, input_range: tuple[float, float] | None
    ) -> RingArray:
        # Only owners encode: who just compiles does not load the kernels.
        from spuvm.kernels.fixed import encode_floats, encode_wide

        native = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
        flat = np.require(native, requirements=["C", "W"]).reshape(-1)
        out = np.empty(flat.size, self.ring.dtype)
        signed, run = out, encode_wide
        if self.ring.bits < 128:
            signed, run = self.ring.signed(out), encode_floats
        lo, hi = input_range if input_range is not None else (-np.inf, np.inf)
        scale = float(1 << self.frac_bits)
        limit = (self.ring.bound - 0.5) / scale  # what is not rounded up to the bound itself
        strange, large, outside = run(flat, scale, limit, float(lo), float(hi), signed)
        if strange:
            raise ValueRangeError(
                f"{name}: elements are NaN or infinite",
                got=f"{strange} of {x.size} elements",
                expected="finite numbers; the ring cannot represent NaN or infinity",
                next="clean the data at its owner (numpy.nan_to_num, or drop the rows)",
            )
        if large:
            raise ValueRangeError(
                f"{name}: elements are out of range",
                got=f"{large} of {x.size} elements",
                expected=f"|x| < {self.max_float:g} for ring={self.ring.bits}, "
                f"frac_bits={self.frac_bits}",
                next="scale the data, or take fewer fraction bits",
            )
        if outside:
            _raise_outside(outside, x.size, (lo, hi), name)
        return elements(out.reshape(x.shape))

    def decode(self, encoded: RingArray, dtype: str, frac: int) -> npt.NDArray[Any]:
        """Decode ring elements with `frac` fraction bits (or bits) to a numpy dtype."""
        target = np.dtype(dtype)
        if target == np.bool_:
            return np.asarray((encoded & 1).astype(np.bool_))
        if target.kind in "iu":
            return encoded.astype(target)
        from spuvm.kernels.fixed import decode_floats, decode_wide

        exact = target if target in (np.float32, np.float64) else np.dtype(np.float64)
        flat = np.require(np.asarray(encoded).reshape(-1), requirements=["C", "W"])
        out = np.empty(flat.size, exact)
        if self.ring.bits == 128:
            decode_wide(flat, 2.0**-frac, out)
        else:
            decode_floats(self.ring.signed(flat), 2.0**-frac, out)
        return out.reshape(encoded.shape).astype(target, copy=False)


def _refuse_outside(
    x: npt.NDArray[Any], input_range: tuple[float, float] | None, name: str
) -> None:
    if input_range is None:
        return
    outside = int(((x < input_range[0]) | (x > input_range[1])).sum())
    if outside:
        _raise_outside(outside, x.size, input_range, name)


def _raise_outside(count: int, size: int, bounds: tuple[float, float], name: str) -> NoReturn:
    raise ValueRangeError(
        f"{name}: elements are outside the declared range",
        got=f"{count} of {size} elements",
        expected=f"{bounds[0]:g} <= x <= {bounds[1]:g}",
        next="declare a wider Config(input_range=...), or clip the data at its owner",
    )
