"""Certificates for the parties of a cluster, and a cluster file to start from.

Two ways. An authority that is made for the occasion signs all certificates and its key is thrown
away: quick, for development, where one person may see all private keys. Or every party makes its
own certificate, which signs itself, and gives it to the others, who put it into their list: then
no private key ever leaves its party.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spuvm.errors import UsageError

PORT: Final = 9100
"""The first port in a cluster file made here."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: _Key

    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        return f"Issued({self.certificate.subject.rfc4514_string()}, key=<hidden>)"


def issue(name: str, days: int, signer: Issued | None = None, *, authority: bool = False) -> Issued:
    """A certificate with `name` as its common name, signed by `signer` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signing = signer.key if signer is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False
        )
        .add_extension(_usage(authority), critical=True)
    )
    if not authority:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    return Issued(builder.sign(signing, hashes.SHA256()), key)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def development(
    folder: Path, parties: Sequence[str], *, days: int = 90, pinned: bool = False
) -> dict[str, Path]:
    """A directory per party with ca.pem, cert.pem, key.pem and cluster.toml; see the module.

    Args:
        folder: where; it is made if it does not exist.
        parties: names.
        days: how long the certificates are valid.
        pinned: certificates that sign themselves, in a common list, instead of an authority.

    Returns:
        The directory of each party.

    Raises:
        UsageError: odd names, or files that exist already: nothing is written over.
    """
    check_names(parties, days)
    made = {party: folder / party for party in parties}
    _refuse_existing([*(path / "key.pem" for path in made.values()), folder / "cluster.toml"])
    if pinned:
        issued = {party: issue(party, days) for party in parties}
        accepted = b"".join(one.pem() for one in issued.values())
    else:
        authority = issue("spuvm development authority", days, authority=True)
        issued = {party: issue(party, days, authority) for party in parties}
        accepted = authority.pem()
    addresses = {party: f"127.0.0.1:{PORT + 1 + i}" for i, party in enumerate(parties)}
    for party, path in made.items():
        path.mkdir(parents=True, exist_ok=True)
        (path / "ca.pem").write_bytes(accepted)
        (path / "cert.pem").write_bytes(issued[party].pem())
        write_private(path / "key.pem", issued[party].key_pem())
        (path / "cluster.toml").write_text(cluster_file(addresses))
    (folder / "cluster.toml").write_text(cluster_file(addresses, "{party}/"))
    return made


def own(folder: Path, party: str, *, days: int = 365) -> Path:
    """A certificate that signs itself for one party: cert.pem and key.pem in `folder`/`party`.

    Raises:
        UsageError: as `development`.
    """
    check_names([party], days)
    path = folder / party
    _refuse_existing([path / "key.pem"])
    path.mkdir(parents=True, exist_ok=True)
    issued = issue(party, days)
    (path / "cert.pem").write_bytes(issued.pem())
    write_private(path / "key.pem", issued.key_pem())
    return path


def check_names(parties: Sequence[str], days: int) -> None:
    """Raise UsageError for names that are empty, odd or double, or for no days."""
    for party in parties:
        if not _NAME.fullmatch(party):
            raise UsageError(
                "a party's name cannot be in a certificate",
                got=repr(party),
                expected="letters, digits, - and _, at most 63",
            )
    if not parties or len(set(parties)) != len(parties):
        raise UsageError("parties need different names", got=", ".join(parties))
    if days < 1:
        raise UsageError("certificates need at least one day", got=str(days))


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UsageError(
                "a file exists already, and is not written over",
                got=str(path),
                next="remove it, or choose another directory with --out",
            )


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read, from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def cluster_file(addresses: Mapping[str, str], folder: str = "") -> str:
    """The text of a cluster.toml with certificates in `folder`, relative to the file."""
    lines = ["# The same at all parties, in the same order; correct the addresses.", "[parties]"]
    lines += [f'{party} = "{address}"' for party, address in addresses.items()]
    lines += [
        "",
        "[tls]",
        f'ca = "{folder}ca.pem"        # whose certificates are accepted',
        f'cert = "{folder}cert.pem"    # this party\'s',
        f'key = "{folder}key.pem"      # its private key: mode 600, never leaves this machine',
        "",
        "# What each party lets out is its own decision: [policy.NAME], see docs/deployment.md.",
        "",
    ]
    return "\n".join(lines)
