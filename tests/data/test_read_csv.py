"""Files read by their parties, on both backends."""

import numpy as np
import pandas as pd
import pytest

import spuvm as sf
from spuvm.errors import PartyError, UsageError


def test_files(session, tmp_path):
    alice, bob = sf.PYU("alice"), sf.PYU("bob")
    table = pd.DataFrame({"id": range(6), "x": np.arange(6) / 4, "y": np.arange(6) % 2})
    table[["id", "x"]].to_csv(tmp_path / "a.csv", index=False)
    table[["id", "y"]].to_csv(tmp_path / "b.csv", index=False)
    paths = {alice: tmp_path / "a.csv", bob: tmp_path / "b.csv"}
    df = sf.data.read_csv(paths, key="id")
    assert df.columns == ["x", "y"]
    np.testing.assert_array_equal(sf.reveal(df.values.partitions[alice])[:, 0], table["x"])
    sf.wait(df.to_csv({alice: str(tmp_path / "out.csv")}))
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")["x"], table["x"])
    same = {alice: tmp_path / "a.csv", bob: tmp_path / "a.csv"}
    assert sf.data.read_csv(same, way="horizontal", usecols=["x"]).shape == (12, 1)
    halves = {"carol": "a", "dave": "b"}
    other = {sf.PYU(p): tmp_path / f"{n}.csv" for p, n in halves.items()}
    mixed = sf.data.read_csv([paths, other], key="id")
    assert mixed.shape == (12, 2)
    assert mixed.columns == ["x", "y"]
    with pytest.raises(UsageError, match="every file is at a party"):
        sf.data.read_csv({"alice": "a.csv"})
    with pytest.raises(UsageError, match="columns differ"):
        sf.data.read_csv(paths, way="horizontal")
    with pytest.raises(PartyError, match=r"party 'alice'[\s\S]*FileNotFound"):
        sf.data.read_csv({alice: tmp_path / "no.csv", bob: tmp_path / "b.csv"})
    with pytest.raises(UsageError, match="way of splitting"):
        sf.data.read_csv(paths, way="diagonal")
