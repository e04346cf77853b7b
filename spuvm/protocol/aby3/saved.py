"""Shares as bytes and back, for a party's own storage: they never leave it in this form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spuvm.protocol.aby3.share import AShare, BShare, Share
from spuvm.wide import elements


@dataclass(frozen=True, slots=True)
class SavedForm:
    """What the bytes of one share mean; width 0 for arithmetic ones."""

    shape: tuple[int, ...]
    dtype: str
    width: int

    @property
    def nbytes(self) -> int:
        """Of both components."""
        size = int(np.prod(self.shape, dtype=np.int64))
        return 2 * size * np.dtype(self.dtype).itemsize


def form_of(share: Share) -> SavedForm:
    """How a share is stored."""
    width = share.width if isinstance(share, BShare) else 0
    return SavedForm(share.shape, share.x0.dtype.str, width)


def to_bytes(share: Share) -> bytes:
    """Both components, one after the other."""
    return share.x0.tobytes() + share.x1.tobytes()


def from_bytes(form: SavedForm, data: bytes | memoryview) -> Share:
    """The share again; `data` has `form.nbytes` bytes."""
    both = np.frombuffer(data, np.dtype(form.dtype)).copy()
    half = both.size // 2
    parts: list[Any] = [elements(x.reshape(form.shape)) for x in (both[:half], both[half:])]
    first, second = parts
    return BShare(first, second, form.width) if form.width else AShare(first, second)
