"""scikit-learn's breast cancer data, standardised, and how the tests split it."""

import numpy as np
from sklearn.datasets import load_breast_cancer

import spuvm as sf


def cancer():
    """Features [569, 30] and labels [569]."""
    data = load_breast_cancer()
    return (data.data - data.data.mean(0)) / data.data.std(0), data.target


def by_columns(x, parties):
    """A vertical array of equal parts of the columns."""
    pieces = np.array_split(np.arange(x.shape[1]), len(parties))
    return sf.data.FedNdarray(
        {sf.PYU(p): sf.to(sf.PYU(p), x[:, c]) for p, c in zip(parties, pieces, strict=True)}
    )


def table_by_columns(x, parties):
    """A VDataFrame of equal parts of the columns."""
    import pandas as pd

    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(x.shape[1])])
    pieces = np.array_split(np.arange(x.shape[1]), len(parties))
    return sf.data.VDataFrame(
        {
            sf.PYU(p): sf.to(sf.PYU(p), frame.iloc[:, c])
            for p, c in zip(parties, pieces, strict=True)
        }
    )


def weights_of(model):
    """All weights of a vertical model, the intercept last."""
    parts = [sf.reveal(v) for v in model.coef_.values() if len(sf.reveal(v))]
    return np.concatenate([*parts, [sf.reveal(model.intercept_)]])
