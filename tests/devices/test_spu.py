"""SPU and its handles, on both backends."""

import gc
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spuvm as sf


def at(party, value):
    return sf.PYU(party)(lambda: value)()


def tree():
    return {"w": np.arange(6, dtype="float32").reshape(2, 3), "b": [np.float32(-1.5), None]}


def same(got, want, atol=2e-5):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert isinstance(a, np.ndarray)
        np.testing.assert_allclose(a, b, atol=atol)
        assert a.dtype == jnp.asarray(b).dtype


def test_there_and_back(spu):
    x = at("dave", tree())
    secret = x.to(spu)
    assert secret.device is spu
    assert secret.to(spu) is secret
    same(sf.reveal(secret), tree())
    for party in ("alice", "bob", "carol", "dave", "server"):
        opened = secret.to(sf.PYU(party))
        assert isinstance(opened, sf.PYUObject)
        assert opened.device == sf.PYU(party)
        same(sf.reveal(opened), tree())


DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "float16", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 5)])
def test_dtypes_and_shapes(spu, dtype, shape):
    value = np.asarray(np.random.default_rng(0).integers(0, 100, shape) % 7).astype(
        jnp.dtype(dtype)
    )
    secret = at("alice", value).to(spu)
    for got in sf.reveal([secret, secret.to(sf.PYU("bob"))]):
        assert got.dtype == value.dtype
        assert got.shape == shape
        np.testing.assert_array_equal(got, value)


def test_python_scalars_and_float64(spu):
    values = at("alice", {"f": 0.5, "i": 7, "b": True, "wide": np.array([1 / 3])})
    got = sf.reveal(values.to(spu))
    assert {k: str(v.dtype) for k, v in got.items()} == {
        "f": "float32", "i": "int32", "b": "bool", "wide": "float32",
    }  # fmt: skip
    assert got["f"] == 0.5
    assert got["i"] == 7
    assert got["b"]


def f(a, b, scale=1.0):
    return {"sum": a["w"] * scale + b, "less": a["w"] < b, "rest": (a["b"][0] * b,)}


def test_function_of_values_of_three_owners(spu):
    a, b = at("dave", tree()), at("alice", np.float32(2.0))
    out = spu(f)(a, b.to(spu), scale=at("bob", 3.0))
    assert isinstance(out, sf.SPUObject)
    same(sf.reveal(out), f(tree(), np.float32(2.0), np.float32(3.0)))
    again = spu(lambda d: d["sum"].sum(axis=0))(out)
    same(sf.reveal(again), np.float32([6 * 1 + 3 + 4 - 0, 19, 25]) * 0 + again_want())


def again_want():
    return f(tree(), np.float32(2.0), np.float32(3.0))["sum"].sum(axis=0)


def test_lists_of_handles(spu):
    values = [at(p, np.full(3, i, "float32")) for i, p in enumerate(("alice", "dave", "server"))]
    out = spu(lambda xs, d: sum(xs) + d["k"])(values, {"k": values[0].to(spu)})
    np.testing.assert_array_equal(sf.reveal(out), [3, 3, 3])


def test_num_returns(spu):
    x = at("alice", np.float32([1, 2]))
    a, b = spu(lambda v: (v + 1, {"two": v * 2, "three": v * 3}), num_returns=2)(x)
    same(sf.reveal([b, a]), [{"two": np.float32([2, 4]), "three": np.float32([3, 6])},
                             np.float32([2, 3])])  # fmt: skip
    c = spu(lambda p, q: p - q["two"])(a, b)
    same(sf.reveal(c.to(sf.PYU("bob"))), np.float32([0, -1]))
    with pytest.raises(sf.errors.UsageError, match="as many results as num_returns"):
        spu(lambda v: (v, v), num_returns=3)(x)


def test_static_arguments(spu):
    def power(x, n, *, sign="plus"):
        assert isinstance(n, int)
        return x * n if sign == "plus" else -x * n

    x = at("alice", np.float32([1, 2]))
    assert sf.reveal(spu(power, static_argnames=("n", "sign"))(x, 3)).tolist() == [3, 6]
    assert sf.reveal(spu(power, static_argnums=1, static_argnames="sign")(x, 3, sign="m"))[1] == -6
    assert sf.reveal(spu(power, static_argnums=(1,))(x, n=2)).tolist() == [2, 4]
    with pytest.raises(sf.errors.UsageError, match="names no argument"):
        spu(power, static_argnames="m")
    with pytest.raises(sf.errors.UsageError, match="hashable"):
        spu(power, static_argnames="n")(x, n=[3])
    for words in ({"static_argnames": 3}, {"static_argnums": "n"}, {"static_argnums": 1.0}):
        with pytest.raises(sf.errors.UsageError, match="unusable static_arg"):
            spu(power, **words)
    for index in (3, -4):
        with pytest.raises(sf.errors.UsageError, match="names no argument"):
            spu(power, static_argnums=index)


