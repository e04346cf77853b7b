"""Federated data: tables and arrays whose partitions stay with their owners.

Names load when they are used: what runs inside a party needs pandas alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "FedNdarray": "spuvm.data.ndarray",
    "HDataFrame": "spuvm.data.frames",
    "LabelEncoder": "spuvm.data.preprocessing",
    "MinMaxScaler": "spuvm.data.preprocessing",
    "MixDataFrame": "spuvm.data.mixed",
    "StandardScaler": "spuvm.data.preprocessing",
    "VDataFrame": "spuvm.data.frames",
    "read_csv": "spuvm.data.io",
    "train_test_split": "spuvm.data.split",
}

__all__ = [
    "FedNdarray",
    "HDataFrame",
    "LabelEncoder",
    "MinMaxScaler",
    "MixDataFrame",
    "StandardScaler",
    "VDataFrame",
    "read_csv",
    "train_test_split",
]

if TYPE_CHECKING:
    from spuvm.data.frames import HDataFrame as HDataFrame
    from spuvm.data.frames import VDataFrame as VDataFrame
    from spuvm.data.io import read_csv as read_csv
    from spuvm.data.mixed import MixDataFrame as MixDataFrame
    from spuvm.data.ndarray import FedNdarray as FedNdarray
    from spuvm.data.preprocessing import LabelEncoder as LabelEncoder
    from spuvm.data.preprocessing import MinMaxScaler as MinMaxScaler
    from spuvm.data.preprocessing import StandardScaler as StandardScaler
    from spuvm.data.split import train_test_split as train_test_split


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spuvm.data' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
