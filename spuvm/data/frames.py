"""Tables whose columns (V) or rows (H) are at several parties; mixed.py has both.

Partitions are handles of pandas DataFrames; pandas works inside the party. Whatever shows names,
dtypes, counts or statistics to somebody else is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spuvm.data import local
from spuvm.data.ndarray import FedNdarray
from spuvm.data.partitioned import (
    Partitions,
    checked_partitions,
    compare,
    each,
    learn,
    pieces,
    salts,
)
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.errors import UsageError


class _Frame:
    """What tables by rows and by columns share."""

    partitions: Partitions

    @property
    def parties(self) -> list[PYU]:
        return list(self.partitions)

    def _like(self, partitions: Partitions) -> Any:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.partitions = partitions
        return made

    def _each(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._like(each(self.partitions, fn, *args))

    def partition_columns(self) -> dict[PYU, list[str]]:
        """Column names by party; asking shows them to the script and is reported."""
        handles = [pyu(local.columns_of)(x) for pyu, x in self.partitions.items()]
        return dict(zip(self.parties, learn(handles, "column names"), strict=True))

    def partition_shape(self) -> dict[PYU, tuple[int, ...]]:
        """Shapes by party; asking shows them to the script and is reported."""
        handles = [pyu(local.shape_of)(x) for pyu, x in self.partitions.items()]
        found = map(tuple, learn(handles, "shape of a partition"))
        return dict(zip(self.parties, found, strict=True))

    def fillna(self, value: Any) -> Any:
        """Missing values replaced."""
        return self._each(local.apply, "fillna", (value,), {})

    def astype(self, dtype: Any) -> Any:
        return self._each(local.apply, "astype", (dtype,), {})

    def apply(self, fn: Callable[[Any], Any]) -> Any:
        """`fn` on every party's DataFrame, at the party; rows and their order must stay."""
        return self._each(local.mapped, fn)

    def __len__(self) -> int:
        """Rows; reported."""
        return int(self.shape[0])

    def __iter__(self) -> Iterator[str]:
        """Column names, as pandas has it; reported."""
        return iter(self.columns)

    shape: Any
    columns: Any

    def to_csv(self, paths: Mapping[PYU, str]) -> list[PYUObject]:
        """Every party writes its partition to a file of its own."""
        strange = [repr(p) for p in paths if p not in self.partitions]
        if strange:
            raise UsageError("paths of parties without a partition", got=", ".join(strange))
        return [pyu(local.save)(self.partitions[pyu], str(p)) for pyu, p in paths.items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(p.party for p in self.parties)})"


