"""Shares show nothing, refuse to be used as numbers, and stay arrays; packing round trips."""

import copy
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spuvm.errors import ProtocolError, UsageError
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.lazy import HeldShare, JoinedShare, Store
from spuvm.protocol.aby3.packing import pack, packed_size, unpack
from spuvm.protocol.aby3.product import together
from spuvm.protocol.aby3.share import AShare, BShare, flat
from spuvm.protocol.base import Exchange, Protocol, Table, spec

SECRET = 123456789
A = AShare(np.array([SECRET], np.uint64), np.array([SECRET], np.uint64))
B = BShare(np.array([77], np.uint8), np.array([77], np.uint8), 7)
STORE = Store((np.array([SECRET], np.uint64), b"77" * 8), np.dtype(np.uint64), 1)
HELD = HeldShare(STORE, (1,), np.dtype(np.uint64))
EVERY = [A, B, STORE, HELD, JoinedShare([A, HELD], (2,))]
NAMES = ["a", "b", "store", "held", "joined"]

USES = [
    np.asarray, bool, int, float, list, hash, pickle.dumps, copy.copy, copy.deepcopy,
    operator.index, lambda s: s == s, lambda s: s != s, lambda s: s < 1, lambda s: s >= 1,
    lambda s: np.add(s, 1), lambda s: s + 1, lambda s: [*s], lambda s: s in [1], complex,
]  # fmt: skip


@pytest.mark.parametrize("share", EVERY, ids=NAMES)
@pytest.mark.parametrize("use", range(len(USES)))
def test_no_implicit_use(share, use: int) -> None:
    with pytest.raises((UsageError, TypeError)) as caught:
        USES[use](share)
    assert str(SECRET) not in str(caught.value)
    assert "77" not in str(caught.value)


@pytest.mark.parametrize("share", EVERY, ids=NAMES)
def test_nothing_is_shown(share) -> None:
    for text in (repr(share), str(share), f"{share}", f"{[share]}"):
        assert "redacted" in text
        assert str(SECRET) not in text
        assert "77" not in text


def test_scalars_stay_arrays() -> None:
    s = AShare(np.uint64(1), np.array(2, np.uint64) + np.array(3, np.uint64))
    assert isinstance(s.x0, np.ndarray)
    assert isinstance(s.x1, np.ndarray)
    assert s.shape == ()


def test_flat_is_contiguous_and_writeable() -> None:
    spread = np.broadcast_to(np.arange(3, dtype=np.uint64), (1, 3))
    for x in (spread, np.arange(6, dtype=np.uint64)[::2], np.zeros((2, 3))[:, 1], np.uint64(7)):
        made = flat(x)
        assert made.ndim == 1
        assert made.flags.c_contiguous
        assert made.flags.writeable
        assert np.array_equal(made, np.asarray(x).reshape(-1))


@given(st.sampled_from([1, 2, 4, 8]), st.lists(st.integers(0, 255), max_size=40))
def test_packing(bits: int, values: list[int]) -> None:
    x = np.array(values, np.uint8) & np.uint8((1 << bits) - 1)
    packed = pack(x, bits)
    assert packed.nbytes == packed_size(x.size, bits) == -(-x.size * bits // 8)
    assert np.array_equal(unpack(packed, bits, x.size), x)


def test_an_incomplete_protocol_is_an_error() -> None:
    some = {k: v for k, v in ABY3.local.items() if k != "add_aa"}
    with pytest.raises(ProtocolError, match="incomplete") as caught:
        Protocol("half", some, ABY3.steps, ABY3.costs)
    assert "add_aa" in str(caught.value)
    table = Table()
    table.on_shares("add_aa")(lambda: None)
    with pytest.raises(ProtocolError, match="twice"):
        table.on_shares("add_aa")(lambda: None)
    with pytest.raises(ProtocolError, match="not in"):
        table.on_shares("add_xx")(lambda: None)


def test_together_shares_rounds_and_routes() -> None:
    """Sub-protocols of 0, 1 and 3 rounds beside each other: results in order, messages apart."""
    u64 = np.dtype(np.uint64)

    def talk(rounds: int, tag: int):
        heard = []
        for r in range(rounds):
            mine = np.array([10 * tag + r], np.uint64)
            got = yield Exchange({1: [mine]}, {1: [spec(u64, 1)]} if r % 2 == 0 else {})
            heard += [int(a[0]) for arrays in got.values() for a in arrays]
        return heard

    run = together(talk(3, 1), talk(0, 2), talk(1, 3))
    got, rounds = None, 0
    while True:
        try:
            step = run.send(got)
        except StopIteration as stop:
            result = stop.value
            break
        rounds += 1
        sent = [int(a[0]) for a in step.send[1]]
        want = len(step.receive.get(1, []))
        got = {1: [np.array([100 + s], np.uint64) for s in sent][:want]} if want else {}
    assert rounds == 3
    assert result == [[110, 112], [], [130]]
