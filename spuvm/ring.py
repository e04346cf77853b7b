"""The ring Z_2^k as a value: its width, its numpy dtype, its signed view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm import wide
from spuvm.errors import UsageError

RingArray = npt.NDArray[Any]

WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Ring:
    """Integers modulo 2^bits; every protocol and kernel takes the width from here."""

    bits: int

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise UsageError(
                "unknown ring width",
                got=f"ring={self.bits!r}",
                expected=f"one of {', '.join(map(str, WIDTHS))}",
                next="use Config(ring=64), the default",
            )

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """numpy dtype of one ring element: unsigned, of 128 bits opaque (see wide.py)."""
        return wide.WIDE if self.bits == 128 else np.dtype(f"<u{self.bits // 8}")

    @property
    def nbytes(self) -> int:
        """Bytes of one ring element."""
        return self.bits // 8

    @property
    def modulus(self) -> int:
        return 1 << self.bits

    @property
    def bound(self) -> int:
        """Representable means ``-bound < v < bound`` for the signed encoded value v."""
        return 1 << (self.bits - 2)

    def empty(self, shape: int | tuple[int, ...]) -> RingArray:
        """numpy.empty of ring elements."""
        return wide.empty(shape, self.dtype)

    def signed(self, x: RingArray) -> npt.NDArray[Any]:
        """The same elements read as signed integers: a view, of 128 bits Python integers."""
        if self.bits == 128:
            values = wide.elements(x).astype(object)
            return np.asarray(values - (values >> self.bits - 1) * self.modulus, object)
        return x.view(f"<i{self.nbytes}")

    def signed_ends(self, x: RingArray) -> tuple[int, int]:
        """Least and largest of some elements, read as signed integers."""
        if self.bits == 128:
            return wide.signed_ends(x)
        signed = self.signed(np.asarray(x, order="C"))
        return int(signed.min()), int(signed.max())

    def wrap(self, value: int) -> int:
        """A Python integer reduced into [0, 2^bits)."""
        return value % self.modulus

    def to_signed(self, value: int) -> int:
        """A Python integer reduced into [-2^(bits-1), 2^(bits-1))."""
        value %= self.modulus
        return value - self.modulus if value >> (self.bits - 1) else value

    def array(self, values: Any) -> RingArray:
        """Python or numpy integers of any sign reduced into ring elements, same shape."""
        a = np.asarray(values)
        if self.bits == 128:
            return wide.from_integers(a)
        if a.dtype == object:
            flat = [self.wrap(int(v)) for v in a.ravel()]
            return np.array(flat, dtype=self.dtype).reshape(a.shape)
        return np.asarray(a, order="C").astype(self.dtype)

    def whole(self, values: npt.NDArray[np.float64]) -> RingArray:
        """Floats without a fraction, inside the signed range, as ring elements, exactly."""
        if self.bits == 128:
            return wide.from_floats(values)
        return self.array(values.astype(np.int64))
