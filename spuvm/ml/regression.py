"""Linear and logistic regression with everything on the SPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from spuvm.data import FedNdarray, HDataFrame, MixDataFrame, VDataFrame, local
from spuvm.data.names import no_names, same_columns
from spuvm.data.ndarray import as_labels
from spuvm.data.partitioned import Partitions, learn
from spuvm.devices.moves import wait
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.spu import SPU, SPUObject
from spuvm.errors import UsageError
from spuvm.ml import worker as w
from spuvm.ml.block import AHEAD, names_of
from spuvm.ml.parameters import Parameters
from spuvm.ml.progress import bar

Kind = Literal["logistic", "linear"]
LARGEST = 1024.0  # weights are kept within: ranges then stay the same from step to step
Piece = tuple[tuple[PYUObject, ...], PYUObject]  # columns of some rows, and their labels


class SSRegression:
    """Data, weights and predictions stay in shares; whoever they are moved to sees them.

    Weights are kept within 1024 in absolute value: data should be scaled.

    Takes every partition: tables by columns, by rows, or both. What the script learns: row counts,
    which the batches need; the number of columns of every party.

    Args:
        spu: declare Config(input_range=...) for scaled data: products then cost less.
        kind: "logistic" (labels 0 and 1) or "linear".
        epochs, batch_size, learning_rate, l2, tol, progress: see Parameters; tol=None needs no
            opening at all, otherwise one bit per epoch is opened to the script.
    """

    def __init__(
        self,
        spu: SPU,
        kind: Kind = "logistic",
        *,
        epochs: int = 3,
        batch_size: int = 64,
        learning_rate: float = 0.1,
        l2: float = 0.0,
        tol: float | None = None,
        progress: Literal["none", "bar"] = "none",
    ) -> None:
        if kind not in get_args(Kind):
            raise UsageError(
                "unknown kind of regression", got=repr(kind), expected="logistic or linear"
            )
        if not isinstance(spu, SPU):
            raise UsageError("SSRegression runs on an SPU", got=repr(spu))
        self.spu, self.kind = spu, kind
        self.parameters = Parameters(epochs, batch_size, learning_rate, l2, tol, progress)
        self.epochs_done = 0
        self._weights: SPUObject | None = None
        self._layout: list[Partitions] = []

    def fit(self, x: Any, y: Any) -> SSRegression:
        """Train from zero weights.

        Args:
            x: VDataFrame, HDataFrame, MixDataFrame or FedNdarray.
            y: labels of the same rows: at one party for tables by columns; one handle per party or
               block, in their order, for the others.
        """
        how = self.parameters
        self._layout = layout_of(x)
        batches = self._batches(x, y)
        step = self.spu(_STEPS[self.kind])
        settings = (how.learning_rate, how.l2)
        parts, labels = batches[0]
        weights = self.spu(start)(parts)
        self.epochs_done = 0
        with bar(
            how.progress, f"{self.kind} regression on the SPU", how.epochs * len(batches)
        ) as tick:
            for _ in range(how.epochs):
                before = weights
                running: deque[SPUObject] = deque()
                for parts, labels in batches:
                    weights = step(weights, parts, labels, *settings)
                    running.append(weights)
                    if len(running) > AHEAD:
                        wait(running.popleft())
                        tick()
                for one in running:
                    wait(one)
                    tick()
                self.epochs_done += 1
                if how.tol is not None and self._converged(before, weights):
                    break
        self._weights = weights
        return self

    @property
    def weights_(self) -> SPUObject:
        """All weights, the intercept last; .to(party) or sf.reveal opens them."""
        if self._weights is None:
            raise UsageError("the model is not fitted", next="model.fit(x, y)")
        return self._weights

    @property
    def coef_(self) -> SPUObject:
        """Weights of the columns, in the order of the parties."""
        found: SPUObject = self.spu(all_but_last)(self.weights_)
        return found

    @property
    def intercept_(self) -> SPUObject:
        found: SPUObject = self.spu(last)(self.weights_)
        return found

    def decision_function(self, x: Any) -> SPUObject:
        """x w + b, on the SPU."""
        found: SPUObject = self.spu(scores_of)(self.weights_, *self._whole(x))
        return found

    def predict_proba(self, x: Any) -> SPUObject:
        """[n, 2] on the SPU; logistic only."""
        if self.kind != "logistic":
            raise UsageError("a linear regression has no probabilities", next="model.predict(x)")
        found: SPUObject = self.spu(probabilities)(self.weights_, *self._whole(x))
        return found

    def predict(self, x: Any) -> SPUObject:
        """Classes 0 and 1, or values; on the SPU."""
        fn = classes if self.kind == "logistic" else scores_of
        found: SPUObject = self.spu(fn)(self.weights_, *self._whole(x))
        return found

    def score(self, x: Any, y: Any) -> float:
        """Accuracy, or R^2 of a linear model, opened to the script alone."""
        from spuvm.devices.moves import reveal

        weights, parts, labels = self.weights_, self._whole(x), self._labels(x, y)
        if self.kind == "linear":
            return float(reveal(self.spu(determination)(weights, labels, *parts)))
        rows = sum(one.structure()[0][0].spec.shape[0] for one in labels)
        return int(reveal(self.spu(correct)(weights, labels, *parts))) / rows

    def save(self, path: str) -> None:
        """Every party of the SPU writes its shares of the weights to `path`.PARTY, encrypted.

        Nobody sees them (spu.dump); to have them in clear, `weights_` is moved to a party.
        """
        self.spu.dump(self.weights_, path)

    def load(self, path: str) -> SSRegression:
        """Every party of the SPU reads its shares. Tables then have their parties in the order of
        training: the file does not know them."""
        self._weights, self._layout = self.spu.load(path), []
        return self

    def _converged(self, before: SPUObject, after: SPUObject) -> bool:
        from spuvm.devices.moves import reveal

        return bool(reveal(self.spu(near)(before, after, float(self.parameters.tol or 0) ** 2)))

    def _batches(self, x: Any, y: Any) -> list[tuple[list[SPUObject], SPUObject]]:
        """Shares of every batch: the columns of its parties, and its labels."""
        found = []
        for parts, labels in self._pieces(x, y):
            (rows,) = learn([labels.device(local.shape_of)(labels)], "row count")
            for low, high in w.batches(rows[0], self.parameters.batch_size):
                columns = [p.device(span)(p, low, high).to(self.spu) for p in parts]
                found.append((columns, labels.device(span)(labels, low, high).to(self.spu)))
        return found

    def _pieces(self, x: Any, y: Any, training: bool = True) -> list[Piece]:
        pieces = []
        blocks = blocks_of(x)
        given = list(y) if isinstance(y, list | tuple) else [y]
        if len(given) != len(blocks):
            raise UsageError(
                "one set of labels per block of rows", got=f"{len(given)} for {len(blocks)}"
            )
        check: Any = local.checked_array
        if self.kind == "logistic":
            check = w.checked_labels if training else w.binary_labels
        for block, one in zip(blocks, given, strict=True):
            labels = as_labels(one)
            checked = labels.device(check)(labels)
            FedNdarray({**block, **_beside(block, labels)})  # equal row counts, or an error
            pieces.append((tuple(p(w.features)(v) for p, v in block.items()), checked))
        wait([labels for _, labels in pieces])
        return pieces

    def _whole(self, x: Any) -> list[list[SPUObject]]:
        """Shares of all blocks, with the parties' columns in the order of training."""
        found = []
        for block, names in zip(blocks_of(x), layout_of(x), strict=True):
            fitted = next((f for f in self._layout if set(f) == set(block)), {})
            checked = {
                p: p(w.features)(p(same_columns)(v, fitted[p], names[p]) if p in fitted else v)
                for p, v in block.items()
            }
            found.append([checked[p].to(self.spu) for p in fitted or block])
        return found

    def _labels(self, x: Any, y: Any) -> list[SPUObject]:
        return [labels.to(self.spu) for _, labels in self._pieces(x, y, training=False)]

    def __repr__(self) -> str:
        return f"SSRegression({self.spu!r}, {self.kind!r})"


