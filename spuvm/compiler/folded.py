"""Public floats that meet secrets: what JAX has folded may differ in the last place elsewhere.

Processors compute the same constant with other last places, and a program is made of the exact
ones. So a compilation lists them in the order in which they are used; another party can compile
with that list in the place of its own, after checking that each is within the tolerance: 2 units
of the fixed-point encoding, or 2 units in the last place of its dtype, whichever is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from spuvm.errors import CompileError

Array = npt.NDArray[Any]
UNITS: Final = 2


def eps(value: Any) -> float:
    """Unit in the last place of 1 in the dtype of a value, or in a dtype."""
    return float(np.asarray(jnp.finfo(jnp.result_type(value)).eps))  # type: ignore[no-untyped-call]


class Folded:
    """The list of one compilation: recorded, or given by another party and checked.

    Args:
        unit: of the fixed-point encoding, 2^-frac_bits.
        given: the list of another compilation of the same function; None records this one's.
    """

    def __init__(self, unit: float, given: Sequence[Array] | None = None) -> None:
        self._unit, self._given = unit, given
        self.used: list[Array] = []

    def take(self, value: Any) -> Any:
        """A public value as it is to be used; other than floats as they are.

        Raises:
            CompileError: the given list is another one, or differs by more than the tolerance.
        """
        if not jnp.issubdtype(jnp.result_type(value), np.floating):
            return value
        mine = np.asarray(value).astype(np.float64)
        if self._given is None:
            self.used.append(mine)
            return value
        place = len(self.used)
        theirs = self._given[place] if place < len(self._given) else None
        if theirs is None or theirs.shape != mine.shape or theirs.dtype != mine.dtype:
            raise CompileError(
                "the parties' functions use other constants",
                got=f"constant {place}: {'none' if theirs is None else theirs.shape}",
                expected=f"shape {mine.shape}",
            )
        self.used.append(theirs)
        if np.array_equal(theirs, mine, equal_nan=True):
            return value
        self._check(place, mine, theirs, eps(value))
        return theirs.astype(np.asarray(value).dtype)

    def _check(self, place: int, mine: Array, theirs: Array, eps: float) -> None:
        with np.errstate(invalid="ignore"):
            near = np.abs(theirs - mine) <= np.maximum(
                UNITS * self._unit, UNITS * eps * np.abs(mine)
            )
        far = int((~(near | (theirs == mine))).sum())
        if far:
            raise CompileError(
                "the parties' functions use other constants",
                got=f"{far} of {mine.size} elements of constant {place} differ by more than "
                f"{UNITS} units in the last place",
                next="state such constants as numbers, or compute them with numpy in float64",
            )
