"""Fixed-point kernels: floats to integers and back in one pass, and the owner's subtraction."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.kernels.jit import kernel


@kernel
def encode_floats(x: Any, scale: Any, limit: Any, lo: Any, hi: Any, out: Any) -> Any:
    """out = round(x * scale) as signed integers, ties to even, where x is usable.

    Returns counts: (NaN or infinite, |x| >= limit, outside lo..hi); such elements encode to 0.
    """
    strange = 0
    large = 0
    outside = 0
    for i in range(out.size):
        v = np.float64(x[i])
        fine = abs(v) < limit  # false for NaN
        inside = (v >= lo) & (v <= hi)
        good = fine & inside
        out[i] = np.int64(np.rint((v if good else 0.0) * scale))
        if not good:
            if not np.isfinite(v):
                strange += 1
            elif not fine:
                large += 1
            else:
                outside += 1
    return strange, large, outside


@kernel
def decode_floats(encoded: Any, scale: Any, out: Any) -> None:
    """out = encoded * scale for signed integers."""
    for i in range(out.size):
        out[i] = np.float64(encoded[i]) * scale


@kernel
def subtract_masks(x: Any, m: Any, n: Any, out: Any) -> None:
    """out = x - m - n; `out` may be any operand."""
    for i in range(out.size):
        out[i] = x[i] - m[i] - n[i]
