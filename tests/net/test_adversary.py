"""A live party in its own process against peers that break every rule, and against strangers.

Whatever comes, the party must not crash, hang or take memory beyond its limits; it fails with an
error that names the peer and writes a log line.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import free_addresses, tls_files, tls_in

from spuvm import certs
from spuvm.net import packet, wire
from spuvm.net.endpoint import Envelope
from spuvm.net.greeting import MAGIC, NONCE, Greeting, Refused, hear, say
from spuvm.net.link import Link
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp_endpoint import TcpEndpoint
from spuvm.net.tls import Contexts
from spuvm.net.transport import Transport

NAMES = ("alice", "bob")
MIB = 1 << 10  # in the unit of `memory`


class Victim:
    """Alice, in her own process."""

    def __init__(self, tls: bool) -> None:
        self.addresses = dict(zip(NAMES, free_addresses(2), strict=True))
        folder = str(Path(tls_files(NAMES)["alice"].ca).parent) if tls else "-"
        self.tls = tls_files(NAMES)["bob"] if tls else None
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("victim.py")),
                ",".join(NAMES),
                json.dumps(self.addresses),
                folder,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self.line() == "ready"
        self.memory = 0

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, deadline: float = 5) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{deadline}\n")
        self.process.stdin.flush()

    def bob(self) -> TcpEndpoint:
        """The peer, connected, with its channel."""
        end = TcpEndpoint("bob", Links(self.addresses, self.tls, None, 20, 20))
        end.connect()
        end.channel("spu0", NAMES)
        assert self.line() == "connected"
        return end

    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.line())
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module", params=["plain", "tls"])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    made = Victim(request.param == "tls")
    yield made
    made.close()


def raw(
    link: Link,
    kind: int,
    payload: bytes = b"",
    *,
    zero: int = 0,
    stream: int = 0,
    length: int | None = None,
    ahead: int = 0,
    extra: int = 0,
    seen: int | None = None,
) -> bytes:
    """A packet that the link itself would not make; `ahead` is added to the right number."""
    size = len(payload) if length is None else length
    known = link.received if seen is None else seen
    return packet.HEADER.pack(kind, zero, stream, size, link.sent + ahead, known, extra) + payload


def offer(end: TcpEndpoint, small: bytes = b"", **changes: Any) -> bytes:
    said = {
        "session": end.session,
        "sender": "bob",
        "operation": "op",
        "edge": "x",
        "head": 10,
        "bytes": len(small) or 1 << 40,
    }
    head = wire.encode(said | changes).head
    return len(head).to_bytes(2, "little") + head + small


def attack(end: TcpEndpoint, *packets: bytes) -> None:
    """Bytes on the authenticated connection, past all rules, until the other end hangs up."""
    link = end._links["alice"]
    with link._sending:
        transport = link.transport
        assert transport is not None
        left = [memoryview(b"".join(packets))]
        until = time.monotonic() + 5
        with contextlib.suppress(ConnectionError):
            while (left or transport.owed) and time.monotonic() < until:
                count = transport.send(left)
                left = [left[0][count:]] if left and count < len(left[0]) else []


GREAT = (1 << 60).to_bytes(8, "little")
Attack = Callable[[TcpEndpoint, Link], bytes]
ATTACKS: dict[str, tuple[Attack, str]] = {
    "replayed": (lambda e, x: raw(x, packet.OFFER, offer(e), ahead=-1), "a replayed or lost"),
    "left out": (lambda e, x: raw(x, packet.OFFER, offer(e), ahead=1), "a replayed or lost"),
    "unknown kind": (lambda e, x: raw(x, 77), "unknown kind 77"),
    "a flag": (lambda e, x: raw(x, packet.END, zero=1, stream=1), "unknown kind"),
    "all ones": (lambda e, x: b"\xff" * 64, "not part of this session"),
    "zeros with contents": (lambda e, x: raw(x, packet.PING), "a sign of life with contents"),
    "a long control packet": (
        lambda e, x: raw(x, packet.OFFER, length=1 << 30),
        "with 1073741824 bytes",
    ),
    "a long part": (lambda e, x: raw(x, packet.PART, length=1 << 31), "a part of 2147483648"),
    "acknowledges what was not sent": (
        lambda e, x: raw(x, packet.END, stream=1, seen=1 << 40),
        "it has seen",
    ),
    "unknown channel": (
        lambda e, x: raw(x, packet.DATA, b"x" * 8, stream=9, extra=8),
        "a channel that was not opened",
    ),
    "part of no frame": (lambda e, x: raw(x, packet.MORE, b"x", stream=1), "do not belong"),
    "a part larger than its frame": (
        lambda e, x: raw(x, packet.DATA, b"x" * 9, stream=1, extra=8),
        "a part of 9 bytes of a frame of 8",
    ),
    "2^60 bytes on a channel": (
        lambda e, x: b"".join(
            [raw(x, packet.DATA, bytes(1 << 19), stream=1, extra=1 << 60)]
            + [raw(x, packet.MORE, bytes(1 << 19), stream=1, ahead=i) for i in (1, 2, 3)]
        ),
        "sent more than it may",
    ),
    "grants of the unsent": (
        lambda e, x: raw(x, packet.WINDOW, stream=1, extra=1 << 50),
        "has taken what was not sent",
    ),
    "takes what was not offered": (lambda e, x: raw(x, packet.TAKE, extra=5), "not offered"),
    "part of an unknown value": (lambda e, x: raw(x, packet.PART, b"x", extra=9), "not asked for"),
    "unknown operation": (
        lambda e, x: raw(x, packet.OFFER, offer(e, operation=None), extra=50),
        "without a proper description",
    ),
    "no description": (lambda e, x: raw(x, packet.OFFER, b"\x05\0zzzzz", extra=50), "unknown type"),
    "a pickle": (
        lambda e, x: raw(x, packet.OFFER, b"\x0e\0\x80\x04cos\nsystem\n.", extra=50),
        "unknown type",
    ),
    "another sender": (
        lambda e, x: raw(x, packet.OFFER, offer(e, sender="carol"), extra=50),
        "a value of another sender",
    ),
    "another session": (
        lambda e, x: raw(x, packet.OFFER, offer(e, b"N" * 10, session=bytes(32)), extra=50),
        "a value of another session",
    ),
    "a value longer than itself": (
        lambda e, x: raw(x, packet.OFFER, offer(e, b"N" * 9, bytes=70_000), extra=50),
        "a small value of another length",
    ),
    "a truncated value": (
        lambda e, x: raw(x, packet.OFFER, offer(e, b"a\x0a\x01\x04", head=4), extra=50),
        "truncated",
    ),
    "a value of 2^60 elements": (
        lambda e, x: raw(x, packet.OFFER, offer(e, b"a\x0a\x01" + GREAT, head=11), extra=50),
        "float32[1152921504606846976]",
    ),
    "another dtype": (
        lambda e, x: raw(
            x,
            packet.OFFER,
            offer(e, b"a\x0b\x01\x04" + bytes(7) + bytes(32), head=11),
            extra=50,
        ),
        "float64[4]",
    ),
    "channels that nobody opens here": (
        lambda e, x: b"".join(
            raw(x, packet.OPEN, wire.encode([f"c{i}", list(NAMES)]).head, stream=9 + i, ahead=2 * i)
            + raw(x, packet.DATA, bytes(1 << 17), stream=9 + i, extra=1 << 17, ahead=2 * i + 1)
            for i in range(9)
        ),
        "sent more than it may",
    ),
    "a wrong channel": (lambda e, x: raw(x, packet.OPEN, b"N", stream=7), "makes no sense"),
    "the same channel twice": (
        lambda e, x: raw(x, packet.OPEN, wire.encode(["spu0", list(NAMES)]).head, stream=7),
        "twice",
    ),
    "an abort with odd text": (
        lambda e, x: raw(x, packet.ABORT, b"\xff\x1b[31m oh \x00 no"),
        "oh  no",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_peer_that_breaks_the_rules(victim: Victim, name: str) -> None:
    make, expected = ATTACKS[name]
    victim.start()
    bob = victim.bob()
    try:
        attack(bob, make(bob, bob._links["alice"]))
        found = victim.outcome()
    finally:
        bob.close()
    assert expected in found["said"]
    assert any(line.startswith("ERROR party 'alice': the session failed") for line in found["log"])
    check_memory(victim, found)


def check_memory(victim: Victim, found: dict[str, Any]) -> None:
    victim.memory = victim.memory or found["memory"]
    assert found["memory"] < victim.memory + 64 * MIB


def test_a_large_value_that_is_not_the_expected_one(victim: Victim) -> None:
    """The head comes alone, and nothing is allocated for the rest."""
    victim.start()
    bob = victim.bob()
    try:
        bob.send("alice", Envelope("op", "x"), np.zeros(30 << 20, np.uint8))
        found = victim.outcome()
    finally:
        bob.close()
    assert "uint8[31457280]" in found["said"]
    assert "float32[4]" in found["said"]
    check_memory(victim, found)


def test_half_a_packet_then_silence_then_the_rest_of_the_session(victim: Victim) -> None:
    """A truncated packet is not delivered; the link comes back and goes on."""
    victim.start()
    bob = victim.bob()
    try:
        link = bob._links["alice"]
        attack(bob, raw(link, packet.OFFER, offer(bob, b"N" * 10), extra=50)[:40])
        link.drop(link.transport, "cut by the test")
        # Only another connection can bring it; whether alice saw the old one break is up to chance.
        bob.send("alice", Envelope("op", "x"), np.arange(4, dtype=np.float32))
        found = victim.outcome()
    finally:
        bob.close()
    assert found["said"] == "[0. 1. 2. 3.]"


FRAMES = 500 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 12


def test_random_packets(victim: Victim) -> None:
    """Random bytes, and packets right but for some; `make fuzz`: 500 on each kind of link."""
    rng = np.random.default_rng(3)
    for number in range(FRAMES):
        victim.start(0.15)
        bob = victim.bob()
        try:
            link = bob._links["alice"]
            frame = bytearray(raw(link, int(rng.integers(0, 12)), offer(bob), stream=1, extra=60))
            if number % 2:
                frame = bytearray(rng.bytes(200))
            for _ in range(int(rng.integers(1, 4))):
                frame[int(rng.integers(0, len(frame)))] = int(rng.integers(0, 256))
            attack(bob, bytes(frame))
            found = victim.outcome()
        finally:
            bob.close()
        assert "party 'bob'" in found["said"]
        check_memory(victim, found)


# ---- strangers, while alice waits for bob


@contextmanager
def secured(victim: Victim, files: Tls) -> Iterator[Transport]:
    with socket.create_connection(victim.addresses["alice"], timeout=5) as sock:
        yield Contexts(files).secure(sock, server=False, until=time.monotonic() + 5)[0]


def greeting(name: str) -> Greeting:
    return Greeting(name, "alice", NAMES, bytes(NONCE), b"", 0, 1 << 20)


def introduce(victim: Victim, files: Tls, said: Greeting) -> None:
    with secured(victim, files) as transport:
        say(transport, said, time.monotonic() + 5)
        hear(transport, time.monotonic() + 5)


def wait_for_port(victim: Victim) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            socket.create_connection(victim.addresses["alice"], timeout=5).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)


def test_strangers_are_refused_and_the_right_one_still_gets_in(tmp_path: Path) -> None:
    victim = Victim(tls=True)
    try:
        victim.start()
        wait_for_port(victim)
        # bytes that are not TLS, TLS 1.2, and nothing at all
        quiet = socket.create_connection(victim.addresses["alice"])
        for said in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(300), MAGIC + b"\xff" * 8):
            with socket.create_connection(victim.addresses["alice"]) as sock:
                sock.sendall(said)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(victim.addresses["alice"]) as sock,
            pytest.raises(ssl.SSLError),
        ):
            old.wrap_socket(sock)
        # certificates: of another authority, by oneself, none (expired: test_certs.py)
        other = certs.development(tmp_path / "other", NAMES)
        mine = certs.own(tmp_path / "own", "bob")
        trusted = tls_files(NAMES)["bob"].ca
        for path in (other["bob"], mine):
            with pytest.raises((OSError, Refused)):
                introduce(
                    victim, Tls(trusted, path / "cert.pem", path / "key.pem"), greeting("bob")
                )
        with socket.create_connection(victim.addresses["alice"]) as sock:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with (
                pytest.raises(ssl.SSLError, match="certificate required"),
                context.wrap_socket(sock) as anonymous,
            ):
                anonymous.recv(1)
        # the right authority, another name: claimed and own
        pretender = tls_in(tls_files(("alice", "bob", "carol"))["carol"].ca.parent)
        assert victim.tls is not None
        alice = tls_files(NAMES)["alice"]
        with pytest.raises(Refused, match="the certificate is that of 'alice'"):
            introduce(victim, alice, greeting("bob"))
        with pytest.raises((OSError, Refused)):
            introduce(victim, Tls(trusted, pretender.cert, pretender.key), greeting("carol"))
        # greetings of bob that are wrong
        for wrong in (
            Greeting("bob", "carol", NAMES, bytes(NONCE), b"", 0, 1),
            Greeting("bob", "alice", NAMES, bytes(NONCE), bytes(NONCE), 0, 1),
            Greeting("bob", "alice", NAMES, bytes(NONCE), b"", 7, 1),
        ):
            with pytest.raises(Refused, match="refused"):
                introduce(victim, victim.tls, wrong)
        with secured(victim, victim.tls) as transport:
            transport.send([memoryview(MAGIC + struct.pack("<I", 1 << 31))])
            time.sleep(0.05)
        # and now the right one
        bob = victim.bob()
        bob.send("alice", Envelope("op", "x"), np.arange(4, dtype=np.float32))
        found = victim.outcome()
        bob.close()
        quiet.close()
        assert found["said"] == "[0. 1. 2. 3.]"
        refused = [line for line in found["log"] if "refused" in line]
        assert len(refused) >= 12
        assert any("the certificate is that of 'alice', the greeting" in line for line in refused)
        assert any("certificate verify failed" in line for line in refused)
        assert any("up: TLS 1.3" in line for line in found["log"])
    finally:
        victim.close()
