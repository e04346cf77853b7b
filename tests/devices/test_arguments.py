"""What goes into functions and comes out of them: the same on threads and on Ray."""

import collections
import dataclasses
import functools
import time

import jax
import numpy as np
import pytest

import spuvm as sf


@dataclasses.dataclass(frozen=True)
class Model:
    weights: object
    scale: float = 1.0


@jax.tree_util.register_pytree_node_class
class Registered:
    """A pytree that is no dataclass."""

    def __init__(self, x):
        self.x = x

    def tree_flatten(self):
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@pytest.fixture
def alice(session):
    return sf.PYU("alice")


@pytest.fixture
def x(alice):
    return alice(lambda: np.float32([1, 2, 3]))()


def spoil(v):
    v = v if v.flags.writeable else v.copy()
    v += 7


def test_arguments_are_what_they_were_at_the_call(alice):
    array, tree, given = np.zeros(2), {"k": [1]}, np.zeros(2)
    alice(time.sleep)(0.2)
    handles = [
        alice(lambda v, t: (v.copy(), len(t["k"])))(array, tree),
        alice(lambda *, v: v.copy())(v=array),
        sf.to(alice, given),
    ]
    array += 1
    given += 1
    tree["k"].append(2)
    (first, count), named, kept = sf.reveal(handles)
    assert first.tolist() == named.tolist() == kept.tolist() == [0, 0]
    assert count == 1
    sf.wait(alice(spoil)(array))
    assert array.tolist() == [1, 1]


def test_results_are_what_they_were_when_they_were_returned(alice):
    held = np.zeros(2)
    x = alice(lambda: held)()
    sf.wait(x)
    held += 1
    assert sf.reveal(x).tolist() == [0, 0]


def test_containers_of_handles(alice, x):
    def total(tree):
        return float(sum(leaf.sum() for leaf in jax.tree.leaves(tree)))

    def scaled(model):
        return model.weights * model.scale

    ordered = collections.OrderedDict(b=x, a=[x])
    assert sf.reveal(alice(total)(ordered)) == 12
    assert sf.reveal(alice(total)(collections.defaultdict(list, a=x))) == 6
    assert sf.reveal(alice(scaled)(Model(x, 2.0))).tolist() == [2, 4, 6]
    assert sf.to(sf.PYU("bob"), Model(x)).weights.device == sf.PYU("bob")
    total_of = alice(lambda given: float(given.x["k"].sum()))
    assert sf.reveal(total_of(Registered({"k": x}))) == 6
    with pytest.raises(sf.errors.UsageError, match="cannot travel inside other data"):
        alice(len)({x})


def test_revealed_trees_are_like_what_was_given(alice, x):
    shown = sf.reveal({"b": x, "a": x, 1: Model(x), "r": Registered([x]), "none": None})
    assert list(shown) == ["b", "a", 1, "r", "none"]
    assert shown[1].weights.tolist() == shown["r"].x[0].tolist() == [1, 2, 3]
    assert shown["none"] is None
    bad = alice(lambda: 1 / 0)()
    with pytest.raises(sf.errors.PartyError, match="ZeroDivision"):
        sf.wait([Registered({"k": bad})])
    with pytest.raises(sf.errors.UsageError, match="handles in a set"):
        sf.reveal([{x}])
    for to in (alice, 3, {"alice": 1}, [alice]):
        with pytest.raises(sf.errors.UsageError, match="a value is revealed to parties"):
            sf.reveal(x, to=to)


def test_keys_that_jax_cannot_sort(session, x, spu):
    mixed = {1: x, "a": x}
    fn = spu(lambda tree: tree[1])
    for use in (fn, fn.cost, lambda tree: sf.PYU("alice")(dict)(tree).to(spu).structure()):
        with pytest.raises(sf.errors.UsageError, match="cannot take this apart"):
            use(mixed)


async def later():
    return 1


def one_by_one():
    yield 1


@pytest.mark.parametrize("fn", [later, one_by_one, functools.partial(later)])
def test_functions_that_do_not_return_their_result(alice, fn, spu):
    for device in (alice, spu, sf.simulate):
        with pytest.raises(sf.errors.UsageError, match="return their result"):
            device(fn)
    client = sf.proxy(sf.PYUObject)(type("Client", (), {"go": staticmethod(fn)}))(device=alice)
    with pytest.raises(sf.errors.UsageError, match="return their result"):
        client.go()


def nothing_there():
    try:
        return {}["the key"]
    except KeyError as error:
        raise ValueError("no luck") from error


def test_what_led_to_an_error_at_a_party_is_told(alice):
    with pytest.raises(sf.errors.PartyError, match="ValueError: no luck") as caught:
        sf.reveal(alice(nothing_there)())
    (note,) = caught.value.__cause__.__notes__
    assert "in nothing_there" in note
    assert "KeyError: 'the key'" in note
    assert "direct cause" in note


def test_a_long_text_of_an_error_is_cut(alice):
    def speak():
        raise ValueError("x" * 10**6)

    with pytest.raises(sf.errors.PartyError, match=r"x\.\.\. \(1000000 characters\)") as caught:
        sf.reveal(alice(speak)())
    assert len(str(caught.value)) < 5000


def test_the_scripts_line_where_no_line_of_the_function_explains(alice, spu):
    for failed in (
        lambda: sf.reveal(alice(lambda a: a)()),
        lambda: sf.reveal(sf.to(alice, np.nan).to(spu)),
        lambda: spu(lambda a: a)(),
        lambda: sf.simulate(lambda a: a)(),
        lambda: sf.simulate(lambda a: a)(np.inf),
        lambda: spu(lambda: "text")(),
    ):
        with pytest.raises(sf.errors.SpuvmError) as caught:
            failed()
        assert caught.value.at.startswith("test_arguments.py:")


def test_devices_belong_to_the_script(alice):
    for use in (
        sf.shutdown,
        functools.partial(sf.init, ["alice"]),
        functools.partial(sf.reveal, 1),
    ):
        with pytest.raises(sf.errors.UsageError, match="a function that runs at a party"):
            sf.reveal(alice(use)())


def test_what_is_opened_beside_a_failure_is_reported(alice, x, spu):
    """A reveal that fails tells what the driver got all the same, and not what it did not get."""

    def broken():
        raise KeyError

    before, secret = dict(sf.disclosed()), spu(lambda v: v)(x)
    with pytest.raises(sf.errors.PartyError, match="KeyError"):
        sf.reveal([alice(broken)(), secret, x])
    new = {d.what for d, n in sf.disclosed() if n != before.get(d, 0)}
    assert new == {"output of <lambda>", "value of <lambda>"}


def test_tables_of_objects_are_results_too(alice):
    pandas = pytest.importorskip("pandas")
    assert sf.reveal(alice(pandas.Series)(["a", None], dtype=object)).tolist() == ["a", None]
