"""What a party takes from another, and tells it: bounded, whatever the other one says."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.ledger import entries
from spuvm.devices.policy import Policy
from spuvm.devices.session import current
from spuvm.devices.structure import ArraySpec
from spuvm.net.endpoint import Envelope
from tests.devices.rehearsal import PARTIES, Rehearsal


@pytest.fixture
def rehearse(tmp_path):
    return lambda **more: Rehearsal(tmp_path, **more)


def two():
    return np.full(3, 2.0, "float32")


def out_of_range():
    return np.array([0.5, 2.0, -3.0], "float32")


def test_how_many_elements_were_refused_stays_at_their_owner(rehearse):
    def script(me):
        spu = sf.SPU(list(PARTIES), config=sf.Config(input_range=(-1, 1)))
        return sf.reveal(spu(lambda v: v + 1)(sf.PYU("alice")(out_of_range)()))

    done = rehearse(policies={"alice": Policy("alice", ())}).run(script)
    for name in PARTIES:
        assert "elements are outside the declared range" in str(done.errors[name])
        assert done.errors[name].got == ("2 of 3 elements" if name == "alice" else None)
        assert b"2 of 3" not in done.ledger(name).read_bytes()


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_values_larger_than_a_party_wants(rehearse, who):
    """The sender's limit and the receiver's: nothing larger is taken in."""

    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        return sf.reveal(alice(lambda: np.zeros(300))().to(bob), to=["bob"])

    done = rehearse(largest={who: 2000}).run(script)
    for name in PARTIES:
        assert "too large" in str(done.errors[name])
        assert "2000" in str(done.errors[name])
    assert not [e for e in entries(done.ledger("bob")) if e["form"] == "clear"]
    assert not rehearse(largest={who: 3000}).run(script).errors


@pytest.mark.parametrize("shape", [(1 << 18,), (1 << 30, 1 << 9)])
def test_a_structure_larger_than_a_party_wants(rehearse, shape):
    """It is refused before a program with arrays of that size is made."""
    traced = []

    def script(me):
        spu = sf.SPU(list(PARTIES))
        if me == "bob":
            post = current().backend.post
            tell = post.tell_structure
            post.tell_structure = lambda operation, ref, tree: tell(
                operation, ref, ArraySpec(shape, "float32")
            )

        def function(x):
            traced.append(me)
            return x + jnp.arange(x.size)

        return sf.reveal(spu(function)(sf.PYU("bob")(two)()))

    done = rehearse(largest=dict.fromkeys(PARTIES, 1 << 19)).run(script)
    assert "alice" not in traced
    assert "carol" not in traced
    assert "party 'bob' told of a value that is too large" in str(done.errors["alice"])


def test_a_party_that_announces_far_ahead(rehearse, monkeypatch):
    """What others hold of operations that they have not reached is bounded."""
    monkeypatch.setattr("spuvm.devices.agreement.AHEAD", 20_000)

    def script(me):
        backend = current().backend
        if me == "bob":
            said = {"text": "x" * 1000, "source": "", "refused": False, "notes": {}, "chain": ""}
            for number in range(100):
                backend.endpoint.send("alice", Envelope(number, "operation"), said)
        while not backend.agreement.failed:
            time.sleep(0.01)
        if me == "alice":
            assert len(backend.agreement._heard["bob"]) < 20
        backend.agreement.check()

    done = rehearse().run(script)
    for name in PARTIES:
        assert "'bob' announced more operations" in str(done.errors[name])
