"""Bad input: a clear error at the call, or at the first use for what only the owner can check."""

import numpy as np
import pytest

import spuvm as sf


def at(party, value):
    return sf.PYU(party)(lambda: value)()


@pytest.mark.parametrize(
    ("parties", "text"),
    [
        (["alice", "bob"], "three parties"),
        (["alice", "bob", "carol", "dave"], "three parties"),
        (["alice", "bob", "bob"], "named twice"),
        (["alice", "bob", "eve"], "unknown party"),
        (["alice", "bob", 3], "not a party name"),
        ("alice", "list of names"),
        (None, "list of names"),
    ],
)
def test_parties_of_an_spu(session, parties, text):
    with pytest.raises(sf.errors.UsageError, match=text):
        sf.SPU(parties)


def test_config_of_an_spu(session):
    with pytest.raises(sf.errors.UsageError, match="config is a Config"):
        sf.SPU(["alice", "bob", "carol"], config={"ring": 64})


VALUES = {
    "nan": (np.array([1.0, np.nan]), sf.errors.ValueRangeError, "(?s)are NaN.*1 of 2 elements"),
    "inf": (np.array([np.inf]), sf.errors.ValueRangeError, "(?s)are NaN or inf.*1 of 1 elements"),
    "huge": (
        np.array([1e30, 1.0]),
        sf.errors.ValueRangeError,
        "(?s)are out of range.*1 of 2 elements",
    ),
    "int64": (np.arange(3), sf.errors.UsageError, "64-bit types are off"),
    "python int": (1 << 40, sf.errors.ValueRangeError, "does not fit"),
    "text": ("text", sf.errors.UsageError, "cannot share values of dtype"),
    "complex": (np.ones(2) * 1j, sf.errors.UsageError, "cannot share values of dtype"),
    "object": (object(), sf.errors.UsageError, "cannot share values of dtype object"),
    "masked": (np.ma.array([1.0], mask=[True]), sf.errors.UsageError, "without its mask"),
    "ragged": ([[1], np.array([object()])], sf.errors.UsageError, "cannot share"),
}


@pytest.mark.parametrize(("value", "kind", "text"), VALUES.values(), ids=VALUES.keys())
def test_what_cannot_be_shared(spu, value, kind, text):
    x = at("dave", {"bad": value})
    for use in (sf.wait, sf.reveal, spu(lambda v: v), lambda v: sf.reveal(v.to(sf.PYU("alice")))):
        with pytest.raises(kind, match=text) as caught:
            use(x.to(spu))
        assert "party 'dave'" in str(caught.value)
        assert "['bad']" in str(caught.value)
    assert sf.reveal(at("dave", np.float32(1)).to(spu)) == 1  # the machines go on


@pytest.mark.parametrize("session", ["inprocess"], indirect=True)
def test_out_of_the_declared_range(session):
    """On threads alone: other values that an owner refuses are refused on Ray too."""
    spu = sf.SPU(["alice", "bob", "carol"], config=sf.Config(input_range=(-1, 1)))
    with pytest.raises(sf.errors.ValueRangeError, match=r"(?s)outside the declared.*1 of 3"):
        sf.wait(at("dave", np.float32([0, 1.5, 1])).to(spu))
    assert sf.reveal(at("dave", np.float32([0, 1])).to(spu)).tolist() == [0, 1]


def test_a_known_structure_still_waits_for_the_owner(spu):
    """Where the structure is known nothing blocks; the owner's refusal reaches whoever looks."""
    x = at("dave", np.float32([1, np.nan]))
    from spuvm.devices.structure import ArraySpec

    x.facts = ArraySpec((2,), "float32")
    y = spu(lambda v: v * v)(x)
    z = spu(lambda v: v + 1)(y)
    for look in (sf.wait, sf.reveal, lambda v: sf.reveal(v.to(sf.PYU("alice")))):
        with pytest.raises(sf.errors.ValueRangeError, match="party 'dave'"):
            look(z)
    assert sf.reveal(at("dave", np.float32(1)).to(spu)) == 1


def test_wrong_shapes_and_dtypes(spu):
    x, y = at("alice", np.ones(2, "float32")), at("bob", np.ones(3, "float32"))
    with pytest.raises(sf.errors.CompileError, match="incompatible shapes") as caught:
        spu(lambda a, b: a + b)(x, y)
    assert "test_bad_input.py" in caught.value.at
    with pytest.raises(sf.errors.CompileError, match="value of a secret") as caught:
        spu(lambda a: a if a[0] > 1 else -a)(x)
    assert "test_bad_input.py" in caught.value.at
    with pytest.raises(sf.errors.SpuvmError, match="public argument"):
        spu(lambda a, b: a)(x, "text")
    with pytest.raises(sf.errors.UsageError, match="instance at a party is not a value"):
        spu(lambda a: a)(sf.proxy(sf.PYUObject)(dict)(device=sf.PYU("alice")))
    with pytest.raises(sf.errors.UsageError, match="runs functions"):
        spu(3)


def test_a_partys_failure_reaches_what_is_computed_from_it(spu):
    x = sf.PYU("dave")(lambda: 1 / 0)()
    with pytest.raises(sf.errors.PartyError, match=r"party 'dave': .* raised ZeroDivisionError"):
        spu(lambda v: v)(x)
    with pytest.raises(sf.errors.PartyError, match="party 'dave'"):
        sf.wait(x.to(spu))


def test_values_of_the_script_have_no_owner(spu):
    with pytest.raises(sf.errors.UsageError, match="no owner"):
        sf.to(spu, 1.0)
    assert sf.reveal(sf.to(sf.PYU("alice"), 1.0).to(spu)) == 1
