"""A wide-area network on one machine: a network namespace per party, and a router between them.

Every namespace has a tun device whose packets this process reads, delays, drops, holds to a
bandwidth and passes on, so that the parties' own TCP meets real latency, loss and cuts. (`tc netem`
on veth pairs would do the same; many kernels come without it.) Where namespaces or tun devices
cannot be made, `network` says so and gives loopback addresses with relays that delay and cut, but
cannot lose packets.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import select
import struct
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from networks import free_addresses
from relay import Address, Relay

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_QUEUE = 0.1  # seconds of packets that wait for bandwidth before some are dropped


@dataclass
class Shape:
    """Of every direction of every pair: one-way delay in seconds, share of packets lost, bits/s."""

    delay: float = 0.0
    loss: float = 0.0
    rate: float = float("inf")


class Network(Protocol):
    """Where parties live; `shape` may be changed at any time."""

    shape: Shape
    loses_packets: bool

    def address(self, name: str) -> Address: ...
    def listen(self, name: str) -> Address: ...
    def command(self, name: str) -> list[str]: ...
    def cut(self, one: str, other: str) -> None: ...
    def join(self) -> None: ...


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Namespaces:
    """A namespace per party with one tun device each, and a router thread."""

    loses_packets = True

    def __init__(self, names: Sequence[str]) -> None:
        self.shape = Shape()
        self._names = list(names)
        self._tag = f"sp{os.getpid() % 100_000}"
        self._tuns: list[int] = []
        self._cut: set[frozenset[int]] = set()
        self._stopping = False
        self._free: dict[tuple[int, int], float] = {}
        try:
            for i in range(len(names)):
                self._make(i)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._route, daemon=True)
        self._thread.start()

    def _make(self, i: int) -> None:
        space, device = self._space(i), f"{self._tag}{i}"
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._tuns.append(tun)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN_NO_PI))
        ip("netns", "add", space)
        ip("link", "set", device, "netns", space)
        ip("-n", space, "addr", "add", f"10.77.0.{i + 1}/24", "dev", device)
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", device, "up")

    def _space(self, i: int) -> str:
        return f"{self._tag}-{self._names[i]}"

    def address(self, name: str) -> Address:
        return f"10.77.0.{self._names.index(name) + 1}", 9100

    def listen(self, name: str) -> Address:
        return self.address(name)

    def command(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", self._space(self._names.index(name))]

    def cut(self, one: str, other: str) -> None:
        self._cut.add(frozenset((self._names.index(one), self._names.index(other))))

    def join(self) -> None:
        self._cut.clear()

    def _route(self) -> None:
        rng = np.random.default_rng(0)
        waiting: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        place = {tun: i for i, tun in enumerate(self._tuns)}
        while not self._stopping:
            now = time.monotonic()
            left = waiting[0][0] - now if waiting else 0.1
            ready, _, _ = select.select(self._tuns, (), (), max(0.0, min(left, 0.1)))
            for tun in ready:  # poll would round up to milliseconds
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        self._queue(place[tun], os.read(tun, 65_536), rng, waiting, order)
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, target, data = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    os.write(self._tuns[target], data)

    def _queue(
        self, source: int, data: bytes, rng: Any, waiting: list[Any], order: Iterator[int]
    ) -> None:
        target = data[19] - 1  # last byte of the destination of an IPv4 packet
        if data[0] >> 4 != 4 or not 0 <= target < len(self._tuns):
            return
        if frozenset((source, target)) in self._cut or rng.random() < self.shape.loss:
            return
        now = time.monotonic()
        begin = max(now, self._free.get((source, target), 0.0))
        if begin - now > _QUEUE:
            return
        end = begin + 8 * len(data) / self.shape.rate
        self._free[source, target] = end
        heapq.heappush(waiting, (end + self.shape.delay, next(order), target, data))

    def close(self) -> None:
        self._stopping = True
        if hasattr(self, "_thread"):
            self._thread.join()
        for i, tun in enumerate(self._tuns):
            os.close(tun)
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", self._space(i))


class Loopback:
    """Relays on loopback instead: delays and cuts, all links of a party at once."""

    loses_packets = False

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._real = free_addresses(len(names))
        self._relays = [Relay(address) for address in self._real]

    @property
    def shape(self) -> Shape:
        return Shape(self._relays[0].delay)

    @shape.setter
    def shape(self, shape: Shape) -> None:
        for relay in self._relays:
            relay.delay = shape.delay

    def address(self, name: str) -> Address:
        return self._relays[self._names.index(name)].address

    def listen(self, name: str) -> Address:
        return self._real[self._names.index(name)]

    def command(self, name: str) -> list[str]:
        return []

    def cut(self, one: str, other: str) -> None:
        self._relays[min(self._names.index(one), self._names.index(other))].hold()

    def join(self) -> None:
        for relay in self._relays:
            relay.release()

    def close(self) -> None:
        for relay in self._relays:
            relay.close()


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Namespaces where that is possible, else loopback with a warning."""
    made: Namespaces | Loopback
    try:
        made = Namespaces(names)
    except (OSError, subprocess.CalledProcessError) as error:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"no network namespaces here ({error}): loopback instead", stacklevel=1)
        made = Loopback(names)
    try:
        yield made
    finally:
        made.close()
