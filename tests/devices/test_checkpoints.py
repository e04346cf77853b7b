"""Shares that are saved and loaded: by each party, encrypted, only what belongs together."""

import shutil
import warnings

import jax
import numpy as np
import pytest

import spuvm as sf
from spuvm.protocol.aby3.saved import to_bytes
from spuvm.protocol.aby3.share import AShare
from spuvm.vm.checkpoint import Header, key_of, read, write
from tests.devices import test_states as states
from tests.devices.rehearsal import PARTIES, Rehearsal


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def model():
    return {
        "w": np.array([[1.5, -2.0]], "float32"),
        "flags": (np.array([True, False]), np.int32(7)),
    }


def same(got):
    np.testing.assert_allclose(got["w"], [[1.5, -2.0]], atol=1e-4)
    assert got["flags"][0].tolist() == [True, False]
    assert got["flags"][1] == 7


@pytest.mark.parametrize("ring", [64, 128])
def test_saved_and_loaded(inprocess, tmp_path, ring):
    spu = sf.SPU(list(PARTIES), sf.Config(ring=ring))
    x = sf.PYU("dave")(model)().to(spu)
    spu.dump(x, tmp_path / "deep" / "model")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == [f"model.{p}" for p in PARTIES]
    again = sf.SPU(list(PARTIES), sf.Config(ring=ring))
    y = again.load(tmp_path / "deep" / "model")
    assert y.structure()[0][0].origins == ("dave",)
    same(sf.reveal(y))
    more = again(lambda m: m["w"] * 2)(y)
    np.testing.assert_allclose(sf.reveal(more), [[3.0, -4.0]], atol=1e-4)


