"""numpy's masked arrays: as plain arrays they would show what they hide."""

from __future__ import annotations

from typing import Any

import numpy as np

from spuvm.errors import UsageError


def refuse_masked(value: Any, name: str) -> None:
    """Raise UsageError for a masked array, which is about to be taken as a plain one."""
    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(
            f"{name}: a masked array would go without its mask",
            got=type(value).__name__,
            next="x.filled(value) at its owner, and the mask as an array of its own",
        )
