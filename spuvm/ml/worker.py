"""What one party of a vertical model does: its columns, its weights, and perhaps the labels."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.data.names import Names, check_same_columns
from spuvm.errors import UsageError

Array = npt.NDArray[np.float64]

LARGEST = 2.0**14  # of a feature: a known bound makes products under encryption cheaper


def batches(rows: int, size: int) -> list[tuple[int, int]]:
    """Consecutive batches of `size` rows; a last one of less than half joins the one before it.

    Small batches would tell a party with many columns the residuals of single rows.
    """
    bounds = list(range(0, rows, size))
    if len(bounds) > 1 and rows - bounds[-1] < size / 2:
        bounds.pop()
    return list(zip(bounds, [*bounds[1:], rows], strict=True))


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow."""
    found: Array = 0.5 * (1 + np.tanh(z / 2))
    return found


class Worker:
    """One party's part of the model; lives at the party.

    Args:
        x: its columns [n, d], or None when it has labels alone.
        y: labels [n], or None.
        batch_size, learning_rate, l2: of the model.

    Raises:
        UsageError: rows and labels of different number, labels outside {0, 1}, one class only,
            values that are not finite, or as many columns as rows in a batch.
    """

    def __init__(self, x: Any, y: Any, batch_size: int, learning_rate: float, l2: float) -> None:
        if x is None and y is None:
            raise UsageError("a party without columns and labels has no part in a model")
        labels = None if y is None else checked_labels(y)
        columns = np.empty((len(labels), 0)) if x is None else features(x)  # type: ignore[arg-type]
        if labels is not None and len(labels) != len(columns):
            raise UsageError("labels are missing for some rows, or rows for some labels")
        spans = batches(len(columns), batch_size)
        smallest = min(high - low for low, high in spans)
        # The party with the labels carries the intercept, as a column of ones without penalty.
        ones = [] if labels is None else [np.ones((len(columns), 1))]
        self._x: Array = np.hstack([columns, *ones])
        if self._x.shape[1] >= smallest:
            raise UsageError(
                "as many columns as rows in a batch: the gradient would tell single residuals",
                expected="more rows in every batch than columns at any party; the intercept is one",
                next="take a larger batch_size",
            )
        self._y, self._rate = labels, learning_rate
        self._penalty = np.full(self._x.shape[1], l2)
        if labels is not None:
            self._penalty[-1] = 0.0
        self._w: Array = np.zeros(self._x.shape[1])
        self._before = self._w

    def rows(self) -> int:
        return len(self._x)

    def batch(self, low: int, high: int) -> Array:
        """Rows of this party's columns, with the ones of an intercept where it is here."""
        return self._x[low:high]

    def labels(self, low: int, high: int) -> npt.NDArray[np.float32]:
        assert self._y is not None
        return self._y[low:high].astype(np.float32)

    def partial_score(self, low: int, high: int) -> Array:
        """x w of these rows and columns."""
        return self._x[low:high] @ self._w

    def residual(self, low: int, high: int, *others: Array) -> Array:
        """sigmoid(sum of all partial scores) - y: for scores="clear", at the labels' party."""
        assert self._y is not None
        score = np.sum([self.partial_score(low, high), *others], axis=0)
        return sigmoid(score) - self._y[low:high]

    def step_with(self, residual: Array, low: int, high: int) -> None:
        """One step by the residuals themselves."""
        self.step(residual @ self._x[low:high], high - low)

    def step(self, gradient: Array, rows: int) -> None:
        """One step by the gradient of the summed loss over `rows` rows."""
        slope = np.asarray(gradient, np.float64).reshape(-1) / rows + self._penalty * self._w
        self._w = self._w - self._rate * slope

    def moved(self) -> float:
        """Squared distance of the weights since it was last asked."""
        change = self._w - self._before
        self._before = self._w
        return float(change @ change)

    def weights(self) -> Array:
        """All weights, the intercept last where it is here."""
        return self._w

    def set_weights(self, weights: Array) -> None:
        """Replace them; also the point that `moved` measures from is kept."""
        weights = np.asarray(weights, np.float64)
        if weights.shape != self._w.shape:
            raise UsageError(
                "weights of another shape", got=str(weights.shape), expected=str(self._w.shape)
            )
        self._w = weights


def coefficients(weights: Array, with_intercept: bool) -> Array:
    """The columns' own weights."""
    return weights[:-1] if with_intercept else weights


def intercept(weights: Array) -> float:
    return float(weights[-1])


