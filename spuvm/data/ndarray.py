"""FedNdarray: an array whose rows or columns are at several parties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, get_args

from spuvm.data import local
from spuvm.data.partitioned import (
    Partitions,
    checked_partitions,
    compare,
    each,
    learn,
    pieces,
    salts,
    shown,
)
from spuvm.devices.pyu import PYU
from spuvm.errors import UsageError

Way = Literal["vertical", "horizontal"]


class FedNdarray:
    """Partitions of one array; columns ("vertical") or rows ("horizontal") are split.

    Args:
        partitions: {party: handle of its numpy array}.
        way: which axis is split.

    Raises:
        UsageError: a partition elsewhere, empty, or not numbers; partitions with different row
            counts (vertical) or widths (horizontal). Parties compare keyed digests for that.
    """

    def __init__(self, partitions: Mapping[PYU, Any], way: Way = "vertical") -> None:
        if way not in get_args(Way):
            raise UsageError(
                "unknown way of splitting", got=repr(way), expected="vertical or horizontal"
            )
        self.way: Way = way
        self.partitions = checked_partitions(partitions, local.checked_array)
        if len(self.partitions) > 1:
            self._check()

    @classmethod
    def trusted(cls, partitions: Partitions, way: Way) -> FedNdarray:
        """Without a check: partitions made from ones that were checked."""
        made = object.__new__(cls)
        made.way, made.partitions = way, partitions
        return made

    @property
    def parties(self) -> list[PYU]:
        return list(self.partitions)

    def partition_shape(self) -> dict[PYU, tuple[int, ...]]:
        """Every party's shape; asking shows it to the script and is reported."""
        handles = [pyu(local.shape_of)(x) for pyu, x in self.partitions.items()]
        return dict(
            zip(self.parties, map(tuple, learn(handles, "shape of a partition")), strict=True)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole; asking shows the parties' shapes to the script and is reported."""
        shapes = list(self.partition_shape().values())
        if self.way == "horizontal":
            return (sum(s[0] for s in shapes), *shapes[0][1:])
        return (shapes[0][0], sum(s[1] if len(s) > 1 else 1 for s in shapes))

    @property
    def dtypes(self) -> dict[PYU, str]:
        """By party; reported."""
        handles = [pyu(local.dtype_of)(x) for pyu, x in self.partitions.items()]
        return dict(zip(self.parties, learn(handles, "dtype of a partition"), strict=True))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> NoReturn:
        raise UsageError(
            "the rows of a federated array are not gone through one by one",
            next="x[rows] takes several; what is done with each row belongs into a function",
        )

    def __getitem__(self, index: Any) -> FedNdarray:
        """Rows of vertical arrays, [rows] or [rows, :]; columns of horizontal ones, [:, columns].

        Rows of horizontal arrays by a slice need the parties' row counts, which is reported.
        """
        parts = index if isinstance(index, tuple) else (index,)
        whole = slice(None)
        if self.way == "vertical" and all(p == whole for p in parts[1:]):
            return self._each(local.block, parts[:1])
        if self.way == "horizontal" and parts[0] == whole:
            return self._each(local.block, parts)
        if self.way == "horizontal" and isinstance(parts[0], slice):
            return self._row_slice(parts)
        raise UsageError(
            "no way to slice so without moving data",
            got=f"[{index!r}] of a {self.way} array",
            expected="rows of vertical arrays, columns or row slices of horizontal ones",
        )

    def astype(self, dtype: Any) -> FedNdarray:
        return self._each(local.apply, "astype", (dtype,), {})

    def apply(self, fn: Callable[[Any], Any]) -> FedNdarray:
        """`fn` on every partition at its party; it must keep the number of rows."""
        return self._each(local.mapped, fn)

    def _each(self, fn: Callable[..., Any], *args: Any) -> FedNdarray:
        return FedNdarray.trusted(each(self.partitions, fn, *args), self.way)

    def _row_slice(self, parts: tuple[Any, ...]) -> FedNdarray:
        counts = [shape[0] for shape in self.partition_shape().values()]
        made = {
            pyu: pyu(local.block)(value, (rows, *parts[1:]))
            for (pyu, value), rows in zip(
                self.partitions.items(), pieces(parts[0], counts), strict=True
            )
            if rows is not None
        }
        return FedNdarray.trusted(made, self.way)

    def _check(self) -> None:
        salt = salts(self.parties)
        digest: Any = local.row_digest if self.way == "vertical" else local.schema_digest
        args: tuple[Any, ...] = (None,) if self.way == "vertical" else ()
        made = {p: p(digest)(x, *args, salt[p]) for p, x in self.partitions.items()}
        what = "equal row counts" if self.way == "vertical" else "equal widths"
        wrong = compare(made, local.different, what)
        if wrong:
            raise UsageError(
                "partitions that do not go together",
                got=f"{', '.join(wrong)} unlike {self.parties[0].party}",
                expected=what,
            )

    def __repr__(self) -> str:
        names = ", ".join(p.party for p in self.parties)
        return f"FedNdarray({self.way}: {names})"


def as_labels(y: Any) -> Any:
    """The one partition of labels of a model, and its party.

    Raises:
        UsageError: labels at more than one party.
    """
    from spuvm.devices.pyu import PYUObject

    if isinstance(y, PYUObject):
        return y
    partitions = getattr(y, "partitions", None)
    if not isinstance(partitions, dict) or len(partitions) != 1:
        raise UsageError(
            "labels live at one party", got=shown(y), expected="a handle, or one partition"
        )
    (value,) = partitions.values()
    return value
