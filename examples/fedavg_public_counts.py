"""Weighted federated averaging where the numbers of samples are public and the weights secret.

    python examples/fedavg_public_counts.py [--backend ray|inprocess]

Plain values among the arguments of a function on an SPU are public constants of its program, and
the disclosure report says so. Move them to a party first and share them from there to keep them
secret, as `spuvm demo` does.
"""

import argparse

import numpy as np

import spuvm as sf
from spuvm.functions import weighted_average

COUNTS = {"alice": 30, "bob": 10, "carol": 60}


def local_weights(count):
    rng = np.random.default_rng(count)
    return {"dense": rng.normal(size=(4, 3)).astype("float32"), "bias": np.zeros(3, "float32")}


def run(spu):
    """Returns the average as clients see it, and what the program discloses."""
    parties = [sf.PYU(name) for name in COUNTS]
    counts = [float(count) for count in COUNTS.values()]
    models = [p(local_weights)(n) for p, n in zip(parties, COUNTS.values(), strict=False)]
    function = spu(weighted_average)
    averaged = function(models, counts).to(parties[0])
    return sf.reveal(averaged), function.disclosures(models, counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    options = parser.parse_args()
    sf.init(list(COUNTS), backend=options.backend)
    result, disclosed = run(sf.SPU(list(COUNTS)))
    print("average:", result["dense"].round(4).tolist())
    for one in disclosed:
        print(f"  {one.what}: of {', '.join(one.origins) or 'the script'}, to {one.to}")
    sf.shutdown()
