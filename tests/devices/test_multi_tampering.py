"""A party that announces what all do and then sends something else: the others name it at once."""

import re

import numpy as np
import pytest

import spuvm as sf
from tests.devices.rehearsal import PARTIES, Rehearsal


class Tampering(Rehearsal):
    """A rehearsal in which bob's values on some edge are others than his script's."""

    def run(self, script, edge, change, limit=60.0):
        self._edge, self._change, self.changed = edge, change, 0
        return super().run(script, limit)

    def _party(self, name, script):
        endpoint = self.endpoints[name]
        send = endpoint.send

        def sending(peer, envelope, value):
            if re.fullmatch(self._edge, envelope.edge):
                self.changed += 1
                value = self._change(value)
            send(peer, envelope, value)

        if name == "bob":
            endpoint.send = sending
        super()._party(name, script)


def script(me):
    alice, bob, _ = map(sf.PYU, PARTIES)
    spu = sf.SPU(list(PARTIES))
    x = bob(lambda: {"v": np.arange(5, dtype="float32"), "flag": np.array([True, False])})()
    y = spu(lambda d: (d["v"] * d["v"], d["flag"]))(x)
    seen = sf.reveal([y, x.to(alice)], to=["alice"])
    sf.wait(y)
    return seen, spu.last_run.rounds


def longer(value):
    return [[seeds, [np.append(a, a[:1]) for a in arrays]] for seeds, arrays in value]


def wider(value):
    return [[seeds, [a.astype(np.float64) for a in arrays]] for seeds, arrays in value]


FAILURE = dict.fromkeys(
    ("party", "what", "kind", "message", "at", "got", "expected", "next"), "odd"
)
CHANGES = {
    "pieces": [
        longer,
        wider,
        lambda v: v[:1],
        lambda v: [],
        lambda v: "text",
        lambda v: [[[seed[:5] for seed in seeds], arrays] for seeds, arrays in v],
        lambda v: [[[*seeds, bytes(16)], arrays] for seeds, arrays in v],
    ],
    "pieces head": [lambda v: {}, lambda v: {"failure": 3}, lambda v: None],
    "structure": [
        lambda v: {"failure": None, "tree": {"array": [5], "dtype": "object"}},
        lambda v: {"failure": None, "tree": {"array": [1 << 39, 9], "dtype": "float32"}},
        lambda v: {"failure": None},
        lambda v: [1],
    ],
    "part": [
        lambda v: [np.append(a, a[:1]) for a in v],
        lambda v: [a.astype(np.float32) for a in v],
        lambda v: v[:1],
    ],
    "value head": [lambda v: {"failure": FAILURE | {"kind": 7}}, lambda v: []],
    "failures": [lambda v: {"a": 1}, lambda v: [1], lambda v: [FAILURE | {"more": "x"}]],
    r"\d+\.1": [lambda v: {"failure": None, "outcome": {"run": [1, 2]}}, lambda v: 7],
}
CASES = [(edge, number) for edge, changes in CHANGES.items() for number in range(len(changes))]


@pytest.mark.parametrize(("edge", "number"), CASES)
def test_what_is_sent_is_not_what_was_announced(tmp_path, monkeypatch, edge, number):
    monkeypatch.setattr("spuvm.devices.agreement._AFTERMATH", 0.05)  # nothing else to hear of
    done = Tampering(tmp_path, patience=8).run(script, edge, CHANGES[edge][number])
    assert done.changed
    for name in ("alice", "carol"):
        error = done.errors[name]
        assert isinstance(error, sf.errors.SpuvmError), repr(error)
        assert "party 'bob'" in str(error), str(error)
        assert "test_multi_tampering.py:" in str(error), str(error)
        assert "internal work" not in str(error), str(error)
        assert not any(kind in str(error) for kind in ("ValueError", "TypeError", "KeyError")), str(
            error
        )
