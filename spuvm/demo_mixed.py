"""`spuvm demo --mixed-lr`: one model on a table that four parties hold by rows and by columns.

alice and bob have the first half of scikit-learn's breast cancer rows, carol and dave the second;
within each half the columns are split, and alice and carol have the labels. Partial scores meet in
shares; residuals travel encrypted; weights are averaged between the halves on the SPU. Beside it
the same algorithm on one table in clear.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import spuvm as sf
from spuvm.devices.reporting import disclosed
from spuvm.devices.session import BackendName
from spuvm.ml import plain, worker
from spuvm.paillier.keys import Safety
from spuvm.samples import TUMOUR_NAMES, tumours

PLACES = (("alice", "bob"), ("carol", "dave"))
CUT = 284
EPOCHS = 3


@dataclass(frozen=True)
class Result:
    """What the demo found after the last epoch."""

    auc_secure: float
    auc_plain: float
    accuracy_secure: float
    accuracy_plain: float
    seconds: float


def main(backend: BackendName = "ray", key_bits: int = 2048, safety: Safety = "standard") -> Result:
    """Run the demo and print its tables; the last line is the result."""
    console = Console()
    parties = [name for place in PLACES for name in place]
    with console.status("starting parties and making keys"):
        sf.init(parties, backend=backend, logs="files")
    try:
        spu = sf.SPU(parties[:3])
        heus = [sf.HEU(p[0], p[1:], key_bits, safety=safety) for p in PLACES]
        x, y = table(), labels()
        sf.wait([*y, *(v for b in x.blocks for v in b.partitions.values())])
        model = sf.ml.FLogisticRegressionMix(
            heus,
            sf.aggregation.SPUAggregator(spu),
            spu,
            two_holders="reveal",
            epochs=EPOCHS,
            progress="bar",
        )
        start = time.perf_counter()
        model.fit(x, y)
        sf.wait(list(model.coef_[0].values()))
        seconds = time.perf_counter() - start
        seen = disclosed()
        curve = [_measured(model.at_epoch(e), x) for e in range(1, EPOCHS + 1)]
    finally:
        sf.shutdown()
    clear = plain_curve()
    _show(console, curve, clear, seen)
    result = Result(curve[-1][0], clear[-1][0], curve[-1][1], clear[-1][1], seconds)
    print(
        f"RESULT auc_secure={result.auc_secure:.4f} auc_plain={result.auc_plain:.4f} "
        f"accuracy_secure={result.accuracy_secure:.4f} fit_seconds={result.seconds:.1f}"
    )
    return result


def features(block: int, first: int, last: int) -> Any:
    """Some columns of one half of the rows, as a DataFrame; standardised over all rows."""
    import pandas as pd

    x, _ = tumours()
    x = (x - x.mean(0)) / x.std(0)
    rows = slice(0, CUT) if block == 0 else slice(CUT, None)
    names = [name.replace(" ", "_") for name in TUMOUR_NAMES[first:last]]
    return pd.DataFrame(x[rows, first:last], columns=names)


def outcomes(block: int) -> Any:
    """Labels of one half of the rows."""
    _, target = tumours()
    return target[:CUT] if block == 0 else target[CUT:]


def table() -> sf.data.MixDataFrame:
    """The features where they are; every party loads its own."""
    blocks = []
    for i, place in enumerate(PLACES):
        pyus = [sf.PYU(name) for name in place]
        spans = ((0, 15), (15, 30))
        parts = {p: p(features)(i, *span) for p, span in zip(pyus, spans, strict=True)}
        blocks.append(sf.data.VDataFrame(parts))
    return sf.data.MixDataFrame(blocks)


def labels() -> list[sf.PYUObject]:
    """At alice and at carol."""
    return [sf.PYU(place[0])(outcomes)(i) for i, place in enumerate(PLACES)]


def plain_curve() -> list[tuple[float, float]]:
    """(AUC, accuracy) after every epoch of the same algorithm in clear, on the same rows."""
    whole = [np.hstack([features(i, 0, 15), features(i, 15, 30)]) for i in range(2)]
    y = [outcomes(i) for i in range(2)]
    x, target = np.vstack(whole), np.concatenate(y)
    found = []
    for epochs in range(1, EPOCHS + 1):
        weights = plain.fit_blocks(list(zip(whole, y, strict=True)), epochs)
        p = plain.probabilities(weights, x)
        found.append((worker.auc(p, target), worker.accuracy(p, target)))
    return found


def _measured(model: sf.ml.FLogisticRegressionMix, x: sf.data.MixDataFrame) -> tuple[float, float]:
    """The same of the federated model; the demo looks at all predictions, as nobody should."""
    p = np.concatenate(sf.reveal(model.predict_proba(x)))
    target = np.concatenate([outcomes(i) for i in range(2)])
    return worker.auc(p, target), worker.accuracy(p, target)


def _show(
    console: Console,
    curve: list[tuple[float, float]],
    clear: list[tuple[float, float]],
    seen: list[tuple[Any, int]],
) -> None:
    shown = Table(
        "epoch", "AUC", "AUC in clear", "accuracy", "in clear", title="Mixed logistic regression"
    )
    for i, (ours, theirs) in enumerate(zip(curve, clear, strict=True), 1):
        row = (ours[0], theirs[0], ours[1], theirs[1])
        shown.add_row(str(i), *(f"{v:.4f}" for v in row))
    console.print(shown)
    shown = Table("what was opened", "to whom", "from", "times", title="Disclosures of training")
    for one, times in seen:
        origins = ", ".join(name for name in one.origins if name)
        shown.add_row(one.what, one.to, origins, str(times))
    console.print(shown)
    console.print(
        "Averages between two row holders tell each the other's weights: the model refuses that "
        'unless told two_holders="reveal", as here.'
    )
