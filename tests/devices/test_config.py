"""Config and SecretFlow's cluster definition: checked when they are said."""

import dataclasses
import re

import pytest

import spuvm as sf
from spuvm.devices.clusterdef import parse


def test_defaults():
    config = sf.Config()
    assert (config.ring, config.fxp.frac_bits, config.input_range) == (64, 18, None)
    assert sf.Config(ring=32).fxp.frac_bits == 8
    assert sf.Config(input_range=[-1, 2]).input_range == (-1.0, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.ring = 32


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"ring": 48}, "unknown ring width"),
        ({"ring": "64"}, "ring is a number of bits"),
        ({"ring": True}, "ring is a number of bits"),
        ({"frac_bits": 61}, "fraction bits"),
        ({"frac_bits": 18.0}, "frac_bits"),
        ({"input_range": (1, 0)}, "empty or infinite"),
        ({"input_range": (0, float("inf"))}, "empty or infinite"),
        ({"input_range": (0, float("nan"))}, "empty or infinite"),
        ({"input_range": (0, 1e14)}, "wider than what the encoding can hold"),
        ({"input_range": 8}, "pair of numbers"),
        ({"input_range": ("a", "b")}, "pair of numbers"),
        ({"on_overflow": True}, "unknown habit"),
        ({"on_overflow": "ignore"}, "unknown habit"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
    ],
)
def test_nonsense_is_refused(words, text):
    with pytest.raises(sf.errors.UsageError, match=text):
        sf.Config(**words)


NODES = [
    {"party": "alice", "address": "127.0.0.1:9001"},
    {"party": "bob", "address": "127.0.0.1:9002", "listen_addr": "0.0.0.0:9002"},
    {"party": "carol", "address": "127.0.0.1:9003"},
]


class Enum:
    """Like a protobuf or Python enum value."""

    def __init__(self, name):
        self.name = name


def test_cluster_definition():
    runtime = {"protocol": Enum("ABY3"), "field": "FM32", "fxp_fraction_bits": 10}
    parties, addresses, config = parse({"nodes": NODES, "runtime_config": runtime}, None)
    assert parties == ("alice", "bob", "carol")
    assert addresses == (("127.0.0.1", 9001), ("0.0.0.0", 9002), ("127.0.0.1", 9003))
    assert config == sf.Config(ring=32, frac_bits=10)
    runtime = {"protocol": 3, "field": 2}
    assert parse({"nodes": NODES, "runtime_config": runtime}, None)[2] == sf.Config()
    assert parse({"nodes": [{"party": "a"}]}, sf.Config(ring=32))[1:] == (None, sf.Config(ring=32))


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({}, "lists its nodes"),
        ({"nodes": 3}, "lists its nodes"),
        ({"nodes": [{"name": "alice"}]}, "lists its nodes"),
        ({"nodes": [{"party": "alice", "address": "9001"}]}, "not an address"),
        ({"nodes": NODES, "runtime_config": {"protocol": "SEMI2K"}}, "unknown protocol"),
        ({"nodes": NODES, "runtime_config": {"field": "FM16"}}, "unknown field"),
        ({"nodes": NODES, "runtime_config": {"trunc": 1}}, "unknown entries"),
    ],
)
def test_bad_cluster_definitions(definition, text):
    with pytest.raises(sf.errors.UsageError, match=re.escape(text)):
        parse(definition, None)


def test_two_configurations():
    with pytest.raises(sf.errors.UsageError, match="given twice"):
        parse({"nodes": NODES, "runtime_config": {}}, sf.Config())
