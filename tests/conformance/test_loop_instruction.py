"""The loop instruction: meaning, cost, shared rounds, and masks that never repeat."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from parties import Trio
from variant import builder

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Program
from spuvm.bytecode.text import parse
from spuvm.bytecode.types import Type
from spuvm.bytecode.verify import verify
from spuvm.errors import ProtocolError, VerifyError
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.plain import run_plain
from spuvm.ring import Ring
from spuvm.vm.cost import static_cost
from spuvm.vm.schedule import schedule

N = 5
A = Type("a", (N,))
B = Type("b", (N,), 0, 1)


def loop(
    b: Builder,
    trip: int,
    args: list[int],
    captures: int,
    carries: int,
    fill: Callable[..., list[int]],
    order: str = "forward",
) -> tuple[int, ...]:
    """Append a loop whose body is `fill(body builder, index, *inputs) -> outputs`."""
    body = Builder(b.ring, b.fxp)
    index = body.input(Type("p", (), 0, 0, 0, trip - 1), "")
    inputs = []
    for i, arg in enumerate(args):
        t = b.type(arg)
        if i >= captures + carries:
            t = t.with_(shape=t.shape[1:])
        if captures <= i < captures + carries:
            t = t.with_(lo=None, hi=None)
        inputs.append(body.input(t, ""))
    for out in fill(body, index, *inputs):
        body.output(out, "bool" if body.type(out).width == 1 else "int64", "")
    return b.loop(args, body.build(), "loops.py:1", trip=trip, captures=captures, carries=carries,
                  order=order)  # fmt: skip


def everything(bits: int, order: str, inner_trip: int = 2) -> Program:
    """Carries of both kinds, captures, rows in and out, a loop in the loop, work beside it."""
    b = builder(Ring(bits))
    x, y, bit, xs = (b.input(t, "o") for t in (A, A, B, Type("a", (4, N))))

    def innermost(c: Builder, i: int, fixed: int, carry: int) -> list[int]:
        return [c.emit("add_aa", c.emit("mul_aa", carry, fixed, trunc=0, form="narrow"), fixed)]

    def body(c: Builder, i: int, fixed: int, carry: int, flag: int, row: int) -> list[int]:
        (deep,) = loop(c, inner_trip, [fixed, row], 1, 1, innermost)
        made = c.emit("add_aa", c.emit("mul_aa", carry, deep, trunc=0, form="narrow"), row)
        made = c.emit("add_ap", made, c.emit("mul_pp", i, i))
        sign = c.emit("msb_a", row, bits=bits)
        flag = c.emit("and_bb", c.emit("xor_bb", flag, sign), c.emit("not_b", flag))
        return [made, flag, deep, sign]

    results = loop(b, 4, [x, y, bit, xs], 1, 2, body, order)
    beside = b.emit("msb_a", b.emit("mul_aa", x, y, trunc=0, form="narrow"), bits=bits)
    for i, value in enumerate((*results, beside)):
        b.output(value, "bool" if b.type(value).width == 1 else "int64", str(i))
    return verify(b.build())


def operands(bits: int) -> list[np.ndarray]:
    rng, ring = np.random.default_rng(0), Ring(bits)
    numbers = [ring.array(rng.integers(-1000, 1000, s)) for s in ((N,), (N,), (4, N))]
    return [*numbers[:2], rng.integers(0, 2, N).astype(np.uint8), numbers[2]]


def by_hand(bits: int, order: str) -> list[np.ndarray]:
    """The same with Python's integers."""
    x, y, bit, xs = (v.astype(object) for v in operands(bits))
    half, full = 1 << (bits - 1), 1 << bits
    rows: dict[int, Any] = {}
    for i in range(4) if order == "forward" else range(3, -1, -1):
        deep = xs[i]
        for _ in range(2):
            deep = (deep * x + x) % full
        y = (y * deep + xs[i] + i * i) % full
        sign = (xs[i] >= half).astype(np.uint8)
        bit = (bit ^ sign) & (1 - bit)
        rows[i] = (deep, sign)
    return [y, bit, *(np.stack([rows[i][j] for i in range(4)]) for j in range(2))]


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("bits", [32, 64])
def test_meaning_and_cost(trio: Any, bits: int, order: str) -> None:
    """Three machines, the plain protocol and Python agree; the cost is the declared one."""
    program, values = everything(bits, order), operands(bits)
    measured, cost = trio(bits).run(program, values), static_cost(program)
    plain = run_plain(program, values)
    want = by_hand(bits, order)
    for got, same in zip(measured.outputs, plain, strict=True):
        assert np.array_equal(got.astype(object), same.astype(object))
    for got, same in zip(plain, want, strict=False):
        assert np.array_equal(got.astype(object), same.astype(object))
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert tuple(s.bytes_sent for s in measured.stats) == cost.bytes_sent
    for stats in measured.stats:
        assert sum(count for _, count, _ in stats.rows) == stats.bytes_sent
    again = parse(str(program))
    assert (str(again), again.digest) == (str(program), program.digest)


