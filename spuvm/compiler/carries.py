"""What loops carry: types that hold in every iteration, found by lowering the body with guesses.

Bounds are guessed from the first value and from what the body makes of it, and kept if the body
proves them for itself; otherwise nothing is known of a carry. Means of squares, of which roots are
taken, carry more fraction bits where their bounds leave room for that (moments.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spuvm.bytecode.types import Type
from spuvm.compiler import arith, growth, moments
from spuvm.compiler.context import Lowering
from spuvm.compiler.guesses import Guess, grown, inside, size_of
from spuvm.compiler.loopbody import Body, Bounds, LoopSpec, lower_body
from spuvm.compiler.public import PublicPart
from spuvm.compiler.values import kind_of
from spuvm.errors import CompileError


@dataclass
class Carries:
    """The secret carries of one loop.

    numbers  which of the loop's carries they are.
    starts   their values before the first iteration.
    fine     of these (by number), means of squares that have more digits.
    cut      those that lose digits, while it is found out what that changes.
    limited  squares in the body of limited values, see moment_facts.CutSquares.
    """

    low: Lowering
    spec: LoopSpec
    part: PublicPart
    numbers: Sequence[int]
    starts: list[int]
    fine: set[int] = field(default_factory=set)
    cut: set[int] = field(default_factory=set)
    limited: frozenset[int] = frozenset()

    @property
    def types(self) -> list[Type]:
        """Of the first values."""
        return [self.low.type(v) for v in self.starts]

    def is_float(self, k: int) -> bool:
        """Whether the k-th of them holds floats."""
        return kind_of(np.dtype(self.spec.body.out_avals[self.numbers[k]].dtype)) == "float"

    def attempt(self, bounds: Sequence[Bounds], strict: str) -> Body:
        """The body with these bounds of the carries."""
        wanted = [
            t if t.kind == "b" else t.with_(lo=b[0] if b else None, hi=b[1] if b else None)
            for t, b in zip(self.types, bounds, strict=True)
        ]
        return lower_body(
            self.low, self.spec, self.part, self.numbers, wanted, strict,
            self.fine, self.cut, self.limited,
        )  # fmt: skip

    def body(self) -> Body:
        """The body with the best types that were found; `starts` have these types then."""
        begun, fine = self.starts, set(self.fine)
        body = self._searched()
        found, said = self._below_roots(body)
        if found:  # what nothing is known of is limited there, and all is searched anew
            self._begin(begun, fine, found, body)
            body = self._searched()
            vain, said = self._below_roots(body)
            if vain:
                self._begin(begun, fine, found - vain, body)
                body = self._searched()
                _, said = self._below_roots(body)
        if any(t.frac > self.low.f and t.bounds is None for t in body.made):
            cut = [self._cut_off(k, v) for k, v in enumerate(begun)]
            self._begin(cut, set(), self.limited, body)
            body = self._searched()
            _, said = self._below_roots(body)
        body.low.warnings += [w for w in said if w not in body.low.warnings]
        return body

    def _begin(
        self, starts: list[int], fine: set[int], limited: frozenset[int], body: Body
    ) -> None:
        """Anew, as if no bounds had been looked for of the means of squares in `body`."""
        self.starts, self.fine, self.cut, self.limited = starts, set(fine), set(), limited
        for k, square in enumerate(body.squares):
            if square:
                self.low.unbounded.pop((id(self.spec.body), k), None)

    def _cut_off(self, k: int, value: int) -> int:
        """The k-th first value with no more than the program's fraction bits."""
        return arith.to_frac(self.low, value, self.low.f) if self.is_float(k) else value

    def _searched(self) -> Body:
        """The body with bounds of its carries, in which means of squares have more digits."""
        body = self._settled()
        for search in (True, False):  # for their bounds, then with what these leave room for
            types, digits = self.types, self._digits(body, search)
            if all(b <= t.frac for b, t in zip(digits, types, strict=True)):
                continue
            before = self.starts, body, set(self.fine)
            for k, square in enumerate(body.squares):
                if square and digits[k] > types[k].frac:
                    self.low.unbounded.pop((id(self.spec.body), k), None)
                    self.fine.add(self.numbers[k])
            pairs = zip(self.starts, digits, strict=True)
            self.starts = [arith.to_frac(self.low, v, b) for v, b in pairs]
            body = self._settled()
            if any(t.frac > self.low.f and t.bounds is None for t in body.made):
                self.starts, body, self.fine = before
        return body

    def _digits(self, body: Body, search: bool) -> list[int]:
        """Fraction bits for the carries: more for means of squares, then for those beside them."""
        low, types, found = self.low, self.types, []
        for k, (t, made, square) in enumerate(zip(types, body.made, body.squares, strict=True)):
            if square:
                found.append(moments.carry_bits(low, t, made.bounds, search))
            elif self.is_float(k) and any(t.frac > low.f for t in types):
                found.append(moments.partner_bits(low, t, made.bounds))
            else:
                found.append(t.frac)
        return found

    def _below_roots(self, body: Body) -> tuple[frozenset[int], list[str]]:
        """Squares that lost digits which a root would show, and what is said of these roots."""
        found, lost = self._rooted(body), set()
        for number, square in zip(self.numbers, body.squares, strict=True):
            if square and number not in self.fine:
                lost.add(number)
        if not lost or self.low.f >= moments.ENOUGH:
            return found, []
        self.cut = lost  # lowered once more, as what comes from them is known to be cut
        body = self.attempt([t.bounds for t in body.made], "guess")
        said = [w for w in body.low.warnings if moments.CUT in w]
        return found | self._rooted(body), said

    def _rooted(self, body: Body) -> frozenset[int]:
        """Of squares that lost digits, those that a root is taken of, through carries or not."""
        origins = body.low.cut_squares.below_roots
        found = set(origins)
        for number, square in zip(self.numbers, body.squares, strict=True):
            if square and -1 - number in origins:
                found |= square.origins
        return frozenset(number for number in found if number >= 0)

    def _settled(self) -> Body:
        """The body with the tightest bounds that were found to hold for themselves."""
        low, types, key = self.low, self.types, id(self.spec.body)
        guesses = [Guess(t.bounds, t.bounds, []) for t in types]
        for k, guess in enumerate(guesses):
            if (key, k) in low.unbounded:
                guess.bounds = None
                low.unbounded[key, k] = grown(
                    types[k].bounds, low.lines_of.get((key, k)), self.spec.length
                )
        while True:
            bounds = [guess.bounds for guess in guesses]
            last = not any(bounds) and not any(guess.probing for guess in guesses)
            try:
                body = self.attempt(bounds, "final" if last else "guess")
            except CompileError:
                if last:
                    raise
                guesses = [Guess(None, None, []) for _ in types]
                continue
            settled = True
            for k, (guess, t) in enumerate(zip(guesses, body.made, strict=True)):
                if t.kind == "a" and (guess.probing or not inside(t.bounds, guess.bounds)):
                    guess.next(t.bounds or body.estimates[k], low.bound)
                    settled = (
                        settled and not guess.probing and guess.bounds is None and bounds[k] is None
                    )
                    if guess.bounds is None and not guess.probing:
                        line = low.lines_of[key, k] = guess.line(low.full)
                        low.unbounded[key, k] = grown(guess.start, line, self.spec.length)
            if settled:
                if low.config.on_overflow == "error" and not last:
                    return self.attempt(bounds, "final")  # raises: a line is not proven
                return body

    def grow_together(self) -> None:
        """Note how large float carries become that have no bounds, with regard to each other.

        Of a single one the trials that found no bounds for it say so, but they are near each other
        and roundings add to what grew: an alarm is tried out.
        """
        low, types, key = self.low, self.types, id(self.spec.body)
        loose = [k for k in range(len(types)) if self.is_float(k) and (key, k) in low.unbounded]
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
                made = self.attempt(tried, "guess").made
            except CompileError:
                return [None for _ in loose]
            found = [made[k].bounds for k in loose]
            return [b if size_of(b) < low.full else None for b in found]

        sizes = growth.joint(starts, image, self.spec.length, low.bound, 1 << low.f)
        low.unbounded.update(before[0])
        low.lines_of.update(before[1])
        for k, size in zip(loose, sizes, strict=False):
            low.unbounded[key, k] = size

    def doubt(self) -> None:
        """Warn of float carries that leave the representable range if they grow as they started."""
        low = self.low
        for k, number in enumerate(self.numbers):
            size = low.unbounded.get((id(self.spec.body), k), 0.0)
            if size >= low.bound and self.is_float(k):
                low.doubt(
                    "a value carried by a loop may leave the representable range",
                    f"values up to {size / 2.0**low.f:.3g} are possible after "
                    f"{self.spec.length} iterations if carry {number} of the loop grows on as in "
                    "the first ones",
                    f"representable is |x| < {low.config.fxp.max_float:g}",
                )
