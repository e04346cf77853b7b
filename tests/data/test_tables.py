"""Federated tables against pandas on the joined table, and every kind of bad input."""

import numpy as np
import pandas as pd
import pytest

import spuvm as sf
from spuvm import data as sd
from spuvm.data import local
from spuvm.devices.session import current
from spuvm.errors import UsageError

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "id": [f"r{i}" for i in range(12)],
        "age": RNG.integers(20, 60, 12),
        "height": RNG.normal(170, 10, 12),
        "income": RNG.normal(3e3, 500, 12),
        "label": np.tile(["yes", "no"], 6),
    }
)


@pytest.fixture(scope="module")
def pyus(inprocess):
    return sf.PYU("alice"), sf.PYU("bob"), sf.PYU("carol")


def put(pyu, value):
    return sf.to(pyu, value)


def test_tables_are_gone_through_by_column(pyus):
    """As in pandas; before, the places 0, 1, 2, ... never came to an end."""
    table = vertical(pyus)
    assert list(table) == list(sd.MixDataFrame([table])) == ["age", "height", "income"]
    assert "age" in table
    with pytest.raises(UsageError, match="not gone through"):
        list(table.values)


def test_what_a_mask_hides_is_no_data(pyus):
    table = sd.FedNdarray({pyus[0]: put(pyus[0], np.ma.array([1.0, 2.0], mask=[True, False]))})
    with pytest.raises(UsageError, match="without its mask"):
        _ = table.shape


def vertical(pyus, key=None, **changes):
    parts = {"alice": TABLE[["id", "age"]], "bob": TABLE[["id", "height", "income"]]}
    if key is None:
        parts = {n: t.drop(columns="id") for n, t in parts.items()}
    parts |= changes
    return sd.VDataFrame({sf.PYU(n): put(sf.PYU(n), t) for n, t in parts.items()}, key)


def horizontal(pyus, **more):
    alice, bob, carol = pyus
    numbers = TABLE[["age", "height"]]
    pieces = {alice: numbers[:4], bob: numbers[4:9], carol: numbers[9:]}
    return sd.HDataFrame({p: put(p, t) for p, t in pieces.items()}, **more)


def joined(partitions):
    return [sf.reveal(x) for x in partitions.values()]


def reported(act):
    before = dict(current().opened)
    act()
    return {(d.what, d.to, d.origins) for d, n in current().opened.items() if n != before.get(d, 0)}


