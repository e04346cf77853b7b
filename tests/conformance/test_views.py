"""What each party sees of every interactive instruction is uniform; of a broken one it is not.

Secrets are fixed: every element is one of two values per operand, so the tests compare secrets
within one run. Every instruction runs twice on the same shares, as in a loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import RINGS
from parties import RANKS, arrays_of, interactive, lockstep, pair_streams, share
from uniformity import View, findings, sign_columns

from spuvm.fxp import DEFAULT_FRAC_BITS
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.keystream import Stream
from spuvm.protocol.aby3.product import elementwise
from spuvm.protocol.aby3.share import AShare
from spuvm.protocol.base import Exchange, Party, Steps, spec
from spuvm.ring import Ring

N = 2048
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"


@dataclass(frozen=True)
class Scene:
    """An instruction on secrets that take two fixed values each."""

    op: str
    attrs: Mapping[str, Any]
    operands: tuple[tuple[int, tuple[int, int]], ...]  # width (0: ring element), the two values
    shape: tuple[tuple[int, ...], ...] = ()
    dead_bits: str = "refused"
    numbers: tuple[int, ...] = (0, 1)  # the instruction runs under these numbers, as in a loop
    public: tuple[tuple[int, ...], ...] = ()  # a public table: the operand before the secrets
    matrix: tuple[tuple[int, ...], ...] = ()  # a public matrix [1,M,K], for every row
    factor: int = 0  # a public factor, the operand after the secrets
    layout: str = "words"  # of messages: first words of all rows first, or "rows" one by one

    def __str__(self) -> str:
        shown = "-".join(f"{k}={v}" for k, v in self.attrs.items())
        widths = "".join(f"-w{w}" for w, _ in self.operands if w)
        return f"{self.op}{widths}-{shown}"


def scenes(bits: int) -> list[Scene]:
    ring = Ring(bits)
    top, h, f = ring.bound - 1, 1 << (bits // 2 - 3), DEFAULT_FRAC_BITS[bits]
    x, y = (0, (0, h - 1)), (0, (-h + 1, 3))
    wide, small = (0, (-top, top)), (0, (1, -1))
    matrix = ((N, 1, 2), (N, 2, 1))
    made = [
        Scene("mul_aa", {"trunc": 0, "form": "narrow"}, (x, y)),
        Scene("mul_aa", {"trunc": f, "form": "narrow"}, (x, y)),
        Scene("mul_aa", {"trunc": 3, "form": "narrow"}, (x, y)),
        Scene("mul_aa", {"trunc": f, "form": "full"}, (wide, small), numbers=(0,)),
        Scene("dot_aa", {"trunc": f, "form": "narrow"}, (x, y), matrix),
        Scene("trunc_a", {"bits": f}, (wide,)),
        Scene("trunc_sum_a", {"coefficients": (3, -5), "bits": f}, (x, y)),
        Scene("trunc_a", {"bits": 1}, (wide,)),
        Scene("scale_ap", {"bits": f}, (wide,), factor=5),
        Scene("scale_sum_a", {"coefficients": (3, -5), "factor": -77, "bits": f}, (x, y)),
        Scene("trunc_a", {"bits": bits - 3}, (wide,)),
        Scene("b2a", {}, ((1, (0, 1)),)),
        Scene("b2a", {}, ((5, (0, 31)),)),
        Scene("mul_ba", {}, ((1, (0, 1)), wide)),
    ]
    made += [Scene("and_bb", {}, ((w, (0, (1 << w) - 1)), (w, (1, 0)))) for w in (1, 2, 4, 8, bits)]
    made += [Scene("and_bb", {}, ((3, (0, 7)), (3, (1, 0))), dead_bits="allowed")]
    pairs = {"sizes": (2,), "pairs": (N,)}
    rows = ((N, 2, 1),)
    made += [
        Scene("shuffle_a", {"draw": 0}, (wide,), rows, layout="rows"),
        Scene("sort_a", {"keys": (4,), "lows": (-8,), **pairs}, ((0, (-8, 7)),), rows, numbers=(0,),
              layout="rows"),
    ]  # fmt: skip
    made += [Scene("one_hot_a", {"size": size}, ((0, (0, -1)),), layout="rows")
             for size in (2, 5)]  # fmt: skip
    made += [
        Scene(
            "lookup_pa",
            {"bits": cut},
            ((0, (0, -1)),),
            public=((0, 0), (3, top), (0, 1)),
            layout="rows",
        )
        for cut in (0, 9)
    ]
    made += [  # two digits
        Scene("lookup_pa", {"bits": cut}, ((0, (0, -1)),), public=((top,), *((0,),) * 39),
              layout="rows")
        for cut in (0, 9)
    ]  # fmt: skip
    made += [Scene("scale_dot_pa", {"bits": f}, (wide,), ((N, 2, 1),), matrix=((3, -5),),
                   layout="rows")]  # fmt: skip
    if bits == 64 or LONG:  # keys of two words
        made += [Scene("sort_a", {"keys": (bits - 1,), "lows": (-ring.bound,), **pairs}, (wide,),
                       rows, numbers=(0,), layout="rows")]  # fmt: skip
    for op in ("msb_a", "eqz_a", "a2b"):
        made += [Scene(op, {"bits": w}, ((0, (0, -1)),)) for w in (5, 16)]
        if (op, bits) != ("a2b", 64) or LONG:
            made += [Scene(op, {"bits": bits}, ((0, (0, -1)),), numbers=(0,))]
    return made


ALL = [(bits, s) for bits in RINGS for s in scenes(bits)]


def test_every_interactive_instruction_is_watched() -> None:
    additive = {"reshare_z"}  # its operand is made in test_additive.py
    assert {s.op for _, s in ALL} | additive == set(ABY3.steps)


def watch(
    ring: Ring,
    scene: Scene,
    steps: Callable[..., Any] | None = None,
    streams: list[dict[int, Stream]] | None = None,
) -> Iterator[str]:
    """Run a scene under each of its numbers: what is wrong with any party's view."""
    rng = np.random.default_rng(0)
    choices = [rng.integers(0, 2, N) for _ in scene.operands]
    operands = []
    for i, ((width, values), choice) in enumerate(zip(scene.operands, choices, strict=True)):
        shape = scene.shape[i] if scene.shape else (N,)
        picked = ring.array(np.array(values, object))[choice]
        spread = np.broadcast_to(picked.reshape(N, *[1] * (len(shape) - 1)), shape)
        operands.append(share(np.ascontiguousarray(spread), ring, width))
    groups = sign_columns(choices)
    streams = streams or pair_streams()
    traces = []
    for number in scene.numbers:
        fn = steps or interactive(scene.op)
        if scene.matrix:
            matrix = ring.array(np.array(scene.matrix, object))
            fn = behind(fn, np.broadcast_to(matrix, (N, *matrix.shape)))
        if scene.factor:
            fn = before(fn, ring.array(np.array(scene.factor)))
        if scene.public:
            fn = behind(fn, ring.array(np.array(scene.public, object)))
        traces.append(lockstep(ring, fn, operands, scene.attrs, streams=streams, number=number))
    for i in RANKS:
        shares = [by_row(a) for o in operands for a in arrays_of(o[i])]
        arranged = by_row if scene.layout == "rows" else np.asarray
        view = View(
            [arranged(a) for t in traces for a in t.received[i]],
            [arranged(mask.array) for t in traces for mask in t.drawn[i]],
            shares,
            groups,
        )
        yield from (f"party {i}: {w}" for w in findings(view, N, dead_bits=scene.dead_bits))
        results = View([arranged(a) for a in arrays_of(traces[0].results[i])], groups=groups)
        # Bits come in whole bytes, so the upper ones may be 0.
        yield from (f"party {i} result: {w}" for w in findings(results, N, dead_bits="allowed"))


