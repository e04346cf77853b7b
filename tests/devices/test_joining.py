"""What parties compare when they meet, before anything else happens."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from spuvm.devices import joining
from spuvm.devices.cluster import Cluster, Timing
from spuvm.devices.local import LocalBackend
from spuvm.devices.policy import Policy
from spuvm.errors import ChannelError
from spuvm.net.local_endpoint import local_endpoints
from spuvm.net.settings import Links
from tests.devices.rehearsal import PARTIES


@pytest.mark.parametrize("key", ["jax", "spuvm", "64-bit types of jax", "patience", "links"])
def test_settings_are_compared_before_anything_happens(tmp_path, monkeypatch, key):
    """One party has another version or setting: all hear which, and both values."""
    same = joining.settings
    monkeypatch.setattr(
        joining, "settings", lambda c: same(c) | ({key: "other"} if c.party == "bob" else {})
    )
    ends = local_endpoints(PARTIES, deadline=10)
    links = Links({name: ("127.0.0.1", 1 + i) for i, name in enumerate(PARTIES)})

    def party(name):
        files = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.key"
        cluster = Cluster(name, PARTIES, links, Timing(10, 10, 10), Policy(name), *files)
        with pytest.raises(ChannelError) as error:
            joining.join(cluster, ends[name], lambda: LocalBackend((name,)))
        return str(error.value)

    with ThreadPoolExecutor(3) as pool:
        for text in pool.map(party, PARTIES):
            assert f"do not agree on '{key}'" in text
            assert "bob: other" in text
            assert (
                f"alice: {same(Cluster('a', (), links, Timing(10, 10, 10), *[None] * 3))[key]}"
                in text
            )