@pytest.mark.parametrize("width", [1, 9, 32])
def test_a_party_that_may_begin_early_changes_no_count(trio: Any, width: int) -> None:
    """b2a ends with a message that P0 has no part in, and eqz_a begins with one of P0."""
    b = builder(Ring(64))
    bit, x = b.input(B, "o"), b.input(A, "o")

    def body(c: Builder, i: int, flag: int, total: int) -> list[int]:
        number = c.emit("b2a", flag)
        return [c.emit("eqz_a", number, bits=width), c.emit("add_aa", total, number)]

    for i, value in enumerate(loop(b, 3, [bit, x], 0, 2, body)):
        b.output(value, "bool" if i == 0 else "int64", str(i))
    program = verify(b.build())
    bits, numbers = np.array([0, 1, 1, 0, 1], np.uint8), Ring(64).array(np.arange(N))
    measured, cost = trio(64).run(program, [bits, numbers]), static_cost(program)
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    assert measured.chain == cost.rounds - 3
    assert (measured.outputs[0] == 1 - bits).all()
    assert (measured.outputs[1] == numbers + np.uint64(1) + bits).all()


def test_work_beside_a_loop_shares_its_rounds() -> None:
    program = everything(64, "forward")
    plan = schedule(program, ABY3)
    (body,) = plan.bodies.values()
    assert plan.rounds == 4 * body.rounds
    assert plan.starts[0] == (0, 1)
    assert sum(len(s) for s in plan.starts.values()) == len(program.instructions)


