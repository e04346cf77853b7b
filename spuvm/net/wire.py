"""Values as bytes and bytes as values: a fixed schema, checked before any memory is allocated.

A value is None, a bool, an int, a float, a str, bytes, a numpy array of a listed dtype (a numpy
scalar counts as an array without dimensions), or a list, tuple or dict with str keys of values.
Nothing else crosses between parties: no objects, no code.

An encoded value is a head and a body. The head describes the tree, one tag byte per node:

    N T F              None, True, False
    i int64            I uint32 length, two's complement: an int beyond 64 bits
    f float64
    s uint32 length, UTF-8
    b uint32 length, bytes           B uint64 length: the bytes are in the body
    a uint8 dtype, uint8 dimensions, uint64 each: the elements are in the body
    l uint32 count, values           t the same: list and tuple
    d uint32 count, then per entry uint16 length, UTF-8 key, value

The body is the contents of the `a` and `B` nodes in the order of the head, without padding. All
numbers are little-endian, arrays are in C order.

Reading a head allocates no array: it gives a `Layout` that knows how many bytes follow and what
they mean, and only if the tree is the one that is expected and within the limits.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spuvm.errors import ChannelError, UsageError
from spuvm.net.schema import (
    CODE,
    DEFAULT,
    DTYPES,
    ArrayOf,
    Kind,
    Limits,
    ScalarOf,
    Structure,
    WireValue,
    describe,
    little,
    structure_of,
    unknown,
)

__all__ = [
    "DEFAULT",
    "DTYPES",
    "ArrayOf",
    "Encoded",
    "Layout",
    "Limits",
    "ScalarOf",
    "Structure",
    "WireValue",
    "decode",
    "describe",
    "encode",
    "read_head",
    "structure_of",
]

_BOOL: Final = np.dtype(np.bool_)
_BYTE: Final = np.dtype(np.uint8)

_INLINE: Final = 1024
"""Longest bytes that are put into the head."""

_DIMENSION: Final = 1 << 48
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_I64: Final = struct.Struct("<q")
_F64: Final = struct.Struct("<d")
_SCALARS: Final[dict[str, Kind]] = {
    "N": "none",
    "T": "bool",
    "F": "bool",
    "i": "int",
    "I": "int",
    "f": "float",
    "s": "str",
    "b": "bytes",
    "B": "bytes",
}
# ---- encoding


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """A value ready to be sent; the body's views keep the value's arrays alive.

    Attributes:
        head: the tree.
        body: the contents of arrays and long bytes, without copying where they were C-contiguous.
        nbytes: of both.
    """

    head: bytes
    body: tuple[memoryview, ...]
    nbytes: int


def encode(value: WireValue, limits: Limits = DEFAULT) -> Encoded:
    """The bytes of a value; its arrays must not be written to until they were sent.

    Raises:
        UsageError: a type that cannot be sent, or more than the limits allow.
    """
    head = bytearray()
    body: list[memoryview] = []
    nodes = 0

    def put(item: object, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if depth > limits.depth or nodes > limits.nodes or len(head) > limits.head:
            raise UsageError(
                "a value is too large or too deeply nested to be sent",
                expected=f"at most {limits.nodes} values, {limits.depth} levels, "
                f"{limits.head} bytes of structure",
                next="send arrays instead of lists of numbers",
            )
        match item:
            case np.ndarray() | np.generic():
                _put_array(head, body, np.asarray(item))
            case None:
                head.extend(b"N")
            case bool():
                head.extend(b"T" if item else b"F")
            case int():
                _put_int(head, item)
            case float():
                head.extend(b"f" + _F64.pack(item))
            case str():
                text = _utf8(item)
                head.extend(b"s" + _U32.pack(len(text)) + text)
            case bytes() if len(item) <= _INLINE:
                head.extend(b"b" + _U32.pack(len(item)) + item)
            case bytes():
                head.extend(b"B" + _U64.pack(len(item)))
                body.append(memoryview(item))
            case list() | tuple():
                head.extend((b"l" if isinstance(item, list) else b"t") + _U32.pack(len(item)))
                for part in item:
                    put(part, depth + 1)
            case dict():
                head.extend(b"d" + _U32.pack(len(item)))
                for key, part in item.items():
                    if not isinstance(key, str) or len(text := _utf8(key)) > 0xFFFF:
                        raise UsageError("a key cannot be sent", expected="short str keys")
                    head.extend(_U16.pack(len(text)) + text)
                    put(part, depth + 1)
            case _:
                raise unknown(item)

    put(value, 0)
    nbytes = len(head) + sum(len(part) for part in body)
    if nbytes > limits.nbytes or len(head) > limits.head:
        raise UsageError(
            "a value is too large to be sent",
            got=f"{nbytes} bytes",
            expected=f"at most {limits.nbytes}, of these {limits.head} outside of arrays",
            next="send it in parts, or raise the limit at both ends (docs/deployment.md)",
        )
    return Encoded(bytes(head), tuple(body), nbytes)


def _put_array(head: bytearray, body: list[memoryview], array: npt.NDArray[Any]) -> None:
    array = np.asarray(array, little(array.dtype), order="C")
    head.extend(b"a" + bytes([CODE[array.dtype], array.ndim]))
    for n in array.shape:
        head.extend(_U64.pack(n))
    if array.size:
        body.append(memoryview(array.reshape(-1).view(_BYTE)))


def _put_int(head: bytearray, number: int) -> None:
    if -(1 << 63) <= number < 1 << 63:
        head.extend(b"i" + _I64.pack(number))
    else:
        length = number.bit_length() // 8 + 1
        head.extend(b"I" + _U32.pack(length) + number.to_bytes(length, "little", signed=True))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("a string with unpaired surrogates cannot be sent") from error


# ---- decoding


@dataclass(frozen=True, slots=True)
class _Slot:
    """In the place of an array or of long bytes: which part of the body it is."""

    index: int


class Layout:
    """What a head says: how many bytes follow, and the value that they become.

    Attributes:
        parts: dtype and shape of every part of the body; long bytes are uint8 arrays.
        nbytes: of the body.
    """

    __slots__ = ("_long", "_tree", "nbytes", "parts")

    def __init__(self, tree: object, parts: Sequence[ArrayOf], long: frozenset[int]) -> None:
        self._tree, self.parts, self._long = tree, tuple(parts), long
        self.nbytes = sum(part.nbytes for part in parts)

    def allocate(self) -> list[npt.NDArray[Any]]:
        """Arrays for the parts of the body, to be filled."""
        return [np.empty(part.shape, part.dtype) for part in self.parts]

    def value(self, arrays: Sequence[npt.NDArray[Any]]) -> WireValue:
        """The value, from the filled arrays.

        Raises:
            ChannelError: a boolean array has bytes other than 0 and 1.
        """
        for array in arrays:
            if array.dtype == _BOOL and array.size and int(array.view(_BYTE).max()) > 1:
                raise ChannelError("a boolean array has other contents than 0 and 1")
        value: WireValue = self._fill(self._tree, arrays)
        return value

    def _fill(self, node: object, arrays: Sequence[npt.NDArray[Any]]) -> Any:
        match node:
            case _Slot(index):
                return arrays[index].tobytes() if index in self._long else arrays[index]
            case list():
                return [self._fill(item, arrays) for item in node]
            case tuple():
                return tuple(self._fill(item, arrays) for item in node)
            case dict():
                return {key: self._fill(item, arrays) for key, item in node.items()}
        return node


def read_head(
    head: bytes | bytearray | memoryview,
    expected: Structure | None = None,
    limits: Limits = DEFAULT,
) -> Layout:
    """What a head describes, if that is expected and within the limits.

    Raises:
        ChannelError: the head is malformed, describes something else than what is expected, or
            more than the limits allow. No array was allocated; the tree takes at most 120 bytes
            for each of the values that the limits allow, beside the head's own bytes.
    """
    if len(head) > limits.head:
        raise ChannelError(
            "the structure of a value is too large",
            got=f"{len(head)} bytes",
            expected=f"at most {limits.head}",
        )
    return _Reader(memoryview(head), limits).layout(expected)


def decode(
    head: bytes | bytearray | memoryview,
    body: bytes | bytearray | memoryview,
    expected: Structure | None = None,
    limits: Limits = DEFAULT,
) -> WireValue:
    """The value of a head and a body.

    Raises:
        ChannelError: as `read_head`, or the body has another length than the head says.
    """
    layout = read_head(head, expected, limits)
    if len(body) != layout.nbytes:
        raise ChannelError(
            "a value has another length than its head says",
            got=f"{len(body)} bytes",
            expected=f"{layout.nbytes} bytes",
        )
    arrays, begin = layout.allocate(), 0
    for array in arrays:
        array.reshape(-1).view(_BYTE)[:] = np.frombuffer(body, _BYTE, array.nbytes, begin)
        begin += array.nbytes
    return layout.value(arrays)


class _Reader:
    """One pass over a head; every count is checked against the bytes that are left."""

    def __init__(self, head: memoryview, limits: Limits) -> None:
        self._head, self._limits = head, limits
        self._at = self._nodes = self._total = 0
        self._parts: list[ArrayOf] = []
        self._long: set[int] = set()

    def layout(self, expected: Structure | None) -> Layout:
        self._total = len(self._head)
        tree = self._value(expected, 0)
        if self._at != len(self._head):
            raise ChannelError("a value's structure is followed by something else")
        return Layout(tree, self._parts, frozenset(self._long))

    def _take(self, count: int) -> memoryview:
        at = self._at
        if count > len(self._head) - at:
            raise ChannelError("a value's structure is truncated")
        self._at = at + count
        return self._head[at : at + count]

    def _number(self, form: struct.Struct) -> Any:
        return form.unpack(self._take(form.size))[0]

    def _value(self, expected: Structure | None, depth: int) -> object:
        self._nodes += 1
        if self._nodes > self._limits.nodes or depth > self._limits.depth:
            raise self._excess()
        tag = chr(self._take(1)[0])
        if tag in "ltd":
            return self._container(tag, expected, depth)
        if tag == "a":
            return self._array(expected)
        if tag not in _SCALARS:
            raise ChannelError("a value of an unknown type")
        kind = _SCALARS[tag]
        if expected is not None and expected != ScalarOf(kind):
            raise _other(kind, expected)
        return self._scalar(tag)

    def _excess(self) -> ChannelError:
        return ChannelError(
            "a value is too large or too deeply nested",
            expected=f"at most {self._limits.nodes} values, {self._limits.depth} levels",
        )

    def _scalar(self, tag: str) -> object:
        match tag:
            case "N":
                return None
            case "T" | "F":
                return tag == "T"
            case "i":
                return self._number(_I64)
            case "I":
                number = int.from_bytes(self._take(self._number(_U32)), "little", signed=True)
                if -(1 << 63) <= number < 1 << 63:
                    raise ChannelError("a number is not in its shortest form")
                return number
            case "f":
                return self._number(_F64)
            case "s":
                return self._text(self._number(_U32))
            case "b":
                return bytes(self._take(self._number(_U32)))
        self._long.add(len(self._parts))
        return self._part(ArrayOf(_BYTE, (self._number(_U64),)))

    def _text(self, length: int) -> str:
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise ChannelError("a string is not UTF-8") from None

    def _array(self, expected: Structure | None) -> _Slot:
        code, dimensions = self._take(2)
        if code >= len(DTYPES) or dimensions > 32:
            raise ChannelError(
                "an array of an unknown dtype or with too many dimensions",
                got=f"dtype {code}, {dimensions} dimensions",
            )
        array = ArrayOf(DTYPES[code], tuple(self._number(_U64) for _ in range(dimensions)))
        if expected is not None and array != expected:
            raise _other(str(array), expected)
        return self._part(array)

    def _part(self, array: ArrayOf) -> _Slot:
        size = array.dtype.itemsize
        for n in array.shape:  # also where another dimension is 0: numpy multiplies the others
            size = min(size * max(n, 1), _DIMENSION)
        self._total += array.nbytes
        if self._total > self._limits.nbytes or size >= _DIMENSION:
            raise ChannelError(
                "a value is too large",
                got=f"{array} and what came before it",
                expected=f"at most {self._limits.nbytes} bytes",
            )
        self._parts.append(array)
        return _Slot(len(self._parts) - 1)

    def _container(self, tag: str, expected: Structure | None, depth: int) -> object:
        count = self._number(_U32)
        if count > len(self._head) - self._at:
            raise ChannelError("a value's structure is truncated")
        if count > self._limits.nodes - self._nodes:
            raise self._excess()
        if tag == "d":
            return self._dict(count, expected, depth)
        wanted: Iterable[Structure | None] = itertools.repeat(None, count)
        if expected is not None:
            kind = list if tag == "l" else tuple
            if not isinstance(expected, kind) or len(expected) != count:
                raise _other(f"{kind.__name__} of {count}", expected)
            wanted = expected
        items = [self._value(want, depth + 1) for want in wanted]
        return items if tag == "l" else tuple(items)

    def _dict(self, count: int, expected: Structure | None, depth: int) -> object:
        if expected is not None and not (isinstance(expected, Mapping) and len(expected) == count):
            raise _other(f"dict of {count}", expected)
        found: dict[str, object] = {}
        for _ in range(count):
            key = self._text(self._number(_U16))
            if key in found or (isinstance(expected, Mapping) and key not in expected):
                raise ChannelError("a dict has another key than expected, or the same one twice")
            want = expected[key] if isinstance(expected, Mapping) else None
            found[key] = self._value(want, depth + 1)
        return found


def _other(got: str, expected: Structure) -> ChannelError:
    return ChannelError(
        "a value has another structure than expected", got=got, expected=describe(expected)
    )
