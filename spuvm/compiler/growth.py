"""How large carries of a loop become that grow only together, as Fibonacci numbers do.

None of them grows if the others are held, so that nothing is seen by looking at one at a time. What
an iteration makes of the ends of their intervals is tried out, one moved end after the other, which
gives the signed coefficients of an affine map; that map is then followed to the last iteration.
Where coefficients of both signs meet in a sum over elements, their difference counts: an alarm
should mean growth, not that an interval forgot that a sum cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bounds = tuple[int, int]
Image = Callable[[Sequence[Bounds]], Sequence[Bounds | None]]
MOST = 4  # carries: every one is another lowering of the body
STEPS = 1 << 16  # that are followed one by one


def joint(starts: Sequence[Bounds], image: Image, trip: int, bound: int, unit: int) -> list[float]:
    """The size of each carry after `trip` iterations; empty where that is not known.

    Args:
        starts: bounds before the first iteration.
        image: bounds after an iteration, for bounds before it; None where nothing is known.
        bound: what is representable is smaller.
        unit: the encoded 1; carries that start smaller are tried out as if they were that large.
    """
    if not 1 <= len(starts) <= MOST or max(map(_size, starts)) > bound >> 3:
        return []
    tried = [b if _size(b) >= unit else (-unit, unit) for b in starts]
    steps = [_size(b) for b in tried]
    base = image(tried)
    wide = image([(lo - d, hi + d) for (lo, hi), d in zip(tried, steps, strict=True)])
    if not _known(base):
        return []
    most = _without_signs(steps, base, wide, trip) if _known(wide) else [float(bound)]
    if max(most) < bound:
        return most
    count = len(starts)
    rising, falling = np.zeros((count, count)), np.zeros((count, count))
    for k, d in enumerate(steps):
        moved = image([(lo, hi + d if i == k else hi) for i, (lo, hi) in enumerate(tried)])
        if not _known(moved):
            return []
        change = (_ends(moved) - _ends(base)) / d
        falling[:, k], rising[:, k] = np.maximum(-change[0], 0), np.maximum(change[1], 0)
    lo, hi = _ends(tried)
    offsets = (_ends(base)[0] - rising @ lo + falling @ hi,
               _ends(base)[1] - rising @ hi + falling @ lo)  # fmt: skip
    made = _ends(starts)
    for _ in range(min(trip, STEPS)):
        made = np.clip([(rising - falling) @ m + o for m, o in zip(made, offsets, strict=True)],
                       -1e300, 1e300)  # fmt: skip
    return [float(v) for v in np.abs(made).max(0)]


def _without_signs(
    steps: Sequence[int], base: Sequence[Bounds], wide: Sequence[Bounds], trip: int
) -> list[float]:
    """How large the carries become if nothing of what they are made of cancels.

    `wide` is what an iteration makes of intervals that are twice as large as those of `base`.
    """
    before, after = (np.array([_size(b) for b in made], float) for made in (base, wide))
    sizes = np.array(steps, float)
    slope = float(((after - before) / sizes).max())
    offset = max(0.0, float(((2 * before - after) / sizes).max()))
    factor = 1.0
    for _ in range(min(trip, STEPS)):
        factor = min(slope * factor + offset, 1e300)
    return [max(factor, 1.0) * d for d in steps]


def _known(made: Sequence[Bounds | None]) -> TypeGuard[Sequence[Bounds]]:
    return all(b is not None for b in made)


def _ends(bounds: Sequence[Bounds]) -> Array:
    """Lower ends and upper ends."""
    return np.array(bounds, float).T


def _size(bounds: Bounds) -> int:
    return max(abs(bounds[0]), abs(bounds[1]))
