"""Scripts that differ, refusals, errors: the same error at every party, at once, with no data."""

import threading
import time
import traceback

import numpy as np
import pytest

import spuvm as sf
from spuvm.devices.ledger import entries, verify
from spuvm.devices.policy import Policy, Rule
from spuvm.devices.session import current, play
from spuvm.net.endpoint import Envelope
from tests.devices.rehearsal import PARTIES, Rehearsal


@pytest.fixture
def rehearse(tmp_path):
    return lambda **more: Rehearsal(tmp_path, **more)


def two():
    return np.full(3, 2.0, "float32")


def test_another_branch_at_one_party(rehearse):
    def script(me):
        alice, bob, carol = map(sf.PYU, PARTIES)
        x = alice(two)()
        if me == "carol":
            moved = x.to(carol)  # carol's line
        else:
            moved = x.to(bob)  # the others' line
        return sf.reveal(moved)

    start = time.monotonic()
    done = rehearse().run(script)
    assert time.monotonic() - start < 5
    assert not done.results
    for name in PARTIES:
        error = done.errors[name]
        assert isinstance(error, sf.errors.AgreementError), repr(error)
        text = str(error)
        assert "differ from operation 1 on" in text
        assert "move 0.0 (two) from alice to carol" in text
        assert "from alice to bob" in text
        lines = sorted({part.split()[0] for part in text.split("test_multi_agreement.py:")[1:]})
        assert len(lines) == 2  # both source lines
    # bob may have what all who were concerned agreed on; carol, who asked for it alone, has not.
    assert not [e for e in entries(done.ledger("carol")) if e["form"] == "clear"]


def test_a_script_that_is_shorter_at_one_party(rehearse):
    def script(me):
        x = sf.PYU("alice")(two)()
        return None if me == "bob" else sf.reveal(x)

    done = rehearse().run(script)
    for name in PARTIES:
        assert "the end of the script" in str(done.errors[name])
        assert "move 0.0 (two) from alice to bob" in str(done.errors[name])


def test_programs_that_differ(rehearse):
    def script(me):
        spu = sf.SPU(list(PARTIES))
        power = 3 if me == "alice" else 2
        return sf.reveal(spu(lambda v: v**power)(sf.PYU("bob")(two)()))

    done = rehearse().run(script)
    for name in PARTIES:
        assert isinstance(done.errors[name], sf.errors.AgreementError), repr(done.errors[name])
        assert "the programs of test_programs_that_differ" in str(
            done.errors[name]
        ) or "the programs of <lambda>" in str(done.errors[name])
        assert "test_multi_agreement.py:" in str(done.errors[name])


def test_another_configuration(rehearse):
    def script(me):
        sf.SPU(list(PARTIES), sf.Config(frac_bits=16 if me == "alice" else 18))

    done = rehearse().run(script)
    assert all("frac_bits=16" in str(done.errors[name]) for name in PARTIES)


def test_constants_that_differ_in_the_last_place(rehearse):
    """Folded on other processors: rank 0's are taken, after everybody checked them."""
    base = np.array([0.1, 123.456, -7.77], "float32")
    theirs = {"alice": base, "bob": np.nextafter(base, np.float32(1000)), "carol": base}
    scale = {"alice": 1.0, "bob": 1.0, "carol": np.nextafter(np.float32(1), np.float32(0))}

    def script(me):
        spu = sf.SPU(["carol", "bob", "alice"])
        f = lambda v: (v * scale[me]) * theirs[me] + theirs[me]  # noqa: E731
        x = sf.PYU("bob")(two)()
        programs = spu(f).lower(x).digest
        out = spu(f)(x)
        again = spu(lambda v: v + 1)(out)
        return programs, sf.reveal([spu(f)(x), out, again])

    done = rehearse().run(script)
    assert not done.errors
    assert len({digest for digest, _ in done.results.values()}) == 3
    for _, (first, second, third) in done.results.values():
        np.testing.assert_allclose(first, 3 * base, atol=2.0**-12 * 400)
        np.testing.assert_allclose(second, first, atol=2.0**-14)
        np.testing.assert_allclose(third, first + 1, atol=2.0**-14)


