"""Key agreement: equal at the two ends of a pair, different everywhere else, hidden."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import numpy as np
import pytest
from networks import TRANSPORTS, U8, network, outcomes, run

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Array, Channel, Spec
from spuvm.net.keys import KEY_BYTES, Keys, agree


def agreed(transport: str) -> list[Keys]:
    with network(transport) as channels:
        return run(*(lambda c=c: agree(c) for c in channels))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_ends_of_a_pair_agree_and_nobody_else(transport: str) -> None:
    first, second = agreed(transport), agreed(transport)
    pairs = set()
    for keys in (first, second):
        assert len({k.session for k in keys}) == 1
        assert len(keys[0].session) == 32
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert keys[i].pair[j] == keys[j].pair[i]
            assert len(keys[i].pair[j]) == KEY_BYTES
            pairs.add(keys[i].pair[j])
        assert all(sorted(k.pair) == sorted({0, 1, 2} - {r}) for r, k in enumerate(keys))
    assert len(pairs) == 6
    assert first[0].session != second[0].session


def test_keys_are_hidden() -> None:
    keys = agreed("local")[0]
    assert repr(keys) == "Keys(session=<hidden>, pair=<hidden, with ranks [1, 2]>)"
    assert str(keys) == f"{keys}" == repr(keys)
    for misuse in (lambda: keys == keys, lambda: bool(keys), lambda: pickle.dumps(keys)):
        with pytest.raises(UsageError):
            misuse()
    with pytest.raises(TypeError):
        hash(keys)
    with pytest.raises(AttributeError):
        keys.session = b""  # type: ignore[misc]


class Meddler(Channel):
    """A channel whose outgoing frames are changed on the way."""

    def __init__(self, inner: Channel, change: Callable[[int, int, Array], Array]) -> None:
        self.inner, self.change, self.round = inner, change, 0
        self.rank, self.peers, self.stats = inner.rank, inner.peers, inner.stats

    def exchange(
        self, sends: Mapping[int, Sequence[Array]], receives: Mapping[int, Sequence[Spec]]
    ) -> dict[int, list[Array]]:
        changed = {
            p: [self.change(self.round, p, a) for a in arrays] for p, arrays in sends.items()
        }
        self.round += 1
        return self.inner.exchange(changed, receives)

    def abort(self, message: str) -> None:
        self.inner.abort(message)

    def close(self) -> None:
        self.inner.close()


def test_different_stories_to_different_parties_are_noticed() -> None:
    def change(round_: int, peer: int, array: Array) -> Array:
        if (round_, peer) != (0, 2):
            return array
        array = array.copy()
        array[-1] ^= 1
        return array

    with network("local") as channels:
        got = outcomes(
            lambda: agree(Meddler(channels[0], change)),
            lambda: agree(channels[1]),
            lambda: agree(channels[2]),
        )
    assert all(isinstance(result, ChannelError) for result in got)
    assert all("other messages" in str(result) for result in got)


def test_a_public_key_that_fixes_the_secret_is_refused() -> None:
    with network("local") as channels:

        def cheat() -> None:
            # whoever lies consistently also lies about what it saw
            own = np.zeros(64, np.uint8)
            got = channels[0].exchange({1: [own], 2: [own]}, {1: [Spec(U8, 64)], 2: [Spec(U8, 64)]})
            seen = b"spuvm session 1\x03" + bytes(own) + bytes(got[1][0]) + bytes(got[2][0])
            digest = np.frombuffer(sha256(seen).digest(), np.uint8)
            channels[0].exchange({1: [digest], 2: [digest]}, {1: [Spec(U8, 32)], 2: [Spec(U8, 32)]})

        _, *got = outcomes(cheat, lambda: agree(channels[1]), lambda: agree(channels[2]))
    assert all(isinstance(result, ChannelError) for result in got)
    assert all("party 0 sent an invalid public key" in str(result) for result in got)
