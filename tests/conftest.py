"""Hypothesis profiles (HYPOTHESIS_PROFILE=quick|fuzz), test helpers, machines for all tests."""

import os
import sys

# Many small matrix products on a shared machine: threads of the linear algebra only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
for folder in ("conformance", "bytecode", "ml"):
    if str(HERE / folder) not in sys.path:
        sys.path.insert(0, str(HERE / folder))

slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=10, deadline=None, suppress_health_check=slow)
settings.register_profile("fuzz", max_examples=500, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def trio() -> Iterator[Callable[[int], object]]:
    """trio(bits): the three machines of a ring, kept for the session; new ones after a failure."""
    from parties import Trio

    from spuvm.ring import Ring

    alive: dict[int, Trio] = {}

    def get(bits: int) -> Trio:
        if bits not in alive or any(m._failure for m in alive[bits].machines):
            alive[bits] = Trio(Ring(bits))
        return alive[bits]

    yield get
    for made in alive.values():
        made.close()
