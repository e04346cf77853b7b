"""Watched equations of a loop's body, as the program around the loop sees them.

What they take and give leaves the body as additional rows, so that every iteration can be looked
at; around nested loops the rows of rows have one leading axis per loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spuvm.compiler.config import Watched
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import root


def values_of(watched: Iterable[Watched]) -> dict[int, np.dtype[Any]]:
    """Ids and dtypes of everything that watched equations take and give."""
    return {
        v.id: v.dtype for w in watched for v in (*w.operands, *w.results) if isinstance(v, Secret)
    }


def leave_out_squares(low: Lowering) -> None:
    """Watch no equation with a sum of squares whose root or mean was made in another way.

    Such a sum may be out of range, and what is made of it is not what its equation says.
    """

    def asked(value: Any) -> bool:
        known = low.squares.get(root(low, value.id)) if isinstance(value, Secret) else None
        return known is not None and all(root(low, t.source) in low.answered for t in known.terms)

    if low.watched is not None:
        low.watched = [w for w in low.watched if not any(map(asked, (*w.operands, *w.results)))]


def emit_rows(body: Lowering) -> None:
    """Let what is watched in a body leave it as rows, after its other results."""
    leave_out_squares(body)
    for value, dtype in values_of(body.watched or ()).items():
        body.builder.output(value, str(dtype), "")


def take_rows(low: Lowering, body: Lowering, rows: Iterator[int], trip: int) -> None:
    """Watch a body's equations in all iterations; `rows` are what emit_rows let out."""
    if low.watched is None or body.watched is None:
        return
    outside = dict(zip(values_of(body.watched), rows, strict=True))

    def seen(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(Secret(outside[v.id], v.dtype) if isinstance(v, Secret) else v for v in values)

    low.watched += [
        replace(w, operands=seen(w.operands), results=seen(w.results), trips=(trip, *w.trips))
        for w in body.watched
    ]
