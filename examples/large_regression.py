"""Logistic regression on 100,000 rows and 50 columns, everything on the SPU.

    python examples/large_regression.py [--backend ray|inprocess] [--rows 100000]

The table is generated where it lives: alice and bob hold 25 columns each, carol the labels. Nobody
sees weights or scores; the accuracy is opened.
"""

import argparse
import time

import numpy as np

import spuvm as sf

PARTIES = ["alice", "bob", "carol"]
COLUMNS = 25


def columns(seed, rows):
    return np.random.default_rng(seed).normal(size=(rows, COLUMNS)).astype("float32")


def labels(rows):
    """Depend on all columns of both parties."""
    score = columns(1, rows) @ np.linspace(-1, 1, COLUMNS) + columns(2, rows) @ np.linspace(
        1, 0, COLUMNS
    )
    noise = np.random.default_rng(3).logistic(size=rows)
    return (score + noise > 0).astype("float32")


def run(rows=100_000, batch_size=2048, progress="none"):
    """Returns the accuracy on the training rows and the seconds that training took."""
    alice, bob, carol = map(sf.PYU, PARTIES)
    spu = sf.SPU(PARTIES, sf.Config(input_range=(-16, 16)))
    x = sf.data.FedNdarray({alice: alice(columns)(1, rows), bob: bob(columns)(2, rows)})
    y = carol(labels)(rows)
    model = sf.ml.SSRegression(
        spu, epochs=2, batch_size=batch_size, learning_rate=0.5, progress=progress
    )
    start = time.perf_counter()
    model.fit(x, y)
    return model.score(x, y), time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    sf.init(PARTIES, backend=options.backend)
    accuracy, seconds = run(options.rows, progress="bar")
    print(f"accuracy {accuracy:.4f}, training {seconds:.1f} s")
    sf.shutdown()
