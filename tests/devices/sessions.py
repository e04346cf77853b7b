"""Fixtures for tests that run devices: the same tests on threads and on Ray."""

import pytest

import spuvm as sf

PARTIES = ["alice", "bob", "carol", "dave", "server"]


@pytest.fixture(scope="session")
def ray_started():
    """One Ray for all tests: sf.init joins it and sf.shutdown leaves it running."""
    ray = pytest.importorskip("ray")
    started = not ray.is_initialized()
    if started:
        from spuvm.devices.raystart import start_ray

        start_ray(PARTIES, None)
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module", params=["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def session(request):
    """A running session of PARTIES; the value is the backend's name."""
    if request.param == "ray":
        request.getfixturevalue("ray_started")
    sf.init(PARTIES, backend=request.param)
    yield request.param
    sf.shutdown()


@pytest.fixture(scope="module")
def inprocess():
    """A session on threads alone."""
    sf.init(PARTIES, backend="inprocess")
    yield
    sf.shutdown()


@pytest.fixture(scope="module")
def ray_session(ray_started):
    """A session on Ray alone."""
    sf.init(PARTIES, backend="ray")
    yield
    sf.shutdown()


@pytest.fixture(scope="module")
def ray_spu(ray_session):
    """An SPU of the first three parties, each machine in a process of its own."""
    return sf.SPU(PARTIES[:3])


@pytest.fixture(scope="module")
def spu(session):
    """An SPU of the first three parties."""
    return sf.SPU(PARTIES[:3])