def linear(
    weights: Array, x: Any, with_intercept: bool, fitted: Names = None, names: Names = None
) -> Array:
    """This party's part of the scores of new rows, whose columns must be named as in training."""
    if x is None:
        if len(weights) > 1:
            raise UsageError(
                "the columns of a party are missing", expected=f"the {len(weights) - 1} of training"
            )
        return np.asarray(weights[-1])
    check_same_columns(fitted, names)
    columns = features(x)
    own = coefficients(weights, with_intercept)
    if columns.shape[1] != len(own):
        raise UsageError(
            "other columns than the model was fitted on",
            got=f"{columns.shape[1]} columns",
            expected=str(len(own)),
        )
    return columns @ own + (weights[-1] if with_intercept else 0.0)


def probabilities(*scores: Array) -> Array:
    """[n, 2]: of class 0 and of class 1."""
    p = sigmoid(np.asarray(sum(np.asarray(s) for s in scores), np.float64))
    return np.stack([1 - p, p], axis=1)


def two_columns(p: Any) -> Array:
    """[n, 2] from the probability of class 1; rounding may have left [0, 1] by a little."""
    clipped = np.clip(np.asarray(p, np.float64), 0.0, 1.0)
    return np.stack([1 - clipped, clipped], axis=1)


def classes(p: Array) -> npt.NDArray[np.int64]:
    """0 or 1, whichever is more probable."""
    return (p[:, 1] > 0.5).astype(np.int64)


def accuracy(p: Array, y: Any) -> float:
    """The share of rows whose class is right."""
    return float((classes(p) == _as_many(binary_labels(y), p)).mean())


def auc(p: Array, y: Any) -> float:
    """Area under the ROC curve: how often a 1 ranks above a 0; ties count half."""
    labels, scores = _as_many(checked_labels(y), p), p[:, 1]
    order = np.sort(scores[labels == 0])
    mine = scores[labels == 1]
    below = np.searchsorted(order, mine, "left") + np.searchsorted(order, mine, "right")
    return float(below.sum() / (2 * len(order) * len(mine)))


def checked_labels(y: Any) -> Array:
    """Labels as a vector of zeros and ones; both must occur."""
    labels = binary_labels(y)
    if len(np.unique(labels)) < 2:
        raise UsageError("labels of one class only", next="both 0 and 1 are needed")
    return labels


def binary_labels(y: Any) -> Array:
    """Labels as a vector of zeros and ones."""
    raw = np.asarray(y)
    if raw.dtype.kind not in "biuf" or raw.ndim not in (1, 2) or raw.size != len(raw):
        raise UsageError(
            "labels are one column of numbers",
            got=f"{raw.dtype} of {raw.ndim} dimensions",
            next="sf.data.LabelEncoder makes numbers of classes",
        )
    labels = raw.astype(np.float64).reshape(-1)
    if not np.isin(labels, (0.0, 1.0)).all():
        raise UsageError(
            "labels outside {0, 1}",
            got=f"{int((~np.isin(labels, (0.0, 1.0))).sum())} of {labels.size}",
            next="sf.data.LabelEncoder makes them 0 and 1",
        )
    return labels


def save(weights: Array, names: Names, path: str) -> None:
    """Write a party's weights, and the names of its columns if known, to a file of its own."""
    with open(path, "wb") as file:
        known = {} if names is None else {"columns": np.array(names, np.str_)}
        np.savez(file, allow_pickle=False, weights=weights, **known)


def load(path: str) -> tuple[Array, Names]:
    """Read what `save` wrote: weights and names.

    Raises:
        UsageError: a file of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file["columns"].tolist() if "columns" in file else None
            return np.asarray(file["weights"], np.float64), names
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError("not a file of saved weights", expected="what model.save wrote") from error


def _as_many(labels: Array, p: Array) -> Array:
    if len(labels) != len(p):
        raise UsageError("labels of other rows than the predictions")
    return labels


def features(x: Any) -> Array:
    """Columns as a matrix of numbers that can be learned from, or an error."""
    raw = np.asarray(x)
    if raw.dtype.kind not in "biuf" or raw.ndim not in (1, 2) or not len(raw):
        raise UsageError(
            "columns are a matrix of numbers with rows",
            got=f"{raw.dtype} of {raw.ndim} dimensions",
        )
    matrix = raw.astype(np.float64).reshape(len(raw), -1)
    if not np.isfinite(matrix).all():
        raise UsageError("values that are missing or infinite", next="df.fillna(value)")
    if (np.abs(matrix) > LARGEST).any():
        raise UsageError(
            "features too large to be learned from",
            expected=f"|x| <= {LARGEST:g}",
            next="sf.data.StandardScaler().fit_transform(table)",
        )
    return matrix
