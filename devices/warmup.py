"""Compiling the kernels before the first use on a machine, with a word to who waits."""

from __future__ import annotations

import logging
import time

from spuvm.kernels.warm import ensure_compiled

log = logging.getLogger("spuvm")

_EVERY = 5.0  # seconds between two messages


def warm_up(ring: int = 64) -> None:
    """Compile what a ring needs and the kernel cache lacks; at once when it lacks nothing."""
    told = time.monotonic() - _EVERY

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            log.warning("compiling kernels, once per machine: %d of %d", done, total)

    ensure_compiled(tell, ring=ring)
