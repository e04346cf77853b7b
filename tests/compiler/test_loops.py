"""Native loops: size, ranges of carries, public work, errors, bounded_while."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax_cases import Case
from loop_cases import LOOP_CASES
from reference import check, compile_case, configuration, decode_all, drawn, encode_all, run_case

import spuvm as sf
from spuvm.bytecode.program import Instruction, Program
from spuvm.bytecode.text import parse
from spuvm.bytecode.verify import verify
from spuvm.compiler import Compiled, SecretSpec, compile_function
from spuvm.errors import CompileError, UsageError
from spuvm.protocol.plain import run_plain
from spuvm.vm.cost import static_cost

CONFIG = configuration(64)
X = SecretSpec((3,), "float32", "alice")
UNIT = SecretSpec((3,), "float32", "alice", -1.0, 1.0)
ROWS = SecretSpec((4, 3), "float32", "bob", -1.0, 1.0)
N = SecretSpec((3,), "int32", "bob")


def build(fn: Any, *specs: Any, config: Any = CONFIG) -> Compiled:
    return compile_function(fn, specs, config=config)


def run(compiled: Compiled, *arrays: Any) -> list[np.ndarray]:
    encoded = encode_all(compiled, [np.asarray(a) for a in arrays], CONFIG)
    return decode_all(compiled, run_plain(compiled.program, encoded, None, "ranges"), CONFIG)


def loops(program: Program) -> list[Instruction]:
    return [i for i in program.instructions if i.op == "loop"]


def body_of(compiled: Compiled) -> Program:
    (loop,) = loops(compiled.program)
    assert loop.body is not None
    return loop.body


# --- against JAX ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOOP_CASES, ids=lambda c: c.id)
@settings(max_examples=2)  # JAX compiles the reference anew for each of them
@given(data=st.data())
def test_against_jax(case: Case, data: st.DataObject) -> None:
    d = data.draw(drawn(case))
    compiled, got, want = run_case(case, d, data.draw(st.integers(0, 2**16)))
    check(case, d, compiled, got, want)


@pytest.mark.parametrize("case", LOOP_CASES[1::3], ids=lambda c: c.id)
@settings(max_examples=1)
@given(data=st.data())
def test_well_formed_and_deterministic(case: Case, data: st.DataObject) -> None:
    d = data.draw(drawn(case))
    program = compile_case(case, d).program
    verify(program)
    again = parse(str(program))
    assert again == program
    assert again.digest == compile_case(case, d).program.digest


@pytest.mark.parametrize("case", LOOP_CASES[::4], ids=lambda c: c.id)
@settings(max_examples=1)
@given(data=st.data())
def test_three_machines(trio: Any, case: Case, data: st.DataObject) -> None:
    """The real protocol gives the same results at the declared cost."""
    d = data.draw(drawn(case))
    compiled, _, want = run_case(case, d)
    values = encode_all(compiled, d.arrays, d.config)
    measured = trio(d.config.ring.bits).run(compiled.program, values)
    cost = static_cost(compiled.program)
    assert (measured.rounds, measured.bytes_sent) == (cost.rounds, cost.bytes_sent)
    check(case, d, compiled, decode_all(compiled, measured.outputs, d.config), want)


# --- size -------------------------------------------------------------------------------------


def _training(steps: int) -> Any:
    """Everything that a training loop has: a counter, batches, a decaying rate, a gradient."""

    def loss(w: Any, rows: Any) -> Any:
        return jnp.mean(jnp.tanh(rows @ w) ** 2)

    def train(w: Any, x: Any) -> Any:
        def step(i: Any, w: Any) -> Any:
            rows = lax.dynamic_slice(x, (i % 2 * 2, 0), (2, 3))
            w = w - 0.125 * jax.grad(loss)(w, rows)
            return lax.cond(i % 2 == 0, lambda w: w, lambda w: w * 0.5, w) + i * 0.25

        return lax.fori_loop(0, steps, step, w)

    return train


def test_programs_do_not_grow_with_the_number_of_iterations() -> None:
    texts, seconds, counts = [], [], []
    build(_training(7), X, ROWS)  # warm
    for steps in (10, 1000, 100_000):
        started = time.process_time()
        program = build(_training(steps), X, ROWS).program
        seconds.append(time.process_time() - started)
        texts.append(str(program))
        counts.append(len(body_of(build(_training(steps), X, ROWS)).instructions))
    assert len(set(counts)) == 1
    lengths = [len(t) for t in texts]
    assert max(lengths) - min(lengths) < 300  # digits of the numbers alone
    assert seconds[2] < 20 * seconds[0] + 2.0


def test_nested_loops_multiply_in_rounds_not_in_size() -> None:
    def nested(n: int) -> Any:
        def outer(i: Any, v: Any) -> Any:
            return lax.fori_loop(0, n, lambda j, v: v * v * 0.5 + (i * n + j), v)

        return build(lambda x: lax.fori_loop(0, n, outer, x), X).program

    small, large = nested(3), nested(50)
    assert abs(len(str(large)) - len(str(small))) < 200
    per = static_cost(small).rounds / 9
    assert static_cost(large).rounds == 2500 * per


def test_one_iteration_needs_no_loop() -> None:
    made = build(lambda x: lax.fori_loop(4, 5, lambda i, v: v * i, x), X)
    assert not loops(made.program)
    none = build(lambda x: (lax.fori_loop(4, 4, lambda i, v: v * i, x), x + 1), X)
    assert not loops(none.program)


# --- types of carries -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "bounds"),
    [
        (lambda i, v: jnp.clip(v * 2.0, -4.0, 4.0), (-4.0, 4.0)),
        (lambda i, v: -v, (-1.0, 1.0)),
        (lambda i, v: v * 0.5 + 1.0, (-4.5, 4.5)),
        (lambda i, v: v + 1.0, None),
        (lambda i, v: sf.assume_range(v + 1.0, -3.0, 3.0), (-3.0, 3.0)),
        (lambda i, v: jnp.where(v > 0, v - 1.0, v), None),  # intervals know nothing of branches
    ],
)
def test_bounds_of_carries(fn: Any, bounds: Any) -> None:
    """Bounds that hold for themselves are found; nothing is promised where they do not."""
    made = body_of(build(lambda x: lax.fori_loop(0, 9, fn, x), UNIT))
    got = made.inputs[1].type.bounds
    if bounds is None:
        assert got is None
    else:
        assert got is not None
        lo, hi = (v / 2**18 for v in got)
        assert bounds[0] * 1.2 <= lo <= hi <= bounds[1] * 1.2


def test_clipped_carries_take_narrow_products() -> None:
    def program(limit: float | None) -> Program:
        def step(i: Any, v: Any) -> Any:
            return jnp.clip(v * v, -limit, limit) if limit else v * v

        return body_of(build(lambda x: lax.fori_loop(0, 9, step, x), X))

    def forms(p: Program) -> set[Any]:
        return {i.attrs["form"] for i in p.instructions if i.op == "mul_aa"}

    assert forms(program(None)) == {"full"}
    clipped = build(
        lambda x: lax.fori_loop(0, 9, lambda i, v: jnp.clip(v * v, -2, 2), jnp.clip(x, -2, 2)), X
    )
    assert forms(body_of(clipped)) == {"narrow"}


def test_carries_that_become_secret_start_as_secret() -> None:
    def two(x: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, c: (c[1] * 0.5, c[0] + x), (jnp.zeros(3), jnp.ones(3)))

    made = build(two, X)
    (loop,) = loops(made.program)
    assert [t.kind for t in loop.types] == ["a", "a"]
    x = np.array([1.0, -2.0, 0.25])
    for got, want in zip(run(made, x), two(jnp.asarray(x)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_overflow_inside_a_body_is_reported_once_with_its_line() -> None:
    def grow(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, v: v * 0.5 + (x * 6e6) ** 2, x)

    made = build(grow, UNIT)
    assert made.warnings
    assert all(w.startswith("test_loops.py:") for w in made.warnings)
    assert len(set(made.warnings)) == len(made.warnings)
    with pytest.raises(CompileError, match=r"test_loops\.py"):
        build(grow, UNIT, config=configuration(64, "error"))


def test_guesses_leave_no_warnings() -> None:
    """A range that was only tried says nothing about the program."""
    made = build(lambda x: lax.fori_loop(0, 40, lambda i, v: v * 2.0 + x, x), UNIT)
    assert made.warnings == ()


# --- public work ------------------------------------------------------------------------------


def test_public_results_cost_nothing() -> None:
    def both(x: Any) -> Any:
        return lax.scan(lambda c, r: ((c[0] + 2, c[1] + r), c[0]), (0, x[0]), x)

    made = build(both, ROWS)
    (loop,) = loops(made.program)
    assert len(loop.types) == 1
    count, total, numbers = run(made, np.ones((4, 3)) * 0.5)
    assert count == 8
    assert numbers.tolist() == [0, 2, 4, 6]
    np.testing.assert_allclose(total, 2.5 * np.ones(3), atol=1e-4)


def test_lines_inside_bodies() -> None:
    def step(i: Any, v: Any) -> Any:
        return v * v

    made = build(lambda x: lax.fori_loop(0, 4, step, x), X)
    (line,) = {i.source for i in body_of(made).instructions if i.op == "mul_aa"}
    assert line.startswith("test_loops.py:")
    assert "step" in line
    rows = {row.source for row in static_cost(made.program).rows}
    assert line in rows

    def wrong(i: Any, v: Any) -> Any:
        return jnp.nextafter(v, 0)

    with pytest.raises(CompileError, match="nextafter") as caught:
        build(lambda x: lax.fori_loop(0, 4, wrong, x), X)
    assert caught.value.at is not None
    assert "in test_lines_inside_bodies.<locals>.wrong" in caught.value.at


def test_tables_have_a_limit() -> None:
    def large(x: Any) -> Any:
        def step(i: Any, v: Any) -> Any:
            return v + jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (1000,)).sum()

        return lax.fori_loop(0, 1_000_000, step, x)

    with pytest.raises(CompileError, match="too many to keep") as caught:
        build(large, X)
    assert "test_loops.py" in str(caught.value.at)


# --- predicates -------------------------------------------------------------------------------


def test_a_secret_predicate_is_refused_with_what_to_write() -> None:
    with pytest.raises(CompileError, match="bounded_while") as caught:
        build(lambda x: lax.while_loop(lambda v: v.sum() < 9, lambda v: v * 2, x), X)
    assert "test_loops.py" in str(caught.value.at)

    def late(x: Any) -> Any:  # the counter is public only at first
        return lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + c[1].sum(), c[1]), (0.0, x))

    def chosen(x: Any) -> Any:  # by a secret, among public numbers
        def body(c: Any) -> Any:
            return lax.cond(c[1].sum() > 0, lambda: 1.0, lambda: 9.0), c[1]

        return lax.while_loop(lambda c: c[0] < 9, body, (0.0, x))

    for fn in (late, chosen):
        with pytest.raises(CompileError, match="predicate of a while loop depends on a secret"):
            build(fn, X)


def test_a_carry_that_a_secret_chooses_among_public_numbers() -> None:
    def fn(x: Any) -> Any:
        return lax.fori_loop(
            0, 3, lambda i, c: lax.cond(x.sum() > 0, lambda: c + 1, lambda: c - 1), 0
        )

    for sign in (1, -1):
        assert np.asarray(sf.simulate(fn)(np.full(3, sign, np.float32))) == 3 * sign


def test_an_endless_loop_is_refused(monkeypatch: Any) -> None:
    from spuvm.compiler import public

    monkeypatch.setattr(public, "MOST_STEPS", 1000)
    with pytest.raises(CompileError, match="did not end in 1000 steps"):
        build(lambda x: lax.while_loop(lambda c: c[0] > -1, lambda c: (c[0] * 1, c[1] + 1),
                                       (1, x)), X)  # fmt: skip


def _halvings(x: Any, steps: int = 6) -> Any:
    """How often, and to what, x is halved until all of it is below 1."""
    return sf.bounded_while(
        lambda c: (c[1] >= 1).any(), lambda c: (c[0] + 1, c[1] * 0.5), (0, x), steps
    )


@pytest.mark.parametrize("largest", [0.5, 1.0, 7.9, 1000.0])
def test_bounded_while(largest: float) -> None:
    made = build(_halvings, X)
    x = np.array([largest, 0.25, -3.0], np.float32)
    count, value = run(made, x)
    n, want = 0, x
    while (want >= 1).any() and n < 6:
        n, want = n + 1, want * 0.5
    assert count == n
    np.testing.assert_allclose(value, want, atol=1e-4 * max(1, largest))
    plain = jax.jit(_halvings)(x)
    assert plain[0] == n
    np.testing.assert_allclose(plain[1], want)
    assert static_cost(made.program).rounds == static_cost(build(_halvings, X).program).rounds


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "max", "rem"])
@pytest.mark.parametrize("first", ["secret", "public"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_public_column_beside_secret_rows(name: str, first: str, dtype: str) -> None:
    """Operators of lax repeat axes of size 1, also of what differs between iterations."""
    column = np.array([[1], [2], [3], [5]], dtype)
    rows = (np.arange(12).reshape(4, 3) + 1).astype(dtype)
    operator = getattr(lax, name)

    def total(x: Any) -> Any:
        def step(i: Any, v: Any) -> Any:
            p = jnp.asarray(column) * i.astype(dtype) ** 2
            return v + (operator(x, p) if first == "secret" else operator(p, x))

        return lax.fori_loop(1, 3, step, jnp.zeros_like(x))

    spec = SecretSpec((4, 3), dtype, "alice", 1, 12)
    (got,) = run(build(total, spec), rows)
    np.testing.assert_allclose(got, total(jnp.asarray(rows)), rtol=1e-4)


def test_bounded_while_under_transformations() -> None:
    def root(a: Any) -> Any:  # Newton's iteration until it moves by less than 1e-3
        def move(c: Any) -> Any:
            return (0.5 * (c[0] + a / c[0]), c[0])

        return sf.bounded_while(lambda c: abs(c[0] - c[1]) > 1e-3, move, (a, a + 1), 12)[0]

    a = jnp.asarray([0.5, 2.0, 9.0])
    np.testing.assert_allclose(jax.vmap(root)(a), np.sqrt(a), rtol=1e-3)
    np.testing.assert_allclose(jax.grad(root)(4.0), 0.25, rtol=1e-2)
    batch = SecretSpec((3,), "float32", "alice", 0.25, 16.0)
    (got,) = run(build(jax.vmap(root), batch), a)
    np.testing.assert_allclose(got, np.sqrt(a), atol=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sf.bounded_while(lambda v: v > 0, lambda v: v - 1, x, 3), "Boolean scalar"),
        (lambda x: sf.bounded_while(lambda v: v.sum(), lambda v: v - 1, x, 3), "Boolean scalar"),
        (lambda x: sf.bounded_while(lambda v: v.sum() > 0, lambda v: v, x, -1), "negative"),
        (lambda x: sf.bounded_while(lambda v: v.sum() > 0, lambda v: v, x, x[0]), "in advance"),
    ],
)
def test_bounded_while_refuses(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(jnp.ones(3))
    assert sf.bounded_while(lambda v: v.sum() > 0, lambda v: v - 1, 5.0, 0) == 5.0
