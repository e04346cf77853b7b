"""The gradient of a logistic loss on data of two parties, by jax.grad, without showing either's.

    python examples/logistic_gradient.py [--backend ray|inprocess]

alice has the features, bob the labels; carol only computes. The gradient is opened to alice.
"""

import argparse

import jax
import numpy as np

import spuvm as sf
from spuvm.functions import logistic_gradient, logistic_loss

PARTIES = ["alice", "bob", "carol"]


def features(n=200, d=6):
    return np.random.default_rng(1).normal(size=(n, d)).astype("float32")


def labels(n=200, d=6):
    noise = np.random.default_rng(2).normal(size=n)
    return (features(n, d) @ np.linspace(-1, 1, d) + noise > 0).astype("float32")


def run(spu):
    """Returns the gradient from the SPU and the one computed in clear."""
    alice, bob = sf.PYU("alice"), sf.PYU("bob")
    w = np.linspace(-0.5, 0.5, 6).astype("float32")
    gradient = spu(jax.grad(logistic_loss))(sf.to(alice, w), alice(features)(), bob(labels)())
    return sf.reveal(gradient.to(alice)), logistic_gradient(w, features(), labels())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    options = parser.parse_args()
    sf.init(PARTIES, backend=options.backend)
    secure, plain = run(sf.SPU(PARTIES))
    print("secure:", secure.round(5).tolist())
    print("plain: ", np.asarray(plain).round(5).tolist())
    print("largest difference:", float(np.abs(secure - plain).max()))
    sf.shutdown()
