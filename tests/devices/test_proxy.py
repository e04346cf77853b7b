"""Instances that live at a party, on both backends."""

import gc
import time

import numpy as np
import pytest

import spuvm as sf


@sf.proxy(sf.PYUObject)
class Counter:
    """Counts."""

    def __init__(self, start, step=1):
        if start is None:
            raise ValueError("no start")
        self.value, self.step = start, step
        self.kept = np.zeros(2)

    def add(self, amount=None):
        self.value += self.step if amount is None else amount
        return self.value

    def pair(self):
        return self.value, -self.value

    def keep(self):
        self.kept = self.kept.copy()
        return self.kept

    def spoil(self):
        self.kept += 7

    def fail(self):
        raise ZeroDivisionError("on purpose")


def test_state_and_order(session):
    counter = Counter(10, step=2, device=sf.PYU("bob"))
    results = [counter.add(), counter.add(5), counter.add()]
    assert sf.reveal(results) == [12, 17, 19]
    assert results[0].device == counter.device == sf.PYU("bob")
    assert repr(counter) == "Counter(device=PYU('bob'))"
    assert Counter.__doc__ == "Counts."
    a, b = counter.pair(num_returns=2)
    assert sf.reveal([a, b]) == [19, -19]


def test_an_instance_stands_for_its_device(session):
    counter = Counter(1, device=sf.PYU("bob"))
    x = sf.PYU("alice")(lambda: 4)()
    assert sf.reveal(counter.add(x.to(counter))) == 5
    assert sf.reveal(counter.add(sf.to(counter, 2))) == 7
    other = Counter(counter.add(), device=sf.PYU("bob"))
    assert sf.reveal(other.add()) == 9
    with pytest.raises(sf.errors.UsageError, match="lives elsewhere"):
        counter.add(x)


def test_what_was_returned_does_not_change(session):
    counter = Counter(0, device=sf.PYU("alice"))
    kept = counter.keep()
    sf.wait(counter.spoil())
    np.testing.assert_array_equal(sf.reveal(kept), [0, 0])


def test_errors(session):
    alice = sf.PYU("alice")
    counter = Counter(1, device=alice)
    with pytest.raises(sf.errors.PartyError, match=r"party 'alice': Counter.fail raised Zero"):
        sf.reveal(counter.fail())
    assert sf.reveal(counter.add()) == 2  # the instance lives on
    broken = Counter(None, device=alice)
    with pytest.raises(sf.errors.PartyError, match="Counter raised ValueError: no start"):
        sf.reveal(broken.add())
    with pytest.raises(AttributeError, match="no method 'substract'"):
        counter.substract(1)
    with pytest.raises(sf.errors.UsageError, match="lives at a party"):
        Counter(1, device="alice")
    with pytest.raises(sf.errors.UsageError, match="lives at a party"):
        Counter(1)
    with pytest.raises(sf.errors.UsageError, match="an attribute cannot be set here"):
        counter.value = 3
    for use in (sf.reveal, sf.wait, alice(lambda v: v), lambda v: alice(lambda: v)()):
        with pytest.raises(sf.errors.UsageError, match="an instance at a party is not a value"):
            sf.reveal(use(counter))
    with pytest.raises(sf.errors.UsageError, match="cannot be derived from"):
        type("Derived", (Counter,), {})
    with pytest.raises(sf.errors.UsageError, match="lives at a party already"):
        sf.proxy(sf.PYUObject)(Counter)
    with pytest.raises(sf.errors.UsageError, match=r"sf.PYUObject"):
        sf.proxy(int)
    with pytest.raises(sf.errors.UsageError, match="decorates classes"):
        sf.proxy(sf.PYUObject)(lambda: 1)


def test_results_outlive_the_last_handle_of_their_instance(session):
    """A result lives in the instance's process, which must not end before it."""
    kept = Counter(3, device=sf.PYU("bob")).add()
    moved = kept.to(sf.PYU("carol"))
    sf.wait([kept, moved])
    gc.collect()
    time.sleep(0.5)
    assert sf.reveal([kept, moved]) == [4, 4]
    del kept
    gc.collect()
    time.sleep(0.5)
    assert sf.reveal(sf.PYU("carol")(lambda v: v + 1)(moved)) == 5