def test_constants_that_differ_by_more(rehearse):
    def script(me):
        spu = sf.SPU(list(PARTIES))
        c = np.float32(0.1001 if me == "carol" else 0.1)
        return sf.reveal(spu(lambda v: v * c)(sf.PYU("bob")(two)()))

    done = rehearse().run(script)
    for name in PARTIES:
        assert isinstance(done.errors[name], sf.errors.AgreementError), repr(done.errors[name])
        assert "1 of 1 elements of constant 0 differ by more" in str(done.errors[name])
        assert "trace <lambda> of arrays (3,)" in str(done.errors[name])


def test_a_policy_refuses_what_it_does_not_list(rehearse):
    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        x = alice(two)()
        spu = sf.SPU(list(PARTIES))
        total = spu(lambda v: v.sum())(x)
        seen = sf.reveal(total.to(bob), to=["bob"])
        leaked = x.to(bob)
        return seen, leaked

    policies = {"alice": Policy("alice", (Rule("*lambda*", ("bob",)),))}
    done = rehearse(policies=policies).run(script)
    owner = str(done.errors["alice"])
    assert isinstance(done.errors["alice"], sf.errors.PolicyError)
    assert '[policy.alice]: { what = "two", to = ["bob"] }' in owner
    assert "test_multi_agreement.py:" in owner
    for name in ("bob", "carol"):
        assert isinstance(done.errors[name], sf.errors.PolicyError)
        assert "the policy of party 'alice' does not allow operation" in str(done.errors[name])
        assert "to = " not in str(done.errors[name])
    bobs = [e["what"] for e in entries(done.ledger("bob")) if e["form"] == "clear"]
    assert bobs == ["<lambda>"]


def test_everybody_whose_data_it_is_must_consent(rehearse):
    """carol's data went to alice, and from there into a result: carol's policy counts."""

    def script(me):
        alice, _, carol = map(sf.PYU, PARTIES)
        mine = carol(two)().to(alice)
        mixed = alice(lambda v: v * 10)(mine)
        spu = sf.SPU(list(PARTIES))
        out = spu(lambda v: v + 1)(mixed)
        return sf.reveal(out, to=["bob"])

    carol = Policy("carol", (Rule("two", ("alice",)),))
    done = rehearse(policies={"carol": carol}).run(script)
    assert 'to = ["bob"]' in str(done.errors["carol"])
    assert all(isinstance(done.errors[n], sf.errors.PolicyError) for n in PARTIES)
    assert not [e for e in entries(done.ledger("bob")) if e["form"] == "clear"]


def test_who_may_hold_shares(rehearse):
    def script(me):
        spu = sf.SPU(["bob", "carol", "dave"])
        return sf.reveal(spu(lambda v: v + 1)(sf.PYU("alice")(two)()))

    done = rehearse(
        parties=(*PARTIES, "dave"), policies={"alice": Policy("alice", None, ("bob", "carol"))}
    ).run(script)
    assert 'share = ["bob", "carol", "dave"]' in str(done.errors["alice"])
    assert all(isinstance(done.errors[n], sf.errors.PolicyError) for n in (*PARTIES, "dave"))
    for name in (*PARTIES, "dave"):
        assert not [e for e in entries(done.ledger(name)) if e["form"] == "masked"]


def failing():
    secret = 123456789
    raise ValueError(f"the patient's number is {secret}")


@pytest.mark.parametrize("how", ["reveal", "wait", "share", "through another"])
def test_an_exception_keeps_its_text(rehearse, caplog, how):
    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        x = alice(failing)()
        if how == "share":
            x = sf.SPU(list(PARTIES))(lambda v: v + 1)(x)
        if how == "through another":
            x = bob(lambda v: v)(x.to(bob))
        if how == "wait":
            sf.wait(x)
        return sf.reveal(x)

    done = rehearse().run(script)
    for name in PARTIES:
        text = str(done.errors[name])
        assert "failing raised ValueError" in text
        assert "party 'alice'" in text
        if name != "alice":
            assert "123456789" not in "".join(traceback.format_exception(done.errors[name]))
            assert "test_multi_agreement.py:" in text
            assert "/" not in text.split("test_multi_agreement.py")[0][-2:]
    for name in ("bob", "carol"):
        assert b"123456789" not in done.ledger(name).read_bytes()
    (said,) = [one.getMessage() for one in caplog.records if "failing failed" in one.getMessage()]
    assert "in failing" in said  # its own log has the traceback
    assert "123456789" in said


