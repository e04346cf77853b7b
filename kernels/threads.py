"""Threads that share the work of large kernels, which run without the interpreter's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numba

T = TypeVar("T")

LEAST_WORK = 1 << 23  # multiply-adds of a thread: 0.4 to 1.1 ms, against 0.05 or more to wake it
LEAST_WORDS = 1 << 18  # passed over; less is done sooner than another thread is woken


def processors() -> int:
    """Threads that share a large piece of work: by default those this process may use.

    NUMBA_NUM_THREADS in the environment changes it.
    """
    settings: Any = numba.config
    return int(settings.NUMBA_NUM_THREADS)


@functools.cache
def pool() -> ThreadPoolExecutor:
    """The threads beside the one that asks."""
    return ThreadPoolExecutor(max(1, processors() - 1), "spuvm-kernels")


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each call gives, all at the same time as far as there are threads.

    The calls must not use these threads themselves.
    """
    if not calls:
        return []
    try:
        others = [pool().submit(call) for call in calls[1:]]
    except RuntimeError:  # the interpreter is ending: what is left to do is done by this thread
        return [call() for call in calls]
    try:
        first = calls[0]()
    finally:
        wait(others)  # also where the first one failed: they work on the same operands
    return [first, *(other.result() for other in others)]


def shared_out(run: Callable[[slice], None], count: int, step: int, work: int) -> None:
    """run(s) for slices of 0 .. count - 1, at most `step` long, by as many threads as work is for.

    `work` counts multiply-adds of all.
    """
    ways = max(1, min(processors(), count, work // LEAST_WORK))
    step = max(1, min(step, -(-count // ways)))
    slices = [slice(i, min(i + step, count)) for i in range(0, count, step)]

    def turns(way: int) -> None:
        for s in slices[way::ways]:
            run(s)

    together([functools.partial(turns, way) for way in range(ways)])


def both(make: Callable[[int], T], words: int) -> tuple[T, T]:
    """make(0), make(1), at the same time where they pass over many words and there is a processor.

    Parties that share few processors gain too: the last one to be scheduled finds several free.
    """
    if words < LEAST_WORDS or processors() < 2:
        return make(0), make(1)
    first, second = together([lambda: make(0), lambda: make(1)])
    return first, second


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked process has no threads of it
