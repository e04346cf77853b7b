"""What is particular to Ray: where values are, and what travels."""

import pickle

import numpy as np
import pytest
import ray

import spuvm as sf

pytestmark = pytest.mark.ray


def test_the_driver_gets_references_only(ray_session):
    """Small results too: Ray by itself would hand them to the driver's process."""
    spu = sf.SPU(["alice", "bob", "carol"])
    x = sf.PYU("dave")(lambda: {"marker": np.full(3, 1234567.0)})()
    secret = x.to(spu)
    sf.wait(secret)
    y = secret.to(sf.PYU("bob"))
    sf.wait(y)
    refs = [x.ref, y.ref, *secret.stored.refs]
    for ref in refs:
        held = pickle.dumps(ray.get(ref.handle), protocol=5)
        assert np.float64(1234567.0).tobytes() not in held
        assert np.float32(1234567.0).tobytes() not in held
        assert len(held) < 700
