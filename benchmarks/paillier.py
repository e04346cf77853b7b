"""Encryption beside phe: `python -m benchmarks.paillier [bits]`, processor ms per operation.

Processor time of the whole process, so that a busy machine does not count; wall time on an idle one
is this divided by the cores that are used, at best.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from spuvm.paillier.arrays import decrypt, encrypt
from spuvm.paillier.encoding import Encoding
from spuvm.paillier.keys import SecretKey
from spuvm.paillier.packing import pack, slot_for

ROWS, COLUMNS = 64, 10


def main(bits: int = 2048) -> None:
    """Print one line per operation."""
    key = SecretKey.generate(bits)
    wide, narrow = Encoding(18), Encoding(18, (-64, 64))
    rng = np.random.default_rng(0)
    x, m = rng.normal(size=ROWS), rng.normal(size=(ROWS, COLUMNS))
    c = encrypt(key.public, wide.encode(x))
    small = encrypt(key.public, narrow.encode(x))
    public, private = key.to_phe().public_key, key.to_phe()
    number = public.encrypt(1.5)
    print(f"{bits} bits, processor ms per operation")
    _show("encrypt", ROWS, lambda: encrypt(key.public, wide.encode(x)))
    _show("decrypt", ROWS, lambda: decrypt(key, c))
    _show("add", ROWS, lambda: c + c)
    _show("multiply by a plain number", ROWS, lambda: c * wide.encode(x))
    _show(
        f"[{ROWS}] @ [{ROWS}, {COLUMNS}], per product", ROWS * COLUMNS, lambda: c @ wide.encode(m)
    )
    _show("  the same, |x| <= 64 declared", ROWS * COLUMNS, lambda: c @ narrow.encode(m))
    _show("pack, per number", ROWS, lambda: pack(small, slot_for(small.bound) + 42))
    _show("phe encrypt", 5, lambda: [public.encrypt(1.5) for _ in range(5)])
    _show("phe decrypt", 5, lambda: [private.decrypt(number) for _ in range(5)])
    _show("phe multiply", 5, lambda: [number * 0.123 for _ in range(5)])


def _show(name: str, count: int, work: Callable[[], object]) -> None:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    print(f"  {name:<40} {best / count * 1e3:8.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
