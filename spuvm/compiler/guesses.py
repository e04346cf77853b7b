"""Bounds that are tried of what a loop carries, until they hold for themselves."""

from __future__ import annotations

from dataclasses import dataclass

from spuvm.compiler.loopbody import Bounds


@dataclass
class Guess:
    """The bounds of one carry that are tried, and what the body made of those tried before.

    First the bounds of the first value; then none, which shows what the body itself limits (a clip
    does); then that, or, where it limits nothing, what it made of the first value; then where a
    contraction would stop, as it does for a moving average; then none for good.
    """

    start: Bounds
    bounds: Bounds
    tried: list[tuple[Bounds, Bounds]]
    probing: bool = False

    def next(self, made: Bounds, bound: int) -> None:
        """Take another guess after `made` was not within the bounds, or after a probe."""
        self.tried.append((self.bounds, made))
        guess = self._guess()
        self.probing = len(self.tried) == 1
        self.bounds = guess if size_of(guess) < bound else None

    def _guess(self) -> Bounds:
        first = self.tried[0][1]
        if len(self.tried) == 2:
            limited = self.tried[1][1]
            return join(self.start, limited if limited else first)
        if len(self.tried) == 3 and self.tried[1][1] is None and self.tried[2][1]:
            (x0, y0), _, (x1, y1) = ((size_of(x), size_of(y)) for x, y in self.tried)
            slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 1.0
            if slope < 0.97 or (1 - slope) * (x1 - x0) > 8:  # what roundings leave of the slope
                size = int(2 * (y1 - slope * x1) / (1 - slope)) + 2
                return join((-size, size), self.start)
        return None

    def line(self, full: int) -> tuple[float, float] | None:
        """(a, b) where an iteration made a * size + b of a size in the trials, if they show it.

        Sizes from `full` on are those of what nothing was declared of.
        """
        sizes = [(size_of(x), size_of(y)) for x, y in self.tried if x and y and size_of(y) < full]
        if not sizes:
            return None
        (x0, y0), (x1, y1) = sizes[0], sizes[-1]
        slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 1.0
        return slope, y1 - slope * x1


def grown(start: Bounds, line: tuple[float, float] | None, trip: int) -> float:
    """How large a carry becomes if it grows on along a line; 0 where none is known."""
    if start is None or line is None:
        return 0.0
    size = float(size_of(start))
    for _ in range(min(trip, 1 << 16)):
        size = min(max(size, line[0] * size + line[1]), 1e300)
    return size


def size_of(bounds: Bounds) -> int:
    return max(abs(bounds[0]), abs(bounds[1])) if bounds else 0


def join(a: Bounds, b: Bounds) -> Bounds:
    """The hull of two intervals; None if one is unknown."""
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else None


def inside(inner: Bounds, outer: Bounds) -> bool:
    if outer is None:
        return True
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]