def blocks_of(x: Any) -> list[dict[PYU, PYUObject]]:
    """Blocks of rows, each with the columns of its parties."""
    if isinstance(x, MixDataFrame):
        return [block.values.partitions for block in x.blocks]
    if isinstance(x, VDataFrame | HDataFrame):
        x = x.values
    if not isinstance(x, FedNdarray):
        raise UsageError("no federated data", got=type(x).__name__)
    if x.way == "vertical":
        return [x.partitions]
    return [{pyu: value} for pyu, value in x.partitions.items()]


def layout_of(x: Any) -> list[Partitions]:
    """Per block, its parties in order, with the names of their columns, which stay there."""
    if isinstance(x, MixDataFrame):
        return [names_of(block) for block in x.blocks]
    if isinstance(x, VDataFrame):
        return [names_of(x)]
    if isinstance(x, HDataFrame):
        return [{p: p(local.columns_of)(v)} for p, v in x.partitions.items()]
    return [{p: p(no_names)() for p in block} for block in blocks_of(x)]


def _beside(block: dict[PYU, PYUObject], labels: PYUObject) -> dict[PYU, PYUObject]:
    """The labels as one more partition, for the comparison of row counts."""
    owner = labels.device
    if owner not in block:
        return {owner: labels}
    return {owner: owner(same_rows)(block[owner], labels)}