def test_equal_is_not_the_same(spu):
    """1, 1.0 and True are equal in Python, and 0.0 and -0.0: programs made of them differ."""
    x = at("alice", np.int32([1, 2]))
    times = spu(lambda v, n: v * n, static_argnames="n")
    found = [sf.reveal(times(x, n)).dtype.name for n in (1, 1.0, True)]
    assert found == ["int32", "float32", "int32"]
    pairs = spu(lambda v, n: v * n[0][0], static_argnames="n")
    assert [sf.reveal(pairs(x, ((n,),))).dtype.name for n in (1, 1.0)] == ["int32", "float32"]
    y = at("alice", np.float32([1, 2]))
    signed = spu(jnp.copysign)
    assert [sf.reveal(signed(y, zero)).tolist() for zero in (0.0, -0.0)] == [[1, 2], [-1, -2]]
    named = spu(lambda v, zero: jnp.copysign(v, zero), static_argnames="zero")
    assert [sf.reveal(named(y, zero))[0] for zero in (0.0, -0.0)] == [1, -1]


def test_host_values_are_public_constants(spu):
    x = at("alice", np.float32([1, 2]))
    fn = spu(lambda v, w, k: v * w + k)
    for weights in (np.float32([2, 4]), jnp.array([2.0, 4.0]), np.array([2.0, 4.0])):
        assert sf.reveal(fn(x, weights, 1)).tolist() == [3, 9]
    listed = fn.disclosures(x, np.float32([2, 4]), 1)
    assert [d.what for d in listed if not d.what.startswith("output")] == [
        "public argument args[1]",
        "public argument args[2]",
    ]
    assert sf.reveal(fn(x, np.float32([0, 1]), 1)).tolist() == [1, 3]  # not the old constant


def test_public_keys_of_jax_random(spu):
    """New-style keys too, one or many: JAX's own values."""
    x = at("alice", np.zeros(2, "float32"))
    draw = spu(lambda v, key: v + jax.random.normal(key, (2,)))
    for key in (jax.random.key(3), jax.random.key(4), jax.random.key(3, impl="rbg")):
        np.testing.assert_allclose(sf.reveal(draw(x, key)), jax.random.normal(key, (2,)), atol=1e-4)
    keys = jax.random.split(jax.random.key(5))
    each = jax.vmap(lambda key: jax.random.normal(key, ()))
    np.testing.assert_allclose(
        sf.reveal(spu(lambda v, k: v + each(k))(x, keys)), each(keys), atol=1e-4
    )
    with pytest.raises(sf.errors.CompileError, match="returns what is no array") as caught:
        spu(lambda v, key: (v, key))(x, keys)
    assert caught.value.got == "a key of jax.random as out[1]"


def test_everything_public_is_listed_by_its_place_in_the_call(spu):
    fn = spu(lambda n, v, w, k: v * w * n + k, static_argnums=0, static_argnames="k")
    listed = fn.disclosures(2, at("alice", np.float32([1, 2])), 3.0, k=4)
    assert [(d.what, d.to) for d in listed if not d.what.startswith("output")] == [
        ("public argument args[2]", "everybody"),
        ("public argument args[0] (static)", "everybody"),
        ("public argument kwargs['k'] (static)", "everybody"),
    ]


def test_functions_without_secrets(spu):
    def init_weights():
        return [jnp.linspace(-1, 1, 5), jnp.arange(3), jnp.array([True, False])]

    weights = spu(init_weights)()
    same(sf.reveal(weights), init_weights())
    same(sf.reveal(weights.to(sf.PYU("bob"))), init_weights())
    same(sf.reveal(spu(lambda w: [w[0] * 2, w[1] + 1, ~w[2]])(weights)),
         [jnp.linspace(-2, 2, 5), jnp.arange(3) + 1, jnp.array([False, True])])  # fmt: skip


@pytest.fixture(scope="module")
def other(session):
    """An SPU of other parties."""
    return sf.SPU(["server", "alice", "dave"])


def test_between_spus(spu, other):
    value = {
        "f": np.float32([1.5, -2]),
        "i": np.int8([-3, 100]),
        "b": np.array([True, False, True]),
    }
    x = at("bob", value).to(spu)
    y = x.to(other)
    assert y.device is other
    same(sf.reveal([y, y.to(sf.PYU("dave"))]), [value, value])
    z = other(lambda a, b: a["f"] + b["f"])(y, x)  # the second one moves by itself
    same(sf.reveal(z.to(spu)), np.float32([3, -4]))


