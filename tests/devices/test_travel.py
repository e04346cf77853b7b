"""What other parties say, in every odd form: understood, or refused with an error that says so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spuvm.devices import agreement, travel
from spuvm.devices.checkpoints import Loaded
from spuvm.devices.host import Outcome
from spuvm.devices.structure import ArraySpec, describe
from spuvm.errors import ChannelError, SpuvmError

KEYS = (
    *("fact", "array", "dtype", "none", "list", "tuple", "dict", "run", "loaded", "nothing"),
    *("failure", "party", "what", "kind", "message", "at", "got", "expected", "next"),
    *("text", "source", "refused", "notes", "chain"),
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 1 << 70)
    | st.floats()
    | st.sampled_from(["", "alice", "float32", "object", "ChannelError", "SpuvmError", "errors"])
    | st.binary(max_size=3)
    | st.just(np.zeros(2))
)
said = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=10,
)


def fixed(*names):
    return st.fixed_dictionaries(dict.fromkeys(names, said))


FAILURE = ("party", "what", "kind", "message", "at", "got", "expected", "next")
DECODERS = {
    "structure": (travel.tree_from_wire, said | fixed("array", "dtype") | fixed("fact")),
    "failure": (
        travel.failure_from_wire,
        said
        | fixed(*FAILURE)
        | st.fixed_dictionaries(
            {n: st.sampled_from(["", "errors", "UsageError"]) for n in FAILURE}
        ),
    ),
    "head": (travel.failure_in, said | fixed("failure")),
    "outcome": (travel.public_from_wire, said | fixed("run") | fixed("loaded")),
    "operation": (
        lambda value: agreement._operation(3, "bob", value),
        said | fixed("text", "source", "refused", "notes", "chain"),
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_anything_is_understood_or_refused(name):
    decode, strategy = DECODERS[name]

    @settings(max_examples=max(60, settings().max_examples))
    @given(strategy)
    def check(value):
        try:
            found = decode(value)
        except ChannelError:
            return
        if name == "structure":
            describe(found)
        if name == "failure":
            assert isinstance(found.error, SpuvmError)

    check()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ([3], "object"),
        ([3], "datetime64[s]"),
        ([3], "S5"),
        ([-1], "float32"),
        ([True], "float32"),
        ([1 << 40], "float32"),
        ([1 << 20, 1 << 20, 1 << 20], "float32"),
        ([0, 1 << 39, 1 << 39], "float32"),
        ([1] * 33, "float32"),
    ],
)
def test_structures_of_no_array(shape, dtype):
    with pytest.raises(ChannelError, match="not the structure of a value"):
        travel.tree_from_wire({"array": shape, "dtype": dtype})


def test_what_is_said_comes_back():
    tree = {"a": (ArraySpec((2, 3), "float32"), None), "b": [ArraySpec((), "bfloat16"), 7, "x"]}
    assert travel.tree_from_wire(travel.tree_to_wire(tree)) == tree
    for found in (Outcome(3, 1000, 0.5), Loaded("c", "about"), None):
        assert travel.public_from_wire(travel.public_to_wire(found)) == found
