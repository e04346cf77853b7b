"""Federated data: tables and arrays whose partitions stay with their owners."""

from spuvm.data.frames import HDataFrame, MixDataFrame, VDataFrame
from spuvm.data.io import read_csv
from spuvm.data.ndarray import FedNdarray
from spuvm.data.preprocessing import LabelEncoder, MinMaxScaler, StandardScaler
from spuvm.data.split import train_test_split

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
