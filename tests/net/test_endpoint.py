"""What every kind of endpoint has to do, in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from networks import U64, outcomes, run, tcp_endpoints, tls_files, words

from spuvm.errors import ChannelError, UsageError
from spuvm.net import packet, streams
from spuvm.net.channel import Spec
from spuvm.net.endpoint import Endpoint, Envelope
from spuvm.net.link import Link
from spuvm.net.local_endpoint import local_endpoints
from spuvm.net.tcp_endpoint import TcpEndpoint
from spuvm.net.wire import structure_of

PARTIES = ("alice", "bob", "carol", "dan")
Endpoints = Mapping[str, Endpoint]


@pytest.fixture(params=["local", "tcp", "tls"])
def made(request: pytest.FixtureRequest) -> Iterator[Endpoints]:
    ends: Endpoints
    if request.param == "local":
        ends = local_endpoints(PARTIES, deadline=5, connect_deadline=5)
    else:
        tls = tls_files(PARTIES) if request.param == "tls" else None
        ends = tcp_endpoints(PARTIES, tls, deadline=5, connect_deadline=5)
    yield ends
    run(*(end.close for end in ends.values()))


@pytest.fixture
def ends(made: Endpoints) -> Endpoints:
    run(*(lambda e=e: e.connect({"version": "1"}) for e in made.values()))
    return made


def test_one_session(ends: Endpoints) -> None:
    assert len({end.session for end in ends.values()}) == 1
    assert len(ends["alice"].session) == 32


def test_values_come_in_whatever_order_they_are_asked_for(ends: Endpoints) -> None:
    values = [
        {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "y": [1, (2.5, None)], "z": "text"},
        [np.uint64(7), b"bytes", True, 1 << 200, -(1 << 70)],
        np.arange(200_000, dtype=np.uint64),
    ]
    for number, value in enumerate(values):
        ends["alice"].send("dan", Envelope(number, "result", structure_of(value)), value)
    for number in (2, 0, 1):
        value = values[number]
        envelope = Envelope(number, "result", structure_of(value))
        got = ends["dan"].receive("alice", envelope, deadline=5)
        assert structure_of(got) == structure_of(value)
        np.testing.assert_equal(got, value)


def test_what_is_not_expected_is_refused(ends: Endpoints) -> None:
    ends["alice"].send("bob", Envelope("sum", "x"), np.zeros(3, np.float32))
    expected = structure_of(np.zeros(4, np.float32))
    with pytest.raises(ChannelError, match=r"'alice' sent what was not expected.*operation sum, x"):
        ends["bob"].receive("alice", Envelope("sum", "x", expected), deadline=5)
    with pytest.raises(UsageError, match="not what its envelope says"):
        ends["alice"].send("bob", Envelope("sum", "y", expected), np.zeros(4, np.float64))
    ends["alice"].send("bob", Envelope("sum", "z"), 1)
    with pytest.raises(UsageError, match="sent before"):
        ends["alice"].send("bob", Envelope("sum", "z"), 1)
    with pytest.raises(UsageError, match="no such peer"):
        ends["alice"].send("eve", Envelope(1, "x"), 1)
    with pytest.raises(UsageError, match="cannot be sent"):
        ends["alice"].send("bob", Envelope(2, "x"), np.array([object()]))


def test_what_does_not_come_is_named(ends: Endpoints) -> None:
    with pytest.raises(ChannelError, match=r"'alice' did not send operation 3, x"):
        ends["bob"].receive("alice", Envelope(3, "x"), deadline=0.2)


def test_channels_share_the_links(ends: Endpoints) -> None:
    members = ("alice", "bob", "carol")

    def party(name: str) -> None:
        end, rank = ends[name], members.index(name)
        nxt, prv = (rank + 1) % 3, (rank - 1) % 3
        for label in ("spu0", "spu1"):
            channel = end.channel(label, members)
            assert channel.rank == rank
            for i in range(20):
                got = channel.exchange({prv: [words(rank, i)]}, {nxt: [Spec(U64, 2)]})
                assert got[nxt][0].tolist() == [nxt, i]

    run(*(lambda name=name: party(name) for name in members))
    with pytest.raises(UsageError, match="no channel between"):
        ends["dan"].channel("spu2", members)
    with pytest.raises(UsageError, match="exists already"):
        ends["alice"].channel("spu0", members)


def test_an_abort_reaches_all(ends: Endpoints) -> None:
    members = ("alice", "bob", "carol")

    def fail() -> None:
        ends["alice"].channel("spu0", members)
        ends["alice"].abort("operation 7 (line 3): no")

    def wait(name: str) -> None:
        channel = ends[name].channel("spu0", members)
        channel.exchange({}, {0: [Spec(U64, 1)]})

    got = outcomes(
        fail,
        lambda: wait("bob"),
        lambda: wait("carol"),
        lambda: ends["dan"].receive("bob", Envelope(1, "x"), deadline=5),
    )
    for result in got[1:]:
        assert isinstance(result, ChannelError)
        assert "'alice'" in str(result)
        assert "aborted: operation 7 (line 3): no" in str(result)
    with pytest.raises(ChannelError, match="no"):
        ends["dan"].send("bob", Envelope(2, "x"), 1)


def test_channels_that_all_have_left_do_not_count(
    ends: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that makes an SPU in every step of a long loop."""
    members = ("alice", "bob")
    monkeypatch.setattr(streams, "OPEN", 5)  # of each of the three links

    def open_many(rank: int, left: str) -> None:
        for i in range(60):
            channel = ends[members[rank]].channel(f"{left}{i}", members)
            got = channel.exchange({1 - rank: [words(i)]}, {1 - rank: [Spec(U64, 1)]})
            assert got[1 - rank][0] == i
            if left == "left":
                channel.close()

    run(lambda: open_many(0, "left"), lambda: open_many(1, "left"))
    if isinstance(ends["alice"], TcpEndpoint):
        for error in outcomes(lambda: open_many(0, "kept"), lambda: open_many(1, "kept")):
            assert "opened too many channels" in str(error)


