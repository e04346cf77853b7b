"""Training and test rows."""

from __future__ import annotations

from typing import Any, TypeVar

from spuvm.data import local
from spuvm.data.frames import HDataFrame, VDataFrame
from spuvm.data.mixed import MixDataFrame
from spuvm.data.ndarray import FedNdarray
from spuvm.data.partitioned import salts
from spuvm.errors import UsageError

Data = TypeVar("Data", VDataFrame, HDataFrame, MixDataFrame, FedNdarray)


def train_test_split(
    data: Data,
    test_size: float | None = None,
    train_size: float | None = None,
    random_state: int | None = 0,
    shuffle: bool = True,
) -> tuple[Data, Data]:
    """Two tables of the same kind; no row count leaves a party.

    Vertical partitions are permuted alike, so that rows stay aligned: data and labels of one row
    order need the same random_state. Horizontal partitions and the blocks of a mixed table each
    give their own share of test rows.

    Args:
        test_size, train_size: fractions of the rows; one is the rest of the other, without both a
            quarter is for the test.
        random_state: seed that everybody knows. None: the first party draws one for the others.
        shuffle: False keeps the order and takes the last rows for the test.

    Raises:
        UsageError: sizes that are no fractions or more than all; a part would be empty.
    """
    sizes = _sizes(train_size, test_size)
    train, test = _split(data, random_state, shuffle, sizes)
    return train, test


def _sizes(train: float | None, test: float | None) -> tuple[float, float]:
    if test is None:
        test = 0.25 if train is None else 1 - train if isinstance(train, float) else train
    if train is None:
        train = 1 - test if isinstance(test, float) else test
    if not all(isinstance(size, float) and 0 < size < 1 for size in (train, test)) or (
        train + test > 1 + 1e-9
    ):
        raise UsageError(
            "sizes are fractions of the rows, together at most 1",
            got=f"train_size={train!r}, test_size={test!r}",
        )
    return train, test


def _split(data: Any, seed: int | None, shuffle: bool, sizes: tuple[float, float]) -> Any:
    if isinstance(data, MixDataFrame):
        pairs = [_split(block, seed, shuffle, sizes) for block in data.blocks]
        return tuple(data.map_blocks(list(part)) for part in zip(*pairs, strict=True))
    if not isinstance(data, VDataFrame | HDataFrame | FedNdarray):
        raise UsageError("no federated data", got=type(data).__name__)
    seeds: dict[Any, Any] = dict.fromkeys(data.parties, seed if shuffle else None)
    if shuffle and seed is None:
        seeds = dict(salts(data.parties))
    parts = []
    for part in ("train", "test"):
        made = {p: p(local.permuted)(x, seeds[p], part, *sizes) for p, x in data.partitions.items()}
        if isinstance(data, FedNdarray):
            parts.append(FedNdarray.trusted(made, data.way))
        else:
            parts.append(data._like(made))
    return tuple(parts)
