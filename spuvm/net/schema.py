"""What can cross between parties: values, what a receiver expects of them, and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from spuvm.errors import UsageError

WireValue: TypeAlias = (
    "bool | int | float | str | bytes | npt.NDArray[Any] | np.generic"
    " | Sequence[WireValue] | Mapping[str, WireValue] | None"
)
"""What can be sent; sequences are lists and tuples."""

Kind = Literal["none", "bool", "int", "float", "str", "bytes"]

_NAMES: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
DTYPES: Final = tuple(np.dtype(name).newbyteorder("<") for name in _NAMES)
"""The dtypes that arrays may have; on the wire a dtype is its place in this list."""

CODE: Final = {dtype: code for code, dtype in enumerate(DTYPES)}

_KINDS: Final[dict[type, Kind]] = {
    type(None): "none",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
}


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """An array that is expected."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class ScalarOf:
    """A value of a plain type that is expected."""

    kind: Kind

    def __str__(self) -> str:
        return self.kind


Structure: TypeAlias = (
    "ArrayOf | ScalarOf | list[Structure] | tuple[Structure, ...] | Mapping[str, Structure]"
)
"""What a receiver expects: containers as they are, in the leaves what stands there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver accepts at most, whatever it expects.

    Attributes:
        nbytes: of the whole encoded value.
        head: bytes of its head: the tree, strings and numbers.
        nodes: values in the tree.
        depth: of containers within containers.
    """

    nbytes: int = 4 << 30
    head: int = 8 << 20
    nodes: int = 200_000
    depth: int = 32


DEFAULT: Final = Limits()


def structure_of(value: WireValue) -> Structure:
    """What a receiver of this value would expect.

    Raises:
        UsageError: the value has a type that cannot be sent.
    """
    match value:
        case np.ndarray() | np.generic():
            return ArrayOf(little(value.dtype), value.shape)
        case list():
            return [structure_of(item) for item in value]
        case tuple():
            return tuple(structure_of(item) for item in value)
        case dict():
            return {key: structure_of(item) for key, item in value.items()}
    if type(value) in _KINDS:
        return ScalarOf(_KINDS[type(value)])
    raise unknown(value)


def little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    try:
        little = dtype.newbyteorder("<")
    except (TypeError, ValueError):
        little = dtype
    if little not in CODE:
        raise UsageError(
            "an array of this dtype cannot be sent",
            got=str(dtype),
            expected=", ".join(_NAMES),
        )
    return little


def unknown(item: object) -> UsageError:
    return UsageError(
        "a value of this type cannot be sent to another party",
        got=type(item).__name__,
        expected="None, bool, int, float, str, bytes, numpy arrays; list, tuple, dict of these",
    )


def describe(structure: Structure | None) -> str:
    """A short text for messages: types and shapes, never contents."""
    match structure:
        case None:
            return "any value within the limits"
        case list() | tuple():
            return f"{type(structure).__name__} of {len(structure)}"
        case Mapping():
            return f"dict of {len(structure)}"
    return str(structure)
