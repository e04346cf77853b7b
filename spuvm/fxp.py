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
        made = self.encoding(values, name=name, input_range=input_range)
        if not isinstance(made, Encoding):
            return made
        out = self.ring.empty(made.size)
        made.write(slice(0, made.size), out)
        made.check()
        return elements(out.reshape(made.shape))

    def encoding(
        self,
        values: npt.ArrayLike,
        *,
        name: str = "value",
        input_range: tuple[float, float] | None = None,
    ) -> RingArray | Encoding:
        """What `encode` gives, floats still to be encoded: for who needs them a piece at a time.

        Raises:
            ValueRangeError: as `encode`; what is wrong with floats only `Encoding.check` tells.
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
        return Encoding(self, x, name, input_range)

    def decode(
        self, encoded: RingArray, dtype: str, frac: int, divisor: int = 1
    ) -> npt.NDArray[Any]:
        """Decode ring elements with `frac` fraction bits (or bits) to a numpy dtype.

        Floats are divided by `divisor`, in float64.
        """
        target = np.dtype(dtype)
        if target == np.bool_:
            return np.asarray((encoded & 1).astype(np.bool_))
        if target.kind in "iu":
            return encoded.astype(target)
        from spuvm.kernels.fixed import decode_floats, decode_wide

        exact = target if target == np.float32 and divisor == 1 else np.dtype(np.float64)
        flat = np.require(np.asarray(encoded).reshape(-1), requirements=["C", "W"])
        out = np.empty(flat.size, exact)
        if self.ring.bits == 128:
            decode_wide(flat, 2.0**-frac, out)
        else:
            decode_floats(self.ring.signed(flat), 2.0**-frac, out)
        if divisor != 1:
            out /= divisor
        return out.reshape(encoded.shape).astype(target, copy=False)


class Encoding:
    """Floats on their way to ring elements; each is written once, then `check` says what was wrong.

    What cannot be encoded is written as 0, so that a piece at a time needs no look at the whole.
    """

    def __init__(
        self, fxp: Fxp, x: npt.NDArray[Any], name: str, input_range: tuple[float, float] | None
    ) -> None:
        native = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
        self._flat = np.require(native, requirements=["C", "W"]).reshape(-1)
        self._fxp, self._name = fxp, name
        self._range = input_range if input_range is not None else (-np.inf, np.inf)
        self._strange = self._large = self._outside = 0
        self.shape, self.size, self.dtype = x.shape, x.size, fxp.ring.dtype

    def write(self, s: slice, out: RingArray) -> None:
        """Encode the elements `s`, in order of the array, into the flat `out`."""
        # Only owners encode: who just compiles does not load the kernels.
        from spuvm.kernels.fixed import encode_floats, encode_wide

        ring = self._fxp.ring
        signed, run = (out, encode_wide) if ring.bits == 128 else (ring.signed(out), encode_floats)
        scale = float(1 << self._fxp.frac_bits)
        limit = (ring.bound - 0.5) / scale  # what is not rounded up to the bound itself
        lo, hi = map(float, self._range)
        strange, large, outside = run(self._flat[s], scale, limit, lo, hi, signed)
        self._strange += strange
        self._large += large
        self._outside += outside

    def check(self) -> None:
        """Refuse if anything written so far could not be encoded.

        Raises:
            ValueRangeError: NaN, infinity or out of range; the text shows no value.
        """
        fxp, name, size = self._fxp, self._name, self.size
        if self._strange:
            raise ValueRangeError(
                f"{name}: elements are NaN or infinite",
                got=f"{self._strange} of {size} elements",
                expected="finite numbers; the ring cannot represent NaN or infinity",
                next="clean the data at its owner (numpy.nan_to_num, or drop the rows)",
            )
        if self._large:
            raise ValueRangeError(
                f"{name}: elements are out of range",
                got=f"{self._large} of {size} elements",
                expected=f"|x| < {fxp.max_float:g} for ring={fxp.ring.bits}, "
                f"frac_bits={fxp.frac_bits}",
                next="scale the data, or take fewer fraction bits",
            )
        if self._outside:
            _raise_outside(self._outside, size, self._range, name)


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
