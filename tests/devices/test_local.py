"""Threads of the backend inside one process."""

import threading

from spuvm.devices.failure import Failure
from spuvm.devices.local import Worker
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
