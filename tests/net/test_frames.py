"""The wire format: any cutting of the stream gives the same frames, and garbage is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from networks import U8, U64, receive, send, words

from spuvm.errors import ChannelError
from spuvm.net import frame
from spuvm.net.channel import Spec
from spuvm.net.inbox import STAGE, Inbox
from spuvm.net.tcp import TcpChannel


@pytest.fixture
def ends() -> Iterator[tuple[TcpChannel, socket.socket]]:
    """A channel of rank 0 and the bare socket of its only peer."""
    mine, theirs = socket.socketpair()
    with theirs, TcpChannel(0, {1: mine}, timeout=0.5) as channel:
        yield channel, theirs


Ends = tuple[TcpChannel, socket.socket]


def data_frame(number: int, payload: bytes) -> bytes:
    return frame.HEADER.pack(frame.DATA, number, len(payload)) + payload


def test_the_bytes_on_the_wire(ends: Ends) -> None:
    channel, wire = ends
    send(channel, 1, words(1), np.array([2, 3], np.uint8))
    send(channel, 1)
    got = wire.recv(1000)
    assert got == bytes.fromhex(
        "00015053" "00000000" "0a00000000000000" "0100000000000000" "0203"
        "00015053" "01000000" "0000000000000000"
    )  # fmt: skip


def test_byte_by_byte(ends: Ends) -> None:
    channel, wire = ends
    stream = data_frame(0, words(5, 6).tobytes()) + data_frame(1, b"\x07")

    def drip() -> None:
        for i in range(len(stream)):
            wire.send(stream[i : i + 1])

    thread = threading.Thread(target=drip)
    thread.start()
    assert receive(channel, 1, Spec(U64, 2))[0].tolist() == [5, 6]
    assert receive(channel, 1, Spec(U8, 1))[0].tolist() == [7]
    thread.join()


def test_numbers_wrap_around(ends: Ends) -> None:
    channel, wire = ends
    last = frame.NUMBERS - 1
    channel._links[1].inbox._number = channel._links[1].outbox._number = last
    wire.send(data_frame(last, b"a") + data_frame(0, b"b"))
    assert receive(channel, 1, Spec(U8, 1))[0] == ord("a")
    assert receive(channel, 1, Spec(U8, 1))[0] == ord("b")
    send(channel, 1)
    send(channel, 1)
    assert wire.recv(100) == data_frame(last, b"") + data_frame(0, b"")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a frame"),
        (bytes(16), "not a frame"),
        (frame.HEADER.pack(frame.HELLO, 1, 3), "not a frame"),
        (frame.HEADER.pack(frame.DATA ^ 1 << 8, 0, 8) + bytes(8), "not a frame"),
        (frame.HEADER.pack(frame.ABORT, 0, 1 << 40), "not a frame"),
        (data_frame(1, bytes(8)), "out of order"),
        (frame.HEADER.pack(frame.DATA, 0, 1 << 62), "another length"),
        (frame.HEADER.pack(frame.ABORT, 0, 5) + b"\xffab\x1b!", "aborted: �ab!"),
    ],
)
def test_what_is_no_frame_is_refused(ends: Ends, stream: bytes, message: str) -> None:
    channel, wire = ends
    wire.send(stream)
    with pytest.raises(ChannelError, match=message):
        receive(channel, 1, Spec(U64, 1))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "before frame 0"),
        (data_frame(0, bytes(8))[:5], "within frame 0"),
        (data_frame(0, bytes(8))[:20], "within frame 0"),
        (frame.abort_frame("broken off")[:22], "aborted: broken"),
    ],
)
def test_the_end_of_the_stream(ends: Ends, stream: bytes, message: str) -> None:
    channel, wire = ends
    wire.send(stream)
    wire.close()
    with pytest.raises(ChannelError, match=message):
        receive(channel, 1, Spec(U64, 1))


def test_a_frame_that_nobody_expects_may_not_be_huge() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        inbox = Inbox(mine, "party 1", read_ahead=1 << 20)
        theirs.send(frame.HEADER.pack(frame.DATA, 0, frame.FRAME_LIMIT + 1))
        with pytest.raises(ChannelError, match="too long"):
            inbox.read()


@pytest.mark.parametrize("limit", [0, 1])
def test_a_full_inbox_opens_when_its_frames_are_asked_for(limit: int) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        inbox = Inbox(mine, "party 1", read_ahead=limit)
        theirs.send(b"".join(data_frame(i, bytes([i])) for i in range(3)))
        inbox.read()
        assert inbox.full
        for i in range(3):
            (got,) = inbox.expect([Spec(U8, 1)]) or inbox.wait() or []
            assert got.tolist() == [i]
            assert not inbox.full


def test_a_long_abort_is_cut() -> None:
    sent = frame.abort_frame("é" * 10_000)
    assert len(sent) == 16 + frame.ABORT_BYTES
    assert frame.abort_text(sent[16:]) == "é" * (frame.ABORT_BYTES // 2)


sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([STAGE - 17, STAGE - 16, STAGE - 15, STAGE, STAGE + 1, 3 * STAGE]),
)


@given(
    frames=st.lists(st.lists(sizes, max_size=3), min_size=1, max_size=8),
    steps=st.lists(
        st.one_of(st.just("expect"), st.just("read"), st.just("wait"), st.integers(1, 2 * STAGE)),
        max_size=60,
    ),
    limit=st.sampled_from([0, 1, 1000, 1 << 30]),
)
@example(frames=[[1], [STAGE - 17]], steps=[], limit=1)  # was read into the wrong place once
def test_any_cutting_and_any_order_gives_the_same_frames(
    frames: list[list[int]], steps: list[str | int], limit: int
) -> None:
    rng = np.random.default_rng(1)
    data = [[rng.integers(0, 256, n, np.uint8) for n in arrays] for arrays in frames]
    stream = b"".join(data_frame(i, b"".join(map(bytes, arrays))) for i, arrays in enumerate(data))
    mine, theirs = socket.socketpair()
    with mine, theirs:
        for sock in (mine, theirs):
            sock.setblocking(False)
        inbox = Inbox(mine, "party 1", read_ahead=limit)
        sent = done = 0
        expecting = False
        # after the drawn steps: everything is delivered and asked for
        finish: list[str | int] = [2 * STAGE, "read", "expect", "wait"] * 200
        for step in [*steps, *finish]:
            arrived = None
            if isinstance(step, int):
                try:
                    sent += theirs.send(stream[sent : sent + step])
                except BlockingIOError:
                    continue
            elif step == "read" and not inbox.full:
                inbox.read()
                arrived = inbox.received if expecting else None
            elif step == "expect" and not expecting and done < len(frames):
                expecting = True
                arrived = inbox.expect([Spec(U8, n) for n in frames[done]])
            elif step == "wait" and expecting:
                arrived = inbox.wait()
            if arrived is not None:
                for want, got in zip(data[done], arrived, strict=True):
                    np.testing.assert_array_equal(want, got)
                done, expecting = done + 1, False
        assert done == len(frames)


@given(stream=st.binary(max_size=80))
def test_garbage_never_raises_anything_else(stream: bytes) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.setblocking(False)
        inbox = Inbox(mine, "party 1", read_ahead=1000)
        theirs.send(stream)
        theirs.close()

        def use() -> None:
            while True:
                if inbox.expect([Spec(U64, 1)]) is None:
                    inbox.wait()

        with pytest.raises(ChannelError):
            use()
