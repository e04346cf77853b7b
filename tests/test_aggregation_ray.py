"""The three aggregators with parties in processes of their own."""

import gc

import numpy as np
import pytest

import spuvm as sf
from tests.devices.sessions import PARTIES, ray_session, ray_spu, ray_started

__all__ = ["ray_session", "ray_spu", "ray_started"]

pytestmark = pytest.mark.ray


def test_weighted_averages(ray_spu):
    names = PARTIES[:3]
    pyus = [sf.PYU(name) for name in names]
    rng = np.random.default_rng(0)
    trees = [{"w": rng.normal(size=(2, 3)), "b": rng.normal(size=4)} for _ in names]
    values = [sf.to(p, t) for p, t in zip(pyus, trees, strict=True)]
    weights = [sf.to(p, w) for p, w in zip(pyus, [3.0, 1.0, 2.5], strict=True)]
    for one in (
        sf.aggregation.PlainAggregator(sf.PYU("server")),
        sf.aggregation.SecureAggregator(sf.PYU("server"), pyus),
        sf.aggregation.SPUAggregator(ray_spu),
    ):
        got = sf.reveal(one.average(values, weights=weights))
        for name in ("w", "b"):
            want = np.average([t[name] for t in trees], axis=0, weights=[3.0, 1.0, 2.5])
            np.testing.assert_allclose(got[name], want, atol=1e-4)


def test_what_is_on_its_way_survives_its_devices(ray_spu):
    """The instances behind a HEU and a masked sum end no earlier than what they hold is used."""
    pyus = [sf.PYU(name) for name in PARTIES[:3]]

    def encrypted():
        heu = sf.HEU(PARTIES[0], PARTIES[1:2], key_bits=512, safety="insecure")
        return sf.to(pyus[0], np.arange(3.0)).to(heu).to(pyus[1]).to(ray_spu)

    def summed():
        values = [sf.to(p, np.full(2, float(i))) for i, p in enumerate(pyus)]
        return sf.aggregation.SecureAggregator(sf.PYU("server"), pyus).sum(values)

    shared, total = encrypted(), summed()
    gc.collect()
    np.testing.assert_allclose(sf.reveal(shared), np.arange(3.0))
    np.testing.assert_allclose(sf.reveal(total), 3.0)
