"""Work on all cores: threads that leave the interpreter's lock while gmpy2 computes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gmpy2

T = TypeVar("T")
R = TypeVar("R")


def count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, "spuvm-paillier", initializer=_release_lock)


def _release_lock() -> None:
    # Contexts belong to threads: only the pool's own ones compute without the interpreter's lock.
    gmpy2.get_context().allow_release_gil = True


def in_pieces(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """`work` on pieces of `items`, one per core; the results in order."""
    cores = count()
    if cores == 1 or len(items) < 2:
        return work(items)
    size = -(-len(items) // cores)
    pieces = [items[i : i + size] for i in range(0, len(items), size)]
    return [one for part in _pool(cores).map(work, pieces) for one in part]