def test_a_state_that_was_saved(inprocess, tmp_path):
    """Digits and range are part of a checkpoint."""
    spu = sf.SPU(list(PARTIES))
    optimiser = states.OPTIMISERS["adam"]
    w, state, x, y = states.begun(spu, optimiser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w, state = spu(states.stepper(optimiser), num_returns=2)(w, state, x, y)
        spu.dump(spu(jax.tree.leaves)(state), tmp_path / "state")
        again, like = spu.load(tmp_path / "state"), jax.tree.structure(optimiser.init(states.W))

        def step(w, leaves, x, y):
            return states.stepper(optimiser)(w, jax.tree.unflatten(like, leaves), x, y)

        w, _ = spu(step, num_returns=2)(w, again, x, y)
    np.testing.assert_allclose(sf.reveal(w), states.plain(optimiser, 2)[0], atol=0.02 * states.RATE)


@pytest.fixture
def saved(inprocess, tmp_path):
    """An SPU and the path of what it saved."""
    spu = sf.SPU(list(PARTIES))
    spu.dump(sf.PYU("alice")(model)().to(spu), tmp_path / "model")
    return spu, tmp_path / "model"


def change(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def change_header(path):
    path.write_bytes(path.read_bytes().replace(b'"alice"', b'"alicf"', 1))


def test_nothing_readable_is_in_the_files(saved, tmp_path):
    _, path = saved
    for party in PARTIES:
        file = path.with_name(f"model.{party}")
        key = tmp_path / "home" / ".spuvm" / f"{party}.checkpoint.key"
        assert key.stat().st_mode & 0o077 == 0
        header, shares = read(file, key_of(key))
        assert header.party == party
        assert b"flags" in file.read_bytes()  # the structure is public
        for share in shares:
            both = to_bytes(share)
            assert both[: len(both) // 2] not in file.read_bytes() or len(both) < 8


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (change, "was changed, or is encrypted with another key"),
        (change_header, "was changed, or is encrypted with another key"),
        (lambda p: p.write_bytes(p.read_bytes()[:30]), "cut off"),
        (lambda p: p.write_bytes(b"something else"), "not a checkpoint"),
        (lambda p: p.unlink(), "cannot read a checkpoint"),
    ],
)
def test_what_is_spoilt_is_refused(saved, spoil, text):
    spu, path = saved
    spoil(path.with_name("model.alice"))
    with pytest.raises(sf.errors.UsageError, match=text):
        spu.load(path)
    assert sf.reveal(spu(lambda v: v + 1)(sf.PYU("bob")(lambda: np.float32(1))())) == 2


def test_another_key(saved, tmp_path):
    spu, path = saved
    key = tmp_path / "home" / ".spuvm" / "bob.checkpoint.key"
    key.write_text("00" * 32)
    with pytest.raises(sf.errors.UsageError, match=r"party 'bob'.*encrypted with another key"):
        spu.load(path)
    key.chmod(0o644)
    with pytest.raises(sf.errors.UsageError, match="others may read this checkpoint key"):
        spu.load(path)


def test_a_nonce_is_never_used_again(tmp_path):
    """Of the same shares under the same key, nothing that is encrypted comes out alike."""
    key, header = bytes(32), Header("alice", 0, 64, "a", "about")
    share = AShare(np.zeros(8, np.uint64), np.zeros(8, np.uint64))
    bodies = []
    for i in range(2):
        write(tmp_path / str(i), key, header, [share])
        data = (tmp_path / str(i)).read_bytes()
        start = 12 + int.from_bytes(data[8:12], "little")
        bodies.append((data[start : start + 12], data[start + 12 :]))
    assert bodies[0][0] != bodies[1][0]
    alike = sum(a == b for a, b in zip(bodies[0][1], bodies[1][1], strict=True))
    assert alike < 20  # of 144 bytes by chance with 1e-20


def test_files_of_different_moments_and_machines(saved, tmp_path):
    spu, path = saved
    spu.dump(sf.PYU("alice")(model)().to(spu), tmp_path / "later")
    shutil.copy(tmp_path / "later.carol", tmp_path / "model.carol")
    with pytest.raises(sf.errors.UsageError, match="different moments"):
        spu.load(path)
    with pytest.raises(sf.errors.UsageError, match="does not belong to this machine"):
        sf.SPU(["bob", "alice", "carol"]).load(tmp_path / "later")
    with pytest.raises(sf.errors.UsageError, match="another encoding"):
        sf.SPU(list(PARTIES), sf.Config(frac_bits=16)).load(tmp_path / "later")


def interrupted(path, *parties):
    """As if these parties had died before they saved the last time."""
    for party in parties:
        path.with_name(f"{path.name}.{party}.previous").replace(path.with_name(f"model.{party}"))


def number(value):
    return sf.PYU("alice")(lambda: np.float32(value))()


def test_what_cannot_be_written_down(inprocess, tmp_path):
    spu = sf.SPU(["alice", "bob", "carol"])
    x = spu(lambda v: v * 1j)(sf.to(sf.PYU("alice"), np.float32([1])))
    with pytest.raises(sf.errors.UsageError, match="cannot be saved") as caught:
        spu.dump(x, tmp_path / "x")
    assert caught.value.got == "complex arrays"
    assert caught.value.next == "take x.real and x.imag"


def test_a_saving_that_was_interrupted(inprocess, tmp_path, caplog):
    """Some have saved, others have not: all go back to the moment before, again and again."""
    spu, path = sf.SPU(list(PARTIES)), tmp_path / "model"
    spu.dump(number(1).to(spu), path)
    for step, missing in enumerate((["carol"], ["alice", "bob"], ["bob"], ["carol"]), start=2):
        spu.dump(number(step).to(spu), path)
        interrupted(path, *missing)
        assert sf.reveal(spu.load(path)) == step - 1
        assert "was saved by some parties only" in caplog.text
        assert sf.reveal(spu.load(path)) == step - 1
        spu.dump(number(step).to(spu), path)
    caplog.clear()
    assert sf.reveal(spu.load(path)) == 5
    path.with_name("model.bob").unlink()  # between two renames
    assert sf.reveal(spu.load(path)) == 5 - 1


def test_a_training_that_goes_on_in_another_session(tmp_path):
    """Without a driver: the second session starts from what the first one saved."""

    def first(me):
        spu = sf.SPU(list(PARTIES))
        x = spu(lambda m: {**m, "w": m["w"] - 1})(sf.PYU("dave")(model)())
        spu.dump(x, tmp_path / "model")

    def second(me):
        spu = sf.SPU(list(PARTIES))
        y = spu(lambda m: {**m, "w": m["w"] + 1})(spu.load(tmp_path / "model"))
        return sf.reveal(y)

    parties = (*PARTIES, "dave")
    for script in (first, second):
        done = Rehearsal(tmp_path, parties).run(script)
        assert not done.errors
    for got in done.results.values():
        same(got)
    done = Rehearsal(tmp_path, PARTIES).run(second)  # nobody can ask for dave's consent
    for name in PARTIES:
        assert "depends on data of parties that are not in this session" in str(done.errors[name])
        assert done.errors[name].got == "dave"
    done = Rehearsal(tmp_path, parties).run(first)  # a later moment, which carol did not save
    interrupted(tmp_path / "model", "carol")
    done = Rehearsal(tmp_path, parties).run(second)
    assert not done.errors
    for got in done.results.values():
        same(got)
    change(tmp_path / "model.bob")
    done = Rehearsal(tmp_path, parties).run(second)
    for name in parties:
        assert "party 'bob': a checkpoint was changed" in str(done.errors[name])
