"""Is what a party sees uniform, and independent of the secrets and of all that the party knows?

Every array is taken apart into columns of bits, one row per element. Tested are: every bit is fair;
no bit goes with another received bit, with a bit that the party knows (its shares, the masks that
it drew), or with the secret, also after an own mask was taken off; every byte takes its 256 values
alike; sums and differences of two received arrays, and of one and an own share, are fair too, and
do not go with the secret or an own share.

False alarms: a bound of Hoeffding gives 2 exp(-Z^2/2) = 4e-16 per pair of columns, and the whole
suite makes fewer than 1e9 such tests; a byte lane fails at chi-square 500 by chance in 1e-13 of all
cases, and there are fewer than 1e5. In total below 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from spuvm.wide import elements

Z = 8.5
CHI_SQUARE = 500.0

Array = np.ndarray


@dataclass
class View:
    """What one party received and knew; `groups` says row by row which secret it was (+1, -1)."""

    received: list[Array]
    known: list[Array] = field(default_factory=list)
    shares: list[Array] = field(default_factory=list)
    groups: Array | None = None


def columns(array: Array, rows: int) -> Array:
    """+1 and -1 by element and bit: several words per element, or several elements per byte."""
    array = np.ascontiguousarray(array).reshape(-1)
    if array.size % rows == 0:
        words = np.ascontiguousarray(array.reshape(-1, rows).T)
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    else:
        bits = np.unpackbits(array, bitorder="little").reshape(rows, -1)
    return 1 - 2 * bits.astype(np.float32)


def findings(view: View, rows: int, *, dead_bits: str = "refused") -> Iterator[str]:
    """What is wrong with a view, one after the other; nothing when nothing is.

    `dead_bits="allowed"` accepts bits that are always 0 (padding on the wire).
    """
    limit = Z * np.sqrt(rows)
    tables = [columns(a, rows) for a in view.received]
    if not tables:
        return
    names = np.concatenate([np.full(t.shape[1], i) for i, t in enumerate(tables)])
    seen = np.concatenate(tables, axis=1)
    if dead_bits == "allowed":
        alive = ~np.all(seen == 1, axis=0)
        seen, names = seen[:, alive], names[alive]
    yield from _report("bits", np.abs(seen.sum(axis=0)) > limit, names)
    against = np.abs(seen.T @ seen)
    np.fill_diagonal(against, 0)
    yield from _report("pairs of received bits", (against > limit).any(axis=1), names)
    rest = [columns(a, rows) for a in (*view.known, *view.shares)]
    if view.groups is not None:
        rest.append(view.groups.reshape(rows, -1).astype(np.float32))
    if rest:
        with_known = np.abs(seen.T @ np.concatenate(rest, axis=1))
        yield from _report("bits with what is known", (with_known > limit).any(axis=1), names)
    if view.known:
        yield from _stripped(view, tables, limit)
    for i, a in enumerate(view.received):
        if a.dtype.itemsize * a.size >= rows and dead_bits == "refused":
            yield from _bytes(f"array {i}", a)
    if dead_bits == "refused":
        yield from _sums(view, rows)


def _stripped(view: View, tables: list[Array], limit: float) -> Iterator[str]:
    """Received bits xor the bits of an own mask, the lowest eight of each element."""
    rows = len(tables[0])
    own = [columns(a, rows) for a in view.shares]
    if view.groups is not None:
        own.append(view.groups.reshape(rows, -1).astype(np.float32))
    against = np.concatenate([*tables, *own], axis=1)
    for known in view.known:
        mask = columns(known, rows)
        made, names = [], []
        for i, table in enumerate(tables):
            width = min(8, table.shape[1], mask.shape[1])
            made.append(table[:, :width] * mask[:, :width])
            names += [i] * width
        stripped = np.concatenate(made, axis=1)
        bad = np.abs(stripped.sum(axis=0)) > limit
        product = np.abs(stripped.T @ against)
        bad |= (product > limit).any(axis=1)
        yield from _report("bits without an own mask", bad, np.array(names))


def _report(what: str, bad: Array, names: Array) -> Iterator[str]:
    if bad.any():
        where = sorted({int(i) for i in names[bad]})
        yield f"{what}: {int(bad.sum())} of {bad.size}, in arrays {where}"


def _bytes(name: str, a: Array) -> Iterator[str]:
    lanes = np.ascontiguousarray(a).view(np.uint8).reshape(a.size, a.dtype.itemsize)
    for lane in lanes.T:
        counts = np.bincount(lane, minlength=256)
        expected = lane.size / 256
        if ((counts - expected) ** 2).sum() / expected > CHI_SQUARE:
            yield f"{name}: bytes are not uniform"


def _sums(view: View, rows: int) -> Iterator[str]:
    """Sums and differences of two arrays: fair, and unrelated to the secrets and to own shares.

    What is left when a common mask falls out can be uniform itself: a component that this party
    lacks, so that its own ones give the secret away. The lowest eight bits are compared with those.
    """
    limit = Z * np.sqrt(rows)
    signs = np.zeros((rows, 0), np.float32)
    if view.groups is not None:
        signs = view.groups.reshape(rows, -1).astype(np.float32)
    own = [columns(a, rows)[:, :8] for a in view.shares]
    own += [a * sign[:, None] for a in own for sign in signs.T]
    related = np.concatenate([signs, *own], axis=1)
    for i, a in enumerate(view.received):
        for j, b in enumerate((*view.received[i + 1 :], *view.shares)):
            if a.dtype != b.dtype or a.size != b.size or a.size % rows:
                continue
            for made in (elements(a) + elements(b), elements(a) - elements(b)):
                table = columns(made, rows)
                bad = np.abs(table.sum(axis=0)) > limit
                bad |= (np.abs(table.T @ signs) > limit).any(axis=1)
                bad[:8] |= (np.abs(table[:, :8].T @ related) > limit).any(axis=1)
                if bad.any():
                    yield f"sum or difference of array {i} and {i + 1 + j}: {bad.sum()} bits"


def sign_columns(choices: Sequence[Array]) -> Array:
    """Group columns for choices of secrets (0 or 1 per row): each alone and all products of two."""
    signs = [1 - 2 * c.astype(np.float32) for c in choices]
    both = [a * b for i, a in enumerate(signs) for b in signs[i + 1 :]]
    return np.stack([*signs, *both], axis=1)
