"""random_b: uniform bits, known to nobody, other ones every time; checked by statistics."""

import numpy as np
import pytest
from parties import RANKS, RecordingMasks, pair_streams, value_of
from variant import builder

from spuvm.kernels.arith import small_dtype
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.base import Party
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

N = 4096
DEVIATIONS = 6  # of a fair coin's mean: one false alarm in 1e9 checks


def drawn(ring, width, streams=None, run=0, number=0):
    """Shares of one execution, and the masks that each party drew for it."""
    streams = streams or pair_streams()
    masks = [RecordingMasks(streams[i], run, number) for i in RANKS]
    attrs = {"shape": (N,), "width": width, "draw": 1}
    shares = [ABY3.local["random_b"](Party(i, ring, masks[i]), **attrs) for i in RANKS]
    return shares, masks


def is_fair(values, width):
    """Every bit of the words is set about half of the time, and neighbours are unrelated."""
    assert int(values.max(initial=0)) < 1 << width
    for i in range(width):
        bit = ((values >> values.dtype.type(i)) & values.dtype.type(1)).astype(int)
        assert abs(bit.mean() - 0.5) < DEVIATIONS / (2 * N**0.5)
        assert abs((bit[1:] ^ bit[:-1]).mean() - 0.5) < DEVIATIONS / (2 * N**0.5)


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("width", [1, 2, 8, 13, 32])
def test_bits_are_fair_and_unknown_to_each_party(bits, width):
    shares, masks = drawn(Ring(bits), width)
    values = value_of(shares)
    is_fair(np.asarray(values), width)
    for i in RANKS:  # what a party lacks is a component of its own right, uniform by itself
        missing = np.asarray(values) ^ shares[i].x0 ^ shares[i].x1
        is_fair(missing, width)
        assert sorted({d.other for d in masks[i].drawn}) == sorted(set(RANKS) - {i})
    assert all(s.x0.dtype == small_dtype(width) and s.width == width for s in shares)


def test_another_place_gives_other_bits():
    ring, streams = Ring(64), pair_streams()
    seen = [
        value_of(drawn(ring, 32, streams, run, number)[0])
        for run, number in ((0, 0), (0, 1), (1, 0))
    ]
    for i in range(3):
        for j in range(i):
            assert (seen[i] == seen[j]).mean() < 1e-3
    assert np.array_equal(seen[0], value_of(drawn(ring, 32, streams)[0]))


def program(ring):
    b = builder(ring)
    for i in (1, 2):
        b.output(b.emit("random_b", shape=(N,), width=16, draw=i), "int32", str(i))
    return b.build()


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_machines_draw_anew_in_every_run_and_send_nothing(trio, bits):
    made = program(Ring(bits))
    assert static_cost(made).bytes_sent == (0, 0, 0)
    first, second = (trio(bits).run(made, []) for _ in range(2))
    assert first.bytes_sent == (0, 0, 0)
    words = [np.asarray(o) for run in (first, second) for o in run.outputs]
    for i, w in enumerate(words):
        is_fair(w, 16)
        assert all((w == other).mean() < 1e-2 for other in words[:i])


def test_the_plain_meaning_is_fair_too():
    a, b = run_plain(program(Ring(64)), [], np.random.default_rng(0))
    is_fair(a, 16)
    assert (a == b).mean() < 1e-2
