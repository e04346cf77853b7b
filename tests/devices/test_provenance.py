"""Whose data a value depends on: followed through functions, instances, moves and openings."""

import jax
import jax.numpy as jnp
import numpy as np

import spuvm as sf


@sf.proxy(sf.PYUObject)
class Keeper:
    """Keeps what it was given."""

    def __init__(self):
        self.kept = np.float32(0)

    def take(self, x):
        self.kept = self.kept + x

    def give(self):
        return self.kept


def test_through_everything(inprocess):
    alice, bob, carol = map(sf.PYU, ("alice", "bob", "carol"))
    spu = sf.SPU(["alice", "bob", "carol"])
    x = alice(lambda: np.float32(2))()
    assert x.ref.origins == ("alice",)
    at_bob = bob(lambda v: v + 1)(x.to(bob))
    assert at_bob.ref.origins == ("alice", "bob")
    own = carol(lambda: np.float32(3))()
    total = spu(lambda a, b: (a + b, b))(at_bob, own)
    shared, _ = total.structure()
    assert [leaf.origins for leaf in shared] == [("alice", "bob", "carol"), ("carol",)]
    opened = total.to(sf.PYU("dave"))
    assert opened.ref.origins == ("alice", "bob", "carol")
    assert [float(v) for v in sf.reveal(opened)] == [6.0, 3.0]
    listed = spu(lambda a: a * 2).disclosures(at_bob)
    assert [d.origins for d in listed if d.what.startswith("output")] == [("alice", "bob")]


def test_instances_remember_what_they_were_given(inprocess):
    keeper = Keeper(device=sf.PYU("dave"))
    assert keeper.give().ref.origins == ("dave",)
    keeper.take(sf.PYU("alice")(lambda: np.float32(1))().to(keeper))
    assert keeper.give().ref.origins == ("alice", "dave")
    keeper.take(sf.PYU("bob")(lambda: np.float32(1))().to(keeper))
    last = keeper.give()
    assert last.ref.origins == ("alice", "bob", "dave")
    assert last.ref.what == "Keeper.give"
    assert sf.reveal(last) == 2


def test_public_results_are_nobodys(inprocess):
    spu = sf.SPU(["alice", "bob", "carol"])
    zeros = spu(lambda a: a.shape[0] * np.ones(2, "float32"))(sf.PYU("alice")(lambda: np.ones(3))())
    assert zeros.structure()[0][0].origins == ()
    more = spu(lambda z, b: z + b)(zeros, sf.PYU("bob")(lambda: np.float32(1))())
    assert more.structure()[0][0].origins == ("bob",)
    assert sf.reveal(zeros.to(sf.PYU("carol"))).tolist() == [3, 3]


FLOWS = {
    "a predicate": (lambda a, b, i: jnp.where(b > 0, a, 0.0), "ab"),
    "a predicate alone": (lambda a, b, i: jnp.where(b > 0, 1.0, 2.0), "b"),
    "the place of the largest": (lambda a, b, i: jnp.argmax(b), "b"),
    "an index": (lambda a, b, i: jnp.arange(3.0).at[i].get(mode="clip"), "i"),
    "where something is written": (lambda a, b, i: jnp.zeros(3).at[i].set(5.0), "i"),
    "a slice": (lambda a, b, i: jax.lax.dynamic_slice(jnp.arange(5.0), (i,), (2,)), "i"),
    "an order": (lambda a, b, i: jax.lax.sort((b, jnp.arange(3.0)), num_keys=1)[1], "b"),
    "a search": (lambda a, b, i: jnp.searchsorted(jnp.arange(3.0), b[0]), "b"),
    "a sign": (lambda a, b, i: jnp.sign(b), "b"),
    "times zero, which is not computed": (lambda a, b, i: a * 0.0 + b, "b"),
    "times a secret zero": (lambda a, b, i: a * (b - b), "ab"),
    "after two iterations": (
        lambda a, b, i: jax.lax.fori_loop(0, 4, lambda k, s: (s[1], s[2], s[2]), (a, a, b))[0],
        "ab",
    ),
    "how often a loop goes on": (
        lambda a, b, i: sf.bounded_while(
            lambda s: s[0] < b[0], lambda s: (s[0] + 1.0, s[1] * 2.0), (0.0, 1.0), 4
        )[1],
        "b",
    ),
    "a shape": (lambda a, b, i: jnp.ones(3) * b.shape[0], ""),
}


def test_what_a_result_depends_on(inprocess):
    """Also where data only decides: which value, which place, in what order, how often."""
    spu = sf.SPU(["alice", "bob", "carol"])
    owners = {"a": "alice", "b": "bob", "i": "dave"}
    a, b = (sf.PYU(owners[k])(lambda: np.array([1.0, -2, 3], "float32"))() for k in "ab")
    i = sf.PYU(owners["i"])(lambda: np.int32(1))()
    for name, (flow, names) in FLOWS.items():
        (output,) = [one for one in spu(flow).disclosures(a, b, i) if one.what.startswith("output")]
        assert output.origins == tuple(sorted(owners[k] for k in names)), name
