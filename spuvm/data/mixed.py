"""MixDataFrame: a table whose rows and columns are at several parties."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from spuvm.data import local
from spuvm.data.frames import HDataFrame, VDataFrame
from spuvm.data.ndarray import FedNdarray
from spuvm.data.partitioned import Partitions, pieces, shown
from spuvm.devices.moves import wait
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.errors import UsageError


class MixDataFrame:
    """Row blocks, each split by columns among its own parties.

    Args:
        blocks: VDataFrames over disjoint rows. Block i's party number k has the same columns as
            every other block's party number k.

    Raises:
        UsageError: blocks with different numbers of parties, or columns that do not go together.
    """

    def __init__(self, blocks: Sequence[VDataFrame]) -> None:
        self.blocks = list(blocks)
        widths = {len(b.parties) for b in self.blocks if isinstance(b, VDataFrame)}
        if not self.blocks or not all(isinstance(b, VDataFrame) for b in self.blocks):
            raise UsageError(
                "blocks are VDataFrames", got=", ".join(map(shown, self.blocks)) or "none"
            )
        if len(widths) != 1:
            raise UsageError("blocks are split among different numbers of parties")
        for column in self.columns_of_parties():
            handles = by_party(column)
            HDataFrame(handles)  # compares names, dtypes and order
            several = [p for p, _ in column if [q for q, _ in column].count(p) > 1]
            if several:  # stacked() compared them; whether it failed is waited for
                wait([handles[p] for p in several])

    @property
    def parties(self) -> list[PYU]:
        """Everybody with a partition, once."""
        return list(dict.fromkeys(p for b in self.blocks for p in b.parties))

    @property
    def columns(self) -> list[str]:
        """Names, equal in all blocks; asked from the first block and reported."""
        return self.blocks[0].columns

    @property
    def dtypes(self) -> dict[str, str]:
        """By column, of the first block; reported."""
        return self.blocks[0].dtypes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all blocks, and columns; reported."""
        shapes = [b.shape for b in self.blocks]
        return sum(s[0] for s in shapes), shapes[0][1]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[str]:
        """Column names, as pandas has it; reported."""
        return iter(self.columns)

    def columns_of_parties(self) -> list[list[tuple[PYU, PYUObject]]]:
        """For every place k: the parties that hold these columns, with their handles."""
        return [
            list(group) for group in zip(*(b.partitions.items() for b in self.blocks), strict=True)
        ]

    def map(self, fn: Callable[[VDataFrame], VDataFrame]) -> MixDataFrame:
        """`fn` on every block."""
        return self.map_blocks([fn(b) for b in self.blocks])

    @staticmethod
    def map_blocks(blocks: Sequence[VDataFrame]) -> MixDataFrame:
        """A table of blocks that were made from checked ones."""
        made = object.__new__(MixDataFrame)
        made.blocks = list(blocks)
        return made

    def __getitem__(self, index: Any) -> MixDataFrame:
        """Columns by a name or a list of names; rows of the whole table by a slice, which needs the
        blocks' row counts: reported."""
        if not isinstance(index, slice):
            if not isinstance(index, str | list):
                raise UsageError("rows of a mixed table are taken by a slice", got=repr(index))
            return self.map(lambda b: b[index])
        counts = [b.shape[0] for b in self.blocks]
        cut = zip(self.blocks, pieces(index, counts), strict=True)
        return self.map_blocks([b[rows] for b, rows in cut if rows is not None])

    def drop(self, columns: str | Sequence[str]) -> MixDataFrame:
        return self.map(lambda b: b.drop(columns))

    def fillna(self, value: Any) -> MixDataFrame:
        """Missing values replaced."""
        return self.map(lambda b: b.fillna(value))

    def astype(self, dtype: Any) -> MixDataFrame:
        return self.map(lambda b: b.astype(dtype))

    def apply(self, fn: Callable[[Any], Any]) -> MixDataFrame:
        """`fn` on every DataFrame at its party; rows and their order must stay."""
        return self.map(lambda b: b.apply(fn))

    @property
    def values(self) -> list[FedNdarray]:
        """One vertical array per block."""
        return [b.values for b in self.blocks]

    def __repr__(self) -> str:
        return f"MixDataFrame({', '.join(map(repr, self.blocks))})"


def by_party(column: Sequence[tuple[PYU, PYUObject]]) -> Partitions:
    """One handle per party: rows of one party in several blocks are put together there."""
    found: dict[PYU, list[PYUObject]] = {}
    for pyu, value in column:
        found.setdefault(pyu, []).append(value)
    return {p: v[0] if len(v) == 1 else p(local.stacked)(v) for p, v in found.items()}
