"""Three connected channels of each transport, and a way to run a function per party."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from spuvm.net.channel import Channel, Spec
from spuvm.net.local import LocalNetwork
from spuvm.net.tcp import connect, listen

NAMES = ("alice", "bob", "carol")
U8, U64 = np.dtype(np.uint8), np.dtype(np.uint64)
TRANSPORTS = ("local", "tcp")


@contextmanager
def network(transport: str, **options: Any) -> Iterator[Sequence[Channel]]:
    """Three channels that are closed at the end."""
    channels = (
        tcp(**options) if transport == "tcp" else LocalNetwork(names=NAMES, **options).channels
    )
    try:
        yield channels
    finally:
        for channel in channels:
            channel.close()


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
