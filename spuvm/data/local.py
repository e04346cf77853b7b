"""What runs inside a party on its own pandas frames and numpy arrays."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spuvm.data.names import check_same_columns
from spuvm.errors import UsageError
from spuvm.masked import refuse_masked

Frame = pd.DataFrame
Array = npt.NDArray[Any]
COARSE = 2.0**-15  # sums in fixed point (18 fraction bits) below this are rounding


def read(path: str, options: dict[str, Any]) -> Frame:
    """A CSV file of this party."""
    return checked_frame(pd.read_csv(path, **options))


def checked_frame(value: Any) -> Frame:
    """A DataFrame with rows, columns and distinct names, or an error."""
    if not isinstance(value, pd.DataFrame):
        raise UsageError("a partition is a pandas DataFrame", got=type(value).__name__)
    if not len(value) or not len(value.columns):
        raise UsageError("a partition is empty", got=f"{len(value.columns)} columns")
    names = list(map(str, value.columns))
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError("a partition has duplicate columns", got=", ".join(twice))
    return value


def checked_array(value: Any) -> Array:
    """A numpy array of one or two dimensions with rows, or an error."""
    refuse_masked(value, "a partition")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or not array.size:
        raise UsageError(
            "a partition is an array of numbers with rows",
            got=f"{array.dtype} of {array.ndim} dimensions",
        )
    return array


def fresh_salt() -> Array:
    """A key for digests, known to the data's parties and not to the script."""
    return np.frombuffer(os.urandom(32), np.uint8)


def row_digest(value: Any, key: str | None, salt: Array) -> Array:
    """A keyed digest of the row count and, with a key column, of its values in order."""
    text = str(len(value))
    if key is not None:
        if key not in value.columns:
            raise UsageError("a partition lacks the key column", got="none", expected=repr(key))
        column = value[key]
        if column.isna().any() or column.duplicated().any():
            raise UsageError(f"the key column {key!r} has missing or repeated values")
        text += "\n" + "\n".join(map(repr, map(str, column.tolist())))  # no text ends a line
    return _digest(text, salt)


def column_digests(value: Frame, salt: Array, skip: str | None) -> Array:
    """A keyed digest of each column's name, [columns, 32]."""
    names = [str(n) for n in value.columns if n != skip]
    return np.stack([_digest(name, salt) for name in names] or [np.zeros(32, np.uint8)])


def schema_digest(value: Any, salt: Array) -> Array:
    """A keyed digest of names and dtypes, or of an array's width and dtype."""
    if isinstance(value, pd.DataFrame):
        return _digest(repr([(str(n), str(t)) for n, t in value.dtypes.items()]), salt)
    return _digest(repr((np.shape(value)[1:], np.asarray(value).dtype.kind)), salt)


def different(digests: Sequence[Array]) -> list[int]:
    """Places of the digests that are not the first one's."""
    return [i for i, d in enumerate(digests) if not np.array_equal(d, digests[0])]


def shared_names(digests: Sequence[Array]) -> list[int]:
    """Places of the parties that have a name that an earlier one has too."""
    seen: set[bytes] = set()
    found = []
    for i, one in enumerate(digests):
        mine = {row.tobytes() for row in one}
        if mine & seen:
            found.append(i)
        seen |= mine
    return found


def shape_of(value: Any) -> tuple[int, ...]:
    return tuple(map(int, np.shape(value)))


def columns_of(value: Frame) -> list[str]:
    return [str(n) for n in value.columns]


def dtypes_of(value: Frame) -> dict[str, str]:
    return {str(n): str(t) for n, t in value.dtypes.items()}


def dtype_of(value: Any) -> str:
    return str(np.asarray(value).dtype)


def choose(value: Frame, names: Sequence[str]) -> Frame:
    """The named columns that are here, in the order asked for."""
    return value[[n for n in names if n in value.columns]]


def without(value: Frame, names: Sequence[str]) -> Frame:
    return value.drop(columns=[n for n in names if n in value.columns])


def rows(value: Any, index: Any) -> Any:
    """Rows by a slice, an array of places, a mask, or one place; a frame stays a frame."""
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        index = [int(index)]
    return value.iloc[index] if isinstance(value, pd.DataFrame) else value[index]


def stacked(parts: Sequence[Frame]) -> Frame:
    """Rows of one party that belong to several blocks, one below the other."""
    first = parts[0]
    if any(list(p.columns) != list(first.columns) for p in parts):
        raise UsageError(
            "columns differ between blocks of one party",
            expected="the same names in the same order",
            next="df[[...]] at their owner",
        )
    return pd.concat(list(parts), ignore_index=True)


def block(value: Any, index: Any) -> Array:
    """A part of an array by a numpy index."""
    part: Array = np.asarray(value)[index]
    return part


def to_array(value: Any) -> Array:
    """float64 values of a frame; its columns must be numbers without gaps."""
    if isinstance(value, pd.DataFrame):
        strange = [
            str(n)
            for n, t in value.dtypes.items()
            if not pd.api.types.is_any_real_numeric_dtype(t) and t != np.bool_
        ]
        if strange:
            raise UsageError(
                "columns that are not numbers", got=", ".join(strange), next="encode or drop them"
            )
        gaps = [str(n) for n in value.columns if value[n].isna().any()]
        if gaps:
            raise UsageError(
                "columns with missing values", got=", ".join(gaps), next="df.fillna(value)"
            )
        return value.to_numpy(np.float64)
    return np.asarray(value)


