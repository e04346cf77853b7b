"""Fixed-point kernels: floats to integers and back in one pass, and the owner's subtraction."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.kernels.jit import kernel

_BLOCK = 1024
_ONE_AND_A_HALF = 1.5 * 2.0**52
_ITS_BITS = 0x4338000000000000


@kernel
def encode_floats(x: Any, scale: Any, limit: Any, lo: Any, hi: Any, out: Any) -> Any:
    """out = round(x * scale) as signed integers, ties to even, where x is usable.

    Returns counts: (NaN or infinite, |x| >= limit, outside lo..hi); such elements encode to 0.

    Most processors convert one float at a time to 64 bits. A float below 2^51 in size that is added
    to 1.5 * 2^52 is rounded so, and the sum's bits are those of the integer and of the constant.
    """
    strange = 0
    large = 0
    outside = 0
    for start in range(0, out.size, _BLOCK):
        part = x[start : start + _BLOCK]
        made = out[start : start + _BLOCK]
        simple = True
        for i in range(made.size):
            v = np.float64(part[i])
            simple &= (abs(v) < limit) & (v >= lo) & (v <= hi) & (abs(v) * scale < 2.0**51)
        if simple:
            for i in range(made.size):
                rounded = np.float64(np.float64(part[i]) * scale + _ONE_AND_A_HALF)
                made[i] = rounded.view(np.int64) - np.int64(_ITS_BITS)
            continue
        for i in range(made.size):
            v = np.float64(part[i])
            fine = abs(v) < limit  # false for NaN
            inside = (v >= lo) & (v <= hi)
            good = fine & inside
            made[i] = np.int64(np.rint((v if good else 0.0) * scale))
            if not good:
                if not np.isfinite(v):
                    strange += 1
                elif not fine:
                    large += 1
                else:
                    outside += 1
    return strange, large, outside


@kernel
def encode_wide(x: Any, scale: Any, limit: Any, lo: Any, hi: Any, out: Any) -> Any:
    """encode_floats for 128 bits: |x * scale| is split at 2^64, exactly, and negated at the end."""
    T = out.dtype.type
    half = T(64)
    strange = 0
    large = 0
    outside = 0
    for i in range(out.size):
        v = np.float64(x[i])
        fine = abs(v) < limit
        inside = (v >= lo) & (v <= hi)
        good = fine & inside
        whole = np.rint((v if good else 0.0) * scale)
        top = np.floor(abs(whole) * 2.0**-64)
        low = abs(whole) - top * 2.0**64
        magnitude = (T(np.uint64(top)) << half) | T(np.uint64(low))
        out[i] = T(0) - magnitude if whole < 0 else magnitude
        if not good:
            if not np.isfinite(v):
                strange += 1
            elif not fine:
                large += 1
            else:
                outside += 1
    return strange, large, outside


@kernel
def decode_wide(encoded: Any, scale: Any, out: Any) -> None:
    """decode_floats for 128 bits, correctly rounded to float64.

    What does not fit 64 bits is shifted until it does; bits that fall off leave a trace in the last
    one, so that rounding to 53 bits sees whether anything was beyond a tie.
    """
    T = encoded.dtype.type
    one, top = T(1), T(127)
    for i in range(out.size):
        v = encoded[i]
        negative = np.uint64(v >> top)
        magnitude = T(0) - v if negative else v
        factor = scale
        step = 32
        while step:
            if np.uint64(magnitude >> T(64)) >> np.uint64(step - 1):
                dropped = magnitude & ((one << T(step)) - one)
                magnitude = magnitude >> T(step)
                if np.uint64(dropped):
                    magnitude = magnitude | one
                factor *= 2.0**step
            else:
                step //= 2
        real = np.float64(np.uint64(magnitude)) * factor
        out[i] = -real if negative else real


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
