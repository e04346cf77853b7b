"""Logistic regression on a table whose columns three parties hold, from their own CSV files.

    python examples/vertical_logistic.py [--backend ray|inprocess] [--scores shares|clear]

alice has the labels and the secret key; bob and carol compute with the encrypted residual. With
--scores clear alice sees their partial scores of every batch, otherwise an SPU keeps them in
shares: the printed report shows the difference.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

import spuvm as sf

PARTIES = ["alice", "bob", "carol"]


def write_files(folder):
    """One file per party, with a common key column."""
    frame = load_breast_cancer(as_frame=True).frame
    frame.insert(0, "patient", [f"p{i}" for i in range(len(frame))])
    columns = np.array_split(list(frame.columns[1:-1]), 3)
    for party, mine in zip(PARTIES, columns, strict=True):
        extra = ["target"] if party == "alice" else []
        frame[["patient", *mine, *extra]].to_csv(Path(folder) / f"{party}.csv", index=False)


def run(folder, scores="shares", key_bits=2048, safety="standard", epochs=3):
    """Returns the area under the curve and the accuracy on held-out rows, and the report."""
    alice, bob, carol = map(sf.PYU, PARTIES)
    heu = sf.HEU("alice", ["bob", "carol"], key_bits, safety=safety)
    spu = sf.SPU(PARTIES) if scores == "shares" else None
    paths = {pyu: Path(folder) / f"{pyu.party}.csv" for pyu in (alice, bob, carol)}
    table = sf.data.read_csv(paths, key="patient")
    features, labels = table.drop(["target"]), table["target"]
    train, test = sf.data.train_test_split(features, 0.25, random_state=7)
    train_y, test_y = sf.data.train_test_split(labels, 0.25, random_state=7)
    scaler = sf.data.StandardScaler().fit(train)
    model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=epochs)
    model.fit(scaler.transform(train), train_y.values)
    rest = scaler.transform(test)
    return model.auc(rest, test_y.values), model.score(rest, test_y.values), sf.disclosed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    parser.add_argument("--scores", default="shares", choices=["shares", "clear"])
    options = parser.parse_args()
    sf.init(PARTIES, backend=options.backend)
    with tempfile.TemporaryDirectory() as files:
        write_files(files)
        auc, accuracy, report = run(files, options.scores)
    for one, times in report:
        print(f"{times:4} x  {one.what}, from {', '.join(one.origins)} to {one.to}")
    print(f"held-out rows: AUC {auc:.4f}, accuracy {accuracy:.4f}")
    sf.shutdown()
