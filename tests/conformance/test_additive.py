"""Additive results: nothing is sent for them, nothing is seen of them but their sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import RANKS, RecordingMasks, interactive, lockstep, pair_streams, share, value_of
from test_views import N, Scene, watch
from uniformity import View, findings
from variant import builder, to_ints

from spuvm.bytecode.isa import MOVES, OPS
from spuvm.bytecode.text import parse, to_text
from spuvm.bytecode.types import Type
from spuvm.errors import UsageError, VerifyError
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.io import part_of
from spuvm.protocol.aby3.share import ZShare
from spuvm.protocol.base import Party
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

RINGS = [32, 64, 128]


def words(ring, shape, rng):
    """Uniform ring elements."""
    flat = [int.from_bytes(rng.bytes(16)) for _ in range(int(np.prod(shape)))]
    return ring.array(np.array(flat, object).reshape(shape))


def product(ring, x, y, streams=None, number=0):
    """Shares of x @ y at the three parties, and what each drew."""
    streams = streams or pair_streams()
    masks = [RecordingMasks(streams[i], 0, number) for i in RANKS]
    operands = share(x, ring), share(y, ring)
    local = ABY3.local["additive_dot_aa"]
    return [local(Party(i, ring, masks[i]), *(o[i] for o in operands)) for i in RANKS], masks


def integers(ring, x):
    return np.array(to_ints(ring, x), object).ravel()


@pytest.mark.parametrize("bits", RINGS)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(1, 1, 3, 5), (2, 3, 4, 1)]))
def test_products_are_exact(bits, seed, shape):
    ring, rng = Ring(bits), np.random.default_rng(seed)
    b, m, k, n = shape
    x, y = words(ring, (b, m, k), rng), words(ring, (b, k, n), rng)
    shares, _ = product(ring, x, y)
    want = [
        sum(int(x[i, r, j]) * int(y[i, j, c]) for j in range(k)) % ring.modulus
        for i in range(b)
        for r in range(m)
        for c in range(n)
    ]
    assert [int(v) for v in value_of(shares).ravel()] == want
    assert shares[0].shape == (b, m, n)


@pytest.mark.parametrize("bits", RINGS)
def test_two_shares_are_uniform_and_fresh(bits):
    """Of a product that is the same for all elements; to a party, also beside what it drew."""
    ring, streams = Ring(bits), pair_streams()
    x, y = (ring.array(np.full(s, 3)) for s in ((1, 1, 2), (1, 2, N)))
    one, masks = product(ring, x, y, streams)
    two, _ = product(ring, x, y, streams, number=1)
    for i in RANKS:
        others = [one[j].z.ravel() for j in RANKS if j != i]
        for other in others:
            known = [d.array for d in masks[i].drawn]
            assert list(findings(View([other], known), N)) == []
        assert (one[i].z == two[i].z).mean() < 0.01


@pytest.mark.parametrize("bits", RINGS)
def test_what_resharing_shows_is_uniform(bits):
    """Beside a broken one, whose parts have no masks."""
    h = 1 << (bits // 2 - 3)
    scene = Scene(
        "dot_aa", {}, ((0, (0, h - 1)), (0, (-h + 1, 3))), ((N, 1, 2), (N, 2, 1)), numbers=(0, 1)
    )

    def whole(p, x, y):
        return (yield from ABY3.steps["reshare_z"](p, ABY3.local["additive_dot_aa"](p, x, y)))

    def bare(p, x, y):
        part = x.x0[:, :, :1] * y.x0[:, :1]
        return (yield from ABY3.steps["reshare_z"](p, ZShare(part)))

    assert list(watch(Ring(bits), scene, whole)) == []
    assert list(watch(Ring(bits), scene, bare)) != []


@pytest.mark.parametrize("bits", RINGS)
def test_resharing_costs_a_word_per_party(bits):
    ring, rng = Ring(bits), np.random.default_rng(0)
    x = words(ring, (7, 3), rng)
    parts = [words(ring, x.shape, rng) for _ in "ab"]
    shares = [ZShare(z) for z in (*parts, x - parts[0] - parts[1])]
    trace = lockstep(ring, interactive("reshare_z"), [shares], {})
    cost = ABY3.costs["reshare_z"](ring, (Type("z", x.shape),), {})
    assert (trace.rounds, trace.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert cost.bytes_sent == (21 * ring.nbytes,) * 3
    assert np.array_equal(value_of(trace.results), x)


@pytest.mark.parametrize("bits", RINGS)
@pytest.mark.parametrize("cut", [1, 8, 13, 18, 28])
def test_a_party_learns_a_value_of_a_uniform_threshold(bits, cut):
    """floor((x - a) / 2^m) for its own low digits plus another party's, which it does not know."""
    ring, rng, low = Ring(bits), np.random.default_rng(cut), (1 << cut) - 1
    x = rng.integers(-(1 << 20), 1 << 20, N)
    parts = [words(ring, N, rng) for _ in "ab"]
    parts.append(ring.array(np.array(x, object)) - parts[0] - parts[1])
    rounded = [
        ABY3.local["round_z"](Party(i, ring, None), ZShare(parts[i]), bits=cut, range=())
        for i in RANKS
    ]
    got = integers(ring, value_of(rounded))
    assert (abs(got - x) <= 3 << cut - 1).all()
    assert (got % (1 << cut) == 1 << cut - 1).all()
    for i in RANKS:
        own, other = (integers(ring, parts[(i + k) % 3]) & low for k in (0, 1))
        told = (x - own - other) >> cut << cut
        assert (got - (3 << cut - 1) == told).all()
        for bit in range(cut):
            assert abs(np.mean(other >> bit & 1) - 0.5) < 6 / (2 * N**0.5)
        related = np.corrcoef(np.asarray(other, float), np.asarray(x & low, float))[0, 1]
        assert abs(related) < 6 / N**0.5


