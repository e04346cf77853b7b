"""Arithmetic shares whose components are made when something asks for them.

A dealt share stays in the form in which it came: a component that comes from a seed is a seed until
an instruction needs its elements. Party 0 gets two seeds from an owner outside; of these, sums and
truncations need only what both add up to, which takes one array instead of two. Joined rows stay
apart while they are only summed up. Whatever asks for `x0` or `x1` gets arrays as from any share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spuvm.protocol.aby3.keystream import FIRST, Stream
from spuvm.protocol.aby3.prss import expand
from spuvm.protocol.aby3.share import PIECE, Array, AShare, Reader, Redacted, flat, in_a_row, pieces
from spuvm.wide import elements, empty, zeros

Source = bytes | Array | None
"""A component: the seed that it is expanded from, its elements, or nothing but zeros."""


class _Lazy(AShare):
    """A share of a known shape and dtype; `x0` and `x1` are what `component` makes."""

    __slots__ = ("_dtype", "_shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._shape, self._dtype = shape, dtype

    def component(self, which: int) -> Array:
        """One of the two components, of any shape with the right elements in order."""
        raise NotImplementedError

    @property
    def x0(self) -> Array:  # type: ignore[override]
        return self.component(0).reshape(self._shape)

    @property
    def x1(self) -> Array:  # type: ignore[override]
        return self.component(1).reshape(self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def size(self) -> int:
        return math.prod(self._shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._dtype

    def __repr__(self) -> str:
        return f"AShare(shape={self._shape}, dtype={self.dtype}, redacted)"


class Store(Redacted):
    """The two components that a party was dealt, flat, and what has been made of them so far.

    A pass over a seed makes its elements a piece at a time and keeps none: that takes less time
    than writing a large array to new memory. What is passed over a second time is kept.
    """

    __slots__ = ("_dtype", "_passed", "_size", "_sources", "_sum")

    def __init__(self, sources: tuple[Source, Source], dtype: np.dtype[np.generic], size: int):
        self._sources = list(sources)
        self._dtype, self._size = dtype, size
        self._sum: Array | None = None
        self._passed: set[int | None] = set()  # components, None for their sum

    def __repr__(self) -> str:
        return f"Store(size={self._size}, dtype={self._dtype}, redacted)"

    def component(self, which: int) -> Array:
        """The elements of a component; made once."""
        source = self._sources[which]
        if source is None:
            source = zeros(self._size, self._dtype)
        elif isinstance(source, bytes):
            source = expand(source, self._dtype, self._size)
        self._sources[which] = source
        return source

    def reader(self, which: int) -> Reader:
        """Pieces of a component."""
        source = self._sources[which]
        if isinstance(source, bytes):
            return self._pass(which, (source,))
        return self.component(which).__getitem__

    def summands(self) -> list[Reader]:
        """Pieces of what adds up to the sum of both components: one where both are still seeds."""
        seeds = self._seeds()
        if self._sum is not None:
            return [self._sum.__getitem__]
        return [self._pass(None, seeds)] if seeds else [self.reader(0), self.reader(1)]

    def total(self) -> Array:
        """The sum of both components; made once where both are still seeds."""
        seeds = self._seeds()
        if self._sum is None and not seeds:
            return np.asanyarray(self.component(0) + self.component(1))
        if self._sum is None:
            self._sum = empty(self._size, self._dtype)
            read = expanded(seeds, self._dtype, self._size)
            for s in pieces(self._size):
                self._sum[s] = read(s)
        return self._sum

    def _seeds(self) -> tuple[bytes, ...]:
        """Both seeds while there are two."""
        seeds = tuple(source for source in self._sources if isinstance(source, bytes))
        return seeds if len(seeds) == 2 else ()

    def _pass(self, what: int | None, seeds: tuple[bytes, ...]) -> Reader:
        """A reader that decides at its first piece whether the elements are kept."""
        read: Reader | None = None

        def piece(s: slice) -> Array:
            nonlocal read
            if read is None:
                once = what not in self._passed and self._size > PIECE
                self._passed.add(what)
                kept = None if once else self.total() if what is None else self.component(what)
                if kept is None:
                    read = expanded(seeds, self._dtype, self._size)
                else:
                    read = kept.__getitem__
            return read(s)

        return piece


def expanded(seeds: Sequence[bytes], dtype: np.dtype[np.generic], size: int) -> Reader:
    """Pieces of the sum of what seeds expand to, `size` elements; nothing is stored."""
    streams = [Stream(seed) for seed in seeds]
    for stream in streams:
        stream.begin(FIRST, size * dtype.itemsize)
    in_a_block = 16 // dtype.itemsize

    def piece(s: slice) -> Array:
        block, before = divmod(s.start, in_a_block)
        total = empty(s.stop - s.start + before, dtype)
        streams[0].fill(memoryview(total).cast("B"), FIRST + block)
        for stream in streams[1:]:
            more = empty(total.size, dtype)
            stream.fill(memoryview(more).cast("B"), FIRST + block)
            total += more
        return total[before:]

    return piece


class HeldShare(_Lazy):
    """A share as it was dealt."""

    __slots__ = ("_store",)

    def __init__(self, store: Store, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        super().__init__(shape, dtype)
        self._store = store

    def component(self, which: int) -> Array:
        return self._store.component(which)

    def readers(self) -> tuple[Reader, Reader]:
        return self._store.reader(0), self._store.reader(1)

    def summands(self) -> list[Reader]:
        return self._store.summands()

    def total(self) -> Array:
        return self._store.total().reshape(self._shape)

    def sum_reader(self) -> Reader:
        first, *rest = self.summands()
        return (lambda s: first(s) + rest[0](s)) if rest else first

    def reshaped(self, shape: tuple[int, ...]) -> AShare:
        return HeldShare(self._store, shape, self.dtype)


class JoinedShare(_Lazy):
    """Shares of one size joined along a leading axis: `rows` while nothing asked for the whole."""

    __slots__ = ("_made", "_parts")

    def __init__(self, parts: Sequence[AShare], shape: tuple[int, ...]) -> None:
        super().__init__(shape, parts[0].dtype)
        self._parts = tuple(parts)
        self._made: list[Array | None] = [None, None]

    def component(self, which: int) -> Array:
        made = self._made[which]
        if made is None:
            parts = [flat(p.x1 if which else p.x0) for p in self._parts]
            made = self._made[which] = elements(np.concatenate(parts))
            if self._made[1 - which] is not None:
                self._parts = ()
        return made

    def readers(self) -> tuple[Reader, Reader]:
        if not self._parts:
            return super().readers()
        each = [(p.size, *p.readers()) for p in self._parts]
        return in_a_row([(n, x0) for n, x0, _ in each]), in_a_row([(n, x1) for n, _, x1 in each])

    def sum_reader(self) -> Reader:
        if not self._parts:
            return super().sum_reader()
        return in_a_row([(p.size, p.sum_reader()) for p in self._parts])

    def rows(self, count: int) -> list[AShare] | None:
        return list(self._parts) if count == len(self._parts) else super().rows(count)

    def reshaped(self, shape: tuple[int, ...]) -> AShare:
        return JoinedShare(self._parts, shape) if self._parts else super().reshaped(shape)
