"""A relay between parties that can break: what a network does, on one machine."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from networks import free_addresses

Address = tuple[str, int]


class Relay:
    """Passes connections on to `target`; address is where to connect to instead."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self._listener.getsockname()[:2]
        self.connections = 0
        self.delay = 0.0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._flowing.wait()
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._guard:
                if self._closed:
                    near.close()
                    far.close()
                    return
                self.connections += 1
                self._pairs.append((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        passing: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._deliver, args=(passing, source, sink), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passing.put((time.monotonic() + self.delay, data))
        passing.put((time.monotonic() + self.delay, b""))

    def _deliver(
        self,
        passing: queue.SimpleQueue[tuple[float, bytes]],
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = passing.get()
                if not data:
                    break
                time.sleep(max(0.0, due - time.monotonic()))
                self._flowing.wait()
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Reset all connections: what is under way is lost."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def hold(self) -> None:
        """Nothing passes, and no connection is made or closed."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        """Cut for good."""
        with self._guard:
            self._closed = True
        self._flowing.set()
        self._listener.close()
        self.cut()


@contextmanager
def relays(count: int) -> Iterator[tuple[Sequence[Address], Sequence[Relay]]]:
    """Real addresses of `count` parties, and a relay before each."""
    real = free_addresses(count)
    made = [Relay(address) for address in real]
    try:
        yield real, made
    finally:
        for relay in made:
            relay.close()
