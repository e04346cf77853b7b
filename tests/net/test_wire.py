"""Values on the wire: every value comes back, and nothing else gets through."""

from __future__ import annotations

import os
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spuvm.errors import ChannelError, UsageError
from spuvm.net import wire
from spuvm.net.wire import ArrayOf, Limits, ScalarOf, decode, encode, read_head, structure_of

arrays = st.sampled_from([dtype.name for dtype in wire.DTYPES]).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 300), 1 << 300)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=3000)
    | arrays
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def coded(value: Any) -> tuple[bytes, bytes]:
    encoded = encode(value)
    body = b"".join(encoded.body)
    assert encoded.nbytes == len(encoded.head) + len(body)
    return encoded.head, body


def same(a: Any, b: Any) -> bool:
    """Equality that looks at types, dtypes and the bits of floats."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


@given(values)
def test_every_value_comes_back(value: Any) -> None:
    head, body = coded(value)
    assert same(decode(head, body), value)
    assert same(decode(head, body, structure_of(value)), value)


@given(values, values)
def test_only_the_expected_structure_is_accepted(value: Any, other: Any) -> None:
    head, body = coded(value)
    expected = structure_of(other)
    if structure_of(value) == expected:
        assert same(decode(head, body, expected), value)
    else:
        with pytest.raises(ChannelError, match="than expected"):
            decode(head, body, expected)


def test_arrays_are_not_copied_and_any_layout_is_sent() -> None:
    data = np.arange(12.0)
    encoded = encode([data])
    assert np.shares_memory(np.frombuffer(encoded.body[0], np.uint8), data)
    for odd in (data.reshape(3, 4).T, data[::2], data.astype(">f8"), np.float32(3), data[:0]):
        back = decode(*coded(odd))
        assert isinstance(back, np.ndarray)
        np.testing.assert_array_equal(back, odd)
        assert back.dtype.isnative
        assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        object(),
        np.array([object()]),
        np.array(["text"]),
        np.zeros(2, np.clongdouble),
        np.zeros(2, [("a", "i4")]),
        np.zeros(2, "M8[s]"),
        {1: 2},
        {"k" * 70_000: 1},
        "\ud800",
        {1, 2},
        1j,
        print,
        bytearray(3),
    ],
)
def test_what_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        encode(value)


def test_limits_hold_at_both_ends() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    for value in (deep, [0] * 300_000):
        with pytest.raises(UsageError, match="too large or too deeply nested"):
            encode(value)
        loose = encode(value, Limits(nodes=1 << 20, depth=100))
        with pytest.raises(ChannelError, match="too large or too deeply nested"):
            read_head(loose.head)
    with pytest.raises(UsageError, match="too large"):
        encode(np.zeros(1000), Limits(nbytes=7000))
    with pytest.raises(ChannelError, match="too large"):
        decode(*coded(np.zeros(1000)), None, Limits(nbytes=7000))
    with pytest.raises(ChannelError, match="structure of a value is too large"):
        decode(*coded("x" * 100), None, Limits(head=100))


def huge(*shape: int, code: int = 5) -> bytes:
    return b"a" + bytes([code, len(shape)]) + b"".join(struct.pack("<Q", n) for n in shape)


BAD = {
    "nothing": b"",
    "2^60 elements": huge(1 << 60),
    "2^64-1 elements": huge((1 << 64) - 1),
    "2^20 cubed": huge(1 << 20, 1 << 20, 1 << 20),
    "nothing times 2^63": huge(0, 1 << 63),
    "wrapping product": huge(1 << 32, 1 << 32),
    "33 dimensions": huge(*[1] * 33),
    "an unknown dtype": huge(1, code=14),
    "the last dtype": huge(1, code=255),
    "a list of 2^32-1": b"l" + b"\xff" * 4 + b"N",
    "a dict of 2^32-1": b"d" + b"\xff" * 4,
    "a string of 2^32-1": b"s" + b"\xff" * 4,
    "bytes of 2^60": b"B" + struct.pack("<Q", 1 << 60),
    "a short int": b"i\0\0",
    "a long small int": b"I" + struct.pack("<I", 1) + b"\5",
    "no UTF-8": b"s" + struct.pack("<I", 1) + b"\xff",
    "the same key twice": b"d" + struct.pack("<I", 2) + b"\1\0kN\1\0kN",
    "something after it": b"NN",
    "an unknown tag": b"p",
    "lists that all claim the rest": (b"l" + struct.pack("<I", 1 << 19)) * 30 + b"N" * (1 << 19),
    "a pickle": b"\x80\x04cos\nsystem\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_heads_are_refused_without_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ChannelError):
            read_head(BAD[name])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "item", [b"d" + bytes(4), b"l" + bytes(4), b"f" + bytes(8), b"I\t\0\0\0" + b"\1" * 9]
)
def test_the_worst_tree_is_bounded_too(item: bytes) -> None:
    """As many values as the limits allow, then one that is wrong: the memory that is said."""
    nodes, last = 5_000, b"p"
    head = b"l" + struct.pack("<I", nodes) + item * (nodes - 1) + last
    tracemalloc.start()
    try:
        with pytest.raises(ChannelError, match="unknown type"):
            read_head(head, limits=Limits(nodes=nodes + 1))
        assert tracemalloc.get_traced_memory()[1] < 120 * nodes
    finally:
        tracemalloc.stop()


def test_contents_are_checked_too() -> None:
    head, body = coded(np.array([True, False]))
    with pytest.raises(ChannelError, match="boolean"):
        decode(head, b"\1\2")
    with pytest.raises(ChannelError, match="another length"):
        decode(head, body + b"\0")
    with pytest.raises(ChannelError, match="another length"):
        decode(head, body[:1])


FRAMES = 100_000 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 4_000


def test_fuzzed_heads_never_do_anything_but_raise() -> None:
    """Random bytes, and valid heads with bytes changed, removed, put in or doubled."""
    rng = np.random.default_rng(7)
    seeds = [
        coded(value)[0]
        for value in (
            {"a": np.zeros((3, 4)), "b": [1, 2.5, "text", None, (True, b"xyz")]},
            [np.zeros(5, np.uint8), {"k": {"l": [1 << 100, -1]}}, b"y" * 2000],
            "a string",
            tuple(range(10)),
        )
    ]
    expected = [None, structure_of(np.zeros(3)), {"a": ArrayOf(np.dtype("f8"), (3, 4))}]
    accepted = 0
    tracemalloc.start()
    try:
        for number in range(FRAMES):
            if number % 3 == 0:
                head = bytearray(rng.bytes(int(rng.integers(0, 80))))
                if head:
                    head[0] = b"NTFiIfsbBaltd"[int(rng.integers(0, 13))]
            else:
                head = bytearray(seeds[number % len(seeds)])
                for _ in range(int(rng.integers(1, 4))):
                    place = int(rng.integers(0, len(head) + 1))
                    match int(rng.integers(0, 4)):
                        case 0:
                            head[place : place + 1] = rng.bytes(1)
                        case 1:
                            del head[place : place + int(rng.integers(1, 9))]
                        case 2:
                            head[place:place] = rng.bytes(int(rng.integers(1, 9)))
                        case 3:
                            head[place:place] = head[max(0, place - 20) : place]
            try:
                layout = read_head(head, expected[number % 3], Limits(nbytes=1 << 30, head=1 << 16))
                assert layout.nbytes <= 1 << 30
                accepted += 1
            except ChannelError:
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert 0 < accepted < FRAMES // 2


def test_structures_speak() -> None:
    assert str(structure_of(np.zeros((2, 3), np.float32))) == "float32[2,3]"
    assert wire.describe(None) == "any value within the limits"
    assert wire.describe([ScalarOf("int")]) == "list of 1"
    assert structure_of({"a": (1, None)}) == {"a": (ScalarOf("int"), ScalarOf("none"))}
