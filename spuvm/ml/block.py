"""One vertical block: rows whose columns are at several parties, trained together.

A step on the rows of a batch, after the talk's algorithm:

1. every party computes the partial score of its columns, x_p w_p;
2. residual r = sigmoid(sum of partial scores) - y. scores="shares": on the SPU, nobody sees the
   scores or r. scores="clear": the party with the labels sees the scores of every batch and r;
3. r is encrypted under the key holder's key, for the evaluators;
4. every evaluator computes Enc(x_p^T r), adds an exact mask that covers every bit and 40 more,
   re-randomises, and has the key holder decrypt it; it takes the mask off and steps. The key
   holder's own gradient comes from the SPU, or with scores="clear" from r, which it knows.

Every party with columns learns the gradient of its own columns in every batch: inherent in keeping
its weights in clear.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp

from spuvm.compiler import assume_range
from spuvm.data import FedNdarray, VDataFrame, local
from spuvm.data.ndarray import as_labels
from spuvm.data.partitioned import Partitions, compare, learn, salts, shown
from spuvm.devices.heu import HEU
from spuvm.devices.heuobject import HEUObject
from spuvm.devices.moves import wait
from spuvm.devices.proxy import proxy
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import named
from spuvm.devices.spu import SPU, SPUObject
from spuvm.errors import UsageError
from spuvm.ml.parameters import Parameters, Scores
from spuvm.ml.progress import Tick
from spuvm.ml.worker import LARGEST, Worker, batches

_Worker = proxy(PYUObject)(Worker)
AHEAD = 8  # steps of a block that are started before the first of them is done


def residual(scores: Any, y: Any) -> Any:
    """sigmoid(sum of partial scores) - y on an SPU; the labels are 0 or 1."""
    return jax.nn.sigmoid(sum(scores)) - assume_range(y, 0.0, 1.0)


def gradient_of_own_columns(r: Any, x: Any) -> Any:
    """x^T r for the key holder; its name is what the report shows."""
    return jnp.matmul(r, x)


class Block:
    """The parties of one block, with their data, and everything that is moved only once."""

    def __init__(
        self, x: Any, y: Any, heu: HEU, spu: SPU | None, scores: Scores, how: Parameters
    ) -> None:
        self.parts, self.names = columns_of(x), names_of(x)
        labels = as_labels(y)
        self.owner: PYU = labels.device
        self._heu, self._spu, self._scores, self._how = heu, spu, scores, how
        check_roles(list(self.parts), self.owner, heu, spu, scores)
        self._check_rows(labels)
        given = (how.batch_size, how.learning_rate, how.l2)
        self.workers: dict[PYU, Any] = {
            p: _Worker(value, labels if p == self.owner else None, *given, device=p)
            for p, value in self.parts.items()
        }
        if self.owner not in self.workers:
            self.workers[self.owner] = _Worker(None, labels, *given, device=self.owner)
        counts = [w.rows() for w in self.workers.values()]
        wait(counts)
        (self.rows,) = learn([self.workers[self.owner].rows()], "row count")
        self.spans = batches(self.rows, how.batch_size)
        self._plain: dict[tuple[PYU, int], HEUObject] = {}
        self._shared: dict[tuple[str, int], SPUObject] = {}

    def steps(self) -> Iterator[list[PYUObject]]:
        """One step per batch, started when it is asked for; done when all its handles are."""
        step = self._clear_step if self._scores == "clear" else self._shared_step
        for span in self.spans:
            yield step(*span)

    def converged(self) -> bool:
        """Whether the weights moved less than tol since the last call; one bit, reported."""
        moved = [w.moved() for w in self.workers.values()]
        limit = (self._how.tol or 0.0) ** 2
        if self._spu is not None and self._scores == "shares":
            verdict = self._spu(below)(moved, limit).to(self.owner)
        else:
            with named("squared change of weights"):
                here = [m.to(self.owner) for m in moved]
            verdict = self.owner(below)(here, limit)
        (found,) = learn([self.owner(bool)(verdict)], "whether training converged")
        return bool(found)

    def weights(self) -> dict[PYU, PYUObject]:
        """Every party's weights, where they are."""
        return {p: w.weights() for p, w in self.workers.items()}

    def set_weights(self, weights: Partitions) -> None:
        for pyu, value in weights.items():
            self.workers[pyu].set_weights(value)

    def _clear_step(self, low: int, high: int) -> list[PYUObject]:
        owner = self.workers[self.owner]
        scores = []
        for pyu, worker in self.workers.items():
            if pyu != self.owner:
                with named("partial scores of a batch"):
                    scores.append(worker.partial_score(low, high).to(self.owner))
        r = owner.residual(low, high, *scores)
        own = owner.step_with(r, low, high)
        return [own, *self._evaluators_step(self._heu.receive(r, (-1.0, 1.0)), low, high)]

    def _shared_step(self, low: int, high: int) -> list[PYUObject]:
        spu, keeper = self._spu, PYU(self._heu.sk_keeper)
        assert spu is not None
        scores = [w.partial_score(low, high).to(spu) for w in self.workers.values()]
        y = self._once("y", low, self.workers[self.owner].labels, high)
        r = spu(residual)(scores, y)
        done = []
        if keeper in self.workers:
            x = self._once("x", low, self.workers[keeper].batch, high)
            gradient = spu(gradient_of_own_columns)(r, x).to(keeper)
            done = [self.workers[keeper].step(gradient, high - low)]
        return [*done, *self._evaluators_step(r.to(self._heu), low, high)]

    def _evaluators_step(self, encrypted: HEUObject, low: int, high: int) -> list[PYUObject]:
        done = []
        for pyu, worker in self.workers.items():
            if pyu.party == self._heu.sk_keeper:
                continue
            if (pyu, low) not in self._plain:
                self._plain[pyu, low] = self._heu.receive(
                    worker.batch(low, high), (-LARGEST, LARGEST)
                )
            product = encrypted @ self._plain[pyu, low]
            gradient = product.opened_here("gradient of own columns, a batch")
            done.append(worker.step(gradient, high - low))
        return done

    def _once(self, what: str, low: int, part: Any, high: int) -> SPUObject:
        if (what, low) not in self._shared:
            self._shared[what, low] = part(low, high).to(self._spu)
        return self._shared[what, low]

    def _check_rows(self, labels: PYUObject) -> None:
        parts = {**self.parts}
        parts.setdefault(self.owner, labels)
        if len(parts) < 2:
            return
        salt = salts(list(parts))
        digests = {p: p(local.row_digest)(v, None, salt[p]) for p, v in parts.items()}
        wrong = compare(digests, local.different, "equal row counts")
        if wrong:
            raise UsageError(
                "rows are missing", got=f"{', '.join(wrong)} has another number of rows",
                expected="the same rows in the same order at all parties",
            )  # fmt: skip