def test_vertical_tables(pyus):
    df = vertical(pyus, key="id")
    assert df.shape == (12, 3)
    assert df.columns == ["age", "height", "income"]
    assert df.dtypes == {"age": "int64", "height": "float64", "income": "float64"}
    np.testing.assert_array_equal(
        np.hstack(joined(df.values.partitions)), TABLE[["age", "height", "income"]]
    )
    np.testing.assert_array_equal(
        np.hstack(joined(df[2:5].values.partitions)), TABLE[["age", "height", "income"]][2:5]
    )
    only = df["income"]
    assert [p.party for p in only.parties] == ["bob"]
    assert df.drop(["age", "income"]).columns == ["height"]
    means = np.concatenate(joined(df.statistics("mean")))
    np.testing.assert_allclose(means, TABLE[["age", "height", "income"]].mean())
    assert len(df) == 12
    assert df.drop("age").columns == ["height", "income"]
    assert df[3].shape == (1, 3)
    assert df[np.arange(12) % 2 == 0].shape == (6, 3)
    for act, match in [
        (lambda: df["zoe"], "unknown columns"),
        (lambda: df.drop(["x"]), "unknown"),
        (lambda: df.to_csv({sf.PYU("carol"): "x"}), "without a partition"),
        (lambda: sf.wait(list(df.apply(lambda t: t[:3]).partitions.values())), "keeps its rows"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()


def test_nothing_is_revealed_in_silence(pyus):
    df = vertical(pyus, key="id")
    assert reported(lambda: df.values[1:3].astype("float32")) == set()
    assert reported(lambda: sd.StandardScaler().fit_transform(df)) == set()
    assert reported(lambda: sd.train_test_split(df, random_state=None)) == set()
    assert reported(lambda: sd.train_test_split(df, shuffle=False)) == set()
    assert reported(lambda: df.columns) == {
        ("column names", "driver", ("alice",)),
        ("column names", "driver", ("bob",)),
    }
    assert ("equal rows", "alice", ("alice", "bob")) in reported(lambda: vertical(pyus))


def test_horizontal_tables(pyus, spu_of_three):
    secure = sf.aggregation.SecureAggregator(sf.PYU("server"), list(pyus))
    df = horizontal(pyus, aggregator=secure, comparator=sf.aggregation.SPUAggregator(spu_of_three))
    assert df.shape == (12, 2)
    assert df.columns == ["age", "height"]
    np.testing.assert_array_equal(np.vstack(joined(df.values.partitions)), TABLE[["age", "height"]])
    assert df["height"].columns == ["height"]
    assert df.drop("age").columns == ["height"]
    cut = df[3:10]
    assert reported(lambda: df[3:10]) >= {("shape of a partition", "driver", ("bob",))}
    np.testing.assert_array_equal(
        np.vstack(joined(cut.values.partitions)), TABLE[["age", "height"]][3:10]
    )
    assert [p.party for p in df[:4].parties] == ["alice"]
    for act, match in [
        (lambda: df[::2], "no step"),
        (lambda: df[12:], "without rows"),
        (lambda: df[3], "or a slice of rows"),
        (lambda: df.drop("zoe"), "unknown columns"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
    sums = sf.reveal(df.moments())
    np.testing.assert_allclose(sums["sum"], TABLE[["age", "height"]].sum(), rtol=1e-6)
    ends = sf.reveal(df.extremes())
    np.testing.assert_allclose(ends["max"], TABLE[["age", "height"]].max(), rtol=1e-6)
    for scaler in (sd.StandardScaler(), sd.MinMaxScaler()):
        got = np.vstack(joined(scaler.fit_transform(df).values.partitions))
        want = TABLE[["age", "height"]]
        if isinstance(scaler, sd.StandardScaler):
            want = (want - want.mean()) / want.std(ddof=0)
        else:
            want = (want - want.min()) / (want.max() - want.min())
        np.testing.assert_allclose(got, want, atol=1e-3)
    with pytest.raises(UsageError, match="need an aggregator"):
        sd.StandardScaler().fit(horizontal(pyus))


def test_mixed_tables(pyus, spu_of_three):
    alice, bob, carol = pyus
    dave = sf.PYU("dave")
    left, right = TABLE[["age"]], TABLE[["height", "income"]]
    mixed = sd.MixDataFrame(
        [
            sd.VDataFrame({alice: put(alice, left[:7]), bob: put(bob, right[:7])}),
            sd.VDataFrame({carol: put(carol, left[7:]), dave: put(dave, right[7:])}),
        ]
    )
    scaler = sd.StandardScaler(sf.aggregation.SPUAggregator(spu_of_three))
    seen = reported(lambda: scaler.fit(mixed))
    assert {(to, origins) for _, to, origins in seen} >= {
        ("alice", ("alice", "carol")),
        ("dave", ("bob", "dave")),
    }
    got = np.vstack(
        [np.hstack(joined(b.values.partitions)) for b in scaler.transform(mixed).blocks]
    )
    want = TABLE[["age", "height", "income"]]
    np.testing.assert_allclose(got, (want - want.mean()) / want.std(ddof=0), atol=0.02)
    assert (mixed.shape, len(mixed)) == ((12, 3), 12)
    assert mixed.columns == ["age", "height", "income"]
    assert mixed.dtypes == {"age": "int64", "height": "float64", "income": "float64"}
    assert [p.party for p in mixed.parties] == ["alice", "bob", "carol", "dave"]
    middle = mixed[5:9]
    got = np.vstack([np.hstack(joined(b.values.partitions)) for b in middle.blocks])
    np.testing.assert_array_equal(got, TABLE[["age", "height", "income"]][5:9])
    assert len(mixed[9:].blocks) == 1
    assert mixed.astype("float32").dtypes["age"] == "float32"
    with pytest.raises(UsageError, match="taken by a slice"):
        mixed[3]
    with pytest.raises(UsageError, match="another kind of table"):
        scaler.transform(mixed[9:])
    train, test = sd.train_test_split(mixed, 0.3)
    assert [b.shape[0] for b in train.blocks] == [5, 3]
    assert [b.shape[0] for b in test.blocks] == [2, 2]
    assert mixed.drop(["income"]).blocks[1].columns == ["age", "height"]
    with pytest.raises(UsageError, match="columns differ"):
        sd.MixDataFrame(
            [
                sd.VDataFrame({alice: put(alice, left[:7]), bob: put(bob, right[:7])}),
                sd.VDataFrame({carol: put(carol, right[7:]), dave: put(dave, left[7:])}),
            ]
        )
    with pytest.raises(UsageError, match="different numbers"):
        sd.MixDataFrame([mixed.blocks[0], mixed.blocks[1]["age"]])


def test_blocks_that_share_a_party(pyus, spu_of_three):
    """bob has the other columns of alice's and of carol's rows."""
    alice, bob, carol = pyus
    left, right = TABLE[["age"]].astype(float), TABLE[["height", "income"]]

    def blocks(second=right[7:]):
        return sd.MixDataFrame(
            [
                sd.VDataFrame({alice: put(alice, left[:7]), bob: put(bob, right[:7])}),
                sd.VDataFrame({carol: put(carol, left[7:]), bob: put(bob, second)}),
            ]
        )

    mixed = blocks()
    scaler = sd.StandardScaler(sf.aggregation.SPUAggregator(spu_of_three))
    seen = reported(lambda: scaler.fit(mixed))
    assert {to for _, to, _ in seen} == {"alice", "carol"}  # bob has all rows of his columns
    got = np.vstack(
        [np.hstack(joined(b.values.partitions)) for b in scaler.transform(mixed).blocks]
    )
    want = TABLE[["age", "height", "income"]]
    np.testing.assert_allclose(got, (want - want.mean()) / want.std(ddof=0), atol=1e-3)
    with pytest.raises(UsageError, match="differ between blocks"):
        blocks(right[7:][["income", "height"]])


@pytest.mark.parametrize(
    ("shift", "spread"), [(0.0, 2e-3), (5e5, 10.0), (0.0, 2e4)], ids=["tiny", "far", "wide"]
)
def test_statistics_over_all_rows_keep_their_digits(pyus, spu_of_three, shift, spread):
    """As columns of real tables are: the third of breast cancer's spread by 0.003, incomes far."""
    rng = np.random.default_rng(3)
    x = shift + spread * rng.normal(size=(300, 2))
    x[:, 1] = 7.25  # constant
    pieces = dict(zip(pyus, np.split(x, [90, 210]), strict=True))
    secure = sf.aggregation.SecureAggregator(sf.PYU("server"), list(pyus))
    for one in (secure, sf.aggregation.SPUAggregator(spu_of_three)):
        data = sd.FedNdarray({p: put(p, v) for p, v in pieces.items()}, "horizontal")
        got = np.vstack(joined(sd.StandardScaler(one).fit_transform(data).partitions))
        np.testing.assert_allclose(got[:, 0].std(), 1, atol=3e-3)
        np.testing.assert_allclose(got[:, 0].mean(), 0, atol=6e-3)
        np.testing.assert_allclose(got[:, 1], 0, atol=1e-4)
    local_one = sd.FedNdarray({pyus[0]: put(pyus[0], x + 1e9)})
    (got,) = joined(sd.StandardScaler().fit_transform(local_one).partitions)
    np.testing.assert_allclose(got[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), atol=1e-3)


@pytest.fixture(scope="module")
def spu_of_three(inprocess):
    return sf.SPU(["alice", "bob", "carol"])


def test_splits_keep_rows_together(pyus):
    df = vertical(pyus, key="id")
    for one in (df, df.values):
        train, test = sd.train_test_split(one, 0.25, random_state=3)
        a, b = (np.hstack(joined(getattr(x, "values", x).partitions)) for x in (train, test))
        assert a.shape == (9, 3)
        assert b.shape == (3, 3)
        rows = {tuple(r) for r in TABLE[["age", "height", "income"]].to_numpy()}
        assert {tuple(r) for r in np.vstack([a, b])} == rows
    train, test = sd.train_test_split(df, 0.25, shuffle=False)
    np.testing.assert_array_equal(joined(test.values.partitions)[0][:, 0], TABLE["age"][9:])
    train, test = sd.train_test_split(df, train_size=0.5, test_size=0.25)
    sizes = [x.partition_shape()[pyus[0]][0] for x in (train, test)]
    assert sizes == [6, 3]
    train, test = sd.train_test_split(df, train_size=0.75, random_state=None)
    assert len(train) == 9
    for bad in (0, 1.0, "x"):
        with pytest.raises(UsageError, match="fraction"):
            sd.train_test_split(df, bad)
    for bad in (1, 0.0, 1.5, "x"):
        with pytest.raises(UsageError, match="fraction"):
            sd.train_test_split(df, train_size=bad)
    with pytest.raises(UsageError, match="together at most 1"):
        sd.train_test_split(df, 0.6, 0.6)
    with pytest.raises(UsageError, match="no federated data"):
        sd.train_test_split(np.ones(3))
    with pytest.raises(UsageError, match="would be empty"):
        sf.wait(list(sd.train_test_split(df, 0.01)[1].partitions.values()))


def test_a_fresh_split_keeps_rows_together(pyus):
    df = vertical(pyus, key="id")
    splits = [sd.train_test_split(df, 0.5, random_state=None)[0] for _ in range(5)]
    tables = [np.hstack(joined(s.values.partitions)) for s in splits]
    rows = {tuple(r) for r in TABLE[["age", "height", "income"]].to_numpy()}
    assert {tuple(r) for t in tables for r in t} <= rows
    assert len({t.tobytes() for t in tables}) > 1


def test_other_columns_than_were_fitted(pyus):
    """A scaler knows the names: another order would scale by another column's numbers."""
    df = vertical(pyus, key="id")
    turned = vertical(pyus, bob=TABLE[["income", "height"]])
    renamed = vertical(pyus, bob=TABLE[["income", "height"]].set_axis(["height", "cost"], axis=1))
    fewer = vertical(pyus, bob=TABLE[["height"]])
    arrays = df.values
    for kind in (sd.StandardScaler, sd.MinMaxScaler):
        scaler = kind().fit(df)
        for bad, match in [(turned, "another order"), (renamed, "other names"), (fewer, "names")]:
            with pytest.raises(UsageError, match=match) as caught:
                sf.wait(list(scaler.transform(bad).partitions.values()))
            assert "income" not in str(caught.value)
        got = np.hstack(joined(scaler.transform(arrays).partitions))  # arrays have no names
        np.testing.assert_array_equal(got, np.hstack(joined(scaler.transform(df).partitions)))
        with pytest.raises(UsageError, match="other columns"):
            sf.wait(list(kind().fit(arrays).transform(fewer).partitions.values()))


def test_labels(pyus):
    alice, bob, _ = pyus
    y = sd.VDataFrame({bob: put(bob, TABLE[["label"]])})
    encoder = sd.LabelEncoder()
    got = encoder.fit_transform(y)
    np.testing.assert_array_equal(joined(got.partitions)[0]["label"], TABLE["label"] == "yes")
    assert encoder.reveal_classes() == ["no", "yes"]
    by_rows = sd.HDataFrame(
        {alice: put(alice, TABLE[["label"]][:5]), bob: put(bob, TABLE[["label"]][5:])}
    )
    with pytest.raises(UsageError, match="says them to everybody"):
        sd.LabelEncoder().fit(by_rows)
    known = sd.LabelEncoder(["no", "yes"]).fit_transform(by_rows)
    got = np.concatenate([x["label"] for x in joined(known.partitions)])
    np.testing.assert_array_equal(got, TABLE["label"] == "yes")
    with pytest.raises(UsageError, match="not among the classes"):
        sf.wait(list(sd.LabelEncoder(["no"]).transform(by_rows).partitions.values()))
    with pytest.raises(UsageError, match="fitted first"):
        sd.LabelEncoder().transform(y)
    with pytest.raises(UsageError, match="fitted first"):
        sd.StandardScaler().transform(y)


def test_arrays(pyus):
    alice, bob, _ = pyus
    x = np.arange(24.0).reshape(6, 4)
    v = sd.FedNdarray({alice: put(alice, x[:, :1]), bob: put(bob, x[:, 1:])})
    assert v.shape == (6, 4)
    assert set(v.dtypes.values()) == {"float64"}
    np.testing.assert_array_equal(np.hstack(joined(v[2:4].partitions)), x[2:4])
    np.testing.assert_array_equal(np.hstack(joined(v[[5, 0]].partitions)), x[[5, 0]])
    h = sd.FedNdarray({alice: put(alice, x[:2]), bob: put(bob, x[2:])}, "horizontal")
    assert h.shape == (6, 4)
    np.testing.assert_array_equal(np.vstack(joined(h[1:5].partitions)), x[1:5])
    np.testing.assert_array_equal(np.vstack(joined(h[:, [3, 1]].partitions)), x[:, [3, 1]])
    np.testing.assert_array_equal(np.vstack(joined(h.apply(np.sqrt).partitions)), np.sqrt(x))
    scaled = sd.MinMaxScaler().fit_transform(v)
    np.testing.assert_allclose(np.hstack(joined(scaled.partitions)), (x - x[0]) / 20)
    for act, match in [
        (lambda: v[:, 1], "no way to slice"),
        (lambda: h[[1, 2]], "no way to slice"),
        (lambda: h[6:], "without rows"),
        (lambda: sd.FedNdarray({alice: put(alice, x)}, "diagonal"), "way of splitting"),
        (lambda: sd.FedNdarray({alice: put(alice, x), bob: put(bob, x[1:])}), "do not go"),
        (
            lambda: sd.FedNdarray({alice: put(alice, x), bob: put(bob, x[:, 1:])}, "horizontal"),
            "do not go",
        ),
        (lambda: sd.FedNdarray({alice: put(bob, x)}), "own party"),
        (lambda: sd.FedNdarray({}), "dict of parties"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()


def test_bad_tables(pyus):
    alice, bob, _ = pyus
    shuffled = TABLE[["id", "height"]].iloc[::-1]
    twice = pd.DataFrame(np.ones((12, 2)), columns=["a", "a"])
    gaps = TABLE[["height"]].where(TABLE["age"] > 40)
    for act, match in [
        (lambda: vertical(pyus, key="id", bob=shuffled), "rows are not aligned"),
        (lambda: vertical(pyus, bob=TABLE[["height"]][:11]), "rows are not aligned"),
        (lambda: vertical(pyus, bob=TABLE[["age"]]), "a column name is at two parties"),
        (lambda: vertical(pyus, bob=twice), "duplicate columns"),
        (lambda: vertical(pyus, bob=TABLE[["height"]][:0]), "empty"),
        (lambda: vertical(pyus, bob=np.ones(12)), "pandas DataFrame"),
        (lambda: vertical(pyus, key="key"), "lacks the key column"),
        (
            lambda: vertical(pyus, key="id", bob=TABLE[["id", "height"]].assign(id="same")),
            "missing or repeated",
        ),
        (
            lambda: sd.HDataFrame(
                {
                    alice: put(alice, TABLE[["age", "height"]]),
                    bob: put(bob, TABLE[["height", "age"]]),
                }
            ),
            "columns differ",
        ),
        (lambda: sd.MixDataFrame([]), "VDataFrames"),
    ]:
        with pytest.raises(UsageError, match=match):
            act()
    with pytest.raises(UsageError, match="missing values"):
        sf.wait(list(vertical(pyus, bob=gaps).values.partitions.values()))
    filled = vertical(pyus, bob=gaps).fillna(0.0)
    np.testing.assert_array_equal(joined(filled.values.partitions)[1], gaps.fillna(0.0))
    with pytest.raises(UsageError, match="not numbers"):
        sf.wait(list(vertical(pyus, bob=TABLE[["label"]]).values.partitions.values()))


def test_digests_of_rows_tell_keys_apart():
    """Keys that hold line ends must not look like other keys."""
    salt = local.fresh_salt()
    one, other = pd.DataFrame({"k": ["a", "b\nc"]}), pd.DataFrame({"k": ["a\nb", "c"]})
    assert not np.array_equal(local.row_digest(one, "k", salt), local.row_digest(other, "k", salt))


def test_a_row_digest_hides_small_differences_only_by_its_key():
    """Without the parties' key the same column has another digest every time."""
    salt = [local.fresh_salt() for _ in range(2)]
    first, second = (local.row_digest(TABLE, "id", s) for s in salt)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, local.row_digest(TABLE.copy(), "id", salt[0]))
