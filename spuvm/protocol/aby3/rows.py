"""Rows of shares along the leading axis, as loops take and make them."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.protocol.aby3.share import Array, AShare, BShare
from spuvm.wide import elements


def row(value: Any, i: int) -> Any:
    """Row `i` along the leading axis."""
    if isinstance(value, AShare):
        return AShare(value.x0[i], value.x1[i])
    if isinstance(value, BShare):
        return BShare(value.x0[i], value.x1[i], value.width)
    return np.asanyarray(value[i])


class Stack:
    """Rows of a result, written where they belong as they come."""

    __slots__ = ("_arrays", "_like", "_trip")

    def __init__(self, trip: int) -> None:
        self._trip = trip
        self._arrays: list[Array] = []
        self._like: Any = None

    def put(self, i: int, value: Any) -> None:
        parts = [value.x0, value.x1] if isinstance(value, AShare | BShare) else [value]
        if self._like is None:
            self._like = value
            self._arrays = [elements(np.empty((self._trip, *a.shape), a.dtype)) for a in parts]
        for array, part in zip(self._arrays, parts, strict=True):
            array[i] = part

    def value(self) -> Any:
        like = self._like
        first, last = self._arrays[0], self._arrays[-1]
        if isinstance(like, AShare):
            return AShare(first, last)
        return BShare(first, last, like.width) if isinstance(like, BShare) else first
