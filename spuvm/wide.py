"""Arrays of 128-bit unsigned integers that numpy's operators work on.

numpy has no such dtype. The elements are opaque to it, ``V16``, 16 bytes each, little end first: it
moves them about as it does any others (slices, reshape, concatenate, take), and `Wide` gives the
operators, so that protocols are written once for rings of 32, 64 and 128 bits. Whatever is not
given here raises; so does arithmetic on an array of the dtype that is not a `Wide` (`elements`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WIDE = np.dtype("V16")
_LIMBS = np.dtype([("low", "<u8"), ("high", "<u8")])
_WORD = (1 << 64) - 1


class Wide(np.ndarray[Any, Any]):
    """Integers modulo 2^128, any shape; operands may also be unsigned arrays and Python ints."""

    __array_priority__ = 1  # of the type of concatenated arrays

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        target = out[0] if out is not None else None
        if all(not isinstance(x, Wide) or x.dtype != WIDE for x in (*inputs, target)):
            return _views(ufunc, method, inputs, target, options)  # another dtype, by a view
        if method == "reduce" and ufunc in _REDUCTIONS:
            made = _REDUCTIONS[ufunc](_limbs(inputs[0]), **_axes(options))
        elif method == "__call__" and ufunc in _OPERATORS and not options:
            made = _OPERATORS[ufunc](*inputs)
        else:
            return NotImplemented
        if target is None:
            return made
        target[...] = made
        return target

    def __getitem__(self, index: Any) -> Any:
        made = super().__getitem__(index)
        return np.array(made, WIDE).view(Wide) if isinstance(made, np.void) else made

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: Any) -> Any:
        return np.equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return np.not_equal(self, other)

    __hash__ = None

    def __int__(self) -> int:
        return int.from_bytes(self.tobytes(), "little") if self.size == 1 else super().__int__()

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """The low bits as another dtype, or Python integers."""
        if self.dtype != WIDE:
            return np.asarray(self).astype(dtype, *args, **kwargs)
        if dtype == WIDE:
            return self if kwargs.get("copy") is False else self.copy()
        if np.dtype(dtype).kind == "O":
            low, high = _limbs(self)
            return np.asarray(low.astype(object) | (high.astype(object) << 64), object)
        return _limbs(self)[0].astype(dtype)

    def any(self, *args: Any, **kwargs: Any) -> Any:
        """Elements that are not 0."""
        return (self != 0).any(*args, **kwargs)

    @classmethod
    def of(cls, low: Array, high: Array) -> Self:
        """Elements low + 2^64 high from arrays of uint64."""
        made = np.empty(low.shape, _LIMBS)
        made["low"], made["high"] = low, high
        return made.view(WIDE).view(cls)


def elements(x: Any) -> Array:
    """An array that has operators: one of the dtype V16 as a `Wide`, any other one as it is."""
    made: Array = np.asanyarray(x)
    if made.dtype.char == "V" and type(made) is np.ndarray and made.dtype == WIDE:
        return made.view(Wide)
    return made


def empty(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """numpy.empty, with operators."""
    return elements(np.empty(shape, dtype))


def zeros(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """numpy.zeros, with operators."""
    return elements(np.zeros(shape, dtype))


def array(values: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A list of integers as unsigned elements of a dtype that holds them."""
    if dtype == WIDE:
        return from_integers(np.array(values, object))
    return np.array(values, dtype)


def cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """Unsigned integers of one width as those of another: bits above it are cut."""
    if dtype != WIDE or x.dtype == WIDE:
        return elements(x).astype(dtype, copy=False)
    return Wide.of(x.astype(np.uint64), np.zeros(x.shape, np.uint64))


def from_integers(values: Any) -> Wide:
    """Python integers, or numpy integers, of any sign modulo 2^128."""
    x = np.asarray(values)
    if x.dtype == object:
        low = np.frompyfunc(lambda v: int(v) & _WORD, 1, 1)(x)
        high = np.frompyfunc(lambda v: int(v) >> 64 & _WORD, 1, 1)(x)
        return Wide.of(np.asarray(low, np.uint64), np.asarray(high, np.uint64))
    if x.dtype.kind not in "iub":
        raise TypeError(f"integers expected, got {x.dtype}")
    extended = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    sign = np.where(extended < 0, np.uint64(_WORD), np.uint64(0))
    return Wide.of(extended.view(np.uint64), sign)


def from_floats(values: npt.NDArray[np.float64]) -> Wide:
    """Floats below 2^127 without a fraction, exactly."""
    x = np.asarray(values, np.float64)
    top = np.floor(np.ldexp(np.abs(x), -64))
    low = (np.abs(x) - np.ldexp(top, 64)).astype(np.uint64)  # exact: the last bits of one float
    high = top.astype(np.uint64)
    negative = x < 0
    return Wide.of(
        np.where(negative, ~low + np.uint64(1), low),
        np.where(negative, ~high + (low == 0), high),
    )


