"""PLAINTEXT: where owners deal shares and receivers reconstruct; nothing else touches clear data.

An owner splits x = x_0 + x_1 + x_2. Two of the three components come from one-time seeds that the
owner agrees with exactly their two holders, so only one component travels in full. An owner who is
a party knows x anyway, so the component that it does not hold can be 0. Except component 2 of party
0: truncation rounds by the fraction of x_2, and would always round down where that is 0.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from spuvm.errors import ChannelError, UsageError
from spuvm.fxp import Encoding
from spuvm.kernels.arith import small_dtype
from spuvm.kernels.fixed import subtract_masks
from spuvm.protocol.aby3.keystream import BLOCK, FIRST, Stream
from spuvm.protocol.aby3.lazy import HeldShare, Source, Store
from spuvm.protocol.aby3.prss import expand
from spuvm.protocol.aby3.share import (
    PIECE,
    Array,
    AShare,
    BShare,
    Held,
    Reader,
    ZShare,
    flat,
    pieces,
    reader,
)
from spuvm.protocol.base import Party
from spuvm.ring import Ring
from spuvm.wide import cast, elements, empty, zeros

SEED_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dealt:
    """What an owner gives one party: seeds and arrays by component; missing components are 0.

    `width` is 0 for arithmetic shares, else the bits per element of Boolean ones.
    """

    rank: int
    shape: tuple[int, ...]
    dtype: str
    width: int
    seeds: dict[int, bytes]
    arrays: dict[int, Array]

    @property
    def nbytes(self) -> int:
        """Payload bytes: seeds and arrays."""
        return sum(map(len, self.seeds.values())) + sum(a.nbytes for a in self.arrays.values())

    def __repr__(self) -> str:
        return f"Dealt(rank={self.rank}, shape={self.shape}, width={self.width}, redacted)"


@dataclass(frozen=True, slots=True)
class Form:
    """What of a dealt value one party gets, known from public facts alone: see `form_of`."""

    rank: int
    shape: tuple[int, ...]
    dtype: str
    width: int
    seeds: tuple[int, ...]
    arrays: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of each array."""
        return int(np.prod(self.shape, dtype=np.int64))

    def filled(self, seeds: Sequence[bytes], arrays: Sequence[Array]) -> Dealt:
        """The dealt value from what has arrived.

        Raises:
            ChannelError: a seed of another length.
        """
        if any(len(seed) != SEED_BYTES for seed in seeds):
            raise ChannelError("dealt a seed of another length")
        return Dealt(
            self.rank,
            self.shape,
            self.dtype,
            self.width,
            dict(zip(self.seeds, seeds, strict=True)),
            dict(zip(self.arrays, arrays, strict=True)),
        )


def form_of(
    rank: int, shape: tuple[int, ...], ring: Ring, *, width: int = 0, owner: int | None = None
) -> Form:
    """What party `rank` gets of a value of this shape that `deal` splits for the same owner."""
    seeded, full = _SPLIT[owner]
    held = (rank, (rank + 1) % 3)
    return Form(
        rank,
        shape,
        (small_dtype(width) if width else ring.dtype).str,
        width,
        tuple(sorted(c for c in seeded if c in held)),
        (full,) if full in held else (),
    )


def deal(
    encoded: Array | Encoding, ring: Ring, *, width: int = 0, owner: int | None = None
) -> tuple[Dealt, Dealt, Dealt]:
    """Split encoded values into what each of the three parties gets.

    Args:
        encoded: ring elements (width 0), floats that become some on the way, or unsigned integers
            of any dtype, below 2^width.
        owner: rank of the owner when it is one of the three parties, else None.

    Sends: 16 bytes per seed and holder, and the full component to its holders (once when the owner
    is a party). Each party's components are uniform: seeds are fresh from the operating system.

    Raises:
        UsageError: another dtype, a width or owner that does not exist, or bits above the width
            (they would travel without a mask).
        ValueRangeError: floats that cannot be encoded.
    """
    _check_dealing(encoded, ring, width, owner)
    seeded, full = _SPLIT[owner]
    seeds = {c: os.urandom(SEED_BYTES) for c in seeded}
    if isinstance(encoded, Encoding):
        rest = masked(_encoded(encoded), encoded.size, encoded.dtype, list(seeds.values()))
        encoded.check()
    elif width:
        values = cast(flat(encoded), small_dtype(width))
        masks = [expand(seed, values.dtype, values.size) for seed in seeds.values()]
        rest = values ^ (reduce(operator.xor, masks) & ((1 << width) - 1))
    else:
        rest = masked(reader(encoded), encoded.size, encoded.dtype, list(seeds.values()))
    dealt = []
    for rank in range(3):
        held = (rank, (rank + 1) % 3)
        dealt.append(
            Dealt(
                rank,
                encoded.shape,
                rest.dtype.str,
                width,
                {c: s for c, s in seeds.items() if c in held},
                {full: np.asarray(rest)} if full in held else {},
            )
        )
    return dealt[0], dealt[1], dealt[2]


# Owner: components from seeds, and the one that is sent in full; what is left is 0.
_SPLIT: dict[int | None, tuple[tuple[int, ...], int]] = {
    None: ((0, 1), 2),
    0: ((0, 2), 1),
    1: ((1,), 2),
    2: ((2,), 0),
}


