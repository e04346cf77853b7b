"""Compile every kernel once into the cache that all parties and later runs share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np

from spuvm.kernels import arith, bits, fixed, halves, matmul, scaling, tables, uint128, wide
from spuvm.kernels.threads import processors

Progress = Callable[[int, int], None]
Call = tuple[Any, tuple[Any, ...]]

RINGS = (np.dtype("<u4"), np.dtype("<u8"))
WIDE = np.dtype("V16")
MOST_PROCESSES = 4
MODULES = (arith, bits, fixed, halves, matmul, scaling, tables, uint128, wide)


def ensure_compiled(progress: Progress | None = None, *, ring: int = 64) -> bool:
    """Compile what is missing for a ring; True if anything was. Several processes may call at once.

    The rings of 32 and 64 bits are compiled together; the kernels of 128 bits only for who uses
    that ring. The first caller compiles (half a minute, once per machine and version), in a process
    per processor, while others wait at a file lock; with a warm cache it returns at once without
    loading a kernel. `progress(done, total)` is called after each kernel.
    """
    folder = Path(arith.cross_terms._cache.cache_path)  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    name = f"spuvm-{_fingerprint()}"
    marks = {64: folder / f"{name}.compiled", 128: folder / f"{name}-128.compiled"}
    wanted = [bits for bits in marks if bits <= max(ring, 64)]
    if all(marks[bits].exists() for bits in wanted):
        return False
    with open(folder / "spuvm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [bits for bits in wanted if not marks[bits].exists()]
        _compile(missing, progress or (lambda done, total: None), lock.fileno())
        for bits in missing:
            marks[bits].touch()
    return bool(missing)


def _compile(rings: Sequence[int], progress: Progress, lock: int) -> None:
    parts = min(processors(), MOST_PROCESSES) if sys.executable else 1
    total = sum(len(part) for part in shares(rings, 1))
    if parts == 1 or total == 0:
        compile_share(rings, 0, 1, lambda done: progress(done, total))
        return
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import os; from spuvm.kernels.warm import compile_share\n"
        f"compile_share({list(rings)}, int(sys.argv[1]), {parts}, lambda done: os.write(1, b'.'))"
    )
    reader, writer = os.pipe()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(part)],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            pass_fds=(lock,),  # theirs too: nobody else begins before the last one has ended
        )
        for part in range(parts)
    ]
    os.close(writer)
    with open(reader, "rb", buffering=0) as marks:
        done = 0
        while some := marks.read(1):  # until the last process has closed its end
            done += len(some)
            progress(done, total)
    for part, process in enumerate(running):
        if process.wait() != 0:  # whatever kept it from it: here the error is the caller's
            compile_share(rings, part, parts, lambda _: None)


def shares(rings: Sequence[int], parts: int) -> list[list[Call]]:
    """The calls of all rings, parted; all calls of a kernel in one part.

    Its dtypes are numbered in one file of the cache, which two processes would overwrite.
    """
    by_kernel: dict[Any, list[Call]] = {}
    for call in (call for ring in rings for call in samples(ring)):
        by_kernel.setdefault(call[0], []).append(call)
    parted: list[list[Call]] = [[] for _ in range(parts)]
    for calls in sorted(by_kernel.values(), key=len, reverse=True):
        min(parted, key=len).extend(calls)
    return parted


def compile_share(rings: Sequence[int], part: int, parts: int, tell: Callable[[int], Any]) -> None:
    """Compile one of `parts` shares of the rings' kernels; tell(how many are done) after each."""
    for done, (function, args) in enumerate(shares(rings, parts)[part]):
        function(*args)
        tell(done + 1)


def _fingerprint() -> str:
    """Changes with the kernels' sources, the compiler and the processor."""
    target = llvmlite.binding.get_host_cpu_features().flatten()
    parts = [numba.__version__, llvmlite.__version__, np.__version__, target]
    digest = hashlib.sha256("|".join(parts).encode())
    for module in MODULES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def samples(ring: int = 64) -> Iterator[Call]:
    """One call per kernel and combination of dtypes that protocols use in rings of 32 and 64 bits.

    ``samples(128)`` are those that the ring of 128 bits needs besides.
    """
    if ring == 128:
        yield from _arith(WIDE)
        yield from _wide()
        for word in arith.WORDS:
            yield from _bits(word, (WIDE,))
        return
    for narrow in RINGS:
        yield from _arith(narrow)
    for word in arith.WORDS[:-1]:
        yield from _bits(word, RINGS)


def _bits(word: np.dtype[Any], rings: Sequence[np.dtype[Any]]) -> Iterator[Call]:
    w, b = np.zeros(2, word), np.ones(2, np.uint8)
    if rings == RINGS or word == WIDE:
        half = np.zeros(2, arith.WORDS[max(0, arith.WORDS.index(word) - 1)])
        yield bits.carry_deal, (w, w, half, w.copy(), half.copy())
        yield bits.carry_first, (w, half, w, 1, w, w.copy())
        yield bits.carry_level, (w, w, half, half, half.copy())
        if word.itemsize == 1:
            yield bits.carry_last, (w, w, w, w, w.copy())
        yield bits.and_terms, (w, w, w, w, w, w, w.copy())
        yield bits.sign_share, (b, w, 1, b.copy())
    for ring in rings:
        if ring.itemsize >= word.itemsize:
            yield bits.fold_order, (np.zeros(2, ring), 1, w, w, w.copy())