def permuted(value: Any, seed: Any, part: str, train: float, test: float) -> Any:
    """The first rows (train) or the last (test), permuted by a seed or in the file's order."""
    count = len(value)
    last = round(count * test)
    first = min(round(count * train), count - last)
    if not (first > 0 and last > 0):
        raise UsageError("a part would be empty", got=f"train_size={train:g}, test_size={test:g}")
    order = np.arange(count)
    if seed is not None:  # a number, or what fresh_salt drew
        entropy = seed if isinstance(seed, int) else np.asarray(seed).tolist()
        order = np.random.default_rng(entropy).permutation(count)
    return rows(value, order[:first] if part == "train" else order[count - last :])


def apply(value: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A pandas method that keeps a frame a frame."""
    return getattr(value, method)(*args, **kwargs)


def statistic(value: Frame, name: str) -> Array:
    """One number per column."""
    frame = pd.DataFrame(to_array(value))
    return np.asarray(getattr(frame, name)(), np.float64)


def moments(value: Any) -> dict[str, Array]:
    """Rows, sums and sums of squares of the columns."""
    x = _matrix(value)
    return {"n": np.array(float(len(x))), "sum": x.sum(0), "squares": (x * x).sum(0)}


def extremes(value: Any) -> dict[str, Array]:
    x = _matrix(value)
    return {"min": x.min(0), "max": x.max(0)}


def totals(value: Any) -> dict[str, Array]:
    """Rows and sums of the columns."""
    x = _matrix(value)
    return {"n": np.array(float(len(x))), "sum": x.sum(0)}


def means_from(total: dict[str, Array]) -> Array:
    found: Array = np.asarray(total["sum"], np.float64) / np.asarray(total["n"], np.float64)
    return found


def deviations(value: Any, means: Array) -> Array:
    """Sums of squared distances from the means over all rows: nothing cancels in them."""
    found: Array = np.square(_matrix(value) - means).sum(0)
    return found


def standard_from(
    value: Any, means: Array, squares: Any, total: dict[str, Array], least: float = COARSE
) -> Any:
    """Names, means and scales of columns; a column whose squares are below `least` keeps its."""
    far = np.asarray(squares, np.float64)
    count = np.asarray(total["n"], np.float64)
    tiny = count * (1e-12 * np.maximum(1.0, np.abs(means))) ** 2
    constant = far <= np.maximum(tiny, least)
    return _names(value), means, np.where(constant, 1.0, np.sqrt(far / count))


def standard(value: Any) -> Any:
    """The same for a party that has all rows."""
    total = totals(value)
    means = means_from(total)
    return standard_from(value, means, deviations(value, means), total, 0.0)


def minmax_from(value: Any, extreme: dict[str, Array]) -> Any:
    low = np.asarray(extreme["min"], np.float64)
    width = np.asarray(extreme["max"], np.float64) - low
    return _names(value), low, np.where(width > 0, width, 1.0)


def minmax(value: Any) -> Any:
    return minmax_from(value, extremes(value))


def scaled(value: Any, by: tuple[list[str] | None, Array, Array]) -> Any:
    """(x - shift) / scale, column by column, of the columns that were fitted."""
    names, shift, scale = by
    check_same_columns(names, _names(value))
    matrix = _matrix(value)
    if matrix.shape[1] != len(shift):
        raise UsageError(
            "a scaler was fitted on other columns",
            got=f"{matrix.shape[1]} columns",
            expected=str(len(shift)),
        )
    x = (matrix - shift) / scale
    if isinstance(value, pd.DataFrame):
        return pd.DataFrame(x, columns=value.columns, index=value.index)
    return x


def classes_of(value: Any) -> list[Any]:
    """Distinct values of a column, sorted."""
    found: list[Any] = np.unique(_column(value)).tolist()
    return found


def encoded(value: Any, classes: Sequence[Any]) -> Any:
    """Places of values in the list of classes."""
    place = {c: i for i, c in enumerate(classes)}
    column = _column(value).tolist()
    unknown = sum(v not in place for v in column)
    if unknown:
        raise UsageError(f"{unknown} labels are not among the classes")
    codes = np.array([place[v] for v in column], np.int64)
    if isinstance(value, pd.DataFrame):
        return pd.DataFrame({value.columns[0]: codes}, index=value.index)
    return codes


def save(value: Any, path: str) -> None:
    """Write a frame to a file of this party."""
    value.to_csv(path, index=False)


def mapped(value: Any, fn: Callable[[Any], Any]) -> Any:
    """fn(value), which must have as many rows."""
    made = fn(value)
    if len(made) != len(value):
        raise UsageError("a function on a partition keeps its rows", got=f"{len(made)} rows")
    return made


def _names(value: Any) -> list[str] | None:
    return columns_of(value) if isinstance(value, pd.DataFrame) else None


def _matrix(value: Any) -> Array:
    x = to_array(value).astype(np.float64)
    return x[:, None] if x.ndim == 1 else x


def _column(value: Any) -> Array:
    x = value.to_numpy() if isinstance(value, pd.DataFrame) else np.asarray(value)
    if x.ndim == 2 and x.shape[1] != 1:
        raise UsageError("labels are one column", got=f"{x.shape[1]} columns")
    return x.reshape(-1)


def _digest(text: str, salt: Array) -> Array:
    made = hmac.new(salt.tobytes(), text.encode(), hashlib.sha256).digest()
    return np.frombuffer(made, np.uint8)
