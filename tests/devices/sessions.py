"""Fixtures for tests that run devices: the same tests on threads and on Ray."""

from contextlib import contextmanager

import pytest

import spuvm as sf
from spuvm.devices import session as of_process

PARTIES = ["alice", "bob", "carol", "dave", "server"]


class Kept:
    """The session of PARTIES on Ray, and an SPU of the first three: modules use them in turns.

    Their processes start once. A module that breaks the SPU makes one of its own.
    """

    def __init__(self):
        self._session = self._spu = None

    @contextmanager
    def resumed(self):
        """Inside, it is the session of this process."""
        if self._session is None:
            sf.init(PARTIES, backend="ray")
            self._session, self._spu = of_process._session, None
        of_process._session = self._session
        try:
            yield
        finally:
            if of_process._session is not self._session:  # somebody has ended it
                sf.shutdown()
                self._session = None
            of_process._session = None

    @property
    def spu(self):
        """Each of its machines in a process of its own."""
        if self._spu is None:
            self._spu = sf.SPU(PARTIES[:3])
        return self._spu

    def close(self):
        if self._session is not None:
            with self.resumed():
                sf.shutdown()


@pytest.fixture(scope="session")
def ray_started():
    """One Ray for all tests: sf.init joins it and sf.shutdown leaves it running."""
    ray = pytest.importorskip("ray")
    started = not ray.is_initialized()
    if started:
        from spuvm.devices.raystart import start_ray

        start_ray(PARTIES, None)
    kept = Kept()
    yield kept
    kept.close()
    if started:
        ray.shutdown()


@pytest.fixture(scope="module", params=["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def session(request):
    """A running session of PARTIES; the value is the backend's name."""
    if request.param == "ray":
        with request.getfixturevalue("ray_started").resumed():
            yield request.param
        return
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
    with ray_started.resumed():
        yield


@pytest.fixture(scope="module")
def ray_spu(ray_session, ray_started):
    """An SPU of the first three parties, each machine in a process of its own."""
    return ray_started.spu


@pytest.fixture(scope="module")
def spu(session, request):
    """An SPU of the first three parties."""
    if session == "ray":
        return request.getfixturevalue("ray_started").spu
    return sf.SPU(PARTIES[:3])
