"""Reading tables: every party reads its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, overload

from spuvm.data import local
from spuvm.data.frames import HDataFrame, VDataFrame
from spuvm.data.mixed import MixDataFrame
from spuvm.devices.moves import wait
from spuvm.devices.pyu import PYU
from spuvm.errors import UsageError

Path = str | PathLike[str]


@overload
def read_csv(
    paths: Mapping[PYU, Path],
    *,
    way: Literal["vertical"] = ...,
    key: str | None = ...,
    **options: Any,
) -> VDataFrame: ...


@overload
def read_csv(
    paths: Sequence[Mapping[PYU, Path]],
    *,
    way: Literal["vertical"] = ...,
    key: str | None = ...,
    **options: Any,
) -> MixDataFrame: ...


@overload
def read_csv(
    paths: Mapping[PYU, Path], *, way: Literal["horizontal"], key: None = ..., **options: Any
) -> HDataFrame: ...


def read_csv(
    paths: Mapping[PYU, Path] | Sequence[Mapping[PYU, Path]],
    *,
    way: Literal["vertical", "horizontal"] = "vertical",
    key: str | None = None,
    **options: Any,
) -> VDataFrame | HDataFrame | MixDataFrame:
    """A table from one CSV file per party, read by the party.

    Args:
        paths: {party: path on that party's machine}; a list of these for a MixDataFrame, one per
            block of rows.
        way: whether the files split the columns or the rows of the table.
        key: column that names the rows, in every file; see VDataFrame.
        options: for pandas.read_csv; `aggregator` and `comparator` for an HDataFrame.
    """
    if isinstance(paths, list | tuple) and way == "vertical":
        return MixDataFrame([read_csv(one, key=key, **options) for one in paths])
    if not isinstance(paths, Mapping) or not all(isinstance(p, PYU) for p in paths):
        raise UsageError(
            "every file is at a party", got=repr(paths), expected='{sf.PYU("alice"): "a.csv", ...}'
        )
    chosen = {k: options.pop(k) for k in ("aggregator", "comparator") if k in options}
    read = {pyu: pyu(local.read)(str(path), options) for pyu, path in paths.items()}
    wait(list(read.values()))  # a file that cannot be read is an error here
    if way == "vertical":
        return VDataFrame(read, key)
    if way != "horizontal" or key is not None:
        raise UsageError("unknown way of splitting", got=f"{way!r}, key={key!r}")
    return HDataFrame(read, **chosen)