def before(fn: Callable[..., Any], factor: np.ndarray) -> Callable[..., Any]:
    """A protocol function with its last operand given."""
    return lambda p, *shares, **attrs: fn(p, *shares, factor, **attrs)


def behind(fn: Callable[..., Any], table: np.ndarray) -> Callable[..., Any]:
    """A protocol function with its first operand given."""
    return lambda p, *shares, **attrs: fn(p, table, *shares, **attrs)


def by_row(a: np.ndarray) -> np.ndarray:
    """Words of one element side by side -> one array after the other; packed bits as they are."""
    if a.size % N:
        return a
    return np.ascontiguousarray(a.reshape(N, -1).T).reshape(-1)


@pytest.mark.parametrize(("bits", "scene"), ALL, ids=lambda x: str(x))
def test_views_are_uniform(bits: int, scene: Scene) -> None:
    assert list(watch(Ring(bits), scene)) == []


# --- broken protocols must fail ----------------------------------------------------------------


class StreamWithHole(Stream):
    """A stream that gives zeros at some places: both holders leave a mask out alike."""

    __slots__ = ("first", "last")

    def __init__(self, key: bytes, first: int, last: int) -> None:
        super().__init__(key)
        self.first, self.last = first, last

    def fill(self, out: memoryview, place: int) -> None:
        super().fill(out, place)
        a, b = (max(0, min(len(out), 16 * (x - place))) for x in (self.first, self.last))
        out[a:b] = bytes(b - a)


