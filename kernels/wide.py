"""numpy's operators for arrays of 128-bit integers, one kernel each; see spuvm/wide.py.

All arrays are flat. An operand of one element goes with every element of the other one.
"""

from __future__ import annotations

from typing import Any

from spuvm.kernels.jit import kernel


@kernel
def add(x: Any, y: Any, out: Any) -> None:
    """out = x + y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] + y[b * i]


@kernel
def subtract(x: Any, y: Any, out: Any) -> None:
    """out = x - y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] - y[b * i]


@kernel
def multiply(x: Any, y: Any, out: Any) -> None:
    """out = x * y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] * y[b * i]


@kernel
def bitwise_and(x: Any, y: Any, out: Any) -> None:
    """out = x & y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] & y[b * i]


@kernel
def bitwise_or(x: Any, y: Any, out: Any) -> None:
    """out = x | y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] | y[b * i]


@kernel
def bitwise_xor(x: Any, y: Any, out: Any) -> None:
    """out = x ^ y."""
    a, b = min(1, x.size - 1), min(1, y.size - 1)
    for i in range(out.size):
        out[i] = x[a * i] ^ y[b * i]


@kernel
def left_shift(x: Any, count: Any, out: Any) -> None:
    """out = x << count for one count below 128."""
    count = out.dtype.type(count)
    for i in range(out.size):
        out[i] = x[i] << count


@kernel
def right_shift(x: Any, count: Any, out: Any) -> None:
    """out = x >> count for one count below 128."""
    count = out.dtype.type(count)
    for i in range(out.size):
        out[i] = x[i] >> count
