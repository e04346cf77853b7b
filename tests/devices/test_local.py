"""Threads of the backend inside one process."""

import queue
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from spuvm.devices.failure import Failure, line_of
from spuvm.devices.local import LocalBackend, Worker
from spuvm.devices.session import Session
from spuvm.errors import UsageError


def test_a_task_that_comes_after_the_end_fails_and_does_not_wait_for_ever():
    worker = Worker("alice", "pyu")
    hold = threading.Event()
    queued = worker.submit(lambda: hold.wait(10) and 7)
    worker.stop()
    late = worker.submit(lambda: 8)
    assert not worker.ended
    hold.set()
    assert queued.result(10) == 7
    later = late.result(10)
    assert isinstance(later, Failure)
    assert isinstance(later.error, UsageError)
    assert worker.ended
    assert isinstance(worker.submit(lambda: 9).result(10), Failure)


def test_values_are_freed_after_those_of_machines_that_cannot(caplog):
    freed = queue.SimpleQueue()

    class Broken:
        plan = SimpleNamespace(name="spu7")

        def free(self, names):
            raise RuntimeError("its process is gone")

    class Sound(Broken):
        def free(self, names):
            freed.put(names)

    session = Session(("alice",), LocalBackend(("alice",)))
    try:
        session.drop(Broken(), "v0")
        time.sleep(0.2)  # another batch
        session.drop(Sound(), "v1")
        assert freed.get(timeout=10) == ["v1"]
    finally:
        session.close()
    assert "cannot free values of spu7: its process is gone" in caplog.text


def test_an_interrupted_wait_names_the_line_that_waits():
    future = Future()
    with pytest.raises(TypeError) as e:  # in threading.py, as KeyboardInterrupt is
        future.result("long")
    assert "test_local.py" in line_of(e.value)
