"""Keeping freed memory for the next large array, instead of returning it page by page."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

LARGEST: Final = 32 << 20
"""The largest block that the C library serves from its heap; above, every array is mapped anew."""


def keep_large_blocks() -> None:
    """Have the C library reuse large freed blocks; for a process that is a party's machine.

    By default every array beyond a threshold is mapped from the system, and each of its pages is
    zeroed on first touch: that costs more than the copy that fills it. After this call arrays
    up to 32 MiB come from the heap, whose pages stay. Larger ones are not affected.

    Call it once, early. The process keeps the peak of its heap until it ends (up to 1 GiB beyond
    what is in use). With another C library than glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - only glibc has it
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mallopt(_M_MMAP_THRESHOLD, LARGEST)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    mallopt(_M_TOP_PAD, 64 << 20)
