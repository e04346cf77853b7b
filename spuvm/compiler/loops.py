"""Loops with a public number of iterations: the body is lowered once, as a program of its own.

What is public in the body never enters it as data of the loop: its values are known for all
iterations (compiler/varying.py). Secret carries need types that hold in every iteration. Their
bounds are guessed from the first value and from what the body makes of it, and kept if the body
proves them for itself; otherwise nothing is known of them. Integers are carried modulo the ring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.compiler import arith, facts, growth, moments, varying, watching
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.moment_facts import Squared
from spuvm.compiler.overflow import unproven
from spuvm.compiler.public import PublicPart, public_part
from spuvm.compiler.rules.missing import lost
from spuvm.compiler.rules.terms import doubt, through
from spuvm.compiler.values import Value, kind_of, lift
from spuvm.errors import CompileError

Bounds = tuple[int, int] | None


@dataclass(frozen=True)
class LoopSpec:
    """A loop as lax.scan has it: body(consts, carry, row) -> (carry, row), `length` times."""

    body: Any
    consts: Sequence[Value]
    carry: Sequence[Value]
    xs: Sequence[Value]
    length: int
    reverse: bool = False

    @property
    def operands(self) -> list[Value]:
        return [*self.consts, *self.carry, *self.xs]


@dataclass(frozen=True)
class _Body:
    """One attempt at a body: its program, the types its carries would need, which are means."""

    low: Lowering
    program: Program
    made: tuple[Type, ...]
    squares: tuple[Squared | None, ...]
    estimates: tuple[Bounds, ...]


def lower_loop(low: Lowering, spec: LoopSpec) -> list[Value]:
    """Final carries and stacked rows of a loop of at least one iteration."""
    part = public_part(low, spec)
    secret = [k for k in range(len(spec.carry)) if k not in part.carries]
    captured = [v for v in spec.consts if isinstance(v, Secret)]
    rows = [v for v in spec.xs if isinstance(v, Secret)]
    starts = [_start(low, spec.carry[k], np.dtype(spec.body.out_avals[k].dtype)) for k in secret]
    types = [low.type(v) for v in starts]

    def attempt(bounds: Sequence[Bounds], strict: str) -> _Body:
        wanted = [
            t if t.kind == "b" else t.with_(lo=b[0] if b else None, hi=b[1] if b else None)
            for t, b in zip(types, bounds, strict=True)
        ]
        return _lower_body(low, spec, part, secret, wanted, strict, marked, cut, limited)

    marked: set[int] = set()
    cut: set[int] = set()
    limited: frozenset[int] = frozenset()
    floats = [spec.body.out_avals[k].dtype.kind == "f" for k in secret]
    begun = starts, types

    def searched() -> _Body:
        """The body with bounds of its carries, in which means of squares have more digits."""
        nonlocal starts, types, marked
        body = _settle(low, spec, types, attempt)
        for search in (True, False):  # for their bounds, then with what these leave room for
            kept = zip(types, body.made, body.squares, strict=True)
            finer = [
                moments.carry_bits(low, t, m.bounds, search) if square else t.frac
                for t, m, square in kept
            ]
            if any(t.frac > low.f for t in types):
                finer = [
                    b if square or not floats[k] else moments.partner_bits(low, t, made.bounds)
                    for k, (b, t, made, square) in enumerate(
                        zip(finer, types, body.made, body.squares, strict=True)
                    )
                ]
            if all(b <= t.frac for b, t in zip(finer, types, strict=True)):
                continue
            before = starts, types, body, set(marked)
            for k, square in enumerate(body.squares):
                if square and finer[k] > types[k].frac:
                    low.unbounded.pop((id(spec.body), k), None)
                    marked.add(secret[k])
            starts = [arith.to_frac(low, v, b) for v, b in zip(starts, finer, strict=True)]
            types = [low.type(v) for v in starts]
            body = _settle(low, spec, types, attempt)
            if any(t.frac > low.f and t.bounds is None for t in body.made):
                starts, types, body, marked = before
        return body

    def below_roots(body: _Body) -> tuple[frozenset[int], list[str]]:
        """Squares that lost digits which a root would show, and what is said of these roots."""
        nonlocal cut
        found, lost = _below_roots(body, secret), set()
        for number, square in zip(secret, body.squares, strict=True):
            if square and number not in marked:
                lost.add(number)
        if not lost or low.f >= moments.ENOUGH:
            return found, []
        cut = lost  # lowered once more, as what comes from them is known to be cut
        body = attempt([t.bounds for t in body.made], "guess")
        return found | _below_roots(body, secret), [
            w for w in body.low.warnings if moments.CUT in w
        ]

    body = searched()
    found, said = below_roots(body)
    if found:  # what nothing is known of is limited there, and all is searched anew
        limited = found
        starts, types = begun
        for k, square in enumerate(body.squares):
            if square:
                low.unbounded.pop((id(spec.body), k), None)
        marked, cut = set(), set()
        body = searched()
        _, said = below_roots(body)
    body.low.warnings += [w for w in said if w not in body.low.warnings]
    _grow_together(low, spec, secret, types, attempt)
    _doubt_carries(low, spec, secret)
    operands = [*low.numbers, *(v.id for v in captured), *starts, *(v.id for v in rows)]
    doubt(body.low)
    low.warnings += [w for w in body.low.warnings if w not in low.warnings]
    low.notes += [n for n in body.low.notes if n not in low.notes]
    low.unproven += [replace(u, value=None) for u in unproven(body.low, body.program)]
    made = iter(
        low.builder.loop(
            operands, body.program, low.source,
            trip=spec.length, captures=len(low.numbers) + len(captured), carries=len(secret),
            order="reverse" if spec.reverse else "forward",
        )
    )  # fmt: skip
    carries: list[Value] = [
        Secret(next(made), np.dtype(a.dtype)) if k in secret else part.final[k]
        for k, a in enumerate(spec.body.out_avals[: len(spec.carry)])
    ]
    for k in marked:
        facts.mark(low, carries[k].id, Squared("parts"))
    for k, number in enumerate(secret):  # for a loop around this one
        size = low.unbounded.get((id(spec.body), k), 0.0)
        if size:
            low.estimates[carries[number].id] = size
    stacks = [
        row if row is not None else Secret(next(made), np.dtype(a.dtype))
        for row, a in zip(part.rows, spec.body.out_avals[len(spec.carry) :], strict=True)
    ]
    watching.take_rows(low, body.low, made, spec.length)
    return carries + stacks


def _below_roots(body: _Body, secret: Sequence[int]) -> frozenset[int]:
    """Of squares that lost digits, those which a root is taken of, by way of carries or not."""
    rooted = body.low.cut_squares.below_roots
    found = set(rooted)
    for k, square in zip(secret, body.squares, strict=True):
        if square and -1 - k in rooted:
            found |= square.origins
    return frozenset(number for number in found if number >= 0)


def _start(low: Lowering, value: Value, dtype: np.dtype[Any]) -> int:
    """A carry before the first iteration, in the form that it keeps."""
    return _carried(low, lift(low, value, dtype))


def _carried(low: Lowering, value: Secret) -> int:
    return arith.to_frac(low, value.id, low.f) if kind_of(value.dtype) == "float" else value.id


def _grow_together(
    low: Lowering,
    spec: LoopSpec,
    secret: Sequence[int],
    types: Sequence[Type],
    attempt: Callable[[Sequence[Bounds], str], _Body],
) -> None:
    """Note how large float carries become that have no bounds, with regard to each other.

    Of a single one the trials that found no bounds for it say so, but they are near each other and
    roundings add to what grew: an alarm is tried out.
    """
    key = id(spec.body)
    floats = [k for k, n in enumerate(secret) if spec.body.out_avals[n].dtype.kind == "f"]
    loose = [k for k in floats if (key, k) in low.unbounded]
    starts = [b for k in loose if (b := types[k].bounds)]
    alarm = any(low.unbounded[key, k] >= low.bound for k in loose)
    if len(starts) < len(loose) or (len(loose) == 1 and not alarm):
        return
    before = dict(low.unbounded), dict(low.lines_of)

    def image(bounds: Sequence[tuple[int, int]]) -> list[Bounds]:
        tried = [t.bounds for t in types]
        for k, b in zip(loose, bounds, strict=True):
            tried[k] = b
        try:
            made = attempt(tried, "guess").made
        except CompileError:
            return [None for _ in loose]
        found = [made[k].bounds for k in loose]
        return [b if _size(b) < low.full else None for b in found]

    sizes = growth.joint(starts, image, spec.length, low.bound, 1 << low.f)
    low.unbounded.update(before[0])
    low.lines_of.update(before[1])
    for k, size in zip(loose, sizes, strict=False):
        low.unbounded[key, k] = size


def _doubt_carries(low: Lowering, spec: LoopSpec, secret: Sequence[int]) -> None:
    """Warn of float carries that leave the representable range if they grow as they started."""
    for k, number in enumerate(secret):
        size = low.unbounded.get((id(spec.body), k), 0.0)
        if size >= low.bound and spec.body.out_avals[number].dtype.kind == "f":
            low.doubt(
                "a value carried by a loop may leave the representable range",
                f"values up to {size / 2.0**low.f:.3g} are possible after {spec.length} iterations "
                f"if carry {number} of the loop grows on as in the first ones",
                f"representable is |x| < {low.config.fxp.max_float:g}",
            )


# --- bounds of carries ------------------------------------------------------------------------


@dataclass
class _Guess:
    """The bounds of one carry that are tried, and what the body made of those tried before.

    First the bounds of the first value; then none, which shows what the body itself limits (a clip
    does); then that, or, where it limits nothing, what it made of the first value; then where a
    contraction would stop, as it does for a moving average; then none for good.
    """

    start: Bounds
    bounds: Bounds
    tried: list[tuple[Bounds, Bounds]]
    probing: bool = False

    def next(self, made: Bounds, bound: int) -> None:
        """Take another guess after `made` was not within the bounds, or after a probe."""
        self.tried.append((self.bounds, made))
        guess = self._guess()
        self.probing = len(self.tried) == 1
        self.bounds = guess if _size(guess) < bound else None

    def _guess(self) -> Bounds:
        first = self.tried[0][1]
        if len(self.tried) == 2:
            limited = self.tried[1][1]
            return _join(self.start, limited if limited else first)
        if len(self.tried) == 3 and self.tried[1][1] is None and self.tried[2][1]:
            (x0, y0), _, (x1, y1) = ((_size(x), _size(y)) for x, y in self.tried)
            slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 1.0
            if slope < 0.97 or (1 - slope) * (x1 - x0) > 8:  # what roundings leave of the slope
                size = int(2 * (y1 - slope * x1) / (1 - slope)) + 2
                return _join((-size, size), self.start)
        return None

    def line(self, full: int) -> tuple[float, float] | None:
        """(a, b) where an iteration made a * size + b of a size in the trials, if they show it.

        Sizes from `full` on are those of what nothing was declared of.
        """
        sizes = [(_size(x), _size(y)) for x, y in self.tried if x and y and _size(y) < full]
        if not sizes:
            return None
        (x0, y0), (x1, y1) = sizes[0], sizes[-1]
        slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 1.0
        return slope, y1 - slope * x1


def _grown(start: Bounds, line: tuple[float, float] | None, trip: int) -> float:
    """How large a carry becomes if it grows on along a line; 0 where none is known."""
    if start is None or line is None:
        return 0.0
    size = float(_size(start))
    for _ in range(min(trip, 1 << 16)):
        size = min(max(size, line[0] * size + line[1]), 1e300)
    return size


def _settle(
    low: Lowering,
    spec: LoopSpec,
    types: Sequence[Type],
    attempt: Callable[[Sequence[Bounds], str], _Body],
) -> _Body:
    """The body with the tightest bounds of its carries that were found to hold for themselves."""
    key = id(spec.body)
    guesses = [_Guess(t.bounds, t.bounds, []) for t in types]
    for k, guess in enumerate(guesses):
        if (key, k) in low.unbounded:
            guess.bounds = None
            low.unbounded[key, k] = _grown(types[k].bounds, low.lines_of.get((key, k)), spec.length)
    while True:
        bounds = [guess.bounds for guess in guesses]
        last = not any(bounds) and not any(guess.probing for guess in guesses)
        try:
            body = attempt(bounds, "final" if last else "guess")
        except CompileError:
            if last:
                raise
            guesses = [_Guess(None, None, []) for _ in types]
            continue
        settled = True
        for k, (guess, t) in enumerate(zip(guesses, body.made, strict=True)):
            if t.kind == "a" and (guess.probing or not _inside(t.bounds, guess.bounds)):
                guess.next(t.bounds or body.estimates[k], low.bound)
                settled = (
                    settled and not guess.probing and guess.bounds is None and bounds[k] is None
                )
                if guess.bounds is None and not guess.probing:
                    line = low.lines_of[key, k] = guess.line(low.full)
                    low.unbounded[key, k] = _grown(guess.start, line, spec.length)
        if settled:
            if low.config.on_overflow == "error" and not last:
                return attempt(bounds, "final")  # raises with the line of what is not proven
            return body


def _size(bounds: Bounds) -> int:
    return max(abs(bounds[0]), abs(bounds[1])) if bounds else 0


def _join(a: Bounds, b: Bounds) -> Bounds:
    """The hull of two intervals; None if one is unknown."""
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else None


def _inside(inner: Bounds, outer: Bounds) -> bool:
    if outer is None:
        return True
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


# --- the body ---------------------------------------------------------------------------------


def _lower_body(
    low: Lowering,
    spec: LoopSpec,
    part: PublicPart,
    secret: Sequence[int],
    wanted: Sequence[Type],
    strict: str,
    marked: set[int],
    cut: set[int],
    limited: frozenset[int],
) -> _Body:
    body = low.body(spec.length, on_overflow="warn" if strict == "guess" else None)

    def parameter(t: Type, dtype: np.dtype[Any], outside: int | None = None) -> Secret:
        made = body.input(t, "")
        if outside is not None and low.undeclared(outside, low.full):
            body.vague.add(made)
        return Secret(made, dtype)

    own = body.input(Type("p", (), 0, 0, 0, spec.length - 1), "")
    outer = [body.input(low.type(i), "") for i in low.numbers]
    body.numbers = [*outer, own]
    loops = len(body.numbers)
    consts: list[Value] = []
    for value in spec.consts:
        if isinstance(value, Secret):
            held = parameter(low.type(value.id), value.dtype, value.id)
            if value.id in low.public:
                body.public[held.id] = low.public[value.id]
            consts.append(held)
        else:
            consts.append(varying.inner(value, loops))
    given = dict(zip(secret, wanted, strict=True))
    avals = spec.body.in_avals
    carry: list[Value] = [
        parameter(given[k], np.dtype(avals[len(consts) + k].dtype))
        if k in given
        else part.carries[k]
        for k in range(len(spec.carry))
    ]
    body.cut_squares.limited = limited
    for k in marked | cut:
        form: Literal["parts", "cut"] = "parts" if k in marked else "cut"
        facts.mark(body, carry[k].id, Squared(form, origins=frozenset([-1 - k])))
    xs: list[Value] = []
    for j, value in enumerate(spec.xs):
        if isinstance(value, Secret):
            t = low.type(value.id)
            xs.append(parameter(t.with_(shape=t.shape[1:]), value.dtype, value.id))
        else:
            xs.append(part.xs[j])
    results = lower_closed(body, spec.body, [*consts, *carry, *xs])
    lost(body, results)
    through(low, body, zip(spec.consts, consts, strict=True))
    made: list[Type] = []
    squares: list[Squared | None] = []
    estimates: list[Bounds] = []
    for k in secret:
        dtype = np.dtype(spec.body.out_avals[k].dtype)
        raw = lift(body, results[k], dtype)
        value = raw.id
        if kind_of(dtype) == "float":
            value = arith.to_frac(body, value, given[k].frac)
        fact = facts.squared(body, value)
        squares.append(fact if fact and fact.form != "whole" else None)
        made.append(body.type(value))
        size = body.estimates.get(facts.root(body, value), 0.0)
        estimates.append((-int(size), int(size)) if 0 < size < low.bound else None)
        body.builder.output(value, str(dtype), "")
    for row, result, aval in zip(
        part.rows, results[len(carry) :], spec.body.out_avals[len(carry) :], strict=True
    ):
        if row is not None:
            continue
        dtype = np.dtype(aval.dtype)
        value = lift(body, result, dtype).id
        if kind_of(dtype) == "float":
            value = arith.settle(body, value)
        body.builder.output(value, str(dtype), "")
    watching.emit_rows(body)
    return _Body(body, body.builder.build(), tuple(made), tuple(squares), tuple(estimates))
