"""Arrays as bytes and bytes as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from spuvm.errors import UsageError
from spuvm.net.channel import Array, Spec

IOV: Final = 512
"""Most buffers that one system call gets (the system's own limit is 1024)."""


def views(arrays: Sequence[Array]) -> list[memoryview]:
    """The bytes of those arrays that have any, without copying."""
    try:
        return [memoryview(a).cast("B") for a in arrays if a.size]
    except TypeError as error:
        raise UsageError("an array to send is not C-contiguous") from error


def drop(parts: list[memoryview], count: int) -> None:
    """Remove the first `count` bytes from a list of views."""
    whole = 0
    for part in parts:
        if count < len(part):
            break
        count -= len(part)
        whole += 1
    if whole:
        del parts[:whole]
    if count:
        parts[0] = parts[0][count:]


def copies(stage: bytearray, begin: int, specs: Sequence[Spec]) -> list[Array]:
    """Fresh arrays from the bytes of a buffer that will be used again."""
    arrays: list[Array] = []
    for spec in specs:
        size, dtype = spec.size, spec.dtype
        arrays.append(np.frombuffer(stage, dtype, size, begin).copy())
        begin += size * dtype.itemsize
    return arrays


def cut(buffer: Array, specs: Sequence[Spec]) -> list[Array]:
    """A byte array as arrays: views where they are aligned, copies elsewhere."""
    arrays: list[Array] = []
    begin = 0
    for spec in specs:
        part = buffer[begin : begin + spec.nbytes]
        begin += spec.nbytes
        if part.ctypes.data % spec.dtype.itemsize:
            part = part.copy()
        arrays.append(part.view(spec.dtype))
    return arrays
