"""Tables to try it with: python make_data.py [FOLDER] writes hospital.csv and clinic.csv there."""

import sys
from pathlib import Path

import numpy as np

HOSPITAL = ["age", "pressure", "glucose", "weight"]
CLINIC = ["marker_a", "marker_b", "visits"]


def tables(patients=400, seed=0):
    """The hospital's columns [patients, 4], the clinic's [patients, 3], the outcomes [patients]."""
    rng = np.random.default_rng(seed)
    hospital = rng.normal([55, 130, 100, 75], [12, 15, 20, 14], (patients, 4))
    clinic = rng.normal([1, 5, 3], [0.3, 2, 1], (patients, 3))
    score = (hospital - hospital.mean(0)) / hospital.std(0) @ [1.0, 0.5, 1.5, 0.0]
    score += (clinic - clinic.mean(0)) / clinic.std(0) @ [-1.0, 2.0, 0.3]
    return hospital, clinic, (score + rng.logistic(size=patients) > 0).astype(float)


def main(folder):
    """Write both tables."""
    folder.mkdir(parents=True, exist_ok=True)
    hospital, clinic, outcome = tables()
    for name, head, table in [
        ("hospital", HOSPITAL, hospital),
        ("clinic", [*CLINIC, "outcome"], np.column_stack([clinic, outcome])),
    ]:
        np.savetxt(
            folder / f"{name}.csv", table, "%.4f", delimiter=",", header=",".join(head), comments=""
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