def epoch(blocks: Sequence[Block], tick: Tick) -> None:
    """One pass over every block's batches, the blocks side by side; ends when all steps are done.

    A few steps are started ahead, so that parties do not wait for this script.
    """
    running: deque[list[PYUObject]] = deque()

    def finish() -> None:
        wait(running.popleft())
        tick()

    for started in zip_longest(*(block.steps() for block in blocks)):
        running.extend(step for step in started if step is not None)
        while len(running) > AHEAD * len(blocks):
            finish()
    while running:
        finish()


def below(parts: Any, limit: Any) -> Any:
    """sum < limit."""
    return sum(parts) < limit


def columns_of(x: Any) -> Partitions:
    """The partitions of a vertical array or table, as numbers."""
    if isinstance(x, VDataFrame):
        x = x.values
    if not isinstance(x, FedNdarray) or x.way != "vertical":
        raise UsageError(
            "a vertical model takes a table by columns", got=shown(x), expected="a VDataFrame"
        )
    return x.partitions


def names_of(x: Any) -> Partitions:
    """The names of a table's columns, which stay at their parties; none of an array."""
    if not isinstance(x, VDataFrame):
        return {}
    return {p: p(local.columns_of)(value) for p, value in x.partitions.items()}


def check_devices(heus: Sequence[Any], spu: Any, scores: Scores) -> None:
    """Raise UsageError unless a model's devices are what they have to be."""
    if not heus or not all(isinstance(heu, HEU) for heu in heus):
        raise UsageError("a model on split columns needs a HEU", got=", ".join(map(shown, heus)))
    if spu is not None and not isinstance(spu, SPU):
        raise UsageError("partial scores meet on an SPU", got=shown(spu), expected="sf.SPU(...)")
    if scores == "shares" and spu is None:
        raise UsageError(
            'scores="shares" needs an SPU', got="none", next='spu=sf.SPU(...), or scores="clear"'
        )


def check_roles(holders: list[PYU], owner: PYU, heu: HEU, spu: SPU | None, scores: Scores) -> None:
    """Raise UsageError when the parties' roles do not allow the algorithm."""
    data = {p.party for p in holders} | {owner.party}
    if scores == "clear" and heu.sk_keeper != owner.party:
        raise UsageError(
            'with scores="clear" the party with the labels is the key holder',
            got=f"labels at {owner.party}, key at {heu.sk_keeper}",
            expected=f'sf.HEU("{owner.party}", [...])',
        )
    check_devices([heu], spu, scores)
    idle = [name for name in heu.evaluators if name not in data]
    if idle:
        raise UsageError(
            "an evaluator without data",
            got=", ".join(idle),
            expected="evaluators with columns or labels",
        )
    missing = sorted(data - set(heu.parties))
    if missing:
        raise UsageError(
            "parties with data that the HEU does not have",
            got=", ".join(missing),
            expected="every party with data is the key holder or an evaluator",
        )
    if data == {heu.sk_keeper}:
        raise UsageError("all data is at one party", got=heu.sk_keeper)