@pytest.mark.parametrize("bits", RINGS)
def test_an_opening_shows_the_sum_alone(bits):
    """What a party gets of the others is uniform one by one, and never their shares."""
    ring, streams = Ring(bits), pair_streams()
    x, y = (ring.array(np.full(s, 3)) for s in ((1, 1, 2), (1, 2, N)))
    shares, _ = product(ring, x, y, streams)

    def opened(run):
        masks = [RecordingMasks(streams[i], run, 0) for i in RANKS]
        return [part_of(Party(i, ring, masks[i]), shares[i], None) for i in RANKS], masks

    parts, masks = opened(1)
    again, _ = opened(2)
    for part, other, s in zip(parts, again, shares, strict=True):
        assert (part == s.z.ravel()).mean() < 0.01
        assert (part == other).mean() < 0.01
    for i in RANKS:
        known = [*(d.array for d in masks[i].drawn), shares[i].z.ravel()]
        for j in set(RANKS) - {i}:
            assert list(findings(View([parts[j]], known), N)) == []
    total = parts[0] + parts[1] + parts[2]
    assert np.array_equal(total, value_of(shares).ravel())
    with pytest.raises(UsageError, match="outsider"):
        part_of(Party(0, ring, masks[0]), shares[0], 0)


def program_of(ring, bits=4):
    b = builder(Ring(ring))
    x, y = (b.input(Type("a", s, 4, 0, -50, 50), "o") for s in ((1, 1, 3), (1, 3, 8)))
    made = b.emit("additive_dot_aa", x, y)
    part = b.emit("slice", made, start=(0, 0, 2), limit=(1, 1, 8), stride=(1, 1, 1))
    b.output(
        b.emit("round_z", b.emit("reshape", part, shape=(6,)), bits=bits, range=()), "float64", "o"
    )
    return b.build()


@pytest.mark.parametrize("ring", RINGS)
def test_on_machines(trio, ring):
    """Run, opened, given to another program and re-shared there; no other program takes it."""
    program, machines = program_of(ring), trio(ring)
    assert static_cost(program).bytes_sent == (0, 0, 0)
    assert parse(to_text(program)).digest == program.digest
    rng = np.random.default_rng(0)
    x, y = rng.integers(-50, 51, (1, 1, 3)), rng.integers(-50, 51, (1, 3, 8))
    want = (x @ y).ravel()[2:]
    values = [Ring(ring).array(v) for v in (x, y)]
    made = machines.run(program, values)
    assert (made.rounds, made.bytes_sent) == (0, (0, 0, 0))
    assert (abs(integers(Ring(ring), made.outputs[0]) - want) <= 24).all()
    (plain,) = run_plain(program, values, rng, "ranges")
    assert (abs(integers(Ring(ring), plain) - want) <= 24).all()

    t = program.types[program.outputs[0].value]
    for kind in "za":
        b = builder(Ring(ring))
        given = b.input(t.with_(kind=kind), "o")
        b.output(b.emit("reshare_z", given) if kind == "z" else given, "float64", "o")
        names = [f"in{i}" for i in range(2)]
        for name, v in zip(names, values, strict=True):
            machines.put(name, v)
        machines.execute(program, names, ["made"])
        if kind == "a":
            with pytest.raises(UsageError, match="does not fit"):
                machines.machines[0].run(99_999, b.build(), ["made"], ["again"])
            with pytest.raises(UsageError, match="additive"):
                machines.machines[0].save(None, b"", ["made"], "")
            continue
        measured = machines.execute(b.build(), ["made"], ["again"])
        assert (measured.rounds, measured.bytes_sent) == (1, (6 * ring // 8,) * 3)
        again = [integers(Ring(ring), machines.open(name)) for name in ("made", "again")]
        assert (again[0] == again[1]).all()
        assert (integers(Ring(ring), machines.open("again", to=1)) == again[0]).all()


@pytest.mark.parametrize("op", sorted(op for op, row in OPS.items() if "*" in row.kinds))
def test_nothing_computes_with_additive_shares(op):
    b = builder(Ring(64))
    z = b.input(Type("z", (2, 3)), "o")
    attrs = {"reshape": {"shape": (6,)}, "slice": {"start": (0, 0), "limit": (1, 1),
             "stride": (1, 1)}}.get(op, dict.fromkeys(OPS[op].attrs, ()))  # fmt: skip
    if op in MOVES:
        assert b.type(b.emit(op, z, **attrs)).kind == "z"
        return
    with pytest.raises(VerifyError, match="kind"):
        b.emit(op, *[z] * len(OPS[op].kinds.rstrip("+")), **attrs)


def test_a_range_has_to_leave_room():
    b = builder(Ring(64))
    z = b.input(Type("z", (2,), 60, 0, 0, 1 << 61), "o")
    with pytest.raises(VerifyError, match="round"):
        b.emit("round_z", z, bits=61, range=())
