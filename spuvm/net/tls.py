"""TLS 1.3 with certificates at both ends, by the standard library's OpenSSL.

A party's certificate carries its name as the only common name of its subject. Who it is signed by
decides: a certificate authority that all parties accept, or itself, where all parties have each
other's certificates in their list (pinned).
"""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net.settings import Tls
from spuvm.net.transport import TlsTransport

_CHUNK: Final = 1 << 16


class Contexts:
    """What TLS needs to know for connections in both directions.

    Raises:
        UsageError: a file is missing, unreadable, wrong, or the key may be read by others.
    """

    def __init__(self, files: Tls) -> None:
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
    certificate = tls.getpeercert() or {}
    subject: Any = certificate.get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise ChannelError("a certificate does not name exactly one party", got=str(names))
    return str(names[0])
