"""The plaintext protocol: complete, and right where numpy or big integers say what right is."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import programs

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.types import Type
from spuvm.errors import ProtocolError
from spuvm.fxp import Fxp
from spuvm.protocol.plain import Plain, missing, run_plain
from spuvm.ring import Ring


def test_complete() -> None:
    assert not missing()


@settings(max_examples=30, deadline=None)
@given(programs(), st.integers(0, 2**32))
def test_runs_every_program(program, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = []
    for given_ in program.inputs:
        t = given_.type
        if t.kind == "b":
            arrays.append(rng.integers(0, 2, t.shape).astype(np.uint8))
        else:
            lo, hi = t.bounds or (-100, 100)
            arrays.append(np.asarray(Ring(program.ring).array(rng.integers(lo, hi + 1, t.shape))))
    outs = run_plain(program, arrays, rng)
    assert [o.shape for o in outs] == [program.types[o.value].shape for o in program.outputs]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([32, 64, 128]), st.integers(1, 20), st.data())
def test_trunc_goes_to_a_neighbour_and_ties_are_exact(bits, by, data) -> None:
    ring = Ring(bits)
    x = data.draw(st.integers(-ring.bound + 1, ring.bound - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    got = Plain(ring, rng, "ranges").trunc(ring.array([x]), by)
    got_value = int(ring.signed(got)[0])
    assert abs(got_value - Fraction(x, 1 << by)) < 1
    nearest = int(ring.signed(Plain(ring).trunc(ring.array([x]), by))[0])
    assert abs(nearest - Fraction(x, 1 << by)) <= Fraction(1, 2)


@settings(max_examples=100, deadline=None)
@given(st.floats(-8000, 8000), st.floats(-8000, 8000), st.sampled_from(["full", "narrow"]))
def test_products(x, y, form) -> None:
    ring = Ring(64)
    fxp = Fxp(ring, 18)
    bound = (8000 << 18) if form == "full" else (1 << 30)
    if form == "narrow":
        x, y = x / 2, y / 2
    b = Builder(ring, fxp)
    a = [b.input(Type("a", (), 18, 0, -bound, bound), "x") for _ in range(2)]
    b.output(b.emit("mul_aa", *a, trunc=18, form=form), "float64", "out")
    (got,) = run_plain(
        b.build(), [fxp.encode(x), fxp.encode(y)], np.random.default_rng(0), "ranges"
    )
    ex, ey = (float(fxp.decode(fxp.encode(v), "float64", 18)) for v in (x, y))
    assert abs(float(fxp.decode(got, "float64", 18)) - ex * ey) <= 2.5 * 2.0**-18


def test_checks_find_a_value_outside_its_bounds() -> None:
    ring = Ring(64)
    b = Builder(ring, Fxp(ring, 18))
    x = b.input(Type("a", (), 0, 0, 0, 5), "x")
    b.output(b.emit("retype_a", x, frac=0, range=(0, 2)), "int32", "out")
    with pytest.raises(ProtocolError, match="retype_a: a value is outside its stated bounds"):
        run_plain(b.build(), [ring.array(4)], checks="ranges")
