"""What each machine receives in a composed program, run twice as in a loop, and in openings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from parties import RANKS, Trio, arrays_of, at_all
from uniformity import View, findings, sign_columns
from variant import builder

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.protocol.aby3.prss import Masks
from spuvm.ring import Ring
from spuvm.vm import frames

N = 2048
SECRETS = ((0, (0, 1000)), (0, (-1000, 7)), (0, (5, -1)), (1, (0, 1)))


def program(ring: Ring) -> Program:
    """Products with a common factor, a comparison of them, a selection, all depending on it."""
    b = builder(ring)
    x, y, w = (b.input(Type("a", (N,), 0, 0, -1000, 1000), "o") for _ in range(3))
    bit = b.input(Type("b", (N,), 0, 1), "o")
    first = b.emit("mul_aa", x, y, trunc=0, form="narrow")
    second = b.emit("mul_aa", x, w, trunc=0, form="narrow")
    third = b.emit("mul_aa", first, b.emit("trunc_a", second, bits=5), trunc=4, form="full")
    sign = b.emit("and_bb", b.emit("msb_a", b.emit("sub_aa", first, second), bits=24), bit)
    b.output(b.emit("mul_ba", sign, b.emit("retype_a", third, frac=0, range=())), "int64", "o")
    return b.build()


def watch(trio: Trio) -> Iterator[str]:
    """What is wrong with the views of two runs of the program on the same shares."""
    ring = trio.ring
    rng = np.random.default_rng(0)
    choices = [rng.integers(0, 2, N) for _ in SECRETS]
    for i, ((width, values), choice) in enumerate(zip(SECRETS, choices, strict=True)):
        trio.put(f"v{i}", ring.array(np.array(values, object))[choice], width)
    names = [f"v{i}" for i in range(len(SECRETS))]
    made = program(ring)
    stats = [trio.execute(made, names, ["out"], "views").stats for _ in range(2)]
    for i in RANKS:
        shares = [a for name in names for a in arrays_of(trio.machines[i]._values[name])]
        received = [a for run in stats for a in run[i].views]
        view = View(received, [], shares, sign_columns(choices))
        yield from (f"party {i}: {w}" for w in findings(view, N))


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_views_are_uniform(trio, bits: int) -> None:
    assert list(watch(trio(bits))) == []


def test_masks_reused_between_instructions_are_seen(trio, monkeypatch) -> None:
    monkeypatch.setattr(frames, "Masks", lambda streams, run, *_: Masks(streams, run, 0))
    assert next(watch(trio(32)), "")


def test_masks_reused_in_a_loop_are_seen(trio, monkeypatch) -> None:
    monkeypatch.setattr(frames, "Masks", lambda streams, run, number, *_: Masks(streams, 0, number))
    assert next(watch(trio(32)), "")


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("width", [0, 1, 8])
def test_parts_for_an_outsider_say_nothing_but_the_sum(trio, bits: int, width: int) -> None:
    """Any two of the three parts are uniform and independent of the secret."""
    machines: Trio = trio(bits)
    ring = machines.ring
    choice = np.random.default_rng(0).integers(0, 2, N)
    values = ring.array(np.array([0, 1 if width else -1], object))[choice]
    machines.put("x", values, width)
    groups = sign_columns([choice])
    shares = [[*arrays_of(m._values["x"])] for m in machines.machines]
    opened = [at_all(_parts_to(machines, None)) for _ in range(2)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        view = View([parts[k] for parts in opened for k in (i, j)], groups=groups)
        assert list(findings(view, N)) == []
    for i in RANKS:  # another party that saw a part would not learn from it either
        view = View([opened[0][i]], shares=shares[(i + 1) % 3], groups=groups)
        assert list(findings(view, N)) == []
    assert [p is None for p in at_all(_parts_to(machines, 1))] == [True, False, False]


def _parts_to(trio: Trio, to: int | None) -> list:
    run_id = trio.next_run()
    return [lambda m=m: m.part(run_id, "x", to=to, bits=trio.ring.bits) for m in trio.machines]


def test_few_bits_are_opened_without_the_rest(trio) -> None:
    """Eight bits of a number: the parts are bytes, whatever is above them."""
    machines: Trio = trio(64)
    machines.put("x", machines.ring.array(np.array([1 << 40 | 0x7B, 0xFF], object)))
    run_id = machines.next_run()
    parts = at_all([lambda m=m: m.part(run_id, "x", to=None, bits=8) for m in machines.machines])
    assert all(p.dtype == np.uint8 for p in parts)
    assert (parts[0] + parts[1] + parts[2]).tolist() == [0x7B, 0xFF]