def test_a_handle_in_a_set_is_refused_by_all(rehearse):
    """Also by those at whom the function does not run: no operation is begun."""

    def script(me):
        alice = sf.PYU("alice")
        x = alice(lambda: 1)()
        with pytest.raises(sf.errors.UsageError, match="cannot travel inside other data"):
            alice(len)({x})
        return sf.reveal(x)

    assert rehearse().run(script).results == dict.fromkeys(PARTIES, 1)


def test_errors_can_be_handled_by_all(rehearse):
    """The same error at the same place everywhere: a script may go on."""

    def script(me):
        alice = sf.PYU("alice")
        try:
            sf.reveal(alice(failing)())
        except sf.errors.PartyError:
            return sf.reveal(alice(two)())
        return None

    done = rehearse().run(script)
    assert not done.errors
    assert all(value.tolist() == [2, 2, 2] for value in done.results.values())


def test_a_script_that_fails_at_one_party(rehearse):
    def script(me):
        x = sf.PYU("alice")(two)()
        if me == "bob":
            raise KeyError("secret text")
        return sf.reveal(x)

    done = rehearse().run(script)
    assert isinstance(done.errors["bob"], KeyError)
    for name in ("alice", "carol"):
        assert "party 'bob': the script ended with KeyError" in str(done.errors[name])
        assert "secret text" not in str(done.errors[name])


def test_what_cannot_travel(rehearse):
    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        return sf.reveal(alice(lambda: {1, 2})().to(bob))

    done = rehearse().run(script)
    for name in PARTIES:
        assert "cannot travel to another party" in str(done.errors[name])
        assert "set" in str(done.errors[name])


def test_what_a_mask_hides_does_not_travel(rehearse):
    def hidden():
        return np.ma.array([1.0], mask=[True])

    def script(me):
        return sf.reveal(sf.PYU("alice")(hidden)())

    done = rehearse().run(script)
    for name in PARTIES:
        assert "would go without its mask" in str(done.errors[name])


def test_the_ledger_says_all(rehearse):
    def script(me):
        alice, bob, _ = map(sf.PYU, PARTIES)
        x = alice(two)().to(bob)
        spu = sf.SPU(list(PARTIES))
        return sf.reveal(
            spu(lambda v: v * v)(
                x,
            ),
            to=["carol"],
        )

    done = rehearse().run(script)
    assert not done.errors
    lines = {name: list(entries(done.ledger(name))) for name in PARTIES}
    for name in PARTIES:
        assert verify(done.ledger(name))[0] == len(lines[name])

    def picked(name, direction, form):
        return [e for e in lines[name] if (e["direction"], e["form"]) == (direction, form)]

    (left,) = picked("alice", "out", "clear")
    (came,) = picked("bob", "in", "clear")
    assert left["digest"] == came["digest"]
    assert (left["peers"], came["peers"]) == (["bob"], ["alice"])
    assert left["shape"] == "float32[3]"
    assert left["source"].startswith("test_multi_agreement.py:")
    shares, *_ = picked("bob", "out", "masked")
    assert shares["origins"] == ["alice", "bob"][:1]
    assert shares["nbytes"] > 0
    (learned,) = picked("carol", "in", "clear")
    assert learned["origins"] == ["alice"]
    assert not picked("alice", "in", "clear")
    heads = lines["alice"][-1]["heads"]
    for name in ("bob", "carol"):
        assert verify(done.ledger(name), heads[name])


