"""All that a party receives is uniform together, whatever it knows and whatever the secrets are.

Every row has the same secrets, the same shares and the same masks of one party; only the masks that
this party cannot make differ. Then any relation between up to four received bits, of one message or
of several, with or without what the party knows, shows as bits that are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from parties import RANKS, RecordingMasks, interactive, lockstep, share
from test_views import H, Scene
from uniformity import columns

from spuvm.protocol.aby3.share import AShare, BShare
from spuvm.ring import Ring

N = 1024
Z = 8.5  # of a fair coin's deviation: 4e-16 for one set of bits, below 1e-8 for all of them
MOST = 64  # columns of bits that are compared

SCENES = [
    Scene("mul_aa", {"trunc": 0, "form": "narrow"}, ((0, (H - 1, 0)), (0, (3, 0)))),
    # x + 2^(k-2) is small and a multiple of 2^m: the mask r is c but for few carries
    Scene("mul_aa", {"trunc": 8, "form": "narrow"}, ((0, (256 - (1 << 15), 0)), (0, (1 << 15, 0)))),
    Scene("trunc_a", {"bits": 8}, ((0, (-(1 << 30) + 256, 0)),)),
    Scene("trunc_a", {"bits": 8}, ((0, (-1, 0)),)),
    Scene("msb_a", {"bits": 5}, ((0, (7, 0)),)),
    Scene("msb_a", {"bits": 8}, ((0, (-1, 0)),)),
    Scene("eqz_a", {"bits": 8}, ((0, (0, 0)),)),
    Scene("a2b", {"bits": 8}, ((0, (1, 0)),)),
    Scene("b2a", {}, ((3, (5, 0)),)),
    Scene("mul_ba", {}, ((1, (1, 0)), (0, (77, 0)))),
    Scene("and_bb", {}, ((8, (0xA5, 0)), (8, (0xFF, 0)))),
]


@dataclass(frozen=True)
class Reuse:
    """Mask number `second` of a pair is its number `first` again, at both of its holders."""

    pair: tuple[int, int]
    first: int
    second: int


class Frozen(RecordingMasks):
    """Masks that are the same in every row where party `known` draws them."""

    __slots__ = ("known", "made", "rank", "reuse")

    def draw(self, other: int, *requests: Any, lane: int = 0) -> list[np.ndarray]:
        return [self._kept(other, a) for a in super().draw(other, *requests, lane=lane)]

    def fill(self, other: int, out: np.ndarray, lane: int = 0) -> None:
        super().fill(other, out, lane)
        self._kept(other, out)

    def _kept(self, other: int, a: np.ndarray) -> np.ndarray:
        if self.known in (self.rank, other):
            words = a.reshape(-1, N)
            words[:] = words[:, :1].copy()
        before = self.made.setdefault(other, [])
        reuse = self.reuse
        if reuse and set(reuse.pair) == {self.rank, other} and reuse.second == len(before):
            a[:] = np.resize(before[reuse.first], a.size).astype(a.dtype)
        before.append(a.copy())
        return a


def repeated(x: AShare | BShare) -> AShare | BShare:
    """The same share in every row."""
    x0, x1 = np.repeat(x.x0, N), np.repeat(x.x1, N)
    return BShare(x0, x1, x.width) if isinstance(x, BShare) else AShare(x0, x1)


def received(scene: Scene, known: int, reuse: Reuse | None = None) -> list[np.ndarray]:
    """What the party gets."""
    ring = Ring(32)
    operands = []
    for width, (value, _) in scene.operands:
        one = share(ring.array(np.array([value], object)), ring, width)
        operands.append([repeated(s) for s in one])

    def masks(rank: int, *place: Any) -> Frozen:
        made = Frozen(*place)
        made.known, made.rank, made.reuse, made.made = known, rank, reuse, {}
        return made

    trace = lockstep(ring, interactive(scene.op), operands, scene.attrs, masks=masks)
    return trace.received[known]


def findings(arrays: list[np.ndarray], special: int) -> Iterator[str]:
    """Bits, and products of up to four bits, that are not fair."""
    tables = [columns(a, N) for a in arrays]
    picked: list[np.ndarray] = []
    for table in tables:
        width = table.shape[1]
        places = sorted(
            {0, 1, 2, 3, special, special + 1, width - 2, width - 1} & set(range(width))
        )
        picked.append(table if sum(t.shape[1] for t in tables) <= MOST else table[:, places])
    if not picked:
        return
    bits = np.concatenate(picked, axis=1)[:, :MOST]
    limit = Z * np.sqrt(N)
    if (np.abs(bits.sum(axis=0)) > limit).any():
        yield "bits"
    i, j = np.array(list(combinations(range(bits.shape[1]), 2))).T.reshape(2, -1)
    pairs = bits[:, i] * bits[:, j]
    if (np.abs(pairs.sum(axis=0)) > limit).any():
        yield "pairs of bits"
    three = np.abs(bits.T @ pairs)
    inside = np.arange(bits.shape[1])[:, None]
    three[(inside == i) | (inside == j)] = 0
    if (three > limit).any():
        yield "three bits"
    four = np.abs(pairs.T @ pairs)
    np.fill_diagonal(four, 0)
    if (four > limit).any():
        yield "four bits"


def special(scene: Scene) -> int:
    return int(scene.attrs.get("trunc") or scene.attrs.get("bits") or 0)


@pytest.mark.parametrize("known", RANKS)
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_views_are_uniform_together(scene: Scene, known: int) -> None:
    assert list(findings(received(scene, known), special(scene))) == []


# Numbers of masks per pair, in the order in which they are drawn.
REUSED = [
    *((SCENES[1], Reuse((0, 2), p, q)) for p, q in combinations(range(4), 2)),
    (SCENES[1], Reuse((1, 2), 0, 1)),
    (SCENES[2], Reuse((0, 1), 0, 1)),
    (SCENES[3], Reuse((0, 1), 0, 1)),
    *((SCENES[4], Reuse((0, 2), p, 2)) for p in range(2)),
    (SCENES[4], Reuse((0, 1), 0, 1)),
    *((SCENES[7], Reuse((0, 2), 0, q)) for q in range(1, 5)),
    (SCENES[8], Reuse((0, 2), 0, 1)),
    *((SCENES[9], Reuse((0, 2), p, q)) for p, q in combinations(range(4), 2)),
]


@pytest.mark.parametrize(("scene", "reuse"), REUSED, ids=str)
def test_a_mask_used_for_two_things_is_seen(scene: Scene, reuse: Reuse) -> None:
    """In some sharings the two masks happen to hide bits that are 0: another one is tried then."""
    views = (findings(received(scene, i, reuse), special(scene)) for _ in range(16) for i in RANKS)
    assert any(next(view, "") for view in views)
