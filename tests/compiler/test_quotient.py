"""Quotients by few divisors of a known range: right, in few rounds, and only where they fit."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import configuration

from spuvm.compiler import SecretSpec, compile_function
from spuvm.compiler.numeric.quotient import FEW
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost

WIDTHS = (64, 128)
ROUNDS, COMPARED = 8, 14


def quotient(x: np.ndarray, y: np.ndarray, of_x: tuple, of_y: tuple, bits: int = 64) -> tuple:
    """(rounds, x / y through the program's meaning, the right answer on what is encoded)."""
    x, y = x.astype(np.float32), y.astype(np.float32)
    specs = [SecretSpec(a.shape, str(a.dtype), "owner", *r) for a, r in ((x, of_x), (y, of_y))]
    program = compile_function(jnp.divide, tuple(specs), config=configuration(bits)).program
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    encoded = [fxp.encode(a) for a in (x, y)]
    (made,) = run_plain(program, encoded, np.random.default_rng(0), "ranges")
    t = program.types[program.outputs[0].value]
    clear = [fxp.decode(e, "float64", fxp.frac_bits) for e in encoded]
    return static_cost(program).rounds, fxp.decode(made, "float64", t.frac), clear[0] / clear[1]


@given(st.data())
def test_by_few_in_a_known_range(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from(WIDTHS))
    low = 2.0 ** data.draw(st.integers(-6, 8))
    high = float(np.float32(low * 2.0 ** data.draw(st.floats(0.01, 12))))
    most = data.draw(st.sampled_from([1.0, 100.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.sampled_from([1, 3, FEW]))
    y = np.exp(rng.uniform(np.log(low), np.log(high), count)).clip(low, high)
    y[rng.integers(count)] = data.draw(st.sampled_from([low, high]))
    x = rng.uniform(-most, most, data.draw(st.sampled_from([(count,), (5, count)])))
    _, got, want = quotient(x, y, (-most, most), (low, high), bits)
    unit = 2.0 ** -DEFAULT_FRAC_BITS[bits]
    assert (np.abs(got - want) <= 2.0**-21 * np.abs(want) + 4 * unit).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_rounds(bits: int) -> None:
    """A look-up, three products; for more divisors comparisons; beyond `FEW` the usual way."""
    x, y = np.linspace(-9, 9, 10), np.full(1, 77.0)
    rounds, got, want = quotient(x, y, (-10, 10), (10, 1000), bits)
    assert rounds == ROUNDS
    assert np.allclose(got, want, atol=1e-5)
    many = np.geomspace(1, 4000, FEW)
    rounds, got, want = quotient(many / 9, many, (-500, 500), (1, 4000), bits)
    assert ROUNDS < rounds <= COMPARED + (bits == 128)
    assert np.allclose(got, want, atol=1e-4)
    many = np.linspace(10, 1000, FEW + 1)
    rounds, got, want = quotient(many / 9, many, (-200, 200), (10, 1000), bits)
    assert rounds > COMPARED + 1
    assert np.allclose(got, want, atol=1e-4)


@given(st.data())
def test_whole_divisors_of_a_small_range(data: st.DataObject) -> None:
    """A look-up and one product; a public numerator takes the look-up alone."""
    bits = data.draw(st.sampled_from([32, 64, 128]))
    largest = {32: 20, 64: 28, 128: 30}[bits]
    lo = data.draw(st.integers(1, 300) | st.integers(0, largest).map(lambda n: 1 << n))
    hi = lo + data.draw(st.integers(1, 2000))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    y = rng.integers(lo, hi, data.draw(st.sampled_from([(), (1,), (5,)])), endpoint=True)
    most = data.draw(st.sampled_from([1.0, 100.0]))
    x = rng.uniform(-most, most, (4, *y.shape)).astype(np.float32)
    numerator = data.draw(st.sampled_from([1.0, -3.5, 0.0]))
    specs = (
        SecretSpec(x.shape, "float32", "owner", -most, most),
        SecretSpec(y.shape, "int32", "owner", lo, hi),
    )
    made = compile_function(
        lambda x, y: (x / y, numerator / y), specs, config=configuration(bits)
    ).program
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    encoded = [fxp.encode(x), Ring(bits).array(y)]
    outs = run_plain(made, encoded, np.random.default_rng(0), "ranges")
    clear = fxp.decode(encoded[0], "float64", fxp.frac_bits)
    unit = 2.0**-fxp.frac_bits
    for out, got, want in zip(made.outputs, outs, (clear / y, numerator / y), strict=True):
        shown = fxp.decode(got, "float64", made.types[out.value].frac)
        assert (np.abs(shown - want) <= 2.0**-22 * np.abs(want) + 2 * unit).all()
    if bits > 32 and hi <= 2300:
        assert static_cost(made).rounds == 4


@pytest.mark.parametrize("of_y", [(1.0, 1.0), (0.0, 10.0), (-3.0, -1.0), (None, None)])
def test_what_does_not_fit_goes_the_usual_way(of_y: tuple) -> None:
    y = np.full(1, -2.0 if of_y[1] == -1 else 1.0)
    _, got, want = quotient(np.linspace(-9, 9, 4), y, (-10, 10), of_y)
    assert np.allclose(got, want, atol=1e-4)


def test_a_divisor_whose_factor_would_not_fit() -> None:
    """It is far from all its bounds allow: their product was one of more than 62 bits."""
    y = np.array([16.0, 700.0, 945_555.0])
    _, got, want = quotient(np.array([-410.0, 0.2, -3.0]), y, (-410, 0.2), (16, 945_555))
    assert np.allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_the_largest_number_is_representable(bits: int) -> None:
    """1 / 0 can be computed with: it was one unit too large, since a float had rounded it."""
    fxp = Fxp(Ring(bits), DEFAULT_FRAC_BITS[bits])
    signs = np.array([1.0, -1.0])
    for numerator in (signs, 3.5 * signs):
        program = compile_function(
            lambda y, c=numerator: (c / y, jnp.log(jnp.abs(c / y))),
            (SecretSpec((2,), "float32", "owner"),),
            config=configuration(bits),
        ).program
        encoded = [fxp.encode(np.zeros(2, np.float32))]
        rng = np.random.default_rng(0)
        large, logarithm = run_plain(program, encoded, rng, "ranges")
        got = [int(v) for v in Ring(bits).signed(large)]
        assert got == [(1 << bits - 2) - 1, 1 - (1 << bits - 2)]
        want = (bits - 2 - fxp.frac_bits) * np.log(2)
        t = program.types[program.outputs[1].value]
        assert np.abs(fxp.decode(logarithm, "float64", t.frac) - want).max() < 2.0**-4
