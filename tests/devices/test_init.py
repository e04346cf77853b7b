"""Sessions: what init refuses, and what needs one."""

import subprocess
import sys

import pytest

import spuvm as sf


@pytest.fixture
def no_session():
    sf.shutdown()
    yield
    sf.shutdown()


@pytest.mark.parametrize(
    ("parties", "text"),
    [
        ([], "parties are a list of names"),
        ("alice", "parties are a list of names"),
        (["alice", "bob", "alice"], "named twice"),
        (["alice", ""], "not a party name"),
        (["alice", 3], "not a party name"),
        (["a:b"], "not a party name"),
        (["alic\u0435"], "not a party name"),  # looks like alice
        (["driver"], "means somebody else"),
        (["alice", "spu0"], "means somebody else"),
    ],
)
def test_odd_parties(no_session, parties, text):
    with pytest.raises(sf.errors.UsageError, match=text):
        sf.init(parties, backend="inprocess")


def test_other_misuse_of_init(no_session):
    with pytest.raises(sf.errors.UsageError, match="unknown backend"):
        sf.init(["alice"], backend="mpi")
    with pytest.raises(sf.errors.UsageError, match="no address"):
        sf.init(["alice"], backend="inprocess", address="auto")
    sf.init(["alice"], backend="inprocess")
    with pytest.raises(sf.errors.UsageError, match="called before"):
        sf.init(["alice"], backend="inprocess")


def test_everything_needs_a_session(no_session):
    for use in (lambda: sf.PYU("alice"), lambda: sf.SPU(["a", "b", "c"]), lambda: sf.reveal(1)):
        with pytest.raises(sf.errors.UsageError, match="no session is running"):
            use()
    sf.shutdown()  # without a session: nothing


def test_handles_end_with_their_session(no_session):
    sf.init(["alice"], backend="inprocess")
    x = sf.PYU("alice")(lambda: 1)()
    sf.shutdown()
    sf.init(["alice"], backend="inprocess")
    with pytest.raises(sf.errors.UsageError, match="session that was shut down"):
        sf.reveal(x)
    with pytest.raises(sf.errors.UsageError, match="session that was shut down"):
        sf.PYU("alice")(lambda v: v)(x)


def test_devices_of_another_session(no_session):
    sf.init(["alice", "bob", "carol"], backend="inprocess")
    bob, spu = sf.PYU("bob"), sf.SPU(["alice", "bob", "carol"])
    sf.wait(spu(lambda: 1.0)())
    sf.shutdown()
    with pytest.raises(sf.errors.UsageError, match="no session"):
        _ = spu.last_run
    sf.init(["alice"], backend="inprocess")
    x = sf.PYU("alice")(lambda: 1)()
    for use in (bob(lambda: 1), lambda: x.to(bob), lambda: sf.to(bob, 1)):
        with pytest.raises(sf.errors.UsageError, match="unknown party"):
            use()
    with pytest.raises(sf.errors.UsageError, match="session that was shut down"):
        _ = spu.last_run


def test_no_devices_inside_a_partys_function(no_session):
    sf.init(["alice"], backend="inprocess")
    alice = sf.PYU("alice")
    with pytest.raises(sf.errors.UsageError, match="not from a function that runs at a party"):
        sf.reveal(alice(lambda: alice(lambda: 1)())())


def test_inprocess_says_that_it_protects_nobody(no_session, caplog):
    sf.init(["alice"], backend="inprocess")
    assert "protects nobody" in caplog.text


PROBE = """
import sys, time
start = time.perf_counter()
import spuvm
took = time.perf_counter() - start
heavy = sorted({"jax", "numba", "ray", "phe", "numpy"} & set(sys.modules))
assert not heavy, heavy
assert "SPU" in dir(spuvm) and spuvm.errors.SpuvmError
print(took)
"""


def test_import_is_light():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0  # a generous bound: the benchmark measures the real one


def test_public_names_exist():
    for name in sf.__all__:
        assert getattr(sf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'TEEU'"):
        _ = sf.TEEU
