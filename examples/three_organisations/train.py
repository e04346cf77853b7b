"""A model on data of a hospital and a clinic that neither shows, computed by them and a university.

Every organisation runs this same file, see README.md:

    spuvm run --party hospital --cluster cluster.toml train.py [--epochs 30] [--resume]

The hospital has measurements, the clinic has others of the same patients and the outcome, in the
same order of rows. The university only computes. Each of the two learns the weights of its own
columns; all three learn how often the model is right.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import spuvm as sf

PARTIES = ["hospital", "clinic", "university"]
EPOCHS_PER_CHECKPOINT = 10


def read_measurements(path):
    """Runs at the hospital: its columns, scaled to about [-3, 3]."""
    return scaled(np.loadtxt(path, delimiter=",", skiprows=1, dtype="float32"))


def read_outcomes(path):
    """Runs at the clinic: its columns, scaled, and the outcome of each patient, 0 or 1."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype="float32")
    return scaled(table[:, :-1]), table[:, -1]


def scaled(x):
    return (x - x.mean(0)) / x.std(0)


def start(theirs, ours, outcome):
    """All weights 0, one per column and one for the mean."""
    return jnp.zeros(theirs.shape[1] + ours.shape[1] + 1)


def probability(w, theirs, ours):
    n = theirs.shape[1]
    return jax.nn.sigmoid(theirs @ w[:n] + ours @ w[n:-1] + w[-1])


def epoch(w, theirs, ours, outcome, rate=1.0):
    """One step of gradient descent over all patients."""
    error = (probability(w, theirs, ours) - outcome) / outcome.shape[0]
    return w - rate * jnp.concatenate([error @ theirs, error @ ours, error.sum()[None]])


def hospital_weights(w, theirs):
    return w[: theirs.shape[1]]


def clinic_weights(w, theirs):
    return w[theirs.shape[1] :]


def share_of_right_answers(w, theirs, ours, outcome):
    return jnp.mean((probability(w, theirs, ours) > 0.5) == (outcome > 0.5))


def run(hospital_file, clinic_file, epochs, checkpoint, resume):
    """What each party sees: weights of the hospital, of the clinic, and the share that is right."""
    hospital, clinic, _ = (sf.PYU(name) for name in PARTIES)
    spu = sf.SPU(PARTIES)
    theirs = hospital(read_measurements)(hospital_file).to(spu)
    columns, outcome = clinic(read_outcomes, num_returns=2)(clinic_file)
    data = theirs, columns.to(spu), outcome.to(spu)
    w = spu.load(checkpoint) if resume else spu(start)(*data)
    step = spu(epoch)
    for done in range(epochs):
        w = step(w, *data)
        if (done + 1) % EPOCHS_PER_CHECKPOINT == 0:
            spu.dump(w, checkpoint)
    return (
        sf.reveal(spu(hospital_weights)(w, theirs), to=["hospital"]),
        sf.reveal(spu(clinic_weights)(w, theirs), to=["clinic"]),
        sf.reveal(spu(share_of_right_answers)(w, *data)),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the tables")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--checkpoint", type=Path, default=Path("model"))
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    options = parser.parse_args()
    sf.init(PARTIES)
    first, second, right = run(
        options.data / "hospital.csv",
        options.data / "clinic.csv",
        options.epochs,
        options.checkpoint,
        options.resume,
    )
    print("weights of the hospital's columns:", first)
    print("weights of the clinic's columns:  ", second)
    print(f"the model is right for {100 * float(right):.1f} % of the patients")
    sf.shutdown()
