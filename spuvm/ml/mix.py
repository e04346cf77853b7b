"""Logistic regression on rows and columns of several parties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from spuvm.aggregation import Aggregator
from spuvm.data import MixDataFrame
from spuvm.data.ndarray import as_labels
from spuvm.data.partitioned import Partitions, learn, shown
from spuvm.devices.heu import HEU
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import named
from spuvm.devices.spu import SPU
from spuvm.errors import UsageError
from spuvm.ml import worker as w
from spuvm.ml.block import Block, check_devices, check_roles, epoch
from spuvm.ml.history import at_epoch
from spuvm.ml.parameters import Parameters, checked_scores
from spuvm.ml.progress import bar
from spuvm.ml.vertical import load, predict_proba, save


class FLogisticRegressionMix:
    """Row blocks, each split by columns: vertical steps within them, averages across them.

    After every epoch the weights of the same columns at the blocks' row holders are averaged, by
    their numbers of rows, and every holder goes on from the average. It learns the average: between
    two holders that is the other's weights, so any columns (or labels) with two holders are refused
    unless `two_holders="reveal"`. A party may hold the same columns of several blocks.

    Args:
        heus: one per block.
        aggregators: one per place of columns, and one for the intercept's party if it has no
            columns; or a single one for all places.
        spu: where partial scores stay in shares.
        scores, epochs, ...: as in FLogisticRegressionVertical.
    """

    def __init__(
        self,
        heus: Sequence[HEU],
        aggregators: Sequence[Aggregator] | Aggregator,
        spu: SPU | None = None,
        *,
        scores: Literal["shares", "clear"] = "shares",
        two_holders: Literal["refuse", "reveal"] = "refuse",
        epochs: int = 3,
        batch_size: int = 64,
        learning_rate: float = 0.1,
        l2: float = 0.0,
        tol: float | None = None,
        progress: Literal["none", "bar"] = "none",
    ) -> None:
        if not isinstance(heus, list | tuple):
            raise UsageError(
                "a mixed model has a list of HEUs", got=shown(heus), expected="[heu, ...]"
            )
        self.heus, self.aggregators, self.spu = list(heus), aggregators, spu
        self.scores = checked_scores(scores)
        check_devices(self.heus, spu, self.scores)
        several = aggregators if isinstance(aggregators, list | tuple) else [aggregators]
        if not several or not all(isinstance(one, Aggregator) for one in several):
            raise UsageError(
                "weights are averaged by aggregators",
                got=", ".join(map(shown, several)) or "none",
                expected="sf.aggregation.SPUAggregator(spu), or a list of aggregators",
            )
        if two_holders not in ("refuse", "reveal"):
            raise UsageError("two_holders is 'refuse' or 'reveal'", got=repr(two_holders))
        self.two_holders = two_holders
        self.parameters = Parameters(epochs, batch_size, learning_rate, l2, tol, progress)
        self.epochs_done = 0
        self._weights: list[Partitions] = []
        self._names: list[Partitions] = []
        self._history: list[list[Partitions]] = []
        self._owners: list[PYU] = []

    def fit(self, x: MixDataFrame, y: Sequence[Any]) -> FLogisticRegressionMix:
        """Train from zero weights.

        Args:
            x: blocks by rows, each split by columns.
            y: labels of every block, at one of its parties; the same place in all blocks.
        """
        how = self.parameters
        y = list(y) if isinstance(y, list | tuple) else [y]
        self._check(x, y)
        blocks = [
            Block(part, labels, heu, self.spu, self.scores, how)
            for part, labels, heu in zip(x.blocks, y, self.heus, strict=True)
        ]
        groups = self._groups(blocks)
        self.epochs_done, self._history = 0, []
        total = how.epochs * sum(len(b.spans) for b in blocks)
        with bar(how.progress, "mixed logistic regression", total) as tick:
            for _ in range(how.epochs):
                epoch(blocks, tick)
                self._average(blocks, groups)
                self.epochs_done += 1
                self._history.append([b.weights() for b in blocks])
                if how.tol is None:
                    continue
                verdicts = [b.converged() for b in blocks]  # every block measures from here on
                if all(verdicts):
                    break
        self._weights = self._history[-1]
        self._owners, self._names = [b.owner for b in blocks], [b.names for b in blocks]
        return self

    @property
    def coef_(self) -> list[Partitions]:
        """Per block, every party's own weights, where they are."""
        self._fitted()
        return [
            {p: p(w.coefficients)(v, p == owner) for p, v in weights.items()}
            for weights, owner in zip(self._weights, self._owners, strict=True)
        ]

    @property
    def intercept_(self) -> list[PYUObject]:
        """Per block, at the party with its labels."""
        self._fitted()
        return [o(w.intercept)(b[o]) for b, o in zip(self._weights, self._owners, strict=True)]

    def predict_proba(self, x: MixDataFrame) -> list[PYUObject]:
        """Per block [n, 2] at the party with its labels; reported."""
        self._fitted()
        self._check_blocks(x)
        spu = self.spu if self.scores == "shares" else None
        return [
            predict_proba(weights, names, owner, block, spu)
            for weights, names, owner, block in zip(
                self._weights, self._names, self._owners, x.blocks, strict=True
            )
        ]

    def predict(self, x: MixDataFrame) -> list[PYUObject]:
        """Per block 0 or 1 per row, at the party with its labels."""
        return [p.device(w.classes)(p) for p in self.predict_proba(x)]

    def score(self, x: MixDataFrame, y: Sequence[Any]) -> float:
        """Accuracy over all rows, to the script; every block's correct and total are reported."""
        self._fitted()
        labels = self._labels(x, y)
        parts = self.predict_proba(x)
        counts = [p.device(_correct)(p, v) for p, v in zip(parts, labels, strict=True)]
        found = learn(counts, "correct predictions and rows of a block")
        return float(sum(c for c, _ in found) / sum(n for _, n in found))

    def at_epoch(self, epoch: int) -> FLogisticRegressionMix:
        """The model as it was after an epoch; its weights never left their owners."""
        return at_epoch(self, self._history, epoch)

    def auc(self, x: MixDataFrame, y: Sequence[Any], at: PYU) -> float:
        """Area under the ROC curve over all rows, to the script.

        All blocks' probabilities and labels go to the party `at`, which is reported.
        """
        self._fitted()
        labels = self._labels(x, y)
        parts = self.predict_proba(x)
        with named("probabilities and labels of a block"):
            here = [p.to(at) for p in parts], [v.to(at) for v in labels]
        found = at(_joint_auc)(*here)
        return float(learn([found], "area under the ROC curve")[0])

    def save(self, paths: Sequence[Mapping[PYU, str]]) -> None:
        """Per block, every party writes its weights and column names to a file of its own."""
        self._fitted()
        self._check_files(paths, len(self._weights))
        for weights, names, files in zip(self._weights, self._names, paths, strict=True):
            save(weights, names, files)

    def load(
        self, paths: Sequence[Mapping[PYU, str]], owners: Sequence[PYU]
    ) -> FLogisticRegressionMix:
        """Per block, every party reads its weights; owners are the parties with the labels."""
        self._check_files(paths, len(self.heus))
        self._check_files(owners, len(self.heus))
        for files, owner, heu in zip(paths, owners, self.heus, strict=True):
            if owner not in files:
                raise UsageError("the party with the labels has no file", got=repr(owner))
            check_roles(list(files), owner, heu, self.spu, self.scores)
        read = [load(files) for files in paths]
        self._weights, self._names = [r[0] for r in read], [r[1] for r in read]
        self._owners, self._history = list(owners), []
        return self

    def _check(self, x: Any, y: Any) -> None:
        if not isinstance(x, MixDataFrame):
            raise UsageError("a mixed model takes a MixDataFrame", got=shown(x))
        if not len(x.blocks) == len(y) == len(self.heus):
            raise UsageError(
                "one HEU and one set of labels per block",
                got=f"{len(x.blocks)} blocks, {len(self.heus)} HEUs, {len(y)} sets of labels",
            )
        groups = [{p.party for p, _ in group} for group in x.columns_of_parties()]
        groups.append({as_labels(one).device.party for one in y})  # of the intercept
        pairs = [sorted(group) for group in groups if len(group) == 2]
        if pairs and self.two_holders == "refuse":
            raise UsageError(
                "averages between two row holders tell each the other's weights",
                got=f"columns or labels held by {' and '.join(pairs[0])} alone",
                expected="three or more row holders, or one",
                next='SSRegression keeps weights on the SPU; or accept it: two_holders="reveal"',
            )

    def _check_blocks(self, x: Any) -> None:
        if not isinstance(x, MixDataFrame) or len(x.blocks) != len(self._weights):
            raise UsageError(
                "a mixed model predicts for a MixDataFrame of as many blocks as it was fitted on",
                got=shown(x),
                expected=f"{len(self._weights)} blocks",
            )

    def _labels(self, x: Any, y: Any) -> list[PYUObject]:
        self._check_blocks(x)
        labels = [as_labels(one) for one in (y if isinstance(y, list | tuple) else [y])]
        if [one.device for one in labels] != self._owners:
            raise UsageError(
                "labels at other parties than in training",
                got=", ".join(one.device.party for one in labels),
                expected=", ".join(owner.party for owner in self._owners),
            )
        return labels

    @staticmethod
    def _check_files(given: Sequence[Any], blocks: int) -> None:
        if isinstance(given, Mapping) or len(given) != blocks:
            raise UsageError(
                "files and owners are listed block by block",
                got=f"{type(given).__name__} of {len(given)}",
                expected=f"a list of {blocks}",
            )

    def _groups(self, blocks: Sequence[Block]) -> list[list[PYU]]:
        """The parties whose weights belong to the same columns, block by block."""
        parties = [list(b.workers) for b in blocks]
        places = {tuple(p.index(b.owner) for p, b in zip(parties, blocks, strict=True))}
        if len({len(p) for p in parties}) != 1 or len(set(*places)) != 1:
            raise UsageError("the labels are at the same place in every block")
        groups = [list(group) for group in zip(*parties, strict=True)]
        if not isinstance(self.aggregators, Aggregator) and len(self.aggregators) != len(groups):
            raise UsageError(
                "one aggregator per place of columns",
                got=f"{len(self.aggregators)} for {len(groups)} places",
            )
        return groups

    def _average(self, blocks: Sequence[Block], groups: Sequence[Sequence[PYU]]) -> None:
        rows = [float(b.rows) for b in blocks]
        weights = [b.weights() for b in blocks]
        for place, group in enumerate(groups):
            one = self.aggregators
            aggregator = one if isinstance(one, Aggregator) else one[place]
            mean = aggregator.average(
                [mine[p] for mine, p in zip(weights, group, strict=True)], weights=rows
            )
            with named("average of weights, an epoch"):  # opening shares reports itself
                for block, pyu in zip(blocks, group, strict=True):
                    block.set_weights({pyu: mean.to(pyu)})

    def _fitted(self) -> None:
        if not self._weights:
            raise UsageError("the model is not fitted", next="model.fit(x, y), or model.load(...)")

    def __repr__(self) -> str:
        return f"FLogisticRegressionMix({len(self.heus)} blocks, scores={self.scores!r})"


def _joint_auc(parts: Sequence[Any], labels: Sequence[Any]) -> float:
    return w.auc(np.concatenate(parts), np.concatenate([np.ravel(v) for v in labels]))


def _correct(p: Any, y: Any) -> tuple[int, int]:
    return round(w.accuracy(p, y) * len(p)), len(p)
