"""sf.report: the page names every move and its form, what was learned, costs; and holds no data."""

import re
from html import unescape
from xml.dom import minidom

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.flow import Flow
from spuvm.devices.picture import render
from spuvm.errors import UsageError


def rows(page, title):
    """The cells of the table under a title."""
    table = page.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
    found = re.findall(r"<tr>(.*?)</tr>", table)
    return [[unescape(c) for c in re.findall(r"<td.*?>(.*?)</td>", row)] for row in found[1:]]


def weights():
    return np.full(3, 41.5625)  # more digits than a coordinate of the picture has


def scaled(x):
    return x * 0.25


def test_the_page_has_every_move(inprocess, tmp_path):
    alice, bob = sf.PYU("alice"), sf.PYU("bob")
    spu = sf.SPU(["alice", "bob", "carol"])
    heu = sf.HEU("alice", ["bob"], 512, safety="insecure")
    before = rows(written(tmp_path), "Moves")
    x = alice(weights)()
    for _ in range(2):
        y = spu(scaled)(x)
    at_bob = y.to(bob)
    encrypted = x.to(heu) * at_bob
    kept = bob(scaled)(x.to(bob))
    sf.reveal([kept, y, encrypted.to(alice)])
    page = written(tmp_path)
    new = [row[:5] for row in rows(page, "Moves")[len(before) :]]
    assert new == [
        ["alice", spu.name, "shared", "weights", "2"],
        [spu.name, "bob", "opened", "scaled", "1"],
        ["alice", "bob", "hidden", f"{heu.name} send", "1"],
        ["alice", "bob", "clear", "weights", "1"],
        ["bob", "alice", "opened", f"output of {heu.name}", "1"],
        ["bob", "driver", "clear", "scaled", "1"],
        ["alice", "driver", "clear", f"{heu.name} decrypt", "1"],
        [spu.name, "driver", "opened", "scaled", "1"],
    ]
    assert all(re.match(r"test_picture.py:\d+ in", row[5]) for row in rows(page, "Moves")[-6:])
    cost = spu(scaled).cost(x)
    sent = " / ".join(f"{b:,}" for b in cost.bytes_sent)
    assert [spu.name, "scaled", str(cost.rounds), sent, "2"] in rows(page, "Cost of a run")
    learned = [row[:3] for row in rows(page, "Who learned what")]
    assert ["output of scaled", "bob", "alice"] in learned
    assert ["value of scaled", "driver", "alice, bob"] in learned
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        minidom.parseString(picture)  # well-formed
    assert "41.56" not in page
    assert "10.39" not in page


def written(folder):
    sf.report(folder / "run.html")
    return (folder / "run.html").read_text(encoding="utf-8")


def test_names_cannot_break_the_page():
    flow = Flow()
    flow.note("alice", "bob", "clear", "<script>alert(1)</script>")
    page = render(flow, ["alice", "bob"], [])
    assert "<script" not in page
    assert rows(page, "Moves")[0][3] == "<script>alert(1)</script>"


def test_a_session_without_steps():
    page = render(Flow(), ["alice", "bob"], [])
    assert page.count("Nothing.") == 4


def test_a_file_that_cannot_be_written(inprocess, tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        sf.report(tmp_path / "missing" / "run.html")
