"""Connections that break, stand still, are cut for good; parties that die and come back."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import U64, free_addresses, outcomes, run, tls_files, words
from relay import Relay, relays

from spuvm.errors import ChannelError
from spuvm.net.channel import Spec
from spuvm.net.endpoint import Envelope
from spuvm.net.settings import Links
from spuvm.net.tcp_endpoint import TcpEndpoint

NAMES = ("alice", "bob", "carol")
ONE = Spec(U64, 1)
Endpoints = Mapping[str, TcpEndpoint]


@contextmanager
def behind_relays(tls: bool, **options: Any) -> Iterator[tuple[Endpoints, Sequence[Relay]]]:
    """Connected endpoints that reach each other through relays."""
    files = tls_files(NAMES)
    with relays(3) as (real, between):
        addresses = {name: relay.address for name, relay in zip(NAMES, between, strict=True)}
        ends = {
            name: TcpEndpoint(
                name,
                Links(addresses, files[name] if tls else None, real[rank], 10, **options),
            )
            for rank, name in enumerate(NAMES)
        }
        try:
            run(*(lambda e=e: e.connect() for e in ends.values()))
            yield ends, between
        finally:
            run(*(end.close for end in ends.values()))


def rounds(
    end: TcpEndpoint, label: str, sizes: Sequence[int], count: int, pause: float = 0
) -> None:
    """Ring exchanges of arrays whose contents depend on round and party."""
    rank = NAMES.index(end.name)
    nxt, prv = (rank + 1) % 3, (rank - 1) % 3
    channel = end.channel(label, NAMES)
    for number in range(count):
        size = sizes[number % len(sizes)]
        data = np.arange(size, dtype=np.uint64) + np.uint64(1000 * number + rank)
        got = channel.exchange({prv: [words(number), data]}, {nxt: [ONE, Spec(U64, size)]})
        assert got[nxt][0][0] == number
        expected = np.arange(size, dtype=np.uint64) + np.uint64(1000 * number + nxt)
        np.testing.assert_array_equal(got[nxt][1], expected)
        time.sleep(pause)


def values(end: TcpEndpoint, sizes: Sequence[int], count: int) -> None:
    """Values from everybody to everybody."""
    for number in range(count):
        envelope, size = Envelope(number, "x"), sizes[number % len(sizes)]
        others = [peer for peer in NAMES if peer != end.name]
        for peer in others:
            end.send(peer, envelope, [end.name, np.full(size, number)])
        for peer in others:
            got = end.receive(peer, envelope, deadline=10)
            assert isinstance(got, list)
            assert got[0] == peer
            np.testing.assert_array_equal(got[1], np.full(size, number))


@pytest.mark.parametrize("tls", [False, True])
def test_broken_connections_are_made_again_and_nothing_is_lost_or_doubled(tls: bool) -> None:
    """Rounds on two channels and values, while connections are reset all the time."""
    with behind_relays(tls, deadline=10) as (ends, between):
        stop = threading.Event()
        sizes = (1, 700, 0, 200_000, 3, 40_000)

        def chaos() -> None:
            rng = np.random.default_rng(1)
            while not stop.wait(0.02 + 0.1 * rng.random()):
                between[int(rng.integers(0, 2))].cut()

        chaotic = threading.Thread(target=chaos)
        chaotic.start()
        try:
            run(
                *(lambda e=e: rounds(e, "spu0", sizes, 60, 0.01) for e in ends.values()),
                *(lambda e=e: rounds(e, "spu1", sizes, 60, 0.01) for e in ends.values()),
                *(lambda e=e: values(e, sizes, 60) for e in ends.values()),
                patience=40,
            )
        finally:
            stop.set()
            chaotic.join()
        assert sum(relay.connections for relay in between) > 8


def test_a_connection_that_stands_still_is_replaced() -> None:
    """Silence for longer than a third of the deadline, and shorter than the deadline."""
    with behind_relays(False, deadline=3) as (ends, between):

        def outage() -> None:
            time.sleep(0.2)
            for relay in between:
                relay.hold()
            time.sleep(1.6)
            for relay in between:
                relay.release()

        before = [relay.connections for relay in between]
        run(outage, *(lambda e=e: rounds(e, "spu0", (1, 1000), 50, 0.01) for e in ends.values()))
        assert [relay.connections for relay in between] > before


def test_a_link_that_is_cut_for_good_ends_the_session_at_all_parties() -> None:
    with behind_relays(False, deadline=1.5) as (ends, between):

        def cut() -> None:
            time.sleep(0.3)
            for relay in between[:2]:
                relay.hold()  # nothing answers any more, as behind a dead cable

        start = time.monotonic()
        got = outcomes(cut, *(lambda e=e: rounds(e, "spu0", (1,), 100_000) for e in ends.values()))[
            1:
        ]
        assert time.monotonic() - start < 8
        for result in got:
            assert isinstance(result, ChannelError)
            assert "party '" in str(result)


PARTY = """
import sys, logging, numpy as np
from spuvm.net.channel import Spec
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp_endpoint import TcpEndpoint
from spuvm.errors import SpuvmError
from pathlib import Path
logging.basicConfig(level="INFO")
name, addresses, folder = sys.argv[1], eval(sys.argv[2]), Path(sys.argv[3])
tls = Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
try:
    with TcpEndpoint(name, Links(addresses, tls, None, float(sys.argv[4]), 8)) as end:
        end.connect({"version": "1"})
        print("connected", flush=True)
        rank = list(addresses).index(name)
        channel, nxt, prv = end.channel("spu0", list(addresses)), (rank + 1) % 3, (rank - 1) % 3
        data, spec = np.zeros(100, np.uint64), [Spec(np.dtype(np.uint64), 100)]
        while True:
            channel.exchange({prv: [data]}, {nxt: spec})
