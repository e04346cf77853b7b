"""A table of ill-formed programs and the message each one gets."""

import re

import numpy as np
import pytest

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.text import parse
from spuvm.bytecode.types import Type
from spuvm.bytecode.verify import verify
from spuvm.errors import VerifyError
from spuvm.fxp import Fxp
from spuvm.ring import Ring

HEAD = "program ring=64 frac=18\n"
X = HEAD + 'input %0 : a.f18[2] in [-8, 8] from "alice"\n'
XB = X + 'input %1 : b.w1[2] from "bob"\n'
BIG = HEAD + 'input %0 : a.f18[2] from "alice"\n'
C = X + "constant 0 : u64[2] = 1, 2\n"

ILL_FORMED = [
    ("defined twice", X + "%0 = neg_a %0 : a.f18[2]", "instruction 0 (neg_a): results must be"),
    ("id skipped", X + "%2 = neg_a %0 : a.f18[2]", "count up"),
    ("used before", X + "%1 = neg_a %1 : a.f18[2]", "value %1 is used before it is defined"),
    ("unknown op", X + "%1 = neg_x %0 : a.f18[2]", "unknown instruction 'neg_x'"),
    ("kind", XB + "%2 = neg_a %1 : a[2]", "operand 0 must be of kind a, got b"),
    ("count", X + "%1 = add_aa %0 : a.f18[2]", "takes 2 operands, got 1"),
    ("attrs", X + "%1 = neg_a %0 {bits=1} : a.f18[2]", "attributes [] expected, got ['bits']"),
    ("attr kind", X + "%1 = trunc_a %0 {bits=x} : a.f18[2]", "malformed attributes"),
    ("range", X + "%1 = neg_a %0 : a.f18[2]", "not the inferred one"),
    ("shape", X + "%1 = neg_a %0 : a.f18[3] in [-8, 8]", "not the inferred one"),
    ("frac", X + "%1 = neg_a %0 : a.f17[2] in [-8, 8]", "not the inferred one"),
    ("narrow", BIG + "%1 = mul_aa %0, %0 {trunc=18, form=narrow} : a.f18[2]", "narrow form needs"),
    ("form", X + "%1 = mul_aa %0, %0 {trunc=18, form=wide} : a.f18[2]", "narrow or full"),
    ("no const", X + "%1 = const {index=0} : p[2]", "constant 0 does not exist"),
    ("const type", C + "%1 = const {index=0} : p[2] in [1, 3]", "not the inferred one"),
    ("const width", C + "%1 = const {index=0} : p.w1[2]", "a constant of width 1 holds uint64"),
    ("const args", C + "%1 = const %0 {index=0} : p[2]", "takes 0 operands"),
    ("reshape", X + "%1 = reshape %0 {shape=(3,)} : a.f18[3] in [-8, 8]", "does not fit"),
    ("output", X + 'output %1 : float32 "out"', "output 0 (out): value %1 does not exist"),
    ("output bits", X + 'output %0 : bool "out"', "dtype bool does not go with a of width 0"),
    ("a width", HEAD + 'input %0 : a.w1[2] from "x"', "input 0: kind a cannot have width 1"),
    ("b width", HEAD + 'input %0 : b[2] from "x"', "input 0: kind b cannot have width 0"),
    ("bounds", HEAD + 'input %0 : a[2] in [2, 1] from "x"', "empty or outside the ring"),
]


@pytest.mark.parametrize(("text", "message"), [r[1:] for r in ILL_FORMED], ids=lambda r: r[:0])
def test_ill_formed(text: str, message: str) -> None:
    with pytest.raises(VerifyError, match=re.escape(message)):
        verify(parse(text))


def test_error_names_the_source_line() -> None:
    text = X + "%1 = neg_a %0 : a.f18[3] in [-8, 8]  # model.py:7"
    with pytest.raises(VerifyError) as caught:
        verify(parse(text))
    assert caught.value.at == "model.py:7"


def test_builder_refuses() -> None:
    b = Builder(Ring(64), Fxp(Ring(64), 18))
    x = b.input(Type("a", (2,), 18), "alice")
    with pytest.raises(VerifyError, match="mul_aa"):
        b.emit("mul_aa", x, x, trunc=18, form="narrow")
    with pytest.raises(VerifyError, match="holds uint64"):
        b.constant(np.arange(3, dtype=np.uint64), width=1)
    b.emit("neg_a", x)
    with pytest.raises(VerifyError, match="before the first"):
        b.input(Type("a", (2,), 18), "bob")
