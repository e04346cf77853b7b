"""One party's machine: names, run numbers, refusals that cost nothing, failures that stay."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from parties import RANKS, Trio, at_all
from variant import builder

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.errors import ChannelError, ProtocolError, SpuvmError, UsageError
from spuvm.protocol.aby3 import ABY3
from spuvm.protocol.aby3.io import deal
from spuvm.protocol.base import Exchange, OpCost
from spuvm.ring import Ring
from spuvm.vm import frames
from spuvm.vm.cost import open_cost, static_cost
from spuvm.vm.schedule import schedule

RING = Ring(64)


def squares(n: int = 3, source: str = "") -> Program:
    b = builder(RING)
    x = b.input(Type("a", (n,)), "o")
    b.output(b.emit("mul_aa", x, x, trunc=0, form="narrow", source=source), "int64", "o")
    return b.build()


VALUES = RING.array(np.array([1, -2, 3]))


@pytest.fixture
def machines() -> Trio:
    made = Trio(RING, timeout=5.0)
    made.put("x", VALUES)
    yield made
    made.close()


def test_values_live_under_names(machines: Trio) -> None:
    m = machines.machines[0]
    assert m.names == ["x"]
    assert m.describe("x") == ((3,), 0)
    machines.execute(squares(), ["x"], ["y"])
    assert sorted(m.names) == ["x", "y"]
    assert machines.open("y").tolist() == [1, 4, 9]
    assert machines.open("x").tolist() == VALUES.tolist()
    for each in machines.machines:
        each.free(["x", "nothing of that name"])
        assert each.names == ["y"]
    with pytest.raises(UsageError, match="no value named 'x'"):
        m.part(99, "x", to=None, bits=64)


def test_an_opening_to_a_party_is_sent_by_one(machines: Trio) -> None:
    for to in RANKS:
        run_id = machines.next_run()
        parts = at_all(
            [lambda m=m, r=run_id, t=to: m.part(r, "x", to=t, bits=64) for m in machines.machines]
        )
        assert [p is None for p in parts] == [i == (to + 2) % 3 for i in RANKS]
        cost = open_cost(Type("a", (3,)), RING, bits=64, to=to)
        sent = [0 if p is None or i == to else p.nbytes for i, p in enumerate(parts)]
        assert cost.bytes_sent == tuple(sent)
    for t, bits in (
        (Type("b", (9,), 0, 1), 1),
        (Type("b", (9,), 0, 12), 12),
        (Type("a", (9,)), 16),
    ):
        machines.put("v", np.zeros(9, np.uint8 if t.width else np.uint64), t.width)
        run_id = machines.next_run()
        parts = at_all(
            [
                lambda m=m, r=run_id, w=bits: m.part(r, "v", to=None, bits=w)
                for m in machines.machines
            ]
        )
        cost = open_cost(t, RING, bits=bits, to=None)
        assert cost.bytes_sent == tuple(p.nbytes for p in parts)


@pytest.mark.parametrize("bits", [1, 2, 7, 12, 63])
def test_parts_are_whole_words(machines: Trio, bits: int) -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        machines.machines[0].part(machines.next_run(), "x", to=None, bits=bits)


def test_run_numbers_count_upwards(machines: Trio) -> None:
    machines.run_id = 10
    machines.execute(squares(), ["x"], ["y"])
    m = machines.machines[0]
    for number in (11, 3, -1, 1 << 48):
        with pytest.raises(ProtocolError, match="count upwards"):
            m.run(number, squares(), ["x"], ["y"])
        with pytest.raises(ProtocolError, match="count upwards"):
            m.part(number, "x", to=None, bits=64)
    machines.execute(squares(), ["x"], ["y"])


def test_calls_that_make_no_sense_cost_nothing(machines: Trio) -> None:
    """Refused at the call, before anything is sent; the machine works on."""
    m = machines.machines[1]
    b = builder(Ring(32))
    b.output(b.input(Type("a", (3,)), "o"), "int32", "o")
    machines.put("bit", np.zeros(3, np.uint8), 1)
    machines.put("long", RING.array(np.zeros(4, int)))
    for program, inputs, outputs, message in (
        (b.build(), ["x"], ["y"], "another ring"),
        (squares(), [], ["y"], "other numbers"),
        (squares(), ["x"], ["y", "z"], "other numbers"),
        (squares(), ["w"], ["y"], "no value named"),
        (squares(), ["bit"], ["y"], "does not fit"),
        (squares(), ["long"], ["y"], "does not fit"),
    ):
        with pytest.raises(UsageError, match=message):
            m.run(machines.run_id + 1, program, inputs, outputs)
    with pytest.raises(UsageError, match="cannot record"):
        m.run(machines.run_id + 1, squares(), ["x"], ["y"], record="everything")
    for dealt, message in (
        (deal(VALUES, RING)[0], "came to party 1"),
        (deal(Ring(32).array([1]), Ring(32))[1], "another ring"),
    ):
        with pytest.raises(UsageError, match=message):
            m.put("z", dealt)
    machines.execute(squares(), ["x"], ["y"])
    assert machines.open("y").tolist() == [1, 4, 9]


def test_a_failure_in_one_party_reaches_all(machines: Trio) -> None:
    """An instruction raises at bob: all three stop, by name, without the value, for good."""
    secret = "4711"

    def bad(p, *args, **attrs):
        yield Exchange()
        raise ZeroDivisionError(secret)

    bob = machines.machines[1]
    bob._protocol = replace(ABY3, steps={**ABY3.steps, "mul_aa": bad})
    started = time.monotonic()
    errors = []

    def run(m):
        try:
            m.run(5, squares(source="model.py:7"), ["x"], ["y"])
        except SpuvmError as error:
            errors.append((m.rank, error))

    at_all([lambda m=m: run(m) for m in machines.machines])
    assert time.monotonic() - started < 4
    # Carol waits for alice only, whose message may have been sent before bob failed.
    assert {0, 1} <= {rank for rank, _ in errors}
    for rank, error in errors:
        assert "bob" in str(error)
        assert secret not in str(error)
        if rank == 1:
            assert isinstance(error, ProtocolError)
            assert "mul_aa" in error.message
            assert error.at == "model.py:7"
        else:
            assert isinstance(error, ChannelError)
    for m in machines.machines:
        for attempt in (
            lambda m=m: m.run(6, squares(), ["x"], ["y"]),
            lambda m=m: m.part(7, "x", to=None, bits=64),
        ):
            with pytest.raises(SpuvmError, match=r"failed before|bob"):
                attempt()


def test_a_party_that_does_not_come_is_noticed() -> None:
    trio = Trio(RING, timeout=0.3)
    trio.put("x", VALUES)
    with pytest.raises(ChannelError, match="carol"):
        at_all([lambda m=m: m.run(1, squares(), ["x"], ["y"]) for m in trio.machines[:2]])
    trio.close()


def test_wrong_costs_are_errors(machines: Trio) -> None:
    """An instruction that takes more rounds than it declares stops the run."""
    few = {**ABY3.costs, "msb_a": lambda ring, args, attrs: OpCost(2, (0, 0, 0))}
    for m in machines.machines:
        m._protocol = replace(ABY3, costs=few)
    b = builder(RING)
    b.output(b.emit("msb_a", b.input(Type("a", (3,)), "o"), bits=64), "bool", "o")
    # Whoever notices first tells the others.
    with pytest.raises(SpuvmError, match="more rounds than its declared cost"):
        machines.execute(b.build(), ["x"], ["y"])


def test_rows_add_up(machines: Trio) -> None:
    b = builder(RING)
    x = b.input(Type("a", (3,)), "o")
    y = b.emit("mul_aa", x, x, trunc=0, form="narrow", source="a.py:1")
    b.output(b.emit("msb_a", b.emit("neg_a", y), bits=64, source="a.py:2"), "bool", "o")
    program = b.build()
    measured = machines.execute(program, ["x"], ["y"])
    cost = static_cost(program)
    for rank, stats in enumerate(measured.stats):
        assert [(r.what, r.bytes_sent[rank], r.source) for r in cost.rows] == list(stats.rows)
        assert stats.rounds == cost.rounds
        assert stats.views is None
    assert machines.open("y").tolist() == [1, 1, 1]


def test_outputs_that_are_public_inputs_or_the_same(machines: Trio) -> None:
    b = builder(RING)
    x = b.input(Type("a", (3,)), "o")
    b.input(Type("a", (3,)), "unused")
    c = b.constant(RING.array([7, 8]))
    bits = b.constant(np.array([1, 0], np.uint8), width=1)
    word = b.constant(RING.array([0x123]), width=12)
    for i, v in enumerate((x, x, c, bits, word)):
        b.output(v, "bool" if v == bits else "int64", f"o{i}")
    names = [f"y{i}" for i in range(5)]
    measured = machines.execute(b.build(), ["x", "x"], names)
    assert measured.bytes_sent == (0, 0, 0)
    opened = [machines.open(name).tolist() for name in names]
    assert opened == [VALUES.tolist(), VALUES.tolist(), [7, 8], [1, 0], [0x123]]
    cost = open_cost(Type("p", (1,), 0, 12), RING, bits=12, to=None)
    run_id = machines.next_run()
    parts = at_all([lambda m=m: m.part(run_id, "y4", to=None, bits=12) for m in machines.machines])
    assert [p.nbytes for p in parts] == list(cost.bytes_sent)


def test_registers_are_freed(machines: Trio, monkeypatch) -> None:
    """A chain of many instructions keeps a constant number of values alive."""
    b = builder(RING)
    v = b.input(Type("a", (3,)), "o")
    for _ in range(50):
        v = b.emit("add_aa", b.emit("mul_aa", v, v, trunc=0, form="narrow"), v)
    b.output(v, "int64", "o")
    most = 0
    finish = frames._finish

    def watched(frame, instruction, value):
        nonlocal most
        finish(frame, instruction, value)
        most = max(most, len(frame.values))

    monkeypatch.setattr(frames, "_finish", watched)
    machines.execute(b.build(), ["x"], ["y"])
    assert most <= 3


def test_the_schedule_starts_instructions_as_early_as_possible() -> None:
    b = builder(RING)
    x = b.input(Type("a", (3,)), "o")
    slow = b.emit("msb_a", x, bits=64)
    y = b.emit("mul_aa", x, x, trunc=0, form="narrow")
    z = b.emit("mul_aa", y, y, trunc=0, form="narrow")
    b.output(b.emit("mul_ba", slow, z), "int64", "o")
    plan = schedule(b.build(), ABY3)
    assert plan.starts[0] == (0, 1)
    assert plan.starts[1] == (2,)
    assert plan.rounds == 9
    assert [r for r, s in plan.starts.items() if 3 in s] == [7]
    assert plan.uses == {0: 3, 1: 1, 2: 2, 3: 1, 4: 1}


def test_parties_with_different_programs_stop_before_anything_runs(machines: Trio) -> None:
    programs = []
    for op in ("neg_a", "neg_a", "retype_a"):
        b = builder(RING)
        x = b.input(Type("a", (3,)), "o")
        attrs = {"frac": 0, "range": ()} if op == "retype_a" else {}
        b.output(b.emit(op, x, **attrs), "int64", "o")
        programs.append(b.build())
    with pytest.raises(SpuvmError, match="another program than"):
        at_all([lambda m=m: m.prepare(programs[m.rank]) for m in machines.machines])
