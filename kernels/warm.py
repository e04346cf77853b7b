"""Compile every kernel once into the cache that all parties and later runs share."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np

from spuvm.kernels import arith, bits, fixed, matmul

Progress = Callable[[int, int], None]
Call = tuple[Any, tuple[Any, ...]]

RINGS = (np.dtype("<u4"), np.dtype("<u8"))
WORDS = tuple(np.dtype(f"<u{n}") for n in (1, 2, 4, 8))


def ensure_compiled(progress: Progress | None = None) -> bool:
    """Compile what is missing; True if anything was. Safe to call from several processes at once.

    The first caller compiles (half a minute, once per machine and version) while others wait at a
    file lock; with a warm cache it returns at once without loading a kernel.
    `progress(done, total)` is called after each kernel.
    """
    folder = Path(arith.cross_terms._cache.cache_path)  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"spuvm-{_fingerprint()}.compiled"
    if mark.exists():
        return False
    with open(folder / "spuvm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists():
            return False
        calls = list(samples())
        for done, (function, args) in enumerate(calls):
            function(*args)
            if progress is not None:
                progress(done + 1, len(calls))
        mark.touch()
    return True


def _fingerprint() -> str:
    """Changes with the kernels' sources, the compiler and the processor."""
    target = llvmlite.binding.get_host_cpu_features().flatten()
    parts = [numba.__version__, llvmlite.__version__, np.__version__, target]
    digest = hashlib.sha256("|".join(parts).encode())
    for module in (arith, bits, fixed, matmul):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def samples() -> Iterator[Call]:
    """One call per kernel and combination of dtypes that the protocols use."""
    for ring in RINGS:
        yield from _arith(ring)
    for word in WORDS:
        w, one = np.ones(2, word), word.type(1)
        half = np.ones(2, WORDS[max(0, WORDS.index(word) - 1)])
        b = np.ones(2, np.uint8)
        yield bits.carry_deal, (w, w, half, one, w.copy(), half.copy())
        yield bits.carry_first, (w, half, w, one, one, w, w.copy())
        yield bits.carry_level, (w, w, half, half, one, one, half.copy())
        yield bits.and_terms, (w, w, w, w, w, w, w.copy())
        yield bits.sign_share, (b, w, one, b.copy())
        for ring in RINGS:
            if ring.itemsize >= word.itemsize:
                r = np.ones(2, ring)
                yield bits.fold_order, (r, one, w, w, w.copy())


def _arith(ring: np.dtype[Any]) -> Iterator[Call]:
    r, m, b = np.ones(2, ring), ring.type(1), np.ones(2, np.uint8)
    yield fixed.subtract_masks, (r, r, r, r.copy())
    signed = np.ones(2, f"<i{ring.itemsize}")
    for real in (np.ones(2, np.float32), np.ones(2, np.float64)):
        yield fixed.encode_floats, (real, 1.0, 2.0, -1.0, 1.0, signed.copy())
        yield fixed.decode_floats, (signed, 1.0, real.copy())
    yield arith.cross_terms, (r, r, r, r, r.copy())
    yield arith.minus_sum, (r, r, r.copy())
    yield arith.accumulate, (r, m, r.copy())
    yield arith.accumulate4, (r, r, r, r, np.ones(4, ring), r.copy())
    yield arith.sum_rows, (np.ones((2, 2), ring), r.copy())
    yield arith.inject_first, (b, b, r, r, r, r, r, r.copy(), r.copy(), r.copy())
    yield arith.inject_second, (b, r, r, r, r, m, r, r.copy())
    yield arith.bit_to_ring, (b, r, m, r.copy())
    square = np.ones((2, 2), ring)
    yield matmul.matmul_rows, (square, square, square.copy())
    yield matmul.matmul_dots, (square, square, square.copy())
    for small in WORDS:
        if small.itemsize <= ring.itemsize:
            s = np.ones(2, small)
            yield arith.truncation_deal, (r, r, s, s, s, m, r.copy(), s.copy(), r.copy(), r.copy())
            yield arith.truncation_correct, (r, r, r, s, s, m, r.copy(), s.copy(), r.copy())
            yield arith.truncation_finish, (r, s, s, m, r.copy())
            yield arith.shift_first, (r, b, s, r, m, b.copy(), r.copy())
            yield arith.shift_deal, (r, b, s, s, m, s.copy(), r.copy())
            yield arith.shift_second, (r, b, s, s, r, m, s.copy(), r.copy(), r.copy())
            yield arith.shift_finish, (r, s, m, r.copy())
