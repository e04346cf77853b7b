"""The ledgers of a session beside everything that crossed its links: nothing is missing."""

import gc
import threading
import time

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices import travel
from spuvm.devices.agreement import END
from spuvm.devices.ledger import entries, verify
from spuvm.devices.session import current
from tests.devices.rehearsal import PARTIES, Rehearsal

pytest.importorskip("phe")

BEFORE = {"operation", "agreement", "policy", "ledger"}
"""Edges of what the parties agree on; names and lines of the script, no values."""


class Wire(Rehearsal):
    """A rehearsal that keeps what each party sent and took: (me, peer, operation, edge)."""

    def run(self, script, limit=60.0):
        self.sent, self.taken = [], []
        return super().run(script, limit)

    def _party(self, name, script):
        endpoint = self.endpoints[name]
        send, receive = endpoint.send, endpoint.receive

        def keep(kept, peer, envelope, value):
            failed = isinstance(value, dict) and value.get("failure") is not None
            head = envelope.edge.endswith(" head") and not failed
            if (
                envelope.edge not in BEFORE
                and not head
                and not (isinstance(value, list) and not value)
            ):
                kept.append((name, peer, envelope.operation, envelope.edge))

        def sending(peer, envelope, value):
            keep(self.sent, peer, envelope, value)
            send(peer, envelope, value)

        def taking(peer, envelope, *, deadline):
            value = receive(peer, envelope, deadline=deadline)
            keep(self.taken, peer, envelope, value)
            return value

        endpoint.send, endpoint.receive = sending, taking
        super()._party(name, script)


def written(done, name, direction):
    """(operation, peer) of all entries in a direction."""
    return {
        (entry["operation"], peer)
        for entry in entries(done.ledger(name))
        if entry["direction"] == direction
        for peer in entry["peers"]
    }


def check(done):
    """All that went over the links is in the ledgers of both ends."""
    assert done.sent
    assert done.taken
    for direction, kept in (("out", done.sent), ("in", done.taken)):
        for name in done.parties:
            known = written(done, name, direction)
            missing = [w for w in kept if w[0] == name and (w[2], w[1]) not in known]
            assert not missing, (name, direction, missing)
    for name in done.parties:
        assert verify(done.ledger(name))


def numbers():
    return np.array([1.5, -2.0, 0.25], "float32")


def test_all_that_crosses_is_written(tmp_path):
    """Moves, facts, shares, programs, costs, checkpoints, ciphertexts in both directions."""

    def script(me):
        alice, bob = map(sf.PYU, ("alice", "bob"))
        first, second = sf.SPU(list(PARTIES)), sf.SPU(["dave", "alice", "bob"])
        heu = sf.HEU("alice", ["bob"], 512, safety="insecure", input_range=(-8, 8))
        x, y = alice(numbers)(), bob(numbers)()
        c = np.float32(0.1) if me == "carol" else np.nextafter(np.float32(0.1), np.float32(1))
        z = first(lambda a, b: a * b * c)(x.to(bob), y)
        first.dump(z, tmp_path / "kept")
        again = second(lambda a: a + 1)(first.load(tmp_path / "kept"))
        mixed = first(lambda a: a)((x.to(heu) * y.to(heu)).to(first))
        rounds = first.last_run.rounds
        facts = sf.data.FedNdarray({alice: x, bob: y}).shape
        return sf.reveal([again, mixed, mixed.to(heu).to(alice)], to=["carol"]), rounds, facts

    done = Wire(tmp_path, parties=(*PARTIES, "dave")).run(script)
    assert not done.errors
    check(done)


def failing():
    raise ValueError("text of the patient")


def test_what_is_told_of_errors_is_written(tmp_path):
    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        spu = sf.SPU(list(PARTIES))
        for value in (alice(failing)().to(bob), alice(failing)().to(spu), bob(lambda: {1})()):
            with pytest.raises(sf.errors.SpuvmError):
                sf.reveal(value)
        with pytest.raises(sf.errors.SpuvmError):
            sf.wait(spu(lambda v: v + 1)(alice(lambda: np.float32(1e30))()))
        return True

    done = Wire(tmp_path).run(script)
    assert not done.errors
    check(done)
    told = [e["shape"] for e in entries(done.ledger("carol")) if "Error" in e["shape"]]
    assert any("failing raised ValueError" in text for text in told)
    assert all("patient" not in text for text in told)


