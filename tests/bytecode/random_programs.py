"""Hypothesis strategy: small well-typed programs over every local and interactive shape of op."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.fxp import DEFAULT_FRAC_BITS, Fxp
from spuvm.ring import Ring

NAMES = st.sampled_from(["alice", "bob", 'quo"te\\', "snö"])
SOURCES = st.sampled_from(["", "model.py:12", "a b.py:3 in f", "odd\\n.py\n:1", "x  # y"])


@st.composite
def programs(draw: Any) -> Program:
    """A program with a few inputs, constants and instructions, all of one shape."""
    ring = Ring(draw(st.sampled_from([32, 64, 128])))
    fxp = Fxp(ring, DEFAULT_FRAC_BITS[ring.bits])
    b = Builder(ring, fxp)
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    frac = fxp.frac_bits
    arithmetic, boolean = [], []
    for _ in range(draw(st.integers(1, 3))):
        bounds = draw(st.sampled_from([(None, None), (-8, 8), (0, 1 << frac)]))
        arithmetic.append(b.input(Type("a", shape, frac, 0, *bounds), draw(NAMES)))
    boolean.append(b.input(Type("b", shape, 0, 1), draw(NAMES)))
    for _ in range(draw(st.integers(0, 8))):
        x, y = draw(st.sampled_from(arithmetic)), draw(st.sampled_from(arithmetic))
        bit = draw(st.sampled_from(boolean))
        source = draw(SOURCES)
        match draw(st.integers(0, 9)):
            case 0:
                arithmetic.append(b.emit("add_aa", x, y, source=source))
            case 1:
                made = b.emit("mul_aa", x, y, trunc=frac, form="full", source=source)
                arithmetic.append(made)
            case 2:
                boolean.append(b.emit("msb_a", x, bits=ring.bits, source=source))
            case 3:
                arithmetic.append(b.emit("mul_ba", bit, x, source=source))
            case 4:
                values = draw(st.lists(st.integers(-9, 9), min_size=1, max_size=12))
                c = b.constant(ring.array(values), frac, source=source)
                first = b.emit("slice", c, start=(0,), limit=(1,), stride=(1,))
                p = b.emit("reshape", first, shape=())
                arithmetic.append(b.emit("add_ap", x, p, source=source))
            case 5:
                boolean.append(b.emit("and_bb", bit, draw(st.sampled_from(boolean))))
            case 6:
                order = tuple(draw(st.permutations(range(len(shape)))))
                t = b.emit("transpose", x, permutation=order)
                arithmetic.append(b.emit("reshape", t, shape=shape))
            case 7:
                c = tuple(draw(st.lists(st.integers(-5, 5), min_size=2, max_size=2)))
                arithmetic.append(b.emit("lincomb_a", x, y, coefficients=c, source=source))
            case 8:
                arithmetic.append(_loop(draw, b, x, y, source))
            case _:
                arithmetic.append(b.emit("retype_a", x, frac=frac, range=(-5, 5), source=source))
    b.output(arithmetic[-1], "float32", "out", draw(st.lists(NAMES, max_size=2)))
    b.output(boolean[-1], "bool", 'ou"t', ())
    return b.build()


def _loop(draw: Any, b: Builder, x: int, y: int, source: str, depth: int = 0) -> int:
    """x is captured, y carried; rows of both, stacked, are scanned."""
    trip, order = draw(st.integers(1, 3)), draw(st.sampled_from(["forward", "reverse"]))
    t = b.type(y).with_(lo=None, hi=None)
    rows = [b.emit("reshape", v, shape=(1, *t.shape)) for v in draw(st.permutations([x, y, x]))]
    xs = b.emit("concat", *rows[:trip], axis=0)
    body = Builder(b.ring, b.fxp)
    index = body.input(Type("p", (), 0, 0, 0, trip - 1), "")
    fixed, carry = body.input(b.type(x), ""), body.input(t, "")
    row = body.input(b.type(xs).with_(shape=t.shape), "")
    made = body.emit("add_aa", carry, row, source=source)
    number = body.emit("rem_p", body.emit("add_pp", index, index), modulus=2)
    made = body.emit("sub_aa", body.emit("mul_ap", made, number), fixed)
    if draw(st.booleans()):
        made = body.emit("mul_aa", made, row, trunc=0, form="narrow")
        made = body.emit("retype_a", made, frac=t.frac, range=())
    if depth == 0 and draw(st.booleans()):
        made = _loop(draw, body, made, row, source, 1)
    body.output(made, "float32", "")
    if draw(st.booleans()):
        body.output(body.emit("msb_a", row, bits=b.ring.bits), "bool", "")
    else:
        body.output(row, "float32", "")
    results = b.loop([x, y, xs], body.build(), source, trip=trip, captures=1, carries=1,
                     order=order)  # fmt: skip
    return results[0]


def same(p: Program, q: Program) -> bool:
    """Equality field by field (arrays have no useful ==)."""
    rest_equal = (p.ring, p.frac_bits, p.inputs, p.instructions, p.outputs) == (
        q.ring, q.frac_bits, q.inputs, q.instructions, q.outputs,
    )  # fmt: skip
    arrays = zip(p.constants, q.constants, strict=True)
    return rest_equal and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)
