"""Replicated shares and the one picture of their indices.

A secret is split into three: x = x_0 + x_1 + x_2 mod 2^k (Boolean: x_0 ^ x_1 ^ x_2, bit by bit).

            component 0     component 1     component 2
    party 0     x0              x1
    party 1                     x0              x1
    party 2     x1                              x0

Party i holds (x_i, x_{i+1}); in code `x0` is its first and `x1` its second component. So component
0 is unknown to party 1 only, component 1 to party 2 only, component 2 to party 0 only. Many
protocols use that parties 1 and 2 both know component 2 while party 0 knows the sum of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError
from spuvm.wide import elements

Array = npt.NDArray[Any]
Reader = Callable[[slice], Array]

PIECE = 1 << 15
"""Elements of the pieces in which large arrays are worked on."""


class Redacted:
    """Shares show no data and refuse to be used as numbers."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise UsageError(
            "a share is not a value",
            got=repr(self),
            next="run instructions on it, or open it to a named receiver",
        )

    __array__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __eq__ = __ne__ = _refuse
    __int__ = __float__ = __index__ = __iter__ = __reduce_ex__ = _refuse


@dataclass(slots=True, eq=False, repr=False)
class AShare(Redacted):
    """Arithmetic shares of one party: two ring arrays of the value's shape.

    Always arrays: numpy turns sums of 0-d arrays into scalars, which warn when they wrap.
    """

    x0: Array
    x1: Array

    def __post_init__(self) -> None:
        self.x0, self.x1 = elements(self.x0), elements(self.x1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x0.shape

    @property
    def size(self) -> int:
        return self.x0.size

    @property
    def dtype(self) -> Any:
        return self.x0.dtype

    def flat(self) -> tuple[Array, Array]:
        """Both components as flat, contiguous arrays (views where possible)."""
        return flat(self.x0), flat(self.x1)

    def readers(self) -> tuple[Reader, Reader]:
        """Pieces of both components."""
        return reader(self.x0), reader(self.x1)

    def summands(self) -> Sequence[Reader]:
        """Pieces of what adds up to x0 + x1."""
        return self.readers()

    def total(self) -> Array:
        """x0 + x1."""
        return self.x0 + self.x1

    def sum_reader(self) -> Reader:
        """Pieces of x0 + x1."""
        first, second = self.readers()
        return lambda s: first(s) + second(s)

    def rows(self, count: int) -> list[AShare] | None:
        """The elements in order as that many flat rows; None if that takes copies."""
        if not (self.x0.flags.c_contiguous and self.x1.flags.c_contiguous):
            return None
        both = [x.reshape(count, -1) for x in (self.x0, self.x1)]
        return [AShare(both[0][i], both[1][i]) for i in range(count)]

    def reshaped(self, shape: tuple[int, ...]) -> AShare:
        """The same elements in another shape."""
        return AShare(self.x0.reshape(shape), self.x1.reshape(shape))

    def __repr__(self) -> str:
        return f"AShare(shape={self.shape}, dtype={self.x0.dtype}, redacted)"


@dataclass(slots=True, eq=False, repr=False)
class BShare(Redacted):
    """Boolean shares of one party: `width` bits in the low end of each unsigned element."""

    x0: Array
    x1: Array
    width: int

    def __post_init__(self) -> None:
        self.x0, self.x1 = elements(self.x0), elements(self.x1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x0.shape

    @property
    def size(self) -> int:
        return self.x0.size

    def flat(self) -> tuple[Array, Array]:
        """Both components as flat, contiguous arrays (views where possible)."""
        return flat(self.x0), flat(self.x1)

    def __repr__(self) -> str:
        return f"BShare(shape={self.shape}, width={self.width}, redacted)"


@dataclass(slots=True, eq=False, repr=False)
class ZShare(Redacted):
    """Additive shares of one party: z_i of z = z_0 + z_1 + z_2, a ring array; see additive.py."""

    z: Array

    def __post_init__(self) -> None:
        self.z = elements(self.z)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.z.shape

    @property
    def size(self) -> int:
        return self.z.size

    def __repr__(self) -> str:
        return f"ZShare(shape={self.shape}, dtype={self.z.dtype}, redacted)"


Share = AShare | BShare
Held = Share | ZShare
"""What a party has of a secret value."""


def flat(x: Array) -> Array:
    """`x` as a flat, contiguous, writeable array without a copy where possible.

    Views that broadcast are read-only, which to kernels is a type of its own to compile for.
    """
    made = (x if x.flags.c_contiguous else x.copy()).reshape(-1)
    return made if made.flags.writeable else made.copy()


def reader(x: Array) -> Reader:
    """The pieces of `x` in order, flat and contiguous; copies are made of one piece at a time.

    So that broadcast operands are never stored. A transposed array without short rows is copied.
    """
    if (x.flags.c_contiguous and x.flags.writeable) or not x.size:
        return flat(x).__getitem__
    if not any(x.strides):
        one = x[(slice(1),) * x.ndim].reshape(1)
        lane = flat(elements(np.broadcast_to(one, min(x.size, PIECE))))
        return lambda s: lane[: s.stop - s.start]
    row = x.size // len(x)
    if row > PIECE // 8:
        return flat(x).__getitem__

    def piece(s: slice) -> Array:
        first = s.start // row
        rows = flat(x[first : -(-s.stop // row)])
        return rows[s.start - first * row : s.stop - first * row]

    return piece


def in_a_row(parts: Sequence[tuple[int, Reader]]) -> Reader:
    """The pieces of several parts, given with their sizes, one after the other."""
    if len(parts) == 1:
        return parts[0][1]
    ends = list(accumulate(size for size, _ in parts))

    def piece(s: slice) -> Array:
        found = []
        for end, (size, read) in zip(ends, parts, strict=True):
            begin = end - size
            if begin < s.stop and s.start < end:
                found.append(read(slice(max(s.start, begin) - begin, min(s.stop, end) - begin)))
        return found[0] if len(found) == 1 else elements(np.concatenate(found))

    return piece


def pieces(size: int, length: int = PIECE) -> list[slice]:
    """Flat ranges small enough that all arrays of a step stay in the cache."""
    return [slice(i, min(size, i + length)) for i in range(0, size, length)]