def _check_dealing(encoded: Array | Encoding, ring: Ring, width: int, owner: int | None) -> None:
    if owner not in _SPLIT or not 0 <= width <= ring.bits:
        raise UsageError(
            "cannot deal so",
            got=f"owner={owner!r}, width={width!r}",
            expected=f"owner 0, 1, 2 or None, width 0 to {ring.bits}",
        )
    if isinstance(encoded, Encoding):
        fits = not width and encoded.dtype == ring.dtype
    else:
        fits = encoded.dtype.kind in "uV" if width else encoded.dtype == ring.dtype
    if not fits:
        raise UsageError(
            "cannot deal values that are not encoded",
            got=str(encoded.dtype),
            expected="unsigned integers" if width else str(ring.dtype),
        )
    if width and not isinstance(encoded, Encoding) and (elements(encoded) >> width).any():
        raise UsageError(f"values to deal as {width} bits have more than {width} bits")


def masked(read: Reader, size: int, dtype: np.dtype[Any], seeds: Sequence[bytes]) -> Array:
    """values - expand(seed) - ..., for one seed or two, piece by piece; flat."""
    out, nothing = empty(size, dtype), zeros(min(size, PIECE), dtype)
    buffers = [empty(min(size, PIECE), dtype) for _ in seeds]
    streams = [Stream(seed) for seed in seeds]
    for stream in streams:
        stream.begin(FIRST, out.nbytes)
    for s in pieces(size):
        count = s.stop - s.start
        masks = [buffer[:count] for buffer in buffers]
        for stream, mask in zip(streams, masks, strict=True):
            place = FIRST + s.start * dtype.itemsize // BLOCK
            stream.fill(memoryview(mask).cast("B"), place)
        first, second = (*masks, nothing[:count])[:2]
        subtract_masks(read(s), first, second, out[s])
    return out


def _encoded(encoding: Encoding) -> Reader:
    """Pieces of floats as ring elements, each valid until the next one is read."""
    buffer = empty(min(encoding.size, PIECE), encoding.dtype)

    def read(s: slice) -> Array:
        piece = buffer[: s.stop - s.start]
        encoding.write(s, piece)
        return piece

    return read


def accept(dealt: Dealt) -> AShare | BShare:
    """A party's shares from what an owner dealt it."""
    dtype = np.dtype(dealt.dtype)
    size = int(np.prod(dealt.shape, dtype=np.int64))
    sources: list[Source] = []
    for component in (dealt.rank, (dealt.rank + 1) % 3):
        source: Source = dealt.seeds.get(component)
        if component in dealt.arrays:
            # Arrays that come out of shared memory are read-only, a type of its own to kernels.
            source = flat(elements(np.require(dealt.arrays[component], requirements=["C", "W"])))
        sources.append(source)
    store = Store((sources[0], sources[1]), dtype, size)
    if not dealt.width:
        return HeldShare(store, dealt.shape, dtype)
    first, second = (store.component(i).reshape(dealt.shape) for i in (0, 1))
    for component, part in ((dealt.rank, first), ((dealt.rank + 1) % 3, second)):
        if component in dealt.seeds:
            part &= (1 << dealt.width) - 1
    return BShare(first, second, dealt.width)


def share_bytes(size: int, ring: Ring, *, width: int = 0, owner: int | None = None) -> int:
    """Bytes that an owner sends for `size` elements (nothing is sent to the owner itself)."""
    item = small_dtype(width).itemsize if width else ring.nbytes
    seeded, full = _SPLIT[owner]
    receivers = {c: [r for r in (c, (c + 2) % 3) if r != owner] for c in range(3)}
    seeds = sum(len(receivers[c]) for c in seeded)
    return SEED_BYTES * seeds + len(receivers[full]) * size * item


def part_of(p: Party, value: Held, to: int | None) -> Array | None:
    """What this party gives so that `to` can add up a value (xor for bits), flat.

    To an outsider (to=None) each gives a component plus its part of a fresh zero. To party `to` it
    gives itself what it has, the next party the component that it lacks, the third nothing.
    Additive shares are given to everybody as to an outsider: nobody has two of them.

    Raises:
        UsageError: additive shares for a party; nothing is given.
    """
    if isinstance(value, ZShare):
        if to is not None:
            raise UsageError("additive shares are opened as to an outsider", got=f"to={to}")
        return _randomised(p, flat(value.z), boolean=False)
    if to is None:
        return _randomised(p, flat(value.x0), boolean=isinstance(value, BShare))
    if to == p.rank:
        x0, x1 = value.flat()
        return np.asanyarray(x0 ^ x1 if isinstance(value, BShare) else x0 + x1)
    return flat(value.x1) if p.rank == (to + 1) % 3 else None


def _randomised(p: Party, part: Array, *, boolean: bool) -> Array:
    nxt, prv = (p.rank + 1) % 3, (p.rank + 2) % 3
    out = empty(part.size, part.dtype)
    for s in pieces(part.size):
        p.fill(nxt, out[s])
        (minus,) = p.draw(prv, (part.dtype, s.stop - s.start))
        if boolean:
            out[s] ^= part[s] ^ minus
        else:
            out[s] += part[s] - minus
    return out


def reconstruct(parts: Sequence[Any], width: int = 0) -> Array:
    """The value from additive parts (xor for bits); parts that are None are skipped."""
    present = [p for p in parts if p is not None]
    if len(present) == 1:
        return elements(present[0]).copy()
    first, second, *rest = map(elements, present)
    total = first ^ second if width else first + second
    for part in rest:
        if width:
            total ^= part
        else:
            total += part
    return total