class _Recorded:
    """A stream that writes down which blocks it gave out."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.places: list[tuple[int, int]] = []

    def fill(self, out: memoryview, place: int) -> None:
        self.places.append((place, place + -(-len(out) // 16)))
        self.inner.fill(out, place)


def test_no_mask_repeats_over_iterations() -> None:
    """Every draw of a nested loop, of two runs and of openings has blocks of its own."""
    trio = Trio(Ring(64))
    streams = {}
    for m in trio.machines:
        for peer, stream in list(m._streams.items()):
            streams[m.rank, peer] = m._streams[peer] = _Recorded(stream)  # type: ignore[assignment]
    program, values = everything(64, "reverse", 3), operands(64)
    for _ in range(2):
        trio.run(program, values)
    trio.close()
    for places in (s.places for s in streams.values()):
        ordered = sorted(places)
        assert len(ordered) >= 2 * 4 * (3 + 2)
        assert all(a[1] <= b[0] for a, b in pairwise(ordered))
    for (rank, peer), stream in streams.items():
        assert stream.places == streams[peer, rank].places


def test_places_of_iterations_are_apart() -> None:
    """What a plan reserves: a loop as many places as its iterations take together."""
    plan = schedule(everything(64, "forward"), ABY3)
    ((number, body),) = plan.bodies.items()
    ((_, inner),) = body.bodies.items()
    assert body.span == len(body.places) - 1 + 2 * inner.span
    assert plan.places[number + 1] - plan.places[number] == 4 * body.span
    assert plan.span == plan.places[-1] + 1


def test_too_many_steps_are_refused() -> None:
    b = builder(Ring(64))
    x = b.input(A, "o")

    def body(c: Builder, i: int, carry: int) -> list[int]:
        return list(loop(c, 1 << 30, [carry], 0, 1, lambda d, j, v: [d.emit("neg_a", v)]))

    (made,) = loop(b, 1 << 30, [x], 0, 1, body)
    b.output(made, "int64", "o")
    with pytest.raises(ProtocolError, match="more steps than a run has places"):
        schedule(verify(b.build()), ABY3)


def test_registers_of_an_iteration_are_freed(trio: Any, monkeypatch: Any) -> None:
    from spuvm.vm import frames

    most = 0
    finish = frames._finish

    def watched(frame: Any, instruction: Any, value: Any) -> None:
        nonlocal most
        finish(frame, instruction, value)
        most = max(most, len(frame.values))

    monkeypatch.setattr(frames, "_finish", watched)
    b = builder(Ring(64))

    def body(c: Builder, i: int, v: int) -> list[int]:
        for _ in range(20):
            v = c.emit("neg_a", v)
        return [v]

    (made,) = loop(b, 50, [b.input(A, "o")], 0, 1, body)
    b.output(made, "int64", "o")
    trio(64).run(b.build(), [Ring(64).array(np.arange(N))])
    assert most <= 3


HEAD = 'program ring=64 frac=18\ninput %0 : a[2] in [-8, 8] from "x"\n'
OPEN = '  input %0 : p[] in [0, 2] from ""\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%1 = loop %0 {trip=0, captures=0, carries=1, order=forward} : a[2]\n" + OPEN
         + '  input %1 : a[2] from ""\n  output %1 : int64 ""\nend', "trip must be at least 1"),
        ("%1 = loop %0 {trip=3, captures=0, carries=1, order=up} : a[2]\n" + OPEN
         + '  input %1 : a[2] from ""\n  output %1 : int64 ""\nend', "order: got 'up'"),
        ("%1 = loop %0 {trip=4, captures=0, carries=1, order=forward} : a[2]\n" + OPEN
         + '  input %1 : a[2] from ""\n  output %1 : int64 ""\nend', "p[] in [0, 3]"),
        ("%1 = loop %0 {trip=3, captures=0, carries=1, order=forward} : a[2] in [-4, 4]\n" + OPEN
         + '  input %1 : a[2] in [-4, 4] from ""\n  output %1 : int64 ""\nend', "operand 0"),
        ("%1 = loop %0 {trip=3, captures=0, carries=1, order=forward} : a[2] in [-16, 16]\n" + OPEN
         + '  input %1 : a[2] in [-8, 8] from ""\n  %2 = add_aa %1, %1 : a[2] in [-16, 16]\n'
         + '  output %2 : int64 ""\nend', "carry 0 is"),
        ("%1 = loop %0 {trip=3, captures=0, carries=0, order=forward} : a[3]\n" + OPEN
         + '  input %1 : a[] in [-8, 8] from ""\n  output %1 : int64 ""\nend', "leading axis"),
        ("%1 = loop %0 {trip=3, captures=0, carries=2, order=forward} : a[2]\n" + OPEN
         + '  input %1 : a[2] from ""\n  output %1 : int64 ""\nend', "1 of the body"),
        ("%1 = loop %0 {trip=3, captures=1, carries=0, order=forward} : a[3,2]\n" + OPEN
         + '  input %1 : a[2] from ""\n  %2 = neg_a %9 : a[2]\n  output %2 : int64 ""\nend',
         "instruction 0 (loop): instruction 0 (neg_a): value %9"),
        ("%1 = loop %0 {trip=3, captures=1, carries=0, order=forward} : a[3,2]\n" + OPEN,
         "stops inside of a loop"),
        ("%1 = loop %0 {trip=3, captures=1, carries=0, order=forward} : z[3,1,1,1]\n" + OPEN
         + '  input %1 : a[2] from ""\n  %2 = reshape %1 {shape=(1, 1, 2)} : a[1,1,2]\n'
         + '  %3 = reshape %1 {shape=(1, 2, 1)} : a[1,2,1]\n'
         + '  %4 = additive_dot_aa %2, %3 : z[1,1,1]\n  output %4 : int64 ""\nend',
         "additive shares do not leave a body"),
    ],
)  # fmt: skip
def test_ill_formed_loops(text: str, message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(parse(HEAD + text))
    assert message.replace("1 of the body", "the body has") in str(caught.value)
