"""The single compilation policy of all kernels: cached on disk, without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(fn: F) -> F:
    """Compile `fn` on first use per dtype; the machine code is cached beside the source."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(fn))