except SpuvmError as error:
    print(str(error).replace("\\n", " "), flush=True)
"""


def start(name: str, addresses: Mapping[str, Any], wait: float = 20) -> subprocess.Popen[str]:
    folder = Path(tls_files(NAMES)[name].ca).parent
    return subprocess.Popen(
        [sys.executable, "-c", PARTY, name, repr(dict(addresses)), str(folder), str(wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_party_that_dies_ends_the_session_and_cannot_come_back_to_it() -> None:
    """Three processes over TLS; one is killed, started again, and killed parties are named."""
    addresses = dict(zip(NAMES, free_addresses(), strict=True))
    parties = {name: start(name, addresses) for name in NAMES}
    again = None
    try:
        for party in parties.values():
            assert party.stdout is not None
            assert party.stdout.readline() == "connected\n"
        time.sleep(0.2)
        parties["carol"].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        again = start("carol", addresses, 8)
        said = {name: parties[name].communicate(timeout=20)[0] for name in ("alice", "bob")}
        assert time.monotonic() - killed < 15
        for text in said.values():
            assert "party 'carol' was restarted" in text or "party 'carol' is gone" in text
        told, log = again.communicate(timeout=20)
        assert "connected" not in told
        assert "carol" in told + log
    finally:
        for party in (*parties.values(), again):
            if party is not None:
                party.kill()
                party.communicate()


@pytest.mark.parametrize("failing", [False, True])
def test_sessions_that_follow_each_other_at_once(failing: bool) -> None:
    """Who begins the next one while others have not ended the last is asked to wait."""
    addresses = dict(zip(NAMES, free_addresses(), strict=True))
    pauses = {"alice": (0.4, 0.0, 0.2, 0), "bob": (0, 0.3, 0, 0), "carol": (0, 0, 0.4, 0)}

    def party(name: str) -> bytes:
        last = b""
        for number, pause in enumerate(pauses[name]):
            with (
                contextlib.suppress(ValueError, ChannelError if failing else ValueError),
                TcpEndpoint(name, Links(addresses, connect_deadline=20)) as end,
            ):
                end.connect()
                last = end.session
                time.sleep(pause)  # the others have left meanwhile, and come again
                if failing and name == "bob" and number < 3:
                    raise ValueError("bob gives up")
        return last

    sessions = run(*(lambda n=n: party(n) for n in NAMES), patience=60)
    assert len(set(sessions)) == 1
    assert sessions[0]


def test_late_starters_are_waited_for_and_the_missing_one_is_named() -> None:
    addresses = dict(zip(NAMES, free_addresses(), strict=True))

    def party(name: str, wait: float, patience: float = 10) -> bytes:
        time.sleep(wait)
        with TcpEndpoint(name, Links(addresses, connect_deadline=patience)) as end:
            end.connect()
            return end.session

    sessions = run(*(lambda i=i: party(NAMES[i], [0.4, 0.0, 0.2][i]) for i in range(3)))
    assert len(set(sessions)) == 1
    again = run(*(lambda i=i: party(NAMES[i], 0.0) for i in range(3)))
    assert again[0] not in sessions
    got = outcomes(*(lambda i=i: party(NAMES[i], 0.0, 0.5) for i in (0, 2)))
    assert all("party 'bob'" in str(result) for result in got)