def test_the_same_script_elsewhere(rehearse):
    """Other folders and line numbers are the same script."""

    def script(me):
        below = "\n" * (3 if me == "bob" else 0)
        code = "x = sf.PYU('alice')(two)()\nfound = sf.reveal(x)\n"
        names = {"sf": sf, "two": two, "__name__": "script"}
        exec(compile(below + code, f"/home/{me}/script.py", "exec"), names)
        return names["found"].tolist()

    done = rehearse().run(script)
    assert not done.errors
    assert list(done.results.values()) == [[2, 2, 2]] * 3


def test_one_thread_drives(rehearse):
    def script(me):
        caught = []

        def other():
            play(session)
            try:
                sf.PYU("alice")(two)()
            except sf.errors.UsageError as error:
                caught.append(error)

        session = current()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return str(caught[0])

    done = rehearse().run(script)
    assert not done.errors
    assert all("from one thread only" in text for text in done.results.values())


def test_a_party_that_is_alive_but_does_not_come(rehearse):
    def script(me):
        x = sf.PYU("alice")(two)()
        if me == "bob":
            time.sleep(2.5)
        return sf.reveal(x)

    start = time.monotonic()
    done = rehearse(patience=0.5).run(script)
    assert time.monotonic() - start < 15
    for name in ("alice", "carol"):
        assert "party 'bob' did not get to operation" in str(done.errors[name])
    assert "bob" in done.errors


def test_many_operations_are_not_kept(rehearse):
    def script(me):
        alice = sf.PYU("alice")
        for _ in range(300):
            x = alice(two)()
        sf.wait(x)
        agreement = current().backend.agreement
        return len(agreement._own) + sum(map(len, agreement._heard.values()))

    done = rehearse().run(script)
    assert not done.errors
    assert all(kept < 1000 for kept in done.results.values())


def impostor(folder, say):
    """alice and carol run a script; bob's process says something else on its links."""
    rehearsal = Rehearsal(folder, patience=5.0)

    def script(me):
        spu = sf.SPU(list(PARTIES))
        return sf.reveal(spu(lambda v: v + 1)(sf.PYU("bob")(two)()))

    bobs = rehearsal._party

    def party(name, script):
        if name != "bob":
            return bobs(name, script)
        endpoint = rehearsal.endpoints[name]
        endpoint.connect({})
        rehearsal._met.wait(30)
        return say(endpoint)

    rehearsal._party = party
    return rehearsal.run(script)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [1, 2],
        {"text": 1},
        {"text": "x", "source": "", "refused": 0, "notes": {}, "chain": ""},
        {"text": "x", "source": "", "refused": False, "notes": {"a": 1}, "chain": ""},
        np.zeros(5),
    ],
)
def test_what_is_not_an_operation(tmp_path, said):
    def say(endpoint):
        for peer in ("alice", "carol"):
            endpoint.send(peer, Envelope(0, "operation"), said)

    done = impostor(tmp_path, say)
    for name in ("alice", "carol"):
        assert isinstance(done.errors[name], sf.errors.SpuvmError)
        assert "not an operation" in str(done.errors[name])
        assert "party 'bob'" in str(done.errors[name])


def test_shares_that_are_passed_on(rehearse):
    """To the machines of another SPU, among them a party that may not hold them."""

    def script(me):
        first = sf.SPU(list(PARTIES))
        second = sf.SPU(["bob", "carol", "dave"])
        x = sf.PYU("alice")(two)().to(first)
        sf.wait(x)
        return sf.reveal(second(lambda v: v + 1)(x))

    everybody = (*PARTIES, "dave")
    done = rehearse(parties=everybody).run(script)
    assert not done.errors
    assert all(value.tolist() == [3, 3, 3] for value in done.results.values())
    policy = Policy("alice", None, PARTIES)
    done = rehearse(parties=everybody, policies={"alice": policy}).run(script)
    assert '"dave"]' in str(done.errors["alice"])
    assert all(isinstance(done.errors[n], sf.errors.PolicyError) for n in everybody)
    assert all("pass v0.0 of spu0 on to spu1" in str(done.errors[n]) for n in everybody)
