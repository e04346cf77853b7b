"""ABY3-style replicated secret sharing among three parties, semi-honest, honest majority."""

from spuvm.protocol.aby3 import (
    additive,
    boolean,
    combine,
    compare,
    convert,
    local,
    lookup,
    product,
    scaled_dot,
    shuffle,
    sort,
    truncation,
)
from spuvm.protocol.aby3.table import TABLE
from spuvm.protocol.base import Protocol

__all__ = [
    "ABY3",
    "additive",
    "boolean",
    "combine",
    "compare",
    "convert",
    "local",
    "lookup",
    "product",
    "scaled_dot",
    "shuffle",
    "sort",
    "truncation",
]

ABY3 = Protocol("aby3", TABLE.local, TABLE.steps, TABLE.costs)
