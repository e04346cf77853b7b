"""PYU and its handles, on both backends."""

import collections
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf

Pair = collections.namedtuple("Pair", "left right")


@pytest.fixture
def alice(session):
    return sf.PYU("alice")


@pytest.fixture
def bob(session):
    return sf.PYU("bob")


def test_devices_compare_by_party(session, alice, bob):
    assert alice == sf.PYU("alice")
    assert alice != bob
    assert sorted([bob, alice]) == [alice, bob]
    assert len({alice, bob, sf.PYU("bob")}) == 2
    assert repr(alice) == "PYU('alice')"
    assert alice != "alice"


def test_call_and_reveal(alice):
    x = alice(lambda a, b=1: a + b)(np.arange(3.0), b=2)
    assert isinstance(x, sf.PYUObject)
    assert x.device == alice
    np.testing.assert_array_equal(sf.reveal(x), [2, 3, 4])


def test_trees_of_handles(alice):
    x, y = alice(lambda: 2)(), alice(lambda: jnp.ones(2))()

    def combine(tree, *, scale):
        return tree["list"][0] * tree["pair"].right * scale, list(tree)

    out = alice(combine)({"pair": Pair(None, y), "list": [x]}, scale=x)
    value, order = sf.reveal(out)
    np.testing.assert_array_equal(value, [4, 4])
    assert order == ["pair", "list"]  # dicts keep their order


def test_reveal_of_trees(alice):
    x = alice(lambda: 2)()
    assert sf.reveal({"a": [x, 5], "b": (x, None)}) == {"a": [2, 5], "b": (2, None)}
    assert sf.reveal(7) == 7


def test_num_returns(alice):
    a, b = alice(lambda: (1, "two"), num_returns=2)()
    assert sf.reveal([b, a]) == ["two", 1]
    (one,) = alice(lambda: [3], num_returns=1)()
    assert sf.reveal(one) == 3
    x, y = alice(lambda: (1, 2, 3), num_returns=2)()
    with pytest.raises(sf.errors.UsageError, match="as many results as num_returns"):
        sf.reveal(x)
    with pytest.raises(sf.errors.UsageError, match="as many results as num_returns"):
        sf.wait(y)
    with pytest.raises(sf.errors.UsageError, match="num_returns"):
        alice(lambda: 1, num_returns=0)


def test_moves(alice, bob):
    x = alice(lambda: {"w": np.arange(3)})()
    assert x.to(alice) is x
    y = x.to(bob)
    assert y.device == bob
    assert sf.reveal(bob(lambda d: int(d["w"].sum()))(y)) == 3
    moved = sf.to(bob, [x, 1])
    assert moved[0].device == bob
    assert moved[1] == 1
    assert sf.reveal(sf.to(bob, (1, 2))) == (1, 2)


def test_what_moves_in_clear_is_reported(alice, bob):
    """Who learned it, from whose data, on which line; a value that stays tells nobody."""

    def weights():
        return np.ones(3)

    before = dict(sf.disclosed())
    x = alice(weights)()
    x.to(alice)
    at_bob = x.to(bob)
    sum_at_bob = bob(np.add)(at_bob, 1)
    sf.reveal([sum_at_bob, at_bob])
    new = [(d, n) for d, n in sf.disclosed() if n != before.get(d, 0)]
    assert [(d.what, d.to, d.origins) for d, _ in new] == [
        ("value of weights", "bob", ("alice",)),
        ("value of add", "driver", ("alice", "bob")),
        ("value of weights", "driver", ("alice",)),
    ]
    assert all(d.source.startswith("test_pyu.py:") for d, _ in new)
    assert all(n == 1 for _, n in new)


def test_what_another_thread_moves_in_clear_is_reported(alice, bob):
    """Also while this one moves what is masked, and no count is lost."""
    from spuvm.devices.reporting import named

    def noticed():
        return 1

    x = alice(noticed)()
    before = dict(sf.disclosed())

    def move():
        for _ in range(60):
            x.to(bob)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with named(None):
            threads = [threading.Thread(target=move) for _ in range(8)]
            for thread in threads:
                thread.start()
            x.to(bob)
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    counts = [n - before.get(d, 0) for d, n in sf.disclosed() if d.what == "value of noticed"]
    assert counts == [480]


