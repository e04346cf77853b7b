"""What lies in Ray's object store while a HEU works and a model is trained: typed arrays alone."""

import numpy as np
import phe
import pytest
import ray
from ray import cloudpickle

import spuvm as sf
from spuvm.devices.actors import Box
from spuvm.devices.raybackend import RayBackend
from spuvm.errors import UsageError

pytestmark = pytest.mark.ray

ALICE, BOB, CAROL = "alice", "bob", "carol"
RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 3))
Y = (X.sum(1) > 0).astype(int)


@pytest.fixture
def travelled(ray_session, monkeypatch):
    """Every value that a call, an instance or a move left in the object store, and every call."""
    seen = []

    def watch(name):
        original = getattr(RayBackend, name)

        def watched(self, *args):
            made = original(self, *args)
            calls = [a for a in args if type(a).__name__ == "Call"]
            refs = made if isinstance(made, tuple) else (made,)
            seen.extend((name, ref.what, ref.handle) for ref in refs)
            seen.extend((name, "arguments", call) for call in calls)
            return made

        monkeypatch.setattr(RayBackend, name, watched)

    for name in ("call", "create", "invoke", "move"):
        watch(name)

    def values():
        found = []
        for name, what, handle in seen:
            value = handle
            if isinstance(value, ray.ObjectRef):
                value = ray.get(value)
            if isinstance(value, Box):
                value = value.failure or ray.get(value.ref)
            if not isinstance(value, ray.actor.ActorHandle):
                found.append((name, what, value))
        return found

    return values


def raw(value):
    """Names of modules of big numbers in what Ray serialises."""
    stored = cloudpickle.dumps(value)
    return [name for name in ("phe.paillier", "gmpy2") if name.encode() in stored]


def test_typed_arrays_alone(travelled, ray_spu):
    """Not named after what must not be there: calls carry the script's line and function."""
    heu = sf.HEU(ALICE, [BOB, CAROL], 512, input_range=(-99, 99), safety="insecure")
    spu = ray_spu
    alice, bob, carol = (sf.PYU(name) for name in (ALICE, BOB, CAROL))
    h = sf.to(alice, X[:3]).to(heu) @ sf.to(bob, np.ones((3, 2)))
    sf.wait([h.to(alice), h.opened_here(), h.to(carol), h.to(spu), h.to(spu).to(heu)])
    assert all(isinstance(number, phe.EncryptedNumber) for number in h.ciphertexts())
    x = sf.data.FedNdarray({p: sf.to(p, X[:, [i]]) for i, p in enumerate((alice, bob, carol))})
    for scores in ("clear", "shares"):
        model = sf.ml.FLogisticRegressionVertical(heu, spu, scores=scores, epochs=1, batch_size=20)
        sf.wait(list(model.fit(x, sf.to(alice, Y)).coef_.values()))
    found = travelled()
    assert len(found) > 60
    assert not [(name, what) for name, what, value in found if raw(value)]
    sealed = [v for name, what, v in found if isinstance(v, dict) and "body" in v]
    assert len(sealed) > 10
    assert all(type(v) is np.ndarray and v.dtype.kind in "iub" for s in sealed for v in s.values())
    bodies = [row.tobytes() for s in sealed if "slot" in s for row in s["body"]]
    moved = [v for name, what, v in found if name == "move" and isinstance(v, dict) and "slot" in v]
    assert moved
    assert len(set(bodies)) > 100


def test_the_test_would_see_them(travelled):
    """Otherwise finding nothing would say nothing."""
    public, _ = phe.generate_paillier_keypair(n_length=256)
    assert raw([public.encrypt(3) * 1234]) == ["phe.paillier"]
    sf.wait(sf.PYU(ALICE)(lambda: {"hidden": Hidden()})())
    assert [what for _, what, value in travelled() if raw(value)]


class Hidden:
    """Holds an object of phe where no check of arguments and results looks."""

    def __init__(self):
        public, _ = phe.generate_paillier_keypair(n_length=256)
        self.number = public.encrypt(3) * 1234


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [{"a": n}], lambda n: np.array([n, n])])
def test_objects_of_phe_are_refused(ray_session, wrap):
    """As arguments and as results, before anything is stored."""
    public, private = phe.generate_paillier_keypair(n_length=256)
    alice = sf.PYU(ALICE)
    for one in (public.encrypt(3) * 1234, public, private):
        with pytest.raises(UsageError, match="objects of phe do not travel"):
            alice(lambda v: 0)(wrap(one))
        with pytest.raises(UsageError, match=r"party 'alice'[\s\S]*objects of phe do not travel"):
            sf.wait(alice(make)(wrap))


def make(wrap):
    public, _ = phe.generate_paillier_keypair(n_length=256)
    return wrap(public.encrypt(3) * 1234)
