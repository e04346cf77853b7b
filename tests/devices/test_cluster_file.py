"""cluster.toml: what is read, and every refusal by name."""

from pathlib import Path

import pytest

import spuvm as sf
from spuvm import cli
from spuvm.devices.cluster import load, parse
from spuvm.devices.policy import Policy, Rule
from spuvm.errors import UsageError

PARTIES = """
[parties]
alice = "127.0.0.1:9701"
bob = "127.0.0.1:9702"
carol = "127.0.0.1:9703"
"""


def test_defaults():
    cluster = parse(PARTIES, "bob", Path("/there"))
    assert cluster.parties == ("alice", "bob", "carol")
    assert cluster.links.addresses["carol"] == ("127.0.0.1", 9703)
    assert cluster.links.tls is None
    assert cluster.policy == Policy("bob")
    assert cluster.ledger == Path("/there/ledger-bob.jsonl")


def test_everything(tmp_path):
    for name in ("ca.pem", "alice.pem", "alice.key"):
        (tmp_path / name).write_text("")
    text = """
[parties]
alice = "alice.example:9700"
bob = "[2001:db8::1]:9700"
carol = "10.0.0.3:9700"
[tls]
ca = "ca.pem"
cert = "{party}.pem"
key = "{party}.key"
[timing]
deadline = 5
start_wait = 2.5
[local]
listen = "0.0.0.0:9700"
ledger = "/var/{party}.jsonl"
largest_value = 1000
[policy.alice]
open = [{ what = "train", to = ["bob", "c*"] }]
share = ["alice", "bob", "carol"]
[policy.bob]
anything = "is bob's own business"
"""
    (tmp_path / "cluster.toml").write_text(text)
    cluster = load(tmp_path / "cluster.toml", "alice")
    assert cluster.links.addresses["bob"] == ("2001:db8::1", 9700)
    assert cluster.links.tls.key == tmp_path / "alice.key"
    assert cluster.links.listen == ("0.0.0.0", 9700)
    assert (cluster.links.deadline, cluster.links.connect_deadline) == (5, 2.5)
    assert cluster.ledger == Path("/var/alice.jsonl")
    assert cluster.largest_value == 1000
    assert cluster.policy.open == (Rule("train", ("bob", "c*")),)
    with pytest.raises(UsageError, match=r"\[tls\] cert is not a file"):
        load(tmp_path / "cluster.toml", "carol")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("[partys]", "unknown entries in cluster.toml"),
        ("[tls]\nca = 'x'", "no cert, key"),
        ("[timing]\ndeadline = -1", "deadline is a number of seconds"),
        ("[timing]\ndedline = 1", "unknown entries in .timing"),
        ("[local]\nlisten = '9700'", "listen is not an address"),
        ("[local]\nledger = 3", "ledger is a text"),
        ("[policy.dave]", "unknown entries in .policy"),
        ("[policy.alice]\nopen = 'all'", "open is a list of rules"),
        ("[policy.alice]\nopen = [{ what = 'f' }]", "not a rule"),
        ("[policy.alice]\nshare = 'bob'", "share is a list of names"),
        ("[policy.alice]\nshares = []", "unknown entries in .policy.alice"),
    ],
)
def test_what_is_wrong_is_named(more, text):
    with pytest.raises(UsageError, match=text):
        parse(PARTIES + more, "alice", Path())


def test_parties_and_the_file_itself(tmp_path):
    with pytest.raises(UsageError, match="does not know party 'dave'"):
        parse(PARTIES, "dave", Path())
    with pytest.raises(UsageError, match=r"\[parties\] alice is not an address"):
        parse("[parties]\nalice = '10.0.0.1'", "alice", Path())
    with pytest.raises(UsageError, match="would not be encrypted"):
        parse(PARTIES.replace("127.0.0.1:9703", "10.0.0.3:9703"), "alice", Path())
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "none.toml", "alice")
    (tmp_path / "odd.toml").write_text("parties = [")
    with pytest.raises(UsageError, match="is not TOML"):
        load(tmp_path / "odd.toml", "alice")


def test_policy():
    free = Policy("alice")
    assert free.refuses_opening("load", "bob") is None
    assert free.refuses_sharing(["alice", "bob", "dave"]) is None
    strict = Policy("alice", (Rule("train", ("bob",)), Rule("Client.get_*", ("*",))), ("bob", "c*"))
    assert strict.refuses_opening("train", "bob") is None
    assert strict.refuses_opening("Client.get_weights", "dave") is None
    assert strict.refuses_opening("load", "alice") is None
    line = strict.refuses_opening("load", "bob")
    assert line.endswith('[policy.alice]: { what = "load", to = ["bob"] }')
    assert "train" in strict.refuses_opening("train", "carol")
    assert strict.refuses_sharing(["alice", "bob", "carol"]) is None
    assert strict.refuses_sharing(["alice", "bob", "dave"]).endswith(
        'share = ["bob", "c*", "dave"]'
    )
    assert Policy("alice", ()).refuses_opening("anything", "bob")


def test_joining_says_what_is_wrong(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(PARTIES)
    with pytest.raises(UsageError, match="party and cluster go together"):
        sf.init(party="alice")
    with pytest.raises(UsageError, match="does not know party 'dave'"):
        sf.init(party="dave", cluster=file, backend="inprocess")
    with pytest.raises(UsageError, match="names parties that the cluster file does not have"):
        sf.init(["alice", "dave"], party="alice", cluster=file, backend="inprocess")
    with pytest.raises(UsageError, match=r"sf.init\(parties"):
        sf.PYU("alice")  # nothing was left behind
    assert cli.main(["run", "--party", "alice", str(tmp_path / "none.py")]) == 1


def test_reveal_names_parties(tmp_path):
    sf.init(["alice", "bob"], backend="inprocess")
    try:
        x = sf.PYU("alice")(lambda: 3)()
        assert sf.reveal(x, to=["bob"]) == 3  # a driver stands for all parties
        assert sf.reveal(x, to="bob") == 3
        for to in (["eve"], [], "eve"):
            with pytest.raises(UsageError, match="a value is revealed to parties"):
                sf.reveal(x, to=to)
    finally:
        sf.shutdown()
