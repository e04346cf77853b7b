"""Finding each other: late starters, strangers at the door, wrong addresses, real processes."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from networks import NAMES, U64, outcomes, run, tcp_endpoints, tls_files, words

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Spec
from spuvm.net.settings import Links
from spuvm.net.tcp import connect, listen
from spuvm.net.tcp_endpoint import TcpEndpoint


def free_addresses(count: int = 3) -> list[tuple[str, int]]:
    listeners = [listen() for _ in range(count)]
    addresses = [listener.getsockname()[:2] for listener in listeners]
    for listener in listeners:
        listener.close()
    return addresses


def test_late_starters_are_waited_for() -> None:
    addresses = free_addresses()

    def party(rank: int) -> int:
        time.sleep([0.4, 0.2, 0][rank])
        with connect(rank, addresses, connect_timeout=10) as channel:
            nxt, prv = (rank + 1) % 3, (rank - 1) % 3
            return int(channel.exchange({prv: [words(rank)]}, {nxt: [Spec(U64, 1)]})[nxt][0][0])

    assert run(*(lambda rank=rank: party(rank) for rank in range(3))) == [1, 2, 0]


def test_a_connection_that_is_reset_at_once_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no peer any more, which is an error in the middle of making it."""
    with listen() as listener:
        sock = socket.create_connection(listener.getsockname()[:2])
        there, _ = listener.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: sock)
    end = tcp_endpoints(NAMES)["alice"]
    with pytest.raises(OSError):
        end._door._connect("bob")
    assert sock.fileno() == -1


