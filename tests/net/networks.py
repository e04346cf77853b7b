"""Three connected channels of each transport, and a way to run a function per party."""

from __future__ import annotations

import atexit
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spuvm import certs
from spuvm.net.channel import Channel, Spec
from spuvm.net.frame import READ_AHEAD
from spuvm.net.local import LocalNetwork
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp import connect, listen
from spuvm.net.tcp_endpoint import TcpEndpoint

NAMES = ("alice", "bob", "carol")
U8, U64 = np.dtype(np.uint8), np.dtype(np.uint64)
TRANSPORTS = ("local", "tcp", "links", "tls")


@contextmanager
def network(transport: str, **options: Any) -> Iterator[Sequence[Channel]]:
    """Three channels that are closed at the end."""
    makers: dict[str, Callable[..., Sequence[Channel]]] = {
        "local": lambda **options: LocalNetwork(names=NAMES, **options).channels,
        "tcp": tcp,
    }
    if transport not in makers:
        with links(tls=tls_files(NAMES) if transport == "tls" else None, **options) as channels:
            yield channels
        return
    channels = makers[transport](**options)
    try:
        yield channels
    finally:
        for channel in channels:
            channel.close()


@contextmanager
def links(
    timeout: float = 60.0, tls: Mapping[str, Tls] | None = None, **options: Any
) -> Iterator[Sequence[Channel]]:
    """Channels between endpoints."""
    ends = tcp_endpoints(NAMES, tls, deadline=timeout, connect_deadline=20, **options)
    try:
        run(*(lambda e=e: e.connect() for e in ends.values()))
        channels = [ends[name].channel("spu0", NAMES) for name in NAMES]
        yield channels
        for channel in channels:
            channel.close()
    finally:
        run(*(end.close for end in ends.values()))


def tcp(**options: Any) -> Sequence[Channel]:
    listeners = [listen() for _ in range(3)]
    addresses = [listener.getsockname()[:2] for listener in listeners]
    return run(
        *(
            lambda rank=rank: connect(
                rank, addresses, listener=listeners[rank], names=NAMES, **options
            )
            for rank in range(3)
        )
    )


@functools.cache
def tls_files(parties: tuple[str, ...]) -> Mapping[str, Tls]:
    """Certificates of a development authority, in a directory that goes with the process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    made = certs.development(Path(folder.name), parties)
    return {party: tls_in(path) for party, path in made.items()}


def tls_in(path: Path) -> Tls:
    return Tls(path / "ca.pem", path / "cert.pem", path / "key.pem")


def tcp_endpoints(
    parties: Sequence[str], tls: Mapping[str, Tls] | None = None, **options: Any
) -> dict[str, TcpEndpoint]:
    """Endpoints on free ports of this machine; not connected."""
    addresses = dict(zip(parties, free_addresses(len(parties)), strict=True))
    read_ahead = options.pop("read_ahead", READ_AHEAD)
    return {
        name: TcpEndpoint(
            name,
            Links(addresses, tls=None if tls is None else tls[name], **options),
            read_ahead=read_ahead,
        )
        for name in parties
    }


def free_addresses(count: int = 3) -> list[tuple[str, int]]:
    listeners = [listen() for _ in range(count)]
    addresses = [listener.getsockname()[:2] for listener in listeners]
    for listener in listeners:
        listener.close()
    return addresses


def run(*functions: Callable[[], Any], patience: float = 20.0) -> list[Any]:
    """Each function in a thread of its own; their results, or the first exception."""
    results = outcomes(*functions, patience=patience)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def outcomes(*functions: Callable[[], Any], patience: float = 20.0) -> list[Any]:
    """Each function in a thread of its own; their results or exceptions."""
    results: list[Any] = [TimeoutError("it hangs")] * len(functions)

    def call(index: int) -> None:
        try:
            results[index] = functions[index]()
        except BaseException as error:
            results[index] = error

    threads = [
        threading.Thread(target=call, args=(index,), daemon=True) for index in range(len(functions))
    ]
    until = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return results


def words(*values: int) -> np.ndarray:
    return np.array(values, U64)


def send(channel: Channel, peer: int, *arrays: np.ndarray) -> None:
    channel.exchange({peer: arrays}, {})


def receive(channel: Channel, peer: int, *specs: Spec) -> list[np.ndarray]:
    return channel.exchange({}, {peer: specs})[peer]
