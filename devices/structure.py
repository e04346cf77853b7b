"""Public facts about values: the tree, the shapes and the dtypes; never the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from spuvm.errors import UsageError

_SHORT = {"bool": "bool", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and JAX dtype of one array."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        kind = np.dtype(self.dtype) if self.dtype not in _SHORT else None
        short = f"{kind.kind}{kind.itemsize * 8}" if kind is not None else _SHORT[self.dtype]
        return f"{short}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Shared:
    """One array that is shared among three machines: how to read it and whose data it depends on.

    frac, width  as in the program's types: fraction bits, and bits per element (0: ring element).
    lo, hi       a range that every element is known to keep to, in user's units.
    divisor      what a decoded element is divided by: of a mean the sum is shared.
    squares      it is a mean of squares, as optimisers keep them.
    additive     its shares are additive; programs take what SPUObject.replicated makes of it.
    """

    spec: ArraySpec
    frac: int
    width: int
    origins: tuple[str, ...]
    lo: float | None = None
    hi: float | None = None
    divisor: int = 1
    squares: bool = False
    additive: bool = False

    @property
    def size(self) -> int:
        return int(np.prod(self.spec.shape, dtype=np.int64))

    def bits(self, ring_bits: int) -> int:
        """How many low bits of a ring element an opening shows: all of them only for fractions."""
        if self.width:
            return self.width
        dtype = np.dtype(self.spec.dtype)
        if dtype == np.bool_:
            return 1
        return dtype.itemsize * 8 if dtype.kind in "iu" else ring_bits


class Opaque:
    """A leaf whose shape is not known yet; prints as a question mark."""

    def __repr__(self) -> str:
        return "?"


def describe(tree: Any) -> str:
    """The tree with specs for leaves, on one line."""
    text = repr(jax.tree.map(_Word, tree, is_leaf=lambda x: isinstance(x, ArraySpec)))
    return text if len(text) <= 200 else text[:197] + "..."


class _Word:
    def __init__(self, spec: object) -> None:
        self._text = str(spec)

    def __repr__(self) -> str:
        return self._text


def check_keys(tree: Any, what: str) -> None:
    """Raise UsageError for a dict whose keys JAX cannot sort."""
    try:
        jax.tree.structure(tree)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{what}: JAX cannot take this apart",
            got=str(error.__cause__ or error).split("\n")[0],
            expected="dicts with keys of one type, which can be sorted",
        ) from error


def leaves_of(tree: Any) -> tuple[list[ArraySpec], Any]:
    """The specs of a structure in JAX's order, and its treedef."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, ArraySpec))
    return leaves, treedef


def origins_of(leaves: Sequence[Shared]) -> tuple[str, ...]:
    """Whose data these arrays depend on, sorted."""
    return tuple(sorted({name for leaf in leaves for name in leaf.origins}))