def test_cost_equals_what_a_run_takes(spu):
    x, y = at("dave", np.ones((4, 3), "float32")), at("alice", np.ones((3, 2), "float32"))
    fn = spu(lambda a, b: jnp.maximum(a @ b, 2.0))
    cost = fn.cost(x, y)
    sf.wait(fn(x, y))
    assert (spu.last_run.rounds, spu.last_run.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert cost.rounds > 0
    assert sum(row.what.startswith("share") for row in cost.rows) == 2
    shapes = jax.ShapeDtypeStruct((4, 3), "float32"), jax.ShapeDtypeStruct((3, 2), "float32")
    assert fn.cost(*shapes).bytes_sent == cost.bytes_sent
    assert fn.lower(x, y).digest == fn.lower(x.to(spu), y).digest
    assert "dot_aa" in str(fn.lower(x, y))


def test_disclosures_name_the_owners(spu):
    x, y = at("dave", np.ones(2, "float32")), at("alice", np.ones(2, "float32"))
    both = spu(lambda a, b: a + b)(x, y)
    (listed,) = spu(lambda c: c * 2).disclosures(both)
    assert listed.what.startswith("output")
    assert listed.origins == ("alice", "dave")
    assert listed.shape == (2,)


def test_compiled_once(spu):
    traced = []

    def counted(x, k):
        traced.append(k)
        return x * k

    fn, x = spu(counted), at("alice", np.ones(2, "float32"))
    sf.wait([fn(x, 2.0), fn(x.to(spu), 2.0), spu(counted)(x, 2.0)])
    assert len(traced) == 1
    sf.wait(fn(x, 3.0))
    sf.wait(fn(at("alice", np.ones(3, "float32")), 3.0))
    sf.wait(fn(at("bob", np.ones(3, "float32")), 3.0))
    assert len(traced) == 4  # another constant, another shape, another owner


def test_handles_are_freed_at_the_machines(other):
    spu = other
    wait_for(lambda: not any(spu.machines.names()))  # what tests before this one dropped
    x = at("alice", np.ones(2, "float32"))
    keep, drop = x.to(spu), x.to(spu)
    a, b = spu(lambda v: (v, v * 2), num_returns=2)(drop)
    sf.wait([keep, drop, a, b])
    held = spu.machines.names()
    assert [len(names) for names in held] == [3, 3, 3]
    assert held[0] == held[1] == held[2]
    del drop, a
    wait_for(lambda: len(spu.machines.names()[0]) == 2)  # b is from the same run as a
    del b
    wait_for(lambda: len(spu.machines.names()[2]) == 1)
    assert sf.reveal(keep).tolist() == [1, 1]


def wait_for(condition):
    until = time.monotonic() + 10
    gc.collect()
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_repr_shows_structure_and_no_data(spu):
    x = at("alice", {"w": np.full((2, 3), 41.5, "float32")})
    secret = x.to(spu)
    assert "?" in repr(secret)
    sf.wait(spu(lambda v: v["w"])(secret))
    assert "f32[2,3]" in repr(secret)
    assert "f32[2,3]" in repr(x)  # learned on the way
    assert "41.5" not in repr(secret) + repr(x)
    assert "alice, bob, carol" in repr(spu)


REFUSED = [bool, float, np.asarray, jnp.asarray, list, len, lambda x: x + 1, lambda x: x == x]


@pytest.mark.parametrize("use", REFUSED)
def test_handles_are_not_values(spu, use):
    secret = at("alice", np.float32(41.5)).to(spu)
    with pytest.raises(sf.errors.UsageError, match="a handle is not its value"):
        use(secret)
    with pytest.raises(sf.errors.UsageError, match="lives elsewhere"):
        sf.PYU("alice")(lambda v: v)(secret)


def test_secretflows_cluster_definition(spu):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    nodes = [
        {"party": party, "address": f"127.0.0.1:{port}"}
        for party, port in zip(("bob", "dave", "carol"), ports, strict=True)
    ]
    runtime = {"protocol": "ABY3", "field": "FM64", "fxp_fraction_bits": 16}
    narrow = sf.SPU({"nodes": nodes, "runtime_config": runtime})
    assert narrow.parties == ("bob", "dave", "carol")
    assert narrow.config == sf.Config(frac_bits=16)
    x = at("alice", np.float32(1))
    assert sf.reveal(narrow(lambda v: v + 1)(x)) == 2
    with pytest.raises(sf.errors.UsageError, match="different encodings"):
        x.to(spu).to(narrow)


def test_large_arrays(spu):
    """Through the object store, where arrays arrive read-only."""
    values = [at(p, np.full(300_000, i, "float32")) for i, p in enumerate(("alice", "dave"))]
    a, b = (v.to(spu) for v in values)
    out = spu(lambda x, y: (x * y + x - 0.5, x > y))(a, b)
    total, more = sf.reveal(out.to(sf.PYU("bob")))
    np.testing.assert_allclose(total, -0.5, atol=1e-5)
    assert not more.any()