def masks_of(scene: Scene) -> set[tuple[int, int, int, int]]:
    """(pair, first block, end) of every mask of one run."""
    places: set[tuple[int, int, int, int]] = set()
    ring = Ring(32)
    operands = [
        share(np.zeros(N, np.uint8 if w else np.uint32), ring, w) for w, _ in scene.operands
    ]
    trace = lockstep(ring, interactive(scene.op), operands, scene.attrs)
    for i in RANKS:
        for d in trace.drawn[i]:
            places.add((*sorted((i, d.other)), d.first, d.first + d.blocks))  # type: ignore[arg-type]
    return places


H = 1 << 13
SMALL = [
    Scene("mul_aa", {"trunc": 0, "form": "narrow"}, ((0, (0, H - 1)), (0, (1 - H, 3)))),
    Scene("mul_aa", {"trunc": 8, "form": "narrow"}, ((0, (0, H - 1)), (0, (1 - H, 3)))),
    Scene("trunc_a", {"bits": 8}, ((0, (-(1 << 30) + 1, 5)),)),
    Scene("trunc_sum_a", {"coefficients": (3, 1), "bits": 8}, ((0, (0, H)), (0, (-H, 5)))),
    Scene("msb_a", {"bits": 5}, ((0, (0, -1)),)),
    Scene("eqz_a", {"bits": 5}, ((0, (0, -1)),)),
    Scene("a2b", {"bits": 5}, ((0, (0, -1)),)),
    Scene("b2a", {}, ((1, (0, 1)),)),
    Scene("mul_ba", {}, ((1, (0, 1)), (0, (0, -1)))),
    Scene("and_bb", {}, ((1, (0, 1)), (1, (1, 0)))),
]
HOLES = [(s, hole) for s in SMALL for hole in sorted(masks_of(s))]


@pytest.mark.parametrize(("scene", "hole"), HOLES, ids=lambda x: str(x))
def test_every_mask_is_needed(scene: Scene, hole: tuple[int, int, int, int]) -> None:
    """Leave out any one mask at both its holders: the checker sees it."""
    i, j, first, last = hole
    streams = pair_streams(
        lambda a, b, key: StreamWithHole(key, first, last) if (a, b) == (i, j) else Stream(key)
    )
    assert next(watch(Ring(32), replace(scene, numbers=(0,)), streams=streams), "")


def without_masks(p: Party, x: AShare, y: AShare) -> Steps:
    """A product whose parts are sent as they are."""
    return (yield from product_with(p, x, y, lambda: np.zeros(N, p.ring.dtype)))


def with_the_receivers_mask(p: Party, x: AShare, y: AShare) -> Steps:
    """A product masked by a draw that its receiver can make too."""

    def mask() -> np.ndarray:
        (known_to_receiver,) = p.draw((p.rank + 2) % 3, (p.ring.dtype, N))
        p.draw((p.rank + 1) % 3, (p.ring.dtype, N))  # what the next party masks its part with
        return known_to_receiver

    return (yield from product_with(p, x, y, mask))


def with_one_mask_for_two(p: Party, b: Any, x: AShare) -> Steps:
    """Bit injection that masks both dealt products alike: their difference is +-(x - x_2)."""
    draw, fill = p.masks.draw, p.masks.fill  # type: ignore[union-attr]

    def twice(other: int, *requests: Any, lane: int = 0) -> list[np.ndarray]:
        made = draw(other, *requests, lane=lane)
        return [made[0], made[0].copy(), made[2]] if len(made) == 3 else made

    p.masks = SimpleNamespace(draw=twice, fill=fill)  # type: ignore[assignment]
    return (yield from interactive("mul_ba")(p, b, x))


def product_with(p: Party, x: AShare, y: AShare, mask: Callable[[], np.ndarray]) -> Steps:
    part = mask()
    elementwise(p.rank, x, y)(part, slice(0, N))
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    got = yield Exchange({prv: [part]}, {nxt: [spec(p.ring.dtype, N)]})
    return AShare(part, got[nxt][0])


@pytest.mark.parametrize("steps", [without_masks, with_the_receivers_mask])
def test_broken_products_are_seen(steps: Callable[..., Any]) -> None:
    scene = Scene("mul_aa", {}, ((0, (0, 12345)), (0, (-1, 7))), numbers=(0,))
    assert next(watch(Ring(64), scene, steps), "")


@pytest.mark.parametrize("values", [(7, 12), (1, -1)])
def test_a_mask_used_for_two_messages_is_seen(values: tuple[int, int]) -> None:
    scene = Scene("mul_ba", {}, ((1, (0, 1)), (0, values)), numbers=(0,))
    assert next(watch(Ring(64), scene, with_one_mask_for_two), "")
