"""Logistic regression on columns of several parties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax

from spuvm.data.ndarray import as_labels
from spuvm.data.partitioned import Partitions, learn
from spuvm.devices.heu import HEU
from spuvm.devices.moves import wait
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import named
from spuvm.devices.spu import SPU
from spuvm.errors import UsageError
from spuvm.ml import worker as w
from spuvm.ml.block import Block, check_devices, check_roles, columns_of, epoch, names_of
from spuvm.ml.history import at_epoch
from spuvm.ml.parameters import Parameters, checked_scores
from spuvm.ml.progress import bar


def shared_probability(scores: Any) -> Any:
    """Probability of class 1 on an SPU."""
    return jax.nn.sigmoid(sum(scores))


class FLogisticRegressionVertical:
    """Columns at several parties, labels at one; see block.py for a step and what it shows.

    Args:
        heu: its evaluators are the parties with data other than the key holder.
        spu: where partial scores stay in shares; with scores="clear" none is needed.
        scores: "shares", or "clear": the talk's algorithm, in which the party with the labels, who
            must hold the key, sees every other party's partial scores of every batch.
        epochs, batch_size, learning_rate, l2, tol, progress: see Parameters.
    """

    def __init__(
        self,
        heu: HEU,
        spu: SPU | None = None,
        *,
        scores: Literal["shares", "clear"] = "shares",
        epochs: int = 3,
        batch_size: int = 64,
        learning_rate: float = 0.1,
        l2: float = 0.0,
        tol: float | None = None,
        progress: Literal["none", "bar"] = "none",
    ) -> None:
        self.heu, self.spu, self.scores = heu, spu, checked_scores(scores)
        check_devices([heu], spu, self.scores)
        self.parameters = Parameters(epochs, batch_size, learning_rate, l2, tol, progress)
        self.epochs_done = 0
        self._weights: Partitions = {}
        self._names: Partitions = {}
        self._history: list[Partitions] = []
        self._owner: PYU | None = None

    def fit(self, x: Any, y: Any) -> FLogisticRegressionVertical:
        """Train from zero weights.

        Args:
            x: VDataFrame or vertical FedNdarray, rows aligned.
            y: labels 0 and 1 in the same order: a handle, or federated data at one party.
        """
        how = self.parameters
        block = Block(x, y, self.heu, self.spu, self.scores, how)
        self.epochs_done, self._history = 0, []
        with bar(
            how.progress, "vertical logistic regression", how.epochs * len(block.spans)
        ) as tick:
            for _ in range(how.epochs):
                epoch([block], tick)
                self.epochs_done += 1
                self._history.append(block.weights())
                if how.tol is not None and block.converged():
                    break
        self._weights, self._owner = self._history[-1], block.owner
        self._names = block.names
        return self

    @property
    def coef_(self) -> Partitions:
        """Every party's own weights, where they are."""
        self._fitted()
        return {p: p(w.coefficients)(v, p == self._owner) for p, v in self._weights.items()}

    @property
    def intercept_(self) -> PYUObject:
        """At the party with the labels."""
        owner = self._fitted()
        found: PYUObject = owner(w.intercept)(self._weights[owner])
        return found

    def predict_proba(self, x: Any) -> PYUObject:
        """[n, 2] at the party with the labels; reported.

        A table's columns must be named as in training; an array's are taken as they come.
        """
        spu = self.spu if self.scores == "shares" else None
        return predict_proba(self._weights, self._names, self._fitted(), x, spu)

    def predict(self, x: Any) -> PYUObject:
        """0 or 1 per row, at the party with the labels."""
        found: PYUObject = self._fitted()(w.classes)(self.predict_proba(x))
        return found

    def score(self, x: Any, y: Any) -> float:
        """Accuracy, to the script; reported."""
        return self._measure(w.accuracy, "accuracy", x, y)

    def auc(self, x: Any, y: Any) -> float:
        """Area under the ROC curve, to the script; reported."""
        return self._measure(w.auc, "area under the ROC curve", x, y)

    def at_epoch(self, epoch: int) -> FLogisticRegressionVertical:
        """The model as it was after an epoch; its weights never left their owners."""
        return at_epoch(self, self._history, epoch)

    def save(self, paths: Mapping[PYU, str]) -> None:
        """Every party writes its weights and column names to a file of its own."""
        self._fitted()
        save(self._weights, self._names, paths)

    def load(self, paths: Mapping[PYU, str], owner: PYU) -> FLogisticRegressionVertical:
        """Every party reads its weights; `owner` is the party with the labels.

        Raises:
            PartyError: a file that is not there; UsageError: one of another kind.
        """
        if owner not in paths:
            raise UsageError("the party with the labels has no file", got=repr(owner))
        check_roles(list(paths), owner, self.heu, self.spu, self.scores)
        self._weights, self._names = load(paths)
        self._owner, self._history = owner, []
        return self

    def _measure(self, fn: Any, what: str, x: Any, y: Any) -> float:
        labels = as_labels(y)
        owner = self._fitted()
        if labels.device != owner:
            raise UsageError(
                "labels at another party than in training", got=repr(labels), expected=repr(owner)
            )
        return float(learn([owner(fn)(self.predict_proba(x), labels)], what)[0])

    def _fitted(self) -> PYU:
        if self._owner is None:
            raise UsageError("the model is not fitted", next="model.fit(x, y), or model.load(...)")
        return self._owner

    def __repr__(self) -> str:
        return f"FLogisticRegressionVertical({self.heu!r}, scores={self.scores!r})"


def predict_proba(
    weights: Partitions, fitted: Partitions, owner: PYU, x: Any, spu: SPU | None
) -> PYUObject:
    """Probabilities [n, 2] at `owner`: its partial scores meet on an SPU, or in clear there."""
    parts, names = columns_of(x), names_of(x)
    if set(parts) - set(weights) or set(weights) - set(parts) - {owner}:
        raise UsageError(
            "other parties than the model was fitted with",
            got=", ".join(p.party for p in parts),
            expected=", ".join(p.party for p in weights),
        )
    scores = [
        p(w.linear)(v, parts.get(p), p == owner, fitted.get(p), names.get(p))
        for p, v in weights.items()
    ]
    if spu is not None:
        opened = spu(shared_probability)(scores).to(owner)
        shared: PYUObject = owner(w.two_columns)(opened)
        return shared
    with named("partial scores of a prediction"):
        here = [s.to(owner) for s in scores]
    found: PYUObject = owner(w.probabilities)(*here)
    return found


def save(weights: Partitions, names: Partitions, paths: Mapping[PYU, str]) -> None:
    """Write every party's weights and names; waits until the files are there."""
    missing = [p.party for p in weights if p not in paths]
    if missing:
        raise UsageError("a party without a path to save to", got=", ".join(missing))
    wait([p(w.save)(v, names.get(p), str(paths[p])) for p, v in weights.items()])


def load(paths: Mapping[PYU, str]) -> tuple[Partitions, Partitions]:
    """Every party's weights and names, from its file; waits until they are read."""
    read = {p: p(w.load, num_returns=2)(str(path)) for p, path in paths.items()}
    wait([weights for weights, _ in read.values()])
    return {p: r[0] for p, r in read.items()}, {p: r[1] for p, r in read.items()}
