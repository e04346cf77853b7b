"""The ring Z_2^k as a value: its width, its numpy dtype, its signed view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError

RingArray = npt.NDArray[Any]

WIDTHS = (32, 64)


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
        """Unsigned numpy dtype of one ring element."""
        return np.dtype(f"<u{self.bits // 8}")

    @cached_property
    def signed_dtype(self) -> np.dtype[Any]:
        """Signed numpy dtype of the same width."""
        return np.dtype(f"<i{self.bits // 8}")

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

    def signed(self, x: RingArray) -> RingArray:
        """The same bits read as signed integers (a view)."""
        return x.view(self.signed_dtype)

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
        if a.dtype == object:
            flat = [self.wrap(int(v)) for v in a.ravel()]
            return np.array(flat, dtype=self.dtype).reshape(a.shape)
        return np.asarray(a, order="C").astype(self.dtype)
