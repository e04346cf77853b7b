"""Pairwise keys and a session id, agreed by the parties themselves over their links.

On plaintext links this protects against those who only listen; whoever can change what is
sent can put himself between two parties. Authenticated links close that.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NoReturn

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Channel, Spec

KEY_BYTES: Final = 16
_PART: Final = 32  # of a public key, a nonce and a digest alike
_LABEL: Final = b"spuvm session 1"
_BYTE: Final = np.dtype(np.uint8)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Keys:
    """What the parties of one session agreed on.

    Attributes:
        session: 32 bytes, the same at all parties, fresh in every agreement.
        pair: 16-byte key by peer rank; the two ends of a pair hold the same one.
    """

    session: bytes
    pair: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"Keys(session=<hidden>, pair=<hidden, with ranks {sorted(self.pair)}>)"

    def __eq__(self, other: object) -> NoReturn:
        raise UsageError("keys are not compared")

    def __bool__(self) -> NoReturn:
        raise UsageError("keys have no truth value")

    def __reduce__(self) -> NoReturn:
        raise UsageError("keys do not leave the process that agreed on them")

    __hash__ = None  # type: ignore[assignment]


def agree(channel: Channel) -> Keys:
    """[] -> Keys, at all parties at once.

    Local:    X25519 key pair and a 32-byte nonce, both fresh
    Sends:    to every peer: public key and nonce; then the digest of all parties' (64 + 32 bytes)
    Gives:    session = SHA-256(label, every party's public key and nonce in rank order);
              key of i < j = HKDF-SHA256(shared secret, salt session, info "spuvm pair i j")
    Security: against eavesdroppers (computational Diffie-Hellman on curve 25519); that all saw the
              same is checked, who they are is not: that is the links' part

    Raises:
        ChannelError: a link failed, a peer's public key is invalid, or the parties saw
            different messages.
    """
    rank, peers = channel.rank, channel.peers
    private = X25519PrivateKey.generate()
    own = private.public_key().public_bytes_raw() + os.urandom(_PART)
    said = _to_all(channel, own)
    said[rank] = own
    digest = sha256(_LABEL + bytes([len(said)]))
    for party in sorted(said):
        digest.update(said[party])
    session = digest.digest()
    for peer, seen in _to_all(channel, session).items():
        if not hmac.compare_digest(seen, session):
            raise ChannelError(
                f"party {peer} saw other messages than this one during key agreement",
                expected="the same public keys and nonces at all parties",
                next="do not go on: somebody changes messages, or a party is faulty",
            )
    return Keys(session, {p: _pair_key(private, said[p], rank, p, session) for p in peers})


def _to_all(channel: Channel, message: bytes) -> dict[int, bytes]:
    """Send a message to all peers and receive one of the same length from each."""
    array = np.frombuffer(message, _BYTE)
    spec = [Spec(_BYTE, len(message))]
    answers = channel.exchange(
        {peer: [array] for peer in channel.peers}, dict.fromkeys(channel.peers, spec)
    )
    return {peer: arrays[0].tobytes() for peer, arrays in answers.items()}


def _pair_key(
    private: X25519PrivateKey, said: bytes, rank: int, peer: int, session: bytes
) -> bytes:
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(said[:_PART]))
    except ValueError as error:
        raise ChannelError(f"party {peer} sent an invalid public key") from error
    i, j = sorted((rank, peer))
    kdf = HKDF(hashes.SHA256(), length=KEY_BYTES, salt=session, info=b"spuvm pair %d %d" % (i, j))
    return kdf.derive(secret)
