"""Every party runs the script itself: the same results as with a driver, data where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.ledger import entries
from spuvm.functions import weighted_average
from tests.devices.rehearsal import PARTIES, Rehearsal


@pytest.fixture
def rehearse(tmp_path):
    return lambda **more: Rehearsal(tmp_path, **more)


def devices():
    return map(sf.PYU, ("alice", "bob", "carol"))


def test_functions_moves_and_reveal(rehearse):
    def script(me):
        alice, bob, carol = devices()
        x = alice(lambda: np.arange(3.0, dtype="float32"))()
        y = bob(lambda v: {"a": v + 1, "b": [1, "text", None]})(x.to(bob))
        seen = sf.reveal(y)
        more, rest = carol(lambda v: (v["a"] * 2, v["b"]), num_returns=2)(y.to(carol))
        return seen, sf.reveal({"more": more, "rest": rest})

    done = rehearse().run(script)
    assert not done.errors
    for seen, more in done.results.values():
        np.testing.assert_array_equal(seen["a"], [1, 2, 3])
        assert seen["b"] == [1, "text", None]
        np.testing.assert_array_equal(more["more"], [2, 4, 6])
        assert more["rest"] == [1, "text", None]


def test_complex_results_are_put_together_where_they_are_opened(rehearse):
    def script(me):
        alice, bob, _ = devices()
        spu = sf.SPU(["alice", "bob", "carol"])
        x = alice(lambda: np.arange(4.0, dtype="float32"))()
        spectrum = spu(jnp.fft.fft)(x)
        again = spu(jnp.abs)(spectrum)
        return [sf.reveal(v) for v in (spectrum, again, bob(np.conj)(spectrum.to(bob)))]

    done = rehearse().run(script)
    assert not done.errors
    want = np.fft.fft(np.arange(4.0))
    for spectrum, sizes, conjugates in done.results.values():
        np.testing.assert_allclose(spectrum, want, atol=1e-4)
        np.testing.assert_allclose(sizes, np.abs(want), atol=1e-4)
        np.testing.assert_allclose(conjugates, np.conj(want), atol=1e-4)


def test_a_public_key_of_jax_random(rehearse):
    def script(me):
        spu = sf.SPU(["alice", "bob", "carol"])
        x = sf.PYU("alice")(lambda: np.zeros(2, "float32"))()
        key = jax.random.key(3)
        return sf.reveal(spu(lambda v, k: v + jax.random.normal(k, (2,)))(x, key))

    done = rehearse().run(script)
    for name in PARTIES:
        want = jax.random.normal(jax.random.key(3), (2,))
        np.testing.assert_allclose(done.results[name], want, atol=1e-4)


def test_secure_computation(rehearse):
    def script(me):
        alice, bob, carol = devices()
        spu = sf.SPU(["alice", "bob", "carol"])
        x = alice(lambda: np.array([[1.0, 2.0], [3.0, 4.0]], "float32"))()
        y = bob(lambda: {"v": np.array([0.5, -1.0], "float32"), "flag": np.array([True, False])})()
        out = spu(lambda a, b: (a @ b["v"], b["flag"]))(x, y)
        at_carol = out.to(carol)
        return sf.reveal(at_carol), sf.reveal(out, to=["bob"]), spu.last_run.rounds

    done = rehearse().run(script)
    assert not done.errors
    rounds = {r for *_, r in done.results.values()}
    assert len(rounds) == 1
    assert rounds.pop() > 0
    for name, (all_, bobs, _) in done.results.items():
        np.testing.assert_allclose(all_[0], [-1.5, -2.5], atol=1e-4)
        assert all_[1].tolist() == [True, False]
        if name == "bob":
            np.testing.assert_array_equal(bobs[0], all_[0])
        else:
            assert (
                repr(bobs)
                == f"<not revealed to {name}, only to bob: (f32[2], bool[2]) from <lambda>>"
            )


@sf.proxy(sf.PYUObject)
class Counter:
    """Keeps a sum."""

    def __init__(self):
        self.total = np.zeros(2, "float32")

    def add(self, x):
        self.total = self.total + x

    def get(self):
        return self.total


def test_instances_and_two_spus(rehearse):
    def script(me):
        alice, bob, carol = devices()
        first = sf.SPU(["alice", "bob", "carol"])
        second = sf.SPU(["carol", "alice", "dave"])
        x = alice(lambda: np.array([1.0, -2.0], "float32"))().to(first)
        doubled = second(lambda v: (v * 2, v > 0))(x)
        assert doubled.structure()[0][0].origins == ("alice",)
        counter = Counter(device=bob)
        for _ in range(2):
            counter.add(second(lambda t: t[0])(doubled).to(counter))
        spec = first(lambda v: v + 1).cost(bob(lambda: np.zeros(5, "float32"))())
        return sf.reveal([counter.get(), doubled, sf.to(carol, [1, 2])]), spec.rounds

    done = rehearse(parties=("alice", "bob", "carol", "dave")).run(script)
    assert not done.errors
    for (total, (doubled, positive), listed), rounds in done.results.values():
        np.testing.assert_allclose(total, [4, -8], atol=1e-4)
        np.testing.assert_allclose(doubled, [2, -4], atol=1e-4)
        assert positive.tolist() == [True, False]
        assert listed == [1, 2]
        assert rounds == 0


def test_owners_outside_the_three(rehearse):
    def script(me):
        spu = sf.SPU(["carol", "dave", "erin"])
        total = None
        for i, name in enumerate(("alice", "bob")):
            x = sf.PYU(name)(lambda i: np.full(4, i + 1.0, "float32"))(i)
            total = x if total is None else spu(lambda a, b: a + b)(total, x)
        return sf.reveal(total.to(sf.PYU("bob")))

    done = rehearse(parties=("alice", "bob", "carol", "dave", "erin")).run(script)
    assert not done.errors
    for value in done.results.values():
        np.testing.assert_allclose(value, 3)


def test_a_mean_with_secret_weights_goes_to_a_party_and_on(rehearse):
    """Opened to one of the three and used again; every party makes the same of it."""
    weights = np.array([1.0, 2.0, 5.0], "float32")

    def script(me):
        alice, bob, carol = devices()
        spu = sf.SPU(["alice", "bob", "carol"], sf.Config(input_range=(0.5, 8.0)))
        models = [d(lambda i=i: np.full(4, i + 1.0))() for i, d in enumerate((alice, bob, carol))]
        mean = spu(weighted_average)(models, bob(lambda: weights)())
        waiting = mean.structure()[0][0].additive
        at_carol = mean.to(carol)
        doubled = spu(lambda m: 2 * m)(mean)
        return waiting, [sf.reveal(v) for v in (mean, at_carol, doubled, mean.to(alice))]

    done = rehearse().run(script)
    assert not done.errors
    for waiting, (mean, at_carol, doubled, at_alice) in done.results.values():
        assert waiting
        np.testing.assert_allclose(mean, np.full(4, 2.5), atol=2.0**-14)
        np.testing.assert_array_equal(at_carol, mean)
        np.testing.assert_allclose(at_alice, mean, atol=2.0**-17)
        np.testing.assert_allclose(doubled, 2 * mean, atol=2.0**-15)
    what = [e["what"] for e in entries(done.ledger("alice")) if e["form"] == "masked"]
    assert "weighted_average" in what
