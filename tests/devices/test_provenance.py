"""Whose data a value depends on: followed through functions, instances, moves and openings."""

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
