"""Certificates: the command line, the files, and links that use them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from networks import outcomes, run, tcp_endpoints, tls_in

from spuvm import certs
from spuvm.cli import main
from spuvm.errors import UsageError
from spuvm.net.tls import Contexts

PARTIES = ("alice", "bob", "carol")


@pytest.mark.parametrize("trust", ["authority", "pinned"])
def test_from_the_command_line_to_links(
    tmp_path: Path, trust: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    arguments = ["certs", "--parties", "alice,bob,carol", "--out", str(out), "--trust", trust]
    assert main(arguments) == 0
    assert f"{out}/alice/: ca.pem cert.pem key.pem cluster.toml" in capsys.readouterr().out
    for party in PARTIES:
        assert (out / party / "key.pem").stat().st_mode & 0o777 == 0o600
        certificate = x509.load_pem_x509_certificate((out / party / "cert.pem").read_bytes())
        assert certificate.subject.rfc4514_string() == f"CN={party}"
        cluster = tomllib.loads((out / party / "cluster.toml").read_text())
        assert list(cluster["parties"]) == list(PARTIES)
        assert cluster["tls"] == {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    shared = tomllib.loads((out / "cluster.toml").read_text())
    assert shared["tls"]["key"] == "{party}/key.pem"
    ends = tcp_endpoints(PARTIES, {party: tls_in(out / party) for party in PARTIES})
    run(*(end.connect for end in ends.values()))
    run(*(end.close for end in ends.values()))
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err


def test_parties_that_make_their_own(tmp_path: Path) -> None:
    for party in PARTIES:
        assert main(["certs", "--own", party, "--out", str(tmp_path)]) == 0
        assert not (tmp_path / party / "ca.pem").exists()
    known = b"".join((tmp_path / party / "cert.pem").read_bytes() for party in PARTIES)
    for party in PARTIES:
        (tmp_path / party / "ca.pem").write_bytes(known)
    files = {party: tls_in(tmp_path / party) for party in PARTIES}
    ends = tcp_endpoints(PARTIES, files)
    run(*(end.connect for end in ends.values()))
    run(*(end.close for end in ends.values()))
    # one who is not on alice's list does not get in
    (tmp_path / "alice" / "ca.pem").write_bytes((tmp_path / "bob" / "cert.pem").read_bytes())
    ends = tcp_endpoints(PARTIES, files, connect_deadline=1)
    got = outcomes(*(end.connect for end in ends.values()))
    assert "party 'carol'" in str(got[0])
    assert "certificate" in str(got[0]) + str(got[2])
    run(*(end.close for end in ends.values()))


def test_a_party_whose_certificate_is_an_authority(tmp_path: Path) -> None:
    """Pinned by the others, it could sign itself one with the name of any of them."""
    for party in ("alice", "carol"):
        certs.own(tmp_path, party)
    bob = certs.issue("bob", 30, authority=True)
    forged = certs.issue("alice", 30, bob)
    pinned = [(tmp_path / party / "cert.pem").read_bytes() for party in ("alice", "carol")]
    path = tmp_path / "pretender"
    path.mkdir()
    (path / "cert.pem").write_bytes(forged.pem() + bob.pem())
    certs.write_private(path / "key.pem", forged.key_pem())
    (path / "ca.pem").write_bytes(b"".join(pinned))
    carol = tmp_path / "carol" / "ca.pem"
    other = certs.issue("somebody", 30, authority=True)
    for accepted, text in (
        ([*pinned, bob.pem()], "authority named bob"),
        ([bob.pem()], "authority named bob"),
        ([*pinned, other.pem()], "an authority beside certificates of parties"),
    ):
        carol.write_bytes(b"".join(accepted))
        with pytest.raises(UsageError, match=text):
            Contexts(tls_in(carol.parent), PARTIES)
    carol.write_bytes(b"".join(pinned))  # and if carol leaves it out, TLS itself refuses
    files = {"alice": tls_in(path), "carol": tls_in(carol.parent)}
    ends = tcp_endpoints(("alice", "carol"), files, connect_deadline=1)
    got = outcomes(*(end.connect for end in ends.values()))
    assert all("certificate" in str(error) for error in got)
    carol.write_bytes(other.pem() + certs.issue("another", 30, authority=True).pem())
    Contexts(tls_in(carol.parent), PARTIES)  # authorities of several organisations


def test_an_expired_certificate(tmp_path: Path) -> None:
    authority = certs.issue("authority", 30, authority=True)
    for party, days in (("alice", 30), ("bob", 0)):
        path = tmp_path / party
        path.mkdir()
        issued = certs.issue(party, days, authority)
        (path / "cert.pem").write_bytes(issued.pem())
        (path / "ca.pem").write_bytes(authority.pem())
        certs.write_private(path / "key.pem", issued.key_pem())
    files = {party: tls_in(tmp_path / party) for party in ("alice", "bob")}
    ends = tcp_endpoints(("alice", "bob"), files, connect_deadline=2)
    got = outcomes(*(end.connect for end in ends.values()))
    assert "certificate has expired" in str(got[0])
    assert "certificate expired" in str(got[1])


def test_misuse(tmp_path: Path) -> None:
    for parties in (["alice", "alice"], [], ["a b"], ["../x"], ["x" * 70]):
        with pytest.raises(UsageError):
            certs.development(tmp_path, parties)
    with pytest.raises(UsageError, match="at least one day"):
        certs.own(tmp_path, "alice", days=0)
    made = certs.development(tmp_path, ["alice", "bob"])["alice"]
    made.joinpath("key.pem").chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        Contexts(tls_in(made))
    with pytest.raises(UsageError, match="is missing"):
        Contexts(tls_in(tmp_path / "dan"))
    made.joinpath("key.pem").chmod(0o600)
    made.joinpath("key.pem").write_bytes((tmp_path / "bob" / "key.pem").read_bytes())
    with pytest.raises(UsageError, match="cannot be used"):
        Contexts(tls_in(made))
    assert "hidden" in repr(certs.issue("alice", 1))


def test_without_tls_only_loopback(caplog: pytest.LogCaptureFixture) -> None:
    from spuvm.net.settings import Links

    Links({"a": ("127.0.0.1", 1), "b": ("::1", 2), "c": ("localhost", 3)}).check("a")
    for host in ("10.0.0.1", "example.org", "0.0.0.0"):
        with pytest.raises(UsageError, match="would not be encrypted"):
            Links({"a": ("127.0.0.1", 1), "b": (host, 2)}).check("a")
    with pytest.raises(UsageError, match="listen for unencrypted"):
        Links({"a": ("127.0.0.1", 1), "b": ("127.0.0.1", 2)}, listen=("0.0.0.0", 1)).check("a")
    with caplog.at_level("INFO", logger="spuvm.net"):
        ends = tcp_endpoints(("a", "b"))
        run(*(end.connect for end in ends.values()))
        run(*(end.close for end in ends.values()))
    assert sum("is up: not encrypted" in line for line in caplog.messages) == 2
