"""Training and test rows."""

from __future__ import annotations

from typing import Any, TypeVar

from spuvm.data import local
from spuvm.data.frames import HDataFrame, MixDataFrame, VDataFrame
from spuvm.data.ndarray import FedNdarray
from spuvm.data.partitioned import each
from spuvm.errors import UsageError

Data = TypeVar("Data", VDataFrame, HDataFrame, MixDataFrame, FedNdarray)


def train_test_split(
    data: Data, test_size: float = 0.25, seed: int | None = 0
) -> tuple[Data, Data]:
    """Two tables of the same kind; no row count leaves a party.

    Vertical partitions are permuted alike, so that rows stay aligned: data and labels of one row
    order need the same seed. Horizontal partitions and the blocks of a mixed table each give their
    own share of test rows. seed=None keeps the order and takes the last rows for the test.

    Raises:
        UsageError: a part would be empty.
    """
    if not isinstance(test_size, float) or not 0 < test_size < 1:
        raise UsageError("test_size is a fraction of the rows", got=repr(test_size))
    train, test = (_part(data, seed, part, test_size) for part in ("train", "test"))
    return train, test


def _part(data: Any, seed: int | None, part: str, test_size: float) -> Any:
    if isinstance(data, MixDataFrame):
        return data.map(lambda b: _part(b, seed, part, test_size))
    if isinstance(data, FedNdarray):
        made = each(data.partitions, local.permuted, seed, part, test_size)
        return FedNdarray.trusted(made, data.way)
    if not isinstance(data, VDataFrame | HDataFrame):
        raise UsageError("no federated data", got=type(data).__name__)
    return data._each(local.permuted, seed, part, test_size)