def same_rows(x: Any, y: Any) -> Any:
    """x, or an error when y has other rows."""
    if len(x) != len(y):
        raise UsageError("labels are missing for some rows, or rows for some labels")
    return x


def span(value: Any, low: int, high: int) -> Any:
    """Rows of a party's array, as the SPU computes with them."""
    return value[low:high].astype("float32")


def start(parts: Sequence[Any]) -> Any:
    """Zero weights, one per column and one for the intercept."""
    return jnp.zeros(sum(p.shape[1] if p.ndim > 1 else 1 for p in parts) + 1)


def score(weights: Any, parts: Sequence[Any]) -> Any:
    """Scores of one block: the intercept needs no column of ones."""
    x = jnp.concatenate([p if p.ndim > 1 else p[:, None] for p in parts], axis=1)
    if x.shape[1] + 1 != len(weights):
        raise UsageError(
            "other columns than in training",
            got=f"{x.shape[1]} columns",
            expected=str(len(weights) - 1),
        )
    return jnp.matmul(x, weights[:-1]) + weights[-1]


def scores_of(weights: Any, *blocks: Sequence[Any]) -> Any:
    return jnp.concatenate([score(weights, parts) for parts in blocks])


def probabilities(weights: Any, *blocks: Sequence[Any]) -> Any:
    p = jax.nn.sigmoid(scores_of(weights, *blocks))
    return jnp.stack([1 - p, p], axis=1)


def classes(weights: Any, *blocks: Sequence[Any]) -> Any:
    return (scores_of(weights, *blocks) > 0).astype(jnp.int32)


def correct(weights: Any, labels: Sequence[Any], *blocks: Sequence[Any]) -> Any:
    """How many classes are right."""
    y = jnp.concatenate([one.reshape(-1) for one in labels])
    return jnp.sum(((scores_of(weights, *blocks) > 0) == (y > 0.5)).astype(jnp.int32))


def determination(weights: Any, labels: Sequence[Any], *blocks: Sequence[Any]) -> Any:
    """R^2 = 1 - mean squared error / variance; an error counts as 1024 at most."""
    y = jnp.concatenate([one.reshape(-1) for one in labels])
    wrong = jnp.clip(scores_of(weights, *blocks) - y, -LARGEST, LARGEST)
    spread = jnp.clip(y - jnp.mean(y), -LARGEST, LARGEST)
    return 1 - jnp.mean(wrong * wrong) / jnp.mean(spread * spread)


def near(before: Any, after: Any, limit: Any) -> Any:
    change = after - before
    return jnp.sum(change * change) < limit


def all_but_last(weights: Any) -> Any:
    return weights[:-1]


def last(weights: Any) -> Any:
    return weights[-1]


def _step(weights: Any, parts: Sequence[Any], residual: Any, rate: Any, l2: Any) -> Any:
    x = jnp.concatenate([p if p.ndim > 1 else p[:, None] for p in parts], axis=1)
    slope = jnp.concatenate([jnp.matmul(residual, x), jnp.sum(residual)[None]]) / len(residual)
    if l2:
        slope = slope + jnp.append(jnp.full(x.shape[1], l2), 0.0) * weights
    return jnp.clip(weights - rate * slope, -LARGEST, LARGEST)


def logistic_step(weights: Any, parts: Sequence[Any], y: Any, rate: Any, l2: Any) -> Any:
    """One step of logistic regression on a batch."""
    residual = jax.nn.sigmoid(score(weights, parts)) - y.reshape(-1)
    return _step(weights, parts, residual, rate, l2)


def linear_step(weights: Any, parts: Sequence[Any], y: Any, rate: Any, l2: Any) -> Any:
    """One step of linear regression on a batch: half the mean squared error."""
    return _step(weights, parts, score(weights, parts) - y.reshape(-1), rate, l2)


_STEPS = {"logistic": logistic_step, "linear": linear_step}
