"""What scripts without a driver hear and write down of failures near their end."""

import contextlib
import time

import pytest

import spuvm as sf
from spuvm.devices.session import current
from tests.devices.rehearsal import Rehearsal


@pytest.fixture
def rehearse(tmp_path):
    return lambda **more: Rehearsal(tmp_path, **more)


def test_a_failure_that_nobody_asks_for_is_in_the_log(rehearse, caplog):
    def save():
        raise OSError("the disk is full")

    def script(me):
        sf.PYU("bob")(save)()

    assert not rehearse().run(script).errors
    (line,) = [record.getMessage() for record in caplog.records if "disk" in record.getMessage()]
    assert line.startswith("save failed, at ")
    assert "test_multi_ends.py" in line


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_script_that_ended_hears_that_the_session_failed_before(rehearse, seconds):
    """And why: whoever tells it does not leave before it has, however long that takes."""

    def script(me):
        endpoint = current().backend.endpoint
        abort = endpoint.abort
        endpoint.abort = lambda message: (time.sleep(seconds), abort(message))
        if me == "bob":
            raise KeyError("secret")
        agreement = current().backend.agreement
        if me == "alice":  # it learns of the error while it does something else
            with contextlib.suppress(sf.errors.SpuvmError):
                while True:
                    agreement.begin("something else")
        until = time.monotonic() + 10
        while not agreement.failed and time.monotonic() < until:
            time.sleep(0.01)
        assert agreement.failed

    done = rehearse().run(script)
    assert isinstance(done.errors["bob"], KeyError)
    assert "alice" not in done.errors  # its script heard, and went on
    assert "the script ended with KeyError" in str(done.errors["carol"])
