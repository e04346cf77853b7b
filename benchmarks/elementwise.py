"""Inputs of the cases of single functions: spread over a range on which both systems give numbers.

Time does not depend on the inputs, accuracy does. All are multiples of 2^-18, which both systems
encode exactly, so that what is measured is the error of the function. SPU's log is wrong above
5.3e5, its sqrt and rsqrt above 1.3e5: such values are left out here, ours are tested over every
representable value in tests/compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Make = Callable[[np.random.Generator], tuple[Any, ...]]
SIZE = 10**5


def between(lo: float, hi: float) -> Make:
    """Evenly spread."""
    return lambda rng: (_encodable(rng.uniform(lo, hi, SIZE)),)


def magnitudes(lo: float, hi: float, count: int = 1, *, signed: bool = False) -> Make:
    """`count` arrays of numbers whose logarithms are evenly spread."""

    def one(rng: np.random.Generator) -> Any:
        sizes = np.exp(rng.uniform(np.log(lo), np.log(hi), SIZE))
        return _encodable(sizes * rng.choice([-1, 1], SIZE) if signed else sizes)

    return lambda rng: tuple(one(rng) for _ in range(count))


def distinct(size: int) -> Make:
    """Different numbers in random order: multiples of 2^-9 in [-100, 100]."""
    return lambda rng: ((rng.permutation(size) - size // 2) / 512,)


def _encodable(x: Any) -> Any:
    return np.rint(x.astype(np.float32) * 2.0**18) / 2.0**18
