"""Dealing and reconstructing: round trip, uniform pairs, bytes as declared, refusals."""

import pickle

import numpy as np
import pytest
from parties import RANKS, arrays_of, check_replicated, share, value_of
from uniformity import View, findings, sign_columns

from spuvm.bytecode.types import Type
from spuvm.errors import UsageError, ValueRangeError
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.protocol.aby3.io import accept, deal, reconstruct, share_bytes
from spuvm.protocol.aby3.share import PIECE
from spuvm.ring import Ring
from spuvm.vm.cost import share_cost
from spuvm.wide import cast, elements

OWNERS = (None, 0, 1, 2)
CASES = [(b, w) for b in (32, 64, 128) for w in (0, 1, 5, 8, 12, 64, b) if w <= b]


def encoded(ring: Ring, width: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(width)
    size = int(np.prod(shape, dtype=int))
    x = elements(np.frombuffer(rng.bytes(size * ring.nbytes), ring.dtype).reshape(shape))
    if width:
        x = x & ((1 << width) - 1)
    return np.asanyarray(x.astype(np.uint8 if width == 1 else ring.dtype))


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("bits", "width"), CASES)
def test_round_trip_and_bytes(bits: int, width: int, owner: int | None) -> None:
    ring = Ring(bits)
    for shape in ((), (0,), (1,), (7,), (2, 3)):
        x = encoded(ring, width, shape)
        before = x.copy()
        dealt = deal(x, ring, width=width, owner=owner)
        shares = [accept(d) for d in dealt]
        check_replicated(shares)
        assert np.array_equal(cast(value_of(shares), x.dtype), x)
        assert np.array_equal(x, before)
        assert shares[0].shape == shape
        sent = sum(d.nbytes for d in dealt if d.rank != owner)
        assert sent == share_bytes(x.size, ring, width=width, owner=owner)
        kind = Type("b", shape, 0, width) if width else Type("a", shape)
        assert str(sent) in share_cost(kind, ring, owner=owner).what


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_floats_are_encoded_on_the_way(bits: int) -> None:
    """The same values as of what is encoded first, and the same refusals."""
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    rng = np.random.default_rng(0)
    for shape in ((), (0,), (3, 5), (2 * PIECE + 3, 2)):
        x = rng.normal(size=shape)
        for owner in OWNERS:
            shares = [accept(d) for d in deal(fxp.encoding(x), fxp.ring, owner=owner)]
            assert shares[0].shape == shape
            assert np.array_equal(value_of(shares), fxp.encode(x))
    for wrong, why in ((np.nan, "NaN"), (fxp.max_float, "out of range"), (9.0, "declared range")):
        bad = rng.uniform(-1, 1, 2 * PIECE + 3)
        bad[[0, -1]] = wrong
        for make in (fxp.encoding, fxp.encode):
            with pytest.raises(ValueRangeError, match=why) as caught:
                deal(make(bad, name="x", input_range=(-8, 8)), fxp.ring)
            assert f"2 of {bad.size} elements" in str(caught.value)


@pytest.mark.parametrize("owner", OWNERS)
def test_only_one_component_travels_in_full(owner: int | None) -> None:
    """16 bytes and seeds per element of 8 (8 bytes where the owner computes)."""
    most = 48 if owner == 0 else 64 if owner is None else 16
    assert share_bytes(1000, Ring(64), owner=owner) == (16 if owner is None else 8) * 1000 + most


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("bits", "width"), [(64, 0), (32, 0), (128, 0), (64, 1), (64, 8)])
def test_the_pair_of_each_party_is_uniform(bits: int, width: int, owner: int | None) -> None:
    """Dealt twice with two fixed secrets: what a party holds that is not 0 says nothing of them."""
    ring, n = Ring(bits), 2048
    choice = np.random.default_rng(0).integers(0, 2, n)
    secrets = ring.array(np.array([0, 1 if width else -1], object))[choice]
    dealings = [share(secrets, ring, width, owner) for _ in range(2)]
    for rank in RANKS:
        if rank == owner:
            continue
        held = [a for d in dealings for a in arrays_of(d[rank]) if a.any()]
        assert len(held) >= 2
        view = View(held, groups=sign_columns([choice]))
        assert list(findings(view, n, dead_bits="allowed" if width else "refused")) == []


def test_seeds_go_to_their_two_holders_only() -> None:
    for owner in OWNERS:
        dealt = deal(Ring(64).array([1, 2, 3]), Ring(64), owner=owner)
        for d in dealt:
            held = {d.rank, (d.rank + 1) % 3}
            assert set(d.seeds) | set(d.arrays) <= held
            assert not set(d.seeds) & set(d.arrays)
        assert len({s for d in dealt for s in d.seeds.values()}) == (1 if owner in (1, 2) else 2)


def test_fresh_seeds_every_time() -> None:
    x = Ring(64).array([5])
    seen = [deal(x, Ring(64))[0].seeds[0] for _ in range(20)]
    assert len(set(seen)) == 20


def test_dealt_travels_but_does_not_show() -> None:
    d = deal(Ring(64).array([123456789]), Ring(64))[1]
    assert "redacted" in repr(d)
    assert "123456789" not in repr(d)
    again = pickle.loads(pickle.dumps(d))
    assert np.array_equal(accept(again).x0, accept(d).x0)


def test_read_only_arrays_are_accepted() -> None:
    """Out of shared memory they come so; shares are writeable memory of the party's own."""
    x = Ring(64).array([1, 2, 3])
    x.flags.writeable = False
    dealt = deal(x, Ring(64))
    for d in dealt:
        for a in d.arrays.values():
            a.flags.writeable = False
        assert all(a.flags.writeable for a in arrays_of(accept(d)))
    assert np.array_equal(value_of([accept(d) for d in dealt]), x)


@pytest.mark.parametrize(
    ("values", "arguments", "message"),
    [
        (np.array([1.5]), {}, "not encoded"),
        (np.array([1], np.int64), {}, "not encoded"),
        (np.array([1], np.uint32), {}, "not encoded"),
        (np.array([True]), {"width": 1}, "not encoded"),
        (np.array([1], np.uint64), {"owner": 3}, "cannot deal so"),
        (np.array([1], np.uint64), {"width": 65}, "cannot deal so"),
        (np.array([2], np.uint8), {"width": 1}, "more than 1 bits"),
        (np.array([1 << 12], np.uint64), {"width": 12}, "more than 12 bits"),
    ],
)
def test_refusals(values, arguments, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        deal(values, Ring(64), **arguments)


def test_reconstruct_skips_missing_parts() -> None:
    a, b = np.array([1, 2], np.uint64), np.array([(1 << 64) - 1, 5], np.uint64)
    assert reconstruct([a, None, b]).tolist() == [0, 7]
    assert reconstruct([None, a, b], width=64).tolist() == [(1 << 64) - 2, 7]
    assert a.tolist() == [1, 2]
