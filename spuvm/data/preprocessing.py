"""Scaling and encoding, inside the parties; statistics over several row holders go through theirs.

For tables by columns everything stays with a column's owner. For tables by rows, and for mixed
ones, the statistics over all rows come from the aggregator or comparator and are opened to every
row holder, which is reported: between two holders, each can work out the other's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from spuvm.data import local
from spuvm.data.frames import HDataFrame, VDataFrame
from spuvm.data.mixed import MixDataFrame, by_party
from spuvm.data.ndarray import FedNdarray
from spuvm.data.partitioned import each, learn
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import disclose, named
from spuvm.errors import UsageError

Table = Any


class _Scaler(ABC):
    """(x - shift) / scale per column, fitted on one table and applied to others of its parties."""

    def __init__(self, aggregator: Any = None) -> None:
        self.aggregator = aggregator  # for mixed tables and arrays; HDataFrames bring their own
        self._by: list[dict[PYU, PYUObject]] = []

    def fit(self, data: Table) -> Any:
        """Learn shift and scale; returns this scaler."""
        self._by = []
        if isinstance(data, MixDataFrame):
            for group in zip(*(self._fit_groups(data)), strict=True):
                self._by.append(dict(group))
        elif isinstance(data, HDataFrame):
            self._by.append(self._across(data))
        elif isinstance(data, FedNdarray) and data.way == "horizontal":
            self._by.append(self._across(self._table(data.partitions)))
        elif isinstance(data, VDataFrame | FedNdarray):
            self._by.append({p: p(self._local)(x) for p, x in data.partitions.items()})
        else:
            raise UsageError("no federated data", got=type(data).__name__)
        return self

    def transform(self, data: Table) -> Any:
        """The scaled table; float64."""
        if not self._by:
            raise UsageError("a scaler is fitted first", next="scaler.fit(table)")
        blocks = data.blocks if isinstance(data, MixDataFrame) else [data]
        if len(blocks) != len(self._by):
            raise UsageError(
                "a scaler was fitted on another kind of table",
                got=f"{len(blocks)} blocks of rows",
                expected=str(len(self._by)),
            )
        made = [self._scale(b, by) for b, by in zip(blocks, self._by, strict=True)]
        return data.map_blocks(made) if isinstance(data, MixDataFrame) else made[0]

    def fit_transform(self, data: Table) -> Any:
        return self.fit(data).transform(data)

    def _fit_groups(self, data: MixDataFrame) -> list[list[tuple[PYU, PYUObject]]]:
        """For every place of columns: shift and scale at each of its row holders."""
        found = []
        for group in data.columns_of_parties():
            by = self._across(self._table(by_party(group)))
            found.append([(p, by[p]) for p, _ in group])
        return found

    def _table(self, partitions: Any) -> HDataFrame:
        table = object.__new__(HDataFrame)
        table.partitions = partitions
        table.aggregator = table.comparator = self.aggregator
        return table

    def _across(self, data: Any) -> dict[PYU, PYUObject]:
        """From statistics over all rows, which every row holder learns; none with one of them."""
        if len(data.partitions) == 1:
            return each(data.partitions, self._local)
        names = [p.party for p in data.partitions]
        for name in names:
            disclose(f"{type(self).__name__}: statistics over all rows", name, names)
        with named(None):
            return self._shared(data)

    def _scale(self, data: Any, by: dict[PYU, PYUObject]) -> Any:
        missing = [p.party for p in data.partitions if p not in by]
        if missing:
            raise UsageError("a scaler was fitted at other parties", got=", ".join(missing))
        made = {p: p(local.scaled)(x, by[p]) for p, x in data.partitions.items()}
        if isinstance(data, FedNdarray):
            return FedNdarray.trusted(made, data.way)
        return data._like(made)

    @staticmethod
    @abstractmethod
    def _local(value: Any) -> Any:
        """Names, shift and scale of a party's own columns."""

    @abstractmethod
    def _shared(self, data: HDataFrame) -> dict[PYU, PYUObject]:
        """The same at every row holder, from statistics over all rows."""


class StandardScaler(_Scaler):
    """Mean 0 and standard deviation 1 (of the population); constant columns are only shifted.

    Over several row holders the means come first and then the squared distances from them: sums of
    squares of long or far-off columns would lose the digits that count.
    """

    @staticmethod
    def _local(value: Any) -> Any:
        return local.standard(value)

    def _shared(self, data: HDataFrame) -> dict[PYU, PYUObject]:
        parties = data.partitions
        sums = data.total(each(parties, local.totals))
        total = {p: sums.to(p) for p in parties}
        means = {p: p(local.means_from)(t) for p, t in total.items()}
        far = data.total({p: p(local.deviations)(x, means[p]) for p, x in parties.items()})
        return {
            p: p(local.standard_from)(x, means[p], far.to(p), total[p]) for p, x in parties.items()
        }


class MinMaxScaler(_Scaler):
    """Smallest value 0, largest value 1; constant columns become 0."""

    @staticmethod
    def _local(value: Any) -> Any:
        return local.minmax(value)

    def _shared(self, data: HDataFrame) -> dict[PYU, PYUObject]:
        ends = data.extremes()
        return {p: p(local.minmax_from)(x, ends.to(p)) for p, x in data.partitions.items()}


class LabelEncoder:
    """Values of one column as 0, 1, ...

    Args:
        classes: the values in order, known to everybody; needed where several parties hold rows.
            None: the owner sorts its distinct values, and keeps them.
    """

    def __init__(self, classes: Sequence[Any] | None = None) -> None:
        self.classes = None if classes is None else list(classes)
        self._learned: PYUObject | None = None

    def fit(self, data: VDataFrame | HDataFrame | FedNdarray) -> LabelEncoder:
        """Find the classes, at the only party of the column."""
        if self.classes is None:
            if len(data.partitions) != 1:
                raise UsageError(
                    "classes over several parties are not looked up",
                    next="LabelEncoder(classes=[...]) says them to everybody",
                )
            ((pyu, value),) = data.partitions.items()
            self._learned = pyu(local.classes_of)(value)
        return self

    def transform(self, data: Any) -> Any:
        """The codes, int64; a label that is not among the classes is refused by its owner."""
        if self.classes is None and self._learned is None:
            raise UsageError("an encoder is fitted first", next="encoder.fit(column)")
        known: Any = self.classes if self._learned is None else self._learned
        made = {p: p(local.encoded)(x, known) for p, x in data.partitions.items()}
        if isinstance(data, FedNdarray):
            return FedNdarray.trusted(made, data.way)
        return data._like(made)

    def fit_transform(self, data: Any) -> Any:
        return self.fit(data).transform(data)

    def reveal_classes(self) -> list[Any]:
        """The classes, to the script; reported when an owner found them."""
        if self.classes is not None:
            return self.classes
        if self._learned is None:
            raise UsageError("an encoder is fitted first", next="encoder.fit(column)")
        return list(learn([self._learned], "classes of a column")[0])
