"""The demos' tables, read from scikit-learn's files: importing it takes each party two seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MEASURED = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
TUMOUR_NAMES = (
    *(f"mean {name}" for name in MEASURED),
    *(f"{name} error" for name in MEASURED),
    *(f"worst {name}" for name in MEASURED),
)


def digits() -> tuple[Array, Array]:
    """Handwritten digits: pixels from 0 to 16, [1797, 64], and classes."""
    return _table("digits", "digits.csv.gz", 0)


def tumours() -> tuple[Array, Array]:
    """Breast cancer: the features TUMOUR_NAMES, [569, 30], and labels, 1 for benign."""
    return _table("breast_cancer", "breast_cancer.csv", 1)


def _table(name: str, file: str, header: int) -> tuple[Array, Array]:
    """All columns but the last, and the last one as integers."""
    found = importlib.util.find_spec("sklearn")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "datasets" / "data" / file
        if path.is_file():
            table = np.loadtxt(path, delimiter=",", skiprows=header)
            return table[:, :-1], table[:, -1].astype(int)
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    return data.data, data.target