def test_the_reason_comes_before_the_goodbye(
    ends: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of a party leaves as soon as it sees that the session failed."""
    members, send = ("alice", "bob"), Link.send

    def slowly(link: Link, kind: int, *rest: Any) -> None:
        if kind == packet.ABORT:
            time.sleep(0.3)
        send(link, kind, *rest)

    monkeypatch.setattr(Link, "send", slowly)
    channels = {name: ends[name].channel("spu0", members) for name in members}

    def leave() -> None:
        with pytest.raises(ChannelError, match="no"):
            channels["alice"].exchange({}, {1: [Spec(U64, 1)]})
        ends["alice"].close()

    got = outcomes(
        leave,
        lambda: ends["alice"].abort("no"),
        lambda: channels["bob"].exchange({}, {0: [Spec(U64, 1)]}),
    )
    assert got[:2] == [None, None]
    assert "aborted: no" in str(got[2])


def test_disagreement_is_named_at_every_party(made: Endpoints) -> None:
    ends = made
    facts = {name: {"a": "1", "version": "1"} for name in PARTIES}
    facts["carol"]["version"] = "2"
    got = outcomes(*(lambda n=n: ends[n].connect(facts[n]) for n in PARTIES))
    for result in got:
        assert isinstance(result, ChannelError)
        assert "'alice' and 'carol' do not agree on 'version'" in str(result)
        assert "carol: 2" in str(result)


def test_steps_are_compared_later_too(ends: Endpoints) -> None:
    run(*(lambda e=e: e.agree("call 1", {"digest": "x"}, deadline=5) for e in ends.values()))
    got = outcomes(*(lambda e=e: e.agree("2", {"d": e.name}, deadline=5) for e in ends.values()))
    assert all("do not agree on 'd' (2)" in str(result) for result in got)