def signed_ends(x: Array) -> tuple[int, int]:
    """Least and largest element of a not empty array, read as signed integers."""
    low, high = _limbs(x)
    signed = high.view(np.int64)
    first, last = signed.min(), signed.max()
    least = (int(first) << 64) + int(low[signed == first].min())
    return least, (int(last) << 64) + int(low[signed == last].max())


def _limbs(x: Array) -> tuple[Array, Array]:
    both = x.view(np.ndarray).view(_LIMBS)
    return both["low"], both["high"]


def _views(ufunc: np.ufunc, method: str, inputs: Any, target: Any, options: Any) -> Any:
    plain = [x.view(np.ndarray) if isinstance(x, Wide) else x for x in inputs]
    if target is not None:
        options = {**options, "out": target.view(np.ndarray)}
    return getattr(ufunc, method)(*plain, **options)


def _operand(x: Any) -> Array:
    if isinstance(x, int | np.integer | np.bool_):
        return from_integers(np.array(int(x), object))
    x = np.asarray(x)
    if x.dtype.kind not in "uVb":
        raise TypeError(f"128-bit elements do not go with {x.dtype}")
    return np.asarray(cast(x, WIDE))


def _flat(x: Array, shape: tuple[int, ...]) -> Array:
    """As the kernels want it: one element for all, or all elements in order, writeable."""
    if x.size == 1:
        return np.require(x.reshape(1), requirements=["C", "W"])
    spread = x if x.shape == shape else np.broadcast_to(x, shape)
    return np.require(spread.reshape(-1), requirements=["C", "W"])


def _binary(name: str) -> Callable[[Any, Any], Array]:
    def apply(x: Any, y: Any) -> Array:
        from spuvm.kernels import wide as kernels  # who only moves elements does not load them

        left, right = _operand(x), _operand(y)
        shape = np.broadcast_shapes(left.shape, right.shape)
        made = np.empty(shape, WIDE)
        if made.size:
            flat = made.reshape(-1)
            getattr(kernels, name)(_flat(left, shape), _flat(right, shape), flat)
        return made.view(Wide)

    return apply


def _shift(name: str) -> Callable[[Any, Any], Array]:
    def apply(x: Any, count: Any) -> Array:
        from spuvm.kernels import wide as kernels

        places = int(count)  # one count for all elements, as protocols shift
        made = np.empty(np.shape(x), WIDE)
        if places >= 128:
            return np.zeros_like(made).view(Wide)
        if made.size:
            getattr(kernels, name)(_flat(_operand(x), made.shape), places, made.reshape(-1))
        return made.view(Wide)

    return apply


def _equal(x: Any, y: Any) -> Array:
    (a, b), (c, d) = _limbs(_operand(x)), _limbs(_operand(y))
    return np.asarray((a == c) & (b == d))


def _negative(x: Any) -> Array:
    return _OPERATORS[np.subtract](0, x)


def _invert(x: Any) -> Array:
    return _OPERATORS[np.bitwise_xor](x, (1 << 128) - 1)


_OPERATORS: dict[np.ufunc, Callable[..., Array]] = {
    np.add: _binary("add"),
    np.subtract: _binary("subtract"),
    np.multiply: _binary("multiply"),
    np.bitwise_and: _binary("bitwise_and"),
    np.bitwise_or: _binary("bitwise_or"),
    np.bitwise_xor: _binary("bitwise_xor"),
    np.left_shift: _shift("left_shift"),
    np.right_shift: _shift("right_shift"),
    np.negative: _negative,
    np.invert: _invert,
    np.equal: _equal,
    np.not_equal: lambda x, y: ~_equal(x, y),
}


def _axes(options: dict[str, Any]) -> dict[str, Any]:
    """What a reduction may be told; ndarray.sum and the like pass the rest at its defaults."""
    known = {"axis": options.get("axis", 0), "keepdims": bool(options.get("keepdims", False))}
    rest = set(options) - {"axis", "keepdims", "dtype", "where"}
    if rest or options.get("where", True) is not True or options.get("dtype") not in (None, WIDE):
        raise TypeError("128-bit elements are reduced whole: axis and keepdims alone")
    return known


def _sum(limbs: tuple[Array, Array], axis: Any, keepdims: Any) -> Array:
    """Sums of half words, which cannot overflow below 2^32 terms, and their carries."""
    low, high = limbs
    half, mask = np.uint64(32), np.uint64((1 << 32) - 1)
    total = Wide.of(np.zeros((), np.uint64), np.zeros((), np.uint64))
    for part, place in ((low & mask, 0), (low >> half, 32), (high & mask, 64), (high >> half, 96)):
        added = np.asarray(part.sum(axis=axis, keepdims=keepdims, dtype=np.uint64))
        total = total + (cast(added, WIDE) << place)
    return total


_REDUCTIONS: dict[np.ufunc, Callable[..., Array]] = {np.add: _sum}
