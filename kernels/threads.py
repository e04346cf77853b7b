"""Threads that share the work of large kernels, which run without the interpreter's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numba

T = TypeVar("T")

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
