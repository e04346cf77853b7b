"""The ledger: an append-only chain in which every change shows."""

import json
from datetime import datetime

import pytest

from spuvm import cli
from spuvm.devices.ledger import START, Entry, Ledger, entries, verify
from spuvm.errors import UsageError


def filled(path, count=5):
    ledger = Ledger(path, "alice", "s1")
    for i in range(count):
        ledger.write(Entry("out", "clear", f"f{i}", i, "x.py:1", ("alice",), ("bob",), "f32[3]"))
    ledger.close()
    return ledger.head


def test_written_and_read(tmp_path):
    path = tmp_path / "deep" / "ledger.jsonl"
    head = filled(path)
    assert verify(path) == (5, head)
    first = next(entries(path))
    assert (first["what"], first["peers"], first["previous"]) == ("f0", ["bob"], START)
    assert path.stat().st_mode & 0o077 == 0
    again = Ledger(path, "alice", "s2")
    again.write(Entry("in", "clear", "g", 0, ""), {"heads": {"bob": START}})
    with pytest.raises(UsageError, match="another process writes"):
        Ledger(path, "alice", "s3")
    again.close()
    again.write(Entry("in", "clear", "late", 1, ""))
    assert verify(path, head) == (6, again.head)
    assert [e["session"] for e in entries(path)] == ["s1"] * 5 + ["s2"]


def test_a_head_does_not_tell_which_of_few_values_an_entry_is_about(tmp_path, monkeypatch):
    """Heads go to the other parties, who may know all of an entry but its digest."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12, tzinfo=tz)

    monkeypatch.setattr("spuvm.devices.ledger.datetime", Noon)
    assert filled(tmp_path / "one", 1) != filled(tmp_path / "two", 1)


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def changed(lines):
    return [line.replace('"f2"', '"h2"') for line in lines]


def resealed(lines):
    """The entry itself is made consistent again: the next one tells."""
    from spuvm.devices.ledger import _seal

    line = json.loads(lines[2])
    del line["hash"]
    line["peers"] = []
    return [*lines[:2], json.dumps({**line, "hash": _seal(line)}) + "\n", *lines[3:]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (changed, "line 3: this entry was changed"),
        (resealed, "line 4: entries before this one"),
        (lambda lines: lines[:2] + lines[3:], "line 3: entries before this one"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: entries before"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "line 3: entries before this one"),
        (lambda lines: lines[1:], "line 1: entries before this one"),
        (lambda lines: [*lines, "{}\n"], "line 6: entries before this one"),
        (lambda lines: [*lines, "nonsense\n"], "line 6: not an entry"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 5: the entry is cut off"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], "line 5: the entry is cut off"),
    ],
)
def test_tampering_shows(tmp_path, change, text):
    path = tmp_path / "ledger.jsonl"
    filled(path)
    edit(path, change)
    with pytest.raises(UsageError, match=text):
        verify(path)
    with pytest.raises(UsageError, match=text):
        Ledger(path, "alice", "s2")


def test_a_cut_end_shows_with_a_head_from_elsewhere(tmp_path):
    path = tmp_path / "ledger.jsonl"
    head = filled(path)
    edit(path, lambda lines: lines[:-1])
    assert verify(path)[0] == 4
    with pytest.raises(UsageError, match="the end was cut off"):
        verify(path, head)


def test_unreadable(tmp_path):
    with pytest.raises(UsageError, match="cannot read the ledger"):
        verify(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot write the ledger"):
        Ledger(tmp_path, "alice", "s")


def test_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "ledger.jsonl"
    head = filled(path, 2)
    assert cli.main(["ledger", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "session s1 of alice" in out
    assert "sent clear  f1: f32[3] to bob, data of alice, at x.py:1" in out
    assert f"2 entries, chain intact, head {head}" in out
    assert cli.main(["ledger", "verify", str(path), "--head", head]) == 0
    edit(path, lambda lines: lines[:-1])
    assert cli.main(["ledger", "verify", str(path), "--head", head]) == 1
    assert "the end was cut off" in capsys.readouterr().err
    edit(path, lambda lines: [line.replace("bob", "eve") for line in lines])
    assert cli.main(["ledger", "show", str(path)]) == 1
    assert "line 1: this entry was changed" in capsys.readouterr().err