def test_owners_keep_what_became_clear_of_their_data(tmp_path):
    """Also where others send it: the owner is not among the three, or its data went on."""

    def script(me):
        carol, bob = sf.PYU("carol"), sf.PYU("bob")
        spu = sf.SPU(["alice", "bob", "dave"])
        total = spu(lambda v: v.sum())(carol(numbers)())
        passed = bob(lambda v: v + 1)(total.to(bob))
        return sf.reveal([total, passed], to=["dave"])

    done = Wire(tmp_path, parties=(*PARTIES, "dave")).run(script)
    assert not done.errors
    check(done)

    def allowed(name):
        found = [e for e in entries(done.ledger(name)) if e["direction"] == "consent"]
        assert all(e["form"] == "clear" and "carol" in e["origins"] for e in found)
        return [(e["what"], e["peers"]) for e in found]

    assert len(allowed("carol")) == 3  # the total to bob, the total to dave, bob's value to dave
    assert [peers for _, peers in allowed("carol")] == [["bob"], ["dave"], ["dave"]]
    assert allowed("alice") == []
    assert allowed("bob") == []  # what it sent itself is there as sent


def test_what_a_dropped_spu_was_asked_for_comes_before_the_end(tmp_path):
    def slow():
        time.sleep(0.3)
        return np.ones(3, "float32")

    def script(me):
        alice = sf.PYU("alice")
        for parties in (PARTIES, ("dave", "alice", "bob")):
            sf.SPU(list(parties))(lambda v: v + 1)(alice(slow)())
        gc.collect()

    done = Rehearsal(tmp_path, parties=(*PARTIES, "dave")).run(script)
    assert not done.errors
    for name, runs in {"alice": 2, "bob": 2, "carol": 1, "dave": 1}.items():
        lines = list(entries(done.ledger(name)))
        assert lines[-1]["what"] == END
        assert sum(line["shape"].endswith("rounds") for line in lines) == runs


@pytest.mark.parametrize("slow", ["send-alice", "receive-bob"])
def test_what_was_under_way_when_the_session_failed_is_written_down(tmp_path, monkeypatch, slow):
    """The session ends while an entry of a value that moves is being made."""
    arrived, digest = threading.Event(), travel.digest

    def slowly(value):
        if threading.current_thread().name == slow:
            time.sleep(0.5)
        return digest(value)

    monkeypatch.setattr(travel, "digest", slowly)

    def script(me):
        if me == "bob":
            endpoint = current().backend.endpoint
            receive = endpoint.receive

            def noted(peer, envelope, *, deadline):
                got = receive(peer, envelope, deadline=deadline)
                if envelope.edge == "value":
                    arrived.set()
                return got

            endpoint.receive = noted
        x = sf.PYU("alice")(lambda: np.ones(3, "float32"))().to(sf.PYU("bob"))
        if me == "carol":
            arrived.wait(0.2)
            raise KeyError
        sf.wait(x)

    done = Rehearsal(tmp_path).run(script)
    assert set(done.errors) == set(PARTIES)
    out, got = (
        [e for e in entries(done.ledger(party)) if e["form"] == "clear"]
        for party in ("alice", "bob")
    )
    assert len(out) == 1  # whether or not it went
    assert len(got) == arrived.is_set()
    assert arrived.is_set() or slow == "send-alice"


def test_calls_whose_results_nobody_asks_for_are_done_before_a_session_ends(tmp_path):
    saved = []

    def save():
        time.sleep(0.3)
        saved.append("weights")

    def script(me):
        sf.PYU("bob")(save)()
        sf.PYU("bob")(save)()

    assert not Rehearsal(tmp_path).run(script).errors
    assert len(saved) == 2
