"""Several threads at one link: one that fails, and ends that come while others still send."""

from __future__ import annotations

import threading
import time

import pytest
from networks import NAMES, U64, outcomes, run, tcp_endpoints, words

from spuvm.errors import ChannelError
from spuvm.net.channel import Spec
from spuvm.net.endpoint import Envelope
from spuvm.net.keeper import Keeper
from spuvm.net.link import Link
from spuvm.net.transport import PlainTransport


def test_a_session_whose_own_thread_fails_ends_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, and not after everybody's deadline as a peer that does not answer."""
    ends = tcp_endpoints(NAMES, deadline=60, connect_deadline=20)
    run(*(lambda e=e: e.connect() for e in ends.values()))

    def fail(self: Keeper, now: float) -> None:
        if self.name == "spuvm links of alice":
            raise ValueError("a mistake")

    monkeypatch.setattr(Keeper, "_look", fail)
    waiting = [
        lambda e=ends[name], peer=peer: e.receive(peer, Envelope(1, "r"), deadline=60)
        for name, peer in (("alice", "bob"), ("carol", "bob"))
    ]
    for error in outcomes(*waiting):
        assert "spuvm links of alice failed" in str(error)
        assert "a mistake" in str(error)
    run(*(end.close for end in ends.values()))


def test_a_peer_that_has_had_a_frame_may_close_while_the_link_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other traffic holds up the link after the frame: not for the frame's sake."""
    ends = tcp_endpoints(NAMES, deadline=10, connect_deadline=20)
    run(*(lambda e=e: e.connect() for e in ends.values()))
    alice, bob = (ends[name].channel("spu0", NAMES) for name in NAMES[:2])
    link = ends["alice"]._links["bob"]
    unsent, told = type(link).unsent, threading.Event()

    def busy(self: Link) -> bool:
        """A connection that takes nothing more until bob has closed his channel."""
        return (self is link and not told.is_set()) or unsent.fget(self)  # type: ignore[misc]

    def take_and_close() -> None:
        [got] = bob.exchange({}, {0: [Spec(U64, 2)]})[0]
        assert got.tolist() == [1, 2]
        bob.close()
        until = time.monotonic() + 10
        while alice._inflows[1].end is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)  # alice's thread looks at it several times
        told.set()

    monkeypatch.setattr(type(link), "unsent", property(busy))
    run(lambda: alice.exchange({1: [words(1, 2)]}, {}), take_and_close)
    with pytest.raises(ChannelError, match=r"'bob' .*closed the connection"):
        alice.exchange({1: [words(3)]}, {})
    run(*(end.close for end in ends.values()))


class Endless:
    """A socket of a peer that sends for ever."""

    read = 0
    closed = False

    def setblocking(self, flag: bool) -> None:
        pass

    def setsockopt(self, *option: object) -> None:
        pass

    def recv_into(self, into: memoryview, size: int, flags: int) -> int:
        self.read += len(into)
        if self.read > 1 << 30:
            raise AssertionError("it reads for ever")
        return len(into)

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_a_link_closes_although_its_peer_goes_on_sending() -> None:
    [link] = tcp_endpoints(NAMES[:2])["alice"]._links.values()
    sock = Endless()
    link.transport = PlainTransport(sock)  # type: ignore[arg-type]
    link.close()
    assert 0 < sock.read < 1 << 27
    assert sock.closed