class VDataFrame(_Frame):
    """A table whose columns are split: every party has all rows, in one order.

    Args:
        partitions: {party: handle of its DataFrame}.
        key: a column that all partitions have and that names the rows: it must be equal everywhere,
            and is left out of the table. None: row counts alone are compared.

    Raises:
        UsageError: misaligned, missing or repeated rows, a column name at two parties, duplicate
            columns, empty partitions. The parties compare keyed digests; the script learns which
            parties do not fit, and the report says so.
    """

    def __init__(self, partitions: Mapping[PYU, Any], key: str | None = None) -> None:
        self.partitions = checked_partitions(partitions, local.checked_frame)
        if len(self.partitions) > 1 or key is not None:
            self._check(key)
        if key is not None:
            self.partitions = each(self.partitions, local.without, [key])
            self.partitions = each(self.partitions, local.checked_frame)

    @property
    def columns(self) -> list[str]:
        """All names, party by party; reported."""
        return [name for names in self.partition_columns().values() for name in names]

    @property
    def dtypes(self) -> dict[str, str]:
        """By column; reported."""
        handles = [pyu(local.dtypes_of)(x) for pyu, x in self.partitions.items()]
        return {k: v for one in learn(handles, "column dtypes") for k, v in one.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; reported."""
        shapes = list(self.partition_shape().values())
        return shapes[0][0], sum(s[1] for s in shapes)

    @property
    def values(self) -> FedNdarray:
        """The numbers, float64; text and missing values are refused by their owner."""
        return FedNdarray.trusted(each(self.partitions, local.to_array), "vertical")

    def __getitem__(self, index: Any) -> VDataFrame:
        """Columns by a name or a list of names (reported: which party has them); rows by a slice,
        places or a mask."""
        if isinstance(index, str):
            index = [index]
        if isinstance(index, list) and index and all(isinstance(n, str) for n in index):
            return self._choose(index)
        return self._each(local.rows, index)  # type: ignore[no-any-return]

    def drop(self, columns: str | Sequence[str]) -> VDataFrame:
        """Without some columns; parties that have none left drop out."""
        names, known = _named(columns), self.columns
        _check_known(names, known)
        return self._choose([n for n in known if n not in set(names)])

    def statistics(self, name: str) -> Partitions:
        """mean, min, max, std, sum, ... per column: each stays with the column's owner."""
        return each(self.partitions, local.statistic, name)

    def _choose(self, names: Sequence[str]) -> VDataFrame:
        where = self.partition_columns()
        _check_known(names, [n for mine in where.values() for n in mine])
        chosen = {
            pyu: pyu(local.choose)(self.partitions[pyu], list(names))
            for pyu, mine in where.items()
            if set(mine) & set(names)
        }
        if not chosen:
            raise UsageError("a table without columns")
        return self._like(chosen)  # type: ignore[no-any-return]

    def _check(self, key: str | None) -> None:
        salt = salts(self.parties)
        rows = {p: p(local.row_digest)(x, key, salt[p]) for p, x in self.partitions.items()}
        wrong = compare(rows, local.different, "equal rows")
        if wrong:
            raise UsageError(
                "rows are not aligned",
                got=f"{', '.join(wrong)} unlike {self.parties[0].party}",
                expected="the same rows in the same order"
                + (f", by column {key!r}" if key else ""),
                next="sort by a common key and drop rows that others lack",
            )
        names = {p: p(local.column_digests)(x, salt[p], key) for p, x in self.partitions.items()}
        wrong = compare(names, local.shared_names, "common column names")
        if wrong:
            raise UsageError(
                "a column name is at two parties",
                got=f"{', '.join(wrong)} has a name of a party before it",
                next="rename it; common keys go in key=",
            )


class HDataFrame(_Frame):
    """A table whose rows are split: every party has all columns, in one order.

    Args:
        partitions: {party: handle of its DataFrame}.
        aggregator: of statistics over all rows (sf.aggregation).
        comparator: an SPUAggregator, for minima and maxima over all rows.

    Raises:
        UsageError: columns of other names, dtypes or order at some party; duplicate columns; empty
            partitions.
    """

    def __init__(
        self, partitions: Mapping[PYU, Any], aggregator: Any = None, comparator: Any = None
    ) -> None:
        self.partitions = checked_partitions(partitions, local.checked_frame)
        self.aggregator, self.comparator = aggregator, comparator
        salt = salts(self.parties)
        made = {p: p(local.schema_digest)(x, salt[p]) for p, x in self.partitions.items()}
        wrong = compare(made, local.different, "equal columns") if len(made) > 1 else []
        if wrong:
            raise UsageError(
                "columns differ between parties",
                got=f"{', '.join(wrong)} unlike {self.parties[0].party}",
                expected="the same names and dtypes in the same order",
                next="df[[...]] and astype at their owner",
            )

    @property
    def columns(self) -> list[str]:
        """The names, equal everywhere; reported."""
        first = self.parties[0]
        handle = first(local.columns_of)(self.partitions[first])
        return list(learn([handle], "column names")[0])

    @property
    def dtypes(self) -> dict[str, str]:
        """By column; reported."""
        first = self.parties[0]
        handle = first(local.dtypes_of)(self.partitions[first])
        return dict(learn([handle], "column dtypes")[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; reported, for every party."""
        shapes = list(self.partition_shape().values())
        return sum(s[0] for s in shapes), shapes[0][1]

    @property
    def values(self) -> FedNdarray:
        return FedNdarray.trusted(each(self.partitions, local.to_array), "horizontal")

    def __getitem__(self, index: Any) -> HDataFrame:
        """Columns by a name or a list of names; rows by a slice, which needs the parties' row
        counts: reported."""
        if isinstance(index, slice):
            counts = [s[0] for s in self.partition_shape().values()]
            made = {
                pyu: pyu(local.rows)(value, rows)
                for (pyu, value), rows in zip(
                    self.partitions.items(), pieces(index, counts), strict=True
                )
                if rows is not None
            }
            return self._like(made)  # type: ignore[no-any-return]
        names = [index] if isinstance(index, str) else index
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise UsageError(
                "rows of a table by rows are split",
                got=repr(index),
                expected="column names, or a slice of rows",
            )
        _check_known(names, self.columns)
        return self._each(local.choose, names)  # type: ignore[no-any-return]

    def drop(self, columns: str | Sequence[str]) -> HDataFrame:
        """Without some columns."""
        _check_known(_named(columns), self.columns)
        return self._each(local.without, _named(columns))  # type: ignore[no-any-return]

    def moments(self) -> Any:
        """Counts, sums and sums of squares over all rows, at the aggregator's device."""
        return self.total(each(self.partitions, local.moments))

    def total(self, parts: Partitions) -> Any:
        """The sum of one value of every party, at the aggregator's device."""
        if self.aggregator is None:
            raise UsageError(
                "statistics over all rows need an aggregator",
                next="HDataFrame(..., aggregator=sf.aggregation.SecureAggregator(...))",
            )
        return self.aggregator.sum(list(parts.values()))

    def extremes(self) -> Any:
        """Minima and maxima over all rows, on the comparator's SPU."""
        if self.comparator is None:
            raise UsageError(
                "minima over all rows need a comparator",
                next="HDataFrame(..., comparator=sf.aggregation.SPUAggregator(spu))",
            )
        parts = each(self.partitions, local.extremes)
        return self.comparator.device(shared_extremes)(list(parts.values()))


def _named(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _check_known(names: Sequence[str], known: Sequence[str]) -> None:
    unknown = set(names) - set(known)
    if unknown:
        raise UsageError("unknown columns", got=", ".join(sorted(unknown)), next="see df.columns")


def shared_extremes(parts: Sequence[Any]) -> Any:
    """For an SPU: smallest and largest over parties, column by column."""
    import jax.numpy as jnp

    return {
        "min": jnp.min(jnp.stack([p["min"] for p in parts]), axis=0),
        "max": jnp.max(jnp.stack([p["max"] for p in parts]), axis=0),
    }