def test_a_party_counts_as_there_once_its_link_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a good greeting and the open link a channel could be asked for: a KeyError."""
    opened = TcpEndpoint.opened

    def late(end: TcpEndpoint, link: Any, heard: Any) -> None:
        time.sleep({"alice": 0.0, "bob": 0.2, "carol": 0.5}[link.peer])
        opened(end, link, heard)

    monkeypatch.setattr(TcpEndpoint, "opened", late)
    ends = tcp_endpoints(NAMES, deadline=20, connect_deadline=20)
    try:
        run(*(end.connect for end in ends.values()))
        channels = [ends[name].channel("spu0", NAMES) for name in NAMES]
        assert len({id(channel) for channel in channels}) == len(NAMES)
    finally:
        run(*(end.close for end in ends.values()))


def test_strangers_do_not_disturb() -> None:
    listeners = [listen() for _ in range(2)]
    addresses = [listener.getsockname()[:2] for listener in listeners]
    strangers: list[socket.socket] = []

    def party(rank: int) -> None:
        with connect(rank, addresses, listener=listeners[rank], connect_timeout=10) as channel:
            got = channel.exchange({1 - rank: [words(rank)]}, {1 - rank: [Spec(U64, 1)]})
            assert got[1 - rank][0][0] == 1 - rank

    def crowd_then_peer() -> None:
        for _ in range(80):
            strangers.append(socket.create_connection(addresses[0], timeout=5))
        strangers[-1].send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        strangers[-2].send(bytes(7))
        strangers[-3].close()
        party(1)

    try:
        run(lambda: party(0), crowd_then_peer)
    finally:
        for sock in strangers:
            sock.close()
    assert all(listener.fileno() < 0 for listener in listeners)


def test_who_does_not_come_is_named() -> None:
    addresses = free_addresses()
    start = time.monotonic()
    first, second = outcomes(
        lambda: connect(0, addresses, connect_timeout=0.4, names=NAMES),
        lambda: connect(2, addresses, connect_timeout=0.4, names=NAMES),
    )
    assert isinstance(first, ChannelError)
    assert "party 'bob' (rank 1) did not connect" in str(first)
    assert isinstance(second, ChannelError)
    assert f"cannot connect to party 'bob' (rank 1) at 127.0.0.1:{addresses[1][1]}" in str(second)
    assert time.monotonic() - start < 5


def test_somebody_else_at_the_address() -> None:
    with listen() as other:
        address = other.getsockname()[:2]

        def answer() -> None:
            sock, _ = other.accept()
            with sock:
                sock.sendall(b"220 mail.example ESMTP ready\r\n")
                sock.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ChannelError, match="somebody else than party 0") as error:
            connect(1, [address, ("127.0.0.1", 1)], connect_timeout=5)
        assert "not spuvm" in str(error.value)
        thread.join()


def test_confused_ranks_are_told() -> None:
    addresses = free_addresses()
    swapped = [addresses[1], addresses[0], addresses[2]]
    got = outcomes(
        lambda: connect(0, addresses, connect_timeout=0.6),
        lambda: connect(1, addresses, connect_timeout=0.6),
        lambda: connect(2, swapped, connect_timeout=0.6),
    )
    assert all(isinstance(result, ChannelError) for result in got)
    assert "somebody else than party 0 answers" in str(got[2])
    assert "rank 1 of 3" in str(got[2])


def test_the_log_says_that_links_are_not_encrypted(caplog: pytest.LogCaptureFixture) -> None:
    addresses = free_addresses(2)
    with caplog.at_level("INFO", logger="spuvm.net"):
        for channel in run(
            *(lambda rank=rank: connect(rank, addresses, names=NAMES[:2]) for rank in range(2))
        ):
            channel.close()
    assert sorted(caplog.messages) == [
        "the link to party 'alice' (rank 0) at 127.0.0.1 is not encrypted",
        "the link to party 'bob' (rank 1) at 127.0.0.1 is not encrypted",
    ]
    assert all(record.levelname == "INFO" for record in caplog.records)


@pytest.mark.parametrize("listening", ["::1", "::"])
def test_addresses_of_version_6(listening: str) -> None:
    """Between organisations, over TLS; a party that listens everywhere does so on both versions."""
    try:
        with listen(listening) as first, listen(listening) as second:
            places = [("::1", one.getsockname()[1]) for one in (first, second)]
    except ChannelError as error:
        pytest.skip(f"this machine has no IP version 6: {error.got}")
    addresses = dict(zip(NAMES, places, strict=False))
    tls = tls_files(NAMES)
    ends = [
        TcpEndpoint(name, Links(addresses, tls[name], (listening, addresses[name][1])))
        for name in NAMES[:2]
    ]
    run(*(end.connect for end in ends))
    run(*(end.close for end in ends))
    with listen("::") as both:
        socket.create_connection(("127.0.0.1", both.getsockname()[1]), 5).close()


def test_misuse() -> None:
    with pytest.raises(UsageError, match="no such party"):
        connect(3, free_addresses())
    with pytest.raises(UsageError, match="same address"):
        connect(0, [("127.0.0.1", 5), ("127.0.0.1", 5)])
    with pytest.raises(UsageError, match="differ in number"):
        connect(0, free_addresses(), names=("alice",))
    with listen() as taken, pytest.raises(ChannelError, match="cannot listen"):
        listen(*taken.getsockname()[:2])


PARTY = """
import sys, time, numpy as np
from spuvm.net.channel import Spec
from spuvm.net.keys import agree
from spuvm.net.tcp import connect
from spuvm.errors import ChannelError
rank, addresses = int(sys.argv[1]), eval(sys.argv[2])
with connect(rank, addresses, names=("alice", "bob", "carol"), connect_timeout=15) as channel:
    agree(channel)
    nxt, prv, u64 = (rank + 1) % 3, (rank - 1) % 3, np.dtype(np.uint64)
    for size in (0, 1, 10, 10_000, 1_000_000):
        data = np.arange(size, dtype=u64) + np.uint64(rank)
        (got,) = channel.exchange({prv: [data]}, {nxt: [Spec(u64, size)]})[nxt]
        assert (got == np.arange(size, dtype=u64) + np.uint64(nxt)).all()
    print("ready", channel.stats.bytes_sent, flush=True)
    try:
        while True:
            channel.exchange({prv: [data]}, {nxt: [Spec(u64, data.size)]})
    except ChannelError as error:
        print(error.message, flush=True)
"""


def test_processes_and_the_death_of_one() -> None:
    addresses = free_addresses()
    parties = [
        subprocess.Popen(
            [sys.executable, "-c", PARTY, str(rank), repr(addresses)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        total = 8 * (0 + 1 + 10 + 10_000 + 1_000_000) + 2 * (64 + 32)
        for party in parties:
            assert party.stdout is not None
            assert party.stdout.readline() == f"ready {total}\n"
        time.sleep(0.1)
        parties[2].send_signal(signal.SIGKILL)
        start = time.monotonic()
        said = [party.communicate(timeout=10)[0] for party in parties]
        assert time.monotonic() - start < 5
        # One of the two sees the death itself, and the other at least that the first has left.
        assert all("'carol' (rank 2) closed" in text or "closed" in text for text in said[:2])
        assert any("'carol' (rank 2) closed" in text for text in said[:2])
    finally:
        for party in parties:
            party.kill()
            party.communicate()
