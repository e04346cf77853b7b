"""TLS 1.3 with certificates at both ends, by the standard library's OpenSSL.

A party's certificate carries its name as the only common name of its subject. Who it is signed by
decides: a certificate authority that all parties accept, or itself, where all parties have each
other's certificates in their list (pinned).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net.settings import Tls
from spuvm.net.transport import TlsTransport

_CHUNK: Final = 1 << 16


class Contexts:
    """What TLS needs to know for connections in both directions.

    Args:
        files: see `Tls`.
        parties: names that no authority may have.

    Raises:
        UsageError: a file is missing, unreadable, wrong, or the key may be read by others; or one
            of the accepted certificates would let its owner be any party.
    """

    def __init__(self, files: Tls, parties: Collection[str] = ()) -> None:
        for path in (files.ca, files.cert, files.key):
            if not Path(path).is_file():
                raise UsageError(
                    "a file for TLS is missing",
                    got=str(path),
                    next="make certificates with `spuvm certs`, or correct the path under [tls]",
                )
        if Path(files.key).stat().st_mode & 0o077:
            raise UsageError(
                "a private key can be read by others",
                got=f"{files.key} with mode {Path(files.key).stat().st_mode & 0o777:o}",
                expected="mode 600",
                next=f"chmod 600 {files.key}",
            )
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, files)
        self._server.num_tickets = 0
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        _no_party_signs_others(self._client, files, parties)

    def secure(
        self, sock: socket.socket, *, server: bool, until: float
    ) -> tuple[TlsTransport, str]:
        """The handshake over a connected socket: the transport and the peer's name.

        Raises:
            ssl.SSLError: the peer's certificate or TLS version is not accepted.
            OSError: the connection broke, or the handshake took too long.
            ChannelError: the peer's certificate names nobody, or several.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._server if server else self._client
        tls = context.wrap_bio(incoming, outgoing, server_side=server)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                _send(sock, outgoing, until)
                _receive(sock, incoming, until)
            except ssl.SSLError:
                _send(sock, outgoing, until)  # the alert tells the peer why
                raise
        _send(sock, outgoing, until)
        return TlsTransport(sock, tls, incoming, outgoing), _name(tls)


def _context(protocol: int, files: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name that counts is the party's
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.cert, files.key)
        context.load_verify_locations(files.ca)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            "the files for TLS cannot be used",
            got=str(error),
            expected="PEM: a certificate, its private key, and the certificates to trust",
        ) from error
    return context


def _no_party_signs_others(context: ssl.SSLContext, files: Tls, parties: Collection[str]) -> None:
    """Refuse a list in which a party's own certificate could sign one with another party's name.

    Who gives the others a certificate that is an authority's could be any party to them.
    """
    names = [_common_names(authority) for authority in context.get_ca_certs()]
    theirs = sorted({name for found in names for name in found if name in parties})
    count = context.cert_store_stats()
    if theirs or 0 < count["x509_ca"] < count["x509"]:
        raise UsageError(
            "an accepted certificate could sign those of other parties",
            got=f"{files.ca} has an authority"
            + (f" named {', '.join(theirs)}" if theirs else " beside certificates of parties"),
            expected="certificates of parties, none an authority; or authorities alone",
            next="have its owner make it with `spuvm certs --own NAME`, or with CA:FALSE",
        )


def _send(sock: socket.socket, outgoing: ssl.MemoryBIO, until: float) -> None:
    if outgoing.pending:
        sock.settimeout(max(0.001, until - time.monotonic()))
        sock.sendall(outgoing.read())


def _receive(sock: socket.socket, incoming: ssl.MemoryBIO, until: float) -> None:
    sock.settimeout(max(0.001, until - time.monotonic()))
    data = sock.recv(_CHUNK)
    if not data:
        raise ConnectionResetError("the connection was closed during the TLS handshake")
    incoming.write(data)


def _name(tls: ssl.SSLObject) -> str:
    """The party that the peer's certificate names; it was verified before."""
    names = _common_names(tls.getpeercert() or {})
    if len(names) != 1:
        raise ChannelError("a certificate does not name exactly one party", got=str(names))
    return names[0]


def _common_names(certificate: Mapping[str, Any]) -> list[str]:
    subject = certificate.get("subject", ())
    return [str(value) for part in subject for key, value in part if key == "commonName"]