def test_wrong_device(alice, bob):
    x = alice(lambda: 1)()
    with pytest.raises(sf.errors.UsageError, match="lives elsewhere") as caught:
        bob(lambda v: v)([x])
    assert "x.to(PYU('bob'))" in str(caught.value)


def test_unknown_party(session):
    with pytest.raises(sf.errors.UsageError, match="unknown party"):
        sf.PYU("eve")
    with pytest.raises(sf.errors.UsageError, match="unknown party"):
        sf.PYU(3)


def test_not_a_device(alice):
    x = alice(lambda: 1)()
    for target in ("bob", None, 3):
        with pytest.raises(sf.errors.UsageError, match="not a device"):
            x.to(target)
    with pytest.raises(sf.errors.UsageError, match="runs functions"):
        alice(3)


def broken():
    raise KeyError("nothing here")


def test_errors_name_the_party_and_travel(alice, bob):
    x = alice(broken)()
    for use in (
        sf.reveal,
        sf.wait,
        lambda v: sf.reveal(alice(lambda a: a)(v)),
        lambda v: sf.wait(v.to(bob)),
    ):
        with pytest.raises(
            sf.errors.PartyError, match="party 'alice': broken raised KeyError"
        ) as e:
            use(x)
        assert "test_pyu.py" in e.value.at
        assert isinstance(e.value.__cause__, KeyError)


def test_unpicklable_errors_arrive_too(alice):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    def fail():
        raise Odd(1, 2)

    with pytest.raises(sf.errors.PartyError, match=r"Odd: 1 and 2"):
        sf.reveal(alice(fail)())


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no text")


def leave():
    sys.exit(3)


def speechless():
    raise Unspeakable


@pytest.mark.parametrize(("fn", "said"), [(leave, "SystemExit: 3"), (speechless, "Unspeakable")])
def test_a_function_that_would_end_its_thread_fails(alice, fn, said):
    x = alice(fn)()
    with pytest.raises(sf.errors.PartyError, match=f"party 'alice': {fn.__name__} raised .*{said}"):
        sf.reveal(x)
    assert sf.reveal(alice(lambda: 1)()) == 1


def test_a_change_of_what_a_function_captures_is_seen(alice):
    scale = 1
    fn = alice(lambda v: v * scale)
    assert sf.reveal(fn(2)) == 2
    scale = 5
    assert sf.reveal(fn(2)) == 10


def test_parties_do_not_share_memory(session, alice, bob):
    x = alice(lambda: np.zeros(2))()
    y = x.to(bob)

    def spoil(v):
        v = v if v.flags.writeable else v.copy()
        v += 1
        return v

    sf.wait([alice(spoil)(x), bob(spoil)(y)])
    np.testing.assert_array_equal(sf.reveal([x, y]), np.zeros((2, 2)))


REFUSED = {
    "bool": bool,
    "int": int,
    "float": float,
    "index": lambda x: [1, 2][x],
    "eq": lambda x: x == 1,
    "eq itself": lambda x: x == x,
    "less": lambda x: x < 1,
    "array": np.asarray,
    "jax": jnp.asarray,
    "iter": list,
    "len": len,
    "item": lambda x: x[0],
    "add": lambda x: x + 1,
    "radd": lambda x: 1 + x,
    "matmul": lambda x: x @ x,
    "numpy": lambda x: np.ones(2) * x,
    "in": lambda x: 1 in [x],
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED.keys())
def test_handles_are_not_values(alice, use):
    x = alice(lambda: 41.5)()
    with pytest.raises(sf.errors.UsageError) as caught:
        use(x)
    assert "41.5" not in str(caught.value)
    assert hash(x)  # handles can still be kept in sets and dicts


def test_repr_shows_no_data(alice):
    x = alice(lambda: 41.5)()
    assert "41.5" not in repr(x)
    assert "alice" in repr(x)


@pytest.mark.ray
def test_handles_cannot_hide_in_functions(ray_started):
    sf.shutdown()
    sf.init(["alice"], backend="ray")
    alice = sf.PYU("alice")
    x = alice(lambda: 1)()
    with pytest.raises(sf.errors.UsageError, match="cannot travel inside other data"):
        alice(lambda: x)()
    sf.shutdown()
