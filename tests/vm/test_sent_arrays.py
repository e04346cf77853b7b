"""What was handed to a channel is not written to afterwards.

A link keeps it, without a copy, until the peer has acknowledged it, and sends it again when the
connection breaks: a buffer that is used again would arrive with other contents, unnoticed.
"""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf
from spuvm.net.guard import GuardedChannel

KEPT = 300  # arrays of a party that are looked at again before each exchange

X = np.linspace(-2, 2, 48, dtype="float32").reshape(6, 8)
PROGRAMS = {
    "products": lambda a: jnp.tanh(a @ a.T) / (1 + jnp.sum(a * a)),
    "comparisons": lambda a: jnp.where(a > 0.5, jnp.exp(a), jnp.sign(a)),
    "sorting": lambda a: jnp.sort(a.ravel())[:5],
    "a loop": lambda a: jax.lax.fori_loop(0, 4, lambda i, s: s * 0.5 + a, a),
    "integers": lambda a: jnp.floor(a).astype("int32") % 3,
    "indices": lambda a: jnp.ravel(a)[jnp.argmax(a, 1)],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_that_was_sent_changes(name, monkeypatch):
    exchange, count = GuardedChannel.exchange, 0
    kept = {}

    def watched(self, sends, receives):
        nonlocal count
        mine = kept.setdefault(id(self), deque(maxlen=KEPT))
        assert all(array.tobytes() == before for array, before in mine), "written to after sending"
        got = exchange(self, sends, receives)
        for arrays in sends.values():
            mine.extend((array, array.tobytes()) for array in arrays)
            count += len(arrays)
        return got

    monkeypatch.setattr(GuardedChannel, "exchange", watched)
    f = sf.simulate(PROGRAMS[name])
    for _ in range(2):
        f(X)
    assert count > 20
