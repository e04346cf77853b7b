"""Whole programs: shared rounds, static cost equal to a run's, results of the plain protocol."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import Trio
from random_programs import programs
from variant import builder

from spuvm.bytecode.types import Type
from spuvm.protocol.aby3.share import PIECE
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost
from spuvm.wide import cast

N = 9


def test_independent_instructions_share_rounds(trio) -> None:
    """One of each kind side by side: as many rounds as the longest, bytes add up."""
    ring = Ring(64)
    b = builder(ring)
    x, y = (b.input(Type("a", (N,), 18, 0, -(1 << 30), 1 << 30), "o") for _ in range(2))
    bit = b.input(Type("b", (N,), 0, 1), "o")
    made = [
        b.emit("mul_aa", x, y, trunc=18, form="narrow"),
        b.emit("mul_aa", x, y, trunc=0, form="narrow"),
        b.emit("mul_aa", x, y, trunc=18, form="full"),
        b.emit("trunc_a", x, bits=18),
        b.emit("msb_a", x, bits=64),
        b.emit("eqz_a", x, bits=64),
        b.emit("a2b", x, bits=64),
        b.emit("b2a", bit),
        b.emit("mul_ba", bit, x),
        b.emit("and_bb", bit, bit),
    ]
    for i, value in enumerate(made):
        b.output(value, "bool" if b.type(value).width == 1 else "int64", f"o{i}")
    program = b.build()
    cost = static_cost(program)
    assert cost.rounds == max(row.rounds for row in cost.rows) < sum(r.rounds for r in cost.rows)
    assert cost.bytes_sent == tuple(sum(r.bytes_sent[i] for r in cost.rows) for i in range(3))
    rng = np.random.default_rng(1)
    values = [
        ring.array(rng.integers(-(1 << 30), 1 << 30, N)),
        ring.array(rng.integers(-(1 << 30), 1 << 30, N)),
        rng.integers(0, 2, N).astype(np.uint8),
    ]
    measured = trio(64).run(program, values)
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    for got, want in zip(measured.outputs, run_plain(program, values), strict=True):
        error = ring.signed(got.astype(np.uint64) - want.astype(np.uint64))
        assert np.abs(error).max() <= 2


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_a_chain_takes_the_sum_of_rounds(trio, bits: int) -> None:
    ring = Ring(bits)
    b = builder(ring)
    x = b.input(Type("a", (N,)), "o")
    y = b.emit("mul_aa", x, x, trunc=0, form="narrow")
    bit = b.emit("msb_a", y, bits=bits)
    z = b.emit("mul_ba", b.emit("not_b", bit), y)
    word = b.emit("a2b", z, bits=bits)
    out = b.emit("b2a", b.emit("bits_b", word, low=3, width=5))
    b.output(out, "int64", "o")
    program = b.build()
    values = [ring.array(np.array([*range(-4, 4), ring.bound], object))]
    cost, measured = static_cost(program), trio(bits).run(program, values)
    assert cost.rounds == sum(r.rounds for r in cost.rows)
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert np.array_equal(measured.outputs[0], run_plain(program, values)[0])


def test_scalars_wrap_without_a_word(trio) -> None:
    """Values without axes through every linear instruction, over and over."""
    ring = Ring(64)
    b = builder(ring)
    x = b.input(Type("a", ()), "o")
    c = b.constant(ring.array(np.array((1 << 63) + 12345, object)))
    v = x
    for _ in range(3):
        v = b.emit("add_aa", b.emit("mul_ap", b.emit("add_ap", v, c), c), v)
        v = b.emit("sub_aa", b.emit("sub_pa", c, v), b.emit("neg_a", v))
        v = b.emit("sum_a", b.emit("shl_a", v, bits=1, frac=0), axes=())
        v = b.emit("lincomb_a", v, x, coefficients=(3, -(1 << 62)))
        v = b.emit("mul_aa", v, v, trunc=0, form="narrow")
    b.output(v, "int64", "o")
    program = b.build()
    value = [ring.array(np.array(-(1 << 63) + 7, object))]
    assert np.array_equal(trio(64).run(program, value).outputs[0], run_plain(program, value)[0])


@given(programs(), st.integers(0, 2**32 - 1))
def test_random_programs(trio, program, seed) -> None:
    """Static cost equals the run's, to the byte; rounds never exceed the static ones."""
    rng = np.random.default_rng(seed)
    ring = Ring(program.ring)
    values = []
    for given_ in program.inputs:
        lo, hi = given_.type.bounds or (-100, 100)
        made = rng.integers(lo, hi + 1, given_.type.shape)
        values.append(
            (made & 1).astype(np.uint8) if given_.type.width == 1 else ring.array(np.asarray(made))
        )
    cost, measured = static_cost(program), trio(program.ring).run(program, values)
    assert measured.bytes_sent == cost.bytes_sent
    assert measured.rounds <= cost.rounds
    if not any(i.op == "mul_aa" for i in program.instructions):
        for got, want in zip(measured.outputs, run_plain(program, values), strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("owner", [None, 0, 1, 2])
def test_open_to_everyone(trio, bits: int, owner: int | None) -> None:
    """Deal, keep, open to an outsider and to each party, in every number of bits."""
    machines: Trio = trio(bits)
    ring = machines.ring
    values = ring.array(np.random.default_rng(0).integers(-(2**31), 2**31, (3, 5)))
    machines.put("x", values, owner=owner)
    for to in (None, 0, 1, 2):
        for w in (8, 16, 32, 64, 128):
            if w <= bits:
                got = machines.open("x", to=to, bits=w)
                assert got.dtype.itemsize * 8 == w
                assert np.array_equal(got, values.astype(got.dtype))
    for width in (1, 5, 12, bits):
        word = values & ((1 << width) - 1)
        machines.put("b", word, width, owner)
        for to in (None, 0, 1, 2):
            assert np.array_equal(cast(machines.open("b", to=to), ring.dtype), word)


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_bits_above_the_width_never_matter(trio, bits: int) -> None:
    """Products of words of 12 bits leave masks above them, which nothing may bring back."""
    ring = Ring(bits)
    b = builder(ring)
    x, y = (b.input(Type("b", (N,), 0, 12), "o") for _ in range(2))
    z = b.emit("and_bb", x, y)
    outs = [
        z,
        b.emit("not_b", z),
        b.emit("xor_bb", z, x),
        b.emit("and_bb", z, x),
        b.emit("shift_b", z, by=-4, width=16),
        b.emit("shift_b", z, by=4, width=bits),
        b.emit("reverse_b", z),
        b.emit("bits_b", z, low=11, width=1),
        b.emit("bits_b", z, low=4, width=8),
        b.emit("b2a", z),
        b.emit("concat", z, x, axis=0),
    ]
    for i, v in enumerate(outs):
        b.output(v, "bool" if b.type(v).width == 1 else "int64", str(i))
    program = b.build()
    rng = np.random.default_rng(0)
    values = [ring.array(rng.integers(0, 1 << 12, N)) for _ in range(2)]
    measured = trio(bits).run(program, values)
    for got, want in zip(measured.outputs, run_plain(program, values), strict=True):
        assert np.array_equal(cast(got, ring.dtype), cast(want, ring.dtype))


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_arrays_larger_than_a_piece(trio, bits: int) -> None:
    """Masks and products of large arrays come in pieces: same results, same cost."""
    ring = Ring(bits)
    n = 2 * PIECE + 5
    b = builder(ring)
    x, y = (b.input(Type("a", (n,), 0, 0, -1000, 1000), "o") for _ in range(2))
    bit = b.input(Type("b", (n,), 0, 1), "o")
    word = b.emit("a2b", x, bits=11)
    exact = [
        b.emit("mul_aa", x, y, trunc=0, form="narrow"),
        b.emit("msb_a", x, bits=bits),
        b.emit("eqz_a", x, bits=11),
        b.emit("mul_ba", bit, x),
        b.emit("and_bb", word, word),
        b.emit("b2a", word),
        b.emit("lincomb_a", *[x, y] * 3, coefficients=(1, 2, 3, 4, 5, -6)),
        b.emit("sum_a", b.emit("reshape", x, shape=(1, n)), axes=(0,)),
        b.emit("dot_aa", b.emit("reshape", x, shape=(1, n, 1)), b.emit(
            "reshape", b.emit("slice", y, start=(0,), limit=(1,), stride=(1,)), shape=(1, 1, 1)
        ), trunc=0, form="narrow"),
    ]  # fmt: skip
    rounded = [
        b.emit("trunc_a", x, bits=3),
        b.emit("mul_aa", x, y, trunc=4, form="narrow"),
        b.emit("mul_aa", x, y, trunc=4, form="full"),
    ]
    for i, v in enumerate(exact + rounded):
        b.output(v, "bool" if b.type(v).width == 1 else "int64", str(i))
    program = b.build()
    rng = np.random.default_rng(0)
    values = [ring.array(rng.integers(-1000, 1001, n)) for _ in range(2)]
    values.append(rng.integers(0, 2, n).astype(np.uint8))
    cost, measured = static_cost(program), trio(bits).run(program, values)
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    plain = run_plain(program, values)
    for i, (got, want) in enumerate(zip(measured.outputs, plain, strict=True)):
        error = ring.signed(cast(got, ring.dtype) - cast(want, ring.dtype))
        assert np.abs(error).max() <= (0 if i < len(exact) else 1 if i < len(exact) + 2 else 2)


def test_traffic() -> None:
    """Bytes per element, total over the parties: what the README promises at most."""
    n = 1000
    b = builder(Ring(64))
    x, y = (b.input(Type("a", (n,), 18, 0, -(1 << 30), 1 << 30), "o") for _ in range(2))
    b.emit("mul_aa", x, y, trunc=18, form="narrow")
    b.emit("mul_aa", x, y, trunc=18, form="full")
    b.emit("mul_aa", x, y, trunc=0, form="narrow")
    sign = b.emit("msb_a", x, bits=64)
    b.emit("b2a", sign)
    b.emit("mul_ba", sign, x)
    b.output(x, "float32", "o")
    narrow, full, exact, msb, arithmetic, select = (
        sum(row.bytes_sent) / n for row in static_cost(b.build()).rows
    )
    assert narrow <= 36
    assert full <= 80
    assert exact == 24
    assert msb + arithmetic <= 75
    assert msb + select <= 91


def test_bounds_of_full_products_hold(trio) -> None:
    """The full form may miss by one more unit than rounding does; the type rule says so."""
    n = 50_000
    b = builder(Ring(32))
    x = b.input(Type("a", (n,), 8, 0, 0, 1), "o")
    y = b.emit("mul_aa", x, x, trunc=8, form="full")
    b.output(y, "int32", "o")
    (got,) = trio(32).run(b.build(), [np.ones(n, np.uint32)]).outputs
    lo, hi = b.type(y).bounds
    signed = got.view(np.int32)
    assert lo <= signed.min() < 0
    assert signed.max() <= hi
