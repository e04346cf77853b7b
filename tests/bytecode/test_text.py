"""The text form: exact round trip, one frozen example, digest, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from random_programs import programs, same

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.text import parse, to_text
from spuvm.bytecode.types import Type
from spuvm.bytecode.verify import verify
from spuvm.errors import VerifyError
from spuvm.fxp import Fxp
from spuvm.ring import Ring

RING = Ring(64)
FXP = Fxp(RING, 18)

GOLDEN = """\
program ring=64 frac=18
input %0 : a.f18[3,4] in [-1024, 1024] from "alice"
input %1 : b.w1[] from "bob"
constant 0 : u64[2] = 1, 18446744073709551615
constant 1 : u64[9] = base64 AAAAAAAAAAABAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAAEAAAAAAAAAAUAAAAAAAAABgAA\
AAAAAAAHAAAAAAAAAAgAAAAAAAAA
%2 = mul_aa %0, %0 {trunc=18, form=narrow} : a.f18[3,4] in [-4, 4]  # model.py:12
%3 = const {index=0} : p[2] in [-1, 1]
%4 = const {index=1} : p.f18[9] in [0, 8]
%5 = not_b %1 : b.w1[]
output %2 : float32 "out[0]" from "alice"
output %5 : bool "out[1]" from "alice", "bob"
"""


def test_golden() -> None:
    b = Builder(RING, FXP)
    x = b.input(Type("a", (3, 4), 18, 0, -1024, 1024), "alice")
    y = b.input(Type("b", (), 0, 1), "bob")
    z = b.emit("mul_aa", x, x, trunc=18, form="narrow", source="model.py:12")
    b.constant(RING.array([1, -1]))
    b.constant(np.arange(9, dtype=np.uint64), 18)
    n = b.emit("not_b", y)
    b.output(z, "float32", "out[0]", ["alice"])
    b.output(n, "bool", "out[1]", ["alice", "bob"])
    program = verify(b.build())
    assert str(program) == GOLDEN
    assert same(parse(GOLDEN), program)


@settings(max_examples=60, deadline=None)
@given(programs())
def test_round_trip(program) -> None:
    verify(program)
    again = parse(to_text(program))
    assert same(again, program)
    assert again.digest == program.digest
    verify(again)


def test_digest_ignores_sources_only() -> None:
    digests = []
    for source, op in (("a.py:1", "neg_a"), ("b.py:2", "neg_a"), ("a.py:1", "trunc_a")):
        b = Builder(RING, FXP)
        x = b.input(Type("a", (2,), 18), "alice")
        attrs = {"bits": 1} if op == "trunc_a" else {}
        b.output(b.emit(op, x, source=source, **attrs), "float32", "out")
        digests.append(b.build().digest)
    assert digests[0] == digests[1] != digests[2]


def test_equal_constants_are_one() -> None:
    b = Builder(RING, FXP)
    ids = [b.constant(RING.array([1, 2])), b.constant(np.array([1, 2], np.uint64))]
    other = b.constant(RING.array([1, 2]), frac=18)
    assert ids[0] == ids[1] != other
    assert len(b.build().constants) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no 'program' line"),
        ("program ring=64 frac=18\n%0 = neg_a 0 : a[]\n", "line 2 is not in the text form"),
        ("program ring=64 frac=18\nconstant 0 : u64[2] = 1\n", "line 2: malformed constant"),
        ("program ring=64 frac=18\nconstant 0 : u8[1] = 300\n", "line 2: malformed constant"),
        ("program ring=64 frac=18\nconstant 0 : u9[1] = 3\n", "line 2: malformed constant"),
        ("program ring=64 frac=18\nimport os\n", "line 2 is not in the text form"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        parse(text)