def _arith(ring: np.dtype[Any]) -> Iterator[Call]:
    r, b = np.zeros(2, ring), np.ones(2, np.uint8)
    yield fixed.subtract_masks, (r, r, r, r.copy())
    for real in (np.ones(2, np.float32), np.ones(2, np.float64)):
        if ring == WIDE:
            yield fixed.encode_wide, (real, 1.0, 2.0, -1.0, 1.0, r.copy())
            yield fixed.decode_wide, (r, 1.0, real.copy())
            continue
        signed = np.ones(2, f"<i{ring.itemsize}")
        yield fixed.encode_floats, (real, 1.0, 2.0, -1.0, 1.0, signed.copy())
        yield fixed.decode_floats, (signed, 1.0, real.copy())
    yield arith.cross_terms, (r, r, r, r, r.copy())
    yield arith.split_terms, (r, r, r, r, r, r, r, r, 1, r.copy())
    yield arith.minus_sum, (r, r, r.copy())
    yield arith.scale, (r, r, r.copy())
    yield arith.clear_low, (r, r, r, r.copy())
    yield arith.accumulate, (r, r, r.copy())
    yield arith.accumulate2, (r, r, r, r.copy())
    yield arith.accumulate4, (r, r, r, r, np.zeros(4, ring), r.copy())
    for eight in (arith.accumulate8, arith.combine8):
        yield eight, (r, r, r, r, r, r, r, r, np.zeros(8, ring), r.copy())
    yield arith.sum_rows, (np.zeros((2, 2), ring), r.copy())
    yield arith.inject_first, (b, b, r, r, r, r, r, r.copy(), r.copy(), r.copy())
    yield arith.inject_second, (b, r, r, r, r, 1, r, r.copy())
    yield arith.bit_deal, (b, b, r, r.copy())
    yield arith.bit_to_ring, (b, r, 1, r, r.copy())
    yield arith.add_bit, (b, r, 1, 1, r.copy())
    square = np.zeros((2, 2), ring)
    if ring.itemsize == 8:
        yield halves.matmul_halves, (square, square, square.copy())
    yield matmul.matmul_rows, (square, square, square.copy())
    yield matmul.matmul_dots, (square, square, square.copy())
    cube = np.zeros((2, 2, 2), ring)
    yield matmul.matmul_small, (cube, cube, cube.copy())
    yield matmul.row_dots, (square, square, r.copy())
    yield scaling.parted, (r, 1, b.copy(), r.copy(), r.copy())
    yield scaling.joined, (r, 1, 1, r.copy())
    offset = np.zeros(2, np.int64)
    yield tables.unit_deal, (square, offset, square.copy())
    yield tables.turned, (square, offset, square.copy())
    public = square.copy()
    public.setflags(write=False)
    yield tables.look_up_rows, (public, square, offset, cube.copy())
    for small in arith.WORDS:
        if small.itemsize <= ring.itemsize:
            s = np.zeros(2, small)
            yield arith.truncation_deal, (r, r, s, s, s, 1, r.copy(), s.copy(), r.copy(), r.copy())
            yield arith.truncation_correct, (r, r, r, s, s, 1, r.copy(), s.copy(), r.copy())
            yield arith.truncation_finish, (r, s, s, 1, r.copy())
            yield arith.shift_first, (r, b, s, r, 1, b.copy(), r.copy())
            yield arith.shift_deal, (r, b, s, s, 1, s.copy(), r.copy())
            yield arith.shift_keep, (r, s, 1, b.copy(), r.copy())
            yield arith.shift_second, (b, b, s, s, r, 1, s.copy(), r.copy())
            yield arith.shift_finish, (r, s, 1, r.copy())
            yield scaling.parted_first, (r, b, s, 1, b.copy(), r.copy(), r.copy())
            yield scaling.wraps, (b, b, s, r.copy())
            yield scaling.scaled_first, (r, r, b, s, r, 1, b.copy(), r.copy())
            yield scaling.scaled_keep, (r, r, s, 1, b.copy(), r.copy())
            yield scaling.scaled_second, (r, b, b, s, s, r, 1, s.copy(), r.copy())


def _wide() -> Iterator[Call]:
    w = np.zeros(2, WIDE)
    for operator in (wide.add, wide.subtract, wide.multiply):
        yield operator, (w, w, w.copy())
    for operator in (wide.bitwise_and, wide.bitwise_or, wide.bitwise_xor):
        yield operator, (w, w, w.copy())
    for shift in (wide.left_shift, wide.right_shift):
        yield shift, (w, 1, w.copy())
