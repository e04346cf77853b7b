"""The state of one lowering: emits instructions, each distinct one once, and collects warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.builder import Builder, clean_attr
from spuvm.bytecode.isa import infer
from spuvm.bytecode.types import Type
from spuvm.compiler.config import CompileConfig, Watched
from spuvm.compiler.folded import Folded
from spuvm.compiler.moment_facts import CutSquares
from spuvm.errors import CompileError

Array = npt.NDArray[Any]
_GUARDED = """
add_aa sub_aa add_ap sub_pa lincomb_a mul_ap scale_ap shl_a sum_a mul_aa dot_aa dot_ap dot_pa
scale_dot_pa
"""
GUARDED = frozenset(_GUARDED.split())
MOVES = frozenset(["broadcast", "reshape", "transpose", "slice", "retype_a", "shl_a", "trunc_a"])


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value while lowering: its id in the program and the JAX dtype it stands for."""

    id: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a result of a selection is where its bit is set, and elsewhere."""

    bit: int
    yes: Any
    no: Any


@dataclass(frozen=True, slots=True)
class Missing:
    """Where a value is NaN, and the line that chose it."""

    bit: int
    source: str


@dataclass(frozen=True, slots=True)
class Inverse:
    """make(n) is the value with n fraction bits, at most `most`; see inverses.py.

    Where there are divisors, norms of `sources`, the value is factor * numerators / divisors.
    """

    make: Callable[[int], int]
    most: int
    divisors: tuple[int, ...] = ()
    factor: float | Array = 1.0
    numerators: tuple[int, ...] = ()
    sources: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Made:
    """The equation that made a value: its primitive, operands, parameters, shape of the result."""

    name: str
    operands: tuple[Any, ...]
    params: dict[str, Any]
    shape: tuple[int, ...]


class Lowering:
    """Appends instructions to one program; rules receive it as their first argument.

    Attributes:
        source: the user's line that is being lowered.
        public: public arrays by the id of shares that were made of them.
        facts: what rules know about values beyond their types; see facts.py.
        polynomials: values that are polynomials of others; see rules/polynomials.py.
        squares: values that are sums of squares, and roots of them; see rules/squares.py.
        norms: such roots, and of what the squares are.
        answered: of what there are squares whose root or mean was not made of their sum.
        unproven: what nothing shows to be representable; see overflow.py.
        made: equations of floats by the value they made; see rules/terms.py.
        inverses: reciprocals and inverse roots, as they are made with more bits; see inverses.py.
        grown: values by which those are products of which they have e^x - 1.
        steep: the lines of powers below -1 of values that may be small, by value and power.
        bent: values of which terms of such powers were known as a derivative.
        choices: what secret bits chose between, by the result.
        missing: values that are NaN where a secret bit says so; see rules/missing.py.
        folded: public floats in the order in which they meet secrets.
        checked: "float" while lowering an equation with a float result, whose values must stay
            representable; "wrapping" for integers and inside numeric algorithms.
        lines: whose line an instruction counts to: its "own" or, see one_line, the "outer" one.
        spent: operands of the equation being lowered that no other equation takes.
        divisor: what the sum being lowered is divided by at least, 0 if it is used otherwise.
        vague: roots, parts and multiples of values of which nothing was declared, which bounds them
            all the same.
        distances: absolute values of differences.
        saturated: results that operands of known ranges can bring to the largest number.
        quotients: sums that are divided by a count, and the count, by the quotient; see sums.py.
        totals: sums that were divided by 2^s: s, how large they may be before, and whether the
            ranges of the summands say so.
        least: squares of residuals below that end an iterative solver, 0 outside of one.
        watched: equations in the order they were lowered, None where nobody asked for them.
        trips: iterations of the loops around, outermost first.
        numbers: ids of the numbers of their present iterations.
        unbounded: carries of loops, by body, whose bounds do not hold for themselves, and how large
            they may become, 0 if that is not known.
        lines_of: of these, (a, b) where an iteration makes a * size + b of a size, or None.
        estimates: how large results of loops become that have no bounds.
        cut_squares: what means of squares had to be made of.
    """

    def __init__(self, config: CompileConfig, given: Sequence[Array] | None = None) -> None:
        self.config = config
        self.folded = Folded(2.0**-config.fxp.frac_bits, given)
        self.ring = config.ring
        self.bits = config.ring.bits
        self.f = config.fxp.frac_bits
        self.bound = config.ring.bound
        self.builder = Builder(config.ring, config.fxp)
        self.source = ""
        self.lines = "own"
        self.checked = "wrapping"
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.unproven: list[Any] = []
        self.inputs: list[Type] = []
        self.public: dict[int, Array] = {}
        self.facts: dict[int, Any] = {}
        self.polynomials: dict[int, Any] = {}
        self.squares: dict[int, Any] = {}
        self.square_roots: dict[int, int] = {}
        self.norms: dict[int, frozenset[int]] = {}
        self.answered: set[int] = set()
        self.made: dict[int, Made] = {}
        self.inverses: dict[int, Inverse] = {}
        self.grown: set[int] = set()
        self.steep: dict[tuple[int, int], str] = {}
        self.bent: set[int] = set()
        self.choices: dict[int, Choice] = {}
        self.missing: dict[int, Missing] = {}
        self.trips: tuple[int, ...] = ()
        self.numbers: list[int] = []
        self.unbounded: dict[tuple[int, int], float] = {}
        self.lines_of: dict[tuple[int, int], tuple[float, float] | None] = {}
        self.estimates: dict[int, float] = {}
        self._known: dict[tuple[Any, ...], int] = {}
        self._draws = count(1)
        self.watched: list[Watched] | None = None
        self.spent: set[int] = set()
        self.divisor = 0.0
        self.least = 0.0
        self.vague: set[int] = set()
        self.distances: set[int] = set()
        self.saturated: set[int] = set()
        self.quotients: dict[int, tuple[int, int]] = {}
        self.totals: dict[int, tuple[int, int, bool]] = {}
        self.cut_squares = CutSquares()

    def body(self, trip: int, on_overflow: Literal["warn", "error"] | None = None) -> Lowering:
        """The lowering of a loop's body: a program of its own."""
        config = self.config
        if on_overflow is not None:
            config = replace(config, on_overflow=on_overflow)
        made = Lowering(config)
        made.source, made.trips, made.unbounded = self.source, (*self.trips, trip), self.unbounded
        made.lines_of = self.lines_of
        made.lines, made.folded, made._draws = self.lines, self.folded, self._draws
        made.watched = None if self.watched is None else []
        made.least = self.least
        return made

    def input(self, type: Type, origin: str) -> int:
        """Add an input of the program."""
        self.inputs.append(type)
        return self.builder.input(type, origin)

    def type(self, value: int) -> Type:
        """Type of a value id."""
        return self.builder.type(value)

    def shape(self, value: int) -> tuple[int, ...]:
        """Shape of a value id."""
        return self.builder.type(value).shape

    def frac(self, value: int) -> int:
        """Fraction bits of a value id."""
        return self.builder.type(value).frac

    @property
    def full(self) -> int:
        """Bounds from here on are only what is representable."""
        return self.bound - (self.bound >> 6)

    def magnitude(self, value: int) -> int:
        """Largest |encoded value|; the bound of representable values where nothing is known."""
        return self.builder.type(value).magnitude(self.bound)

    def emit(self, op: str, *args: int, **attrs: Any) -> int:
        """Id of ``op args {attrs}``; what was computed before is not computed again."""
        if op in ("add_aa", "sub_aa") and not self.public.keys().isdisjoint(args):
            return self._with_public(op, *args)
        clean = {name: clean_attr(value) for name, value in attrs.items()}
        key = (op, args, frozenset(clean.items()))
        if key not in self._known:
            self._known[key] = self.builder.emit_clean(op, args, clean, self.source)
            if self.checked == "float" and op in GUARDED:
                self._guard(op, args, clean, self._known[key])
            if len(args) == 1 and args[0] in self.public:
                self._follow(op, self.public[args[0]], clean, self._known[key])
        return self._known[key]

    def _with_public(self, op: str, x: int, y: int) -> int:
        """A sum or difference with shares of a public array: add the array itself."""
        frac = self.frac(x)
        if x in self.public:
            if op == "sub_aa":
                return self.emit("sub_pa", self.constant(self.public[x], frac), y)
            x, y = y, x
        c = self.public[y] if op == "add_aa" else np.negative(self.public[y])
        return self.emit("add_ap", x, self.constant(c, frac)) if c.any() else x

    def _follow(self, op: str, c: Array, attrs: dict[str, Any], made: int) -> None:
        """Shares of a public array stay that under data movement and exact scaling."""
        if op == "shl_a":
            self.public[made] = c << attrs["bits"]
        elif op == "retype_a" or (op in ("broadcast", "reshape") and c.ndim == 0):
            self.public[made] = c

    def random_bits(self, shape: Sequence[int], width: int) -> int:
        """Boolean shares of bits that no party knows; every call is another draw."""
        return self.builder.emit(
            "random_b", source=self.source, shape=tuple(shape), width=width, draw=next(self._draws)
        )

    def shuffle(self, x: int) -> int:
        """Rows [B, n, C] in an order that no party knows; every call is another one."""
        return self.builder.emit("shuffle_a", x, source=self.source, draw=next(self._draws))

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Inside, everything counts to the user's line that is being lowered."""
        before, self.lines = self.lines, "outer"
        try:
            yield
        finally:
            self.lines = before

    @contextmanager
    def finer(self, bits: int, values: Literal["any", "small"] = "any") -> Iterator[None]:
        """Inside, values have up to `bits` more fraction bits, as far as the ring has room.

        Numbers within that factor of the largest representable one must not occur.
        """
        before = self.f
        room = bits if values == "small" else self.bits // 64 * 2
        self.f += max(0, min(bits, room, self.bits // 2 - 4 - self.f))
        try:
            yield
        finally:
            self.f = before

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Inside, a loop that a residual ends also ends where that is mostly rounding."""
        before, self.least = self.least, 2.0 ** (4 - self.f)
        try:
            yield
        finally:
            self.least = before

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """Inside, values may leave the representable range on purpose."""
        before, self.checked = self.checked, "wrapping"
        try:
            yield
        finally:
            self.checked = before

    def _guard(self, op: str, args: Sequence[int], attrs: dict[str, Any], made: int) -> None:
        types = [self.type(a) for a in args]
        if any(
            t.kind == "a"
            and self.undeclared(a, self.full >> max(0, self.f - t.frac))  # cut before a product
            for a, t in zip(args, types, strict=True)
        ):
            return  # nothing was declared: nothing is known to leave it
        t = self.type(made)
        if t.bounds is not None and t.magnitude(0) <= self.bound:
            return
        wide = infer(1 << 14, op, types, attrs)  # the interval before it is given up
        if wide.bounds is None:  # nothing to go by: an empty constant
            return
        lo, hi = (math.ldexp(v, -wide.frac) for v in wide.bounds)
        limit = math.ldexp(self.bound, -t.frac)
        self.doubt(
            "a value may leave the representable range",
            f"values from {lo:g} to {hi:g} are possible",
            f"representable is |x| < {limit:g}",
        )

    def undeclared(self, value: int, full: int) -> bool:
        """Whether the bounds of `value`, from `full` on, are only what is representable."""
        if self.magnitude(value) >= full:
            return not self._moved(value, self.saturated)
        return self._moved(value, self.vague)

    def _moved(self, value: int, among: set[int]) -> bool:
        """Whether `value` is one of those, moved or repeated as it is."""
        while value not in among:
            made = self.builder.instruction(value)
            if made is None or made.op not in MOVES:
                return False
            value = made.args[0]
        return True

    def doubt(self, message: str, got: str, expected: str) -> None:
        """A result may be wrong: a warning with the user's line, or an error if so configured.

        Raises:
            CompileError: on_overflow="error".
        """
        if self.config.on_overflow == "error":
            raise CompileError(
                message,
                got=got,
                expected=expected,
                next="scale the data, clip it, or state a range with sf.assume_range",
            )
        self.warn(f"{got}, {expected}; sf.assume_range(x, lo, hi) states what you know")

    def warn(self, text: str) -> None:
        """A warning with the user's line."""
        text = f"{self.source or 'unknown line'}: {text}"
        if text not in self.warnings:
            self.warnings.append(text)

    def note(self, text: str) -> None:
        """Something about the cost that the user may not expect, with the line."""
        text = f"{self.source or 'unknown line'}: {text}"
        if text not in self.notes:
            self.notes.append(text)

    def constant(self, array: Array, frac: int = 0, width: int = 0) -> int:
        """Id of a public array of ring elements or bits, as small as it can be stored.

        Axes along which the array only repeats are stored once and broadcast.
        """
        axes = [
            i
            for i, n in enumerate(array.shape)
            if n > 1 and array.size and (array == array.take([0], axis=i)).all()
        ]
        if not axes:
            return self.builder.constant(array, frac, width, self.source)
        small = array[tuple(0 if i in axes else slice(None) for i in range(array.ndim))]
        made = self.builder.constant(small, frac, width, self.source)
        dims = [i for i in range(array.ndim) if i not in axes]
        return self.emit("broadcast", made, shape=array.shape, dims=dims)

    def integer(self, value: int, frac: int = 0) -> int:
        """Id of a public scalar: the ring element `value` with `frac` fraction bits."""
        return self.constant(self.ring.array(np.array(value, object)), frac)

    # --- shapes: instructions that would change nothing are not emitted ----------------------

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """Same elements, another shape."""
        return x if self.shape(x) == tuple(shape) else self.emit("reshape", x, shape=shape)

    def transpose(self, x: int, permutation: Sequence[int]) -> int:
        """numpy.transpose; one that only moves axes of size 1 is a reshape."""
        shape = self.shape(x)
        if [i for i in permutation if shape[i] != 1] == [i for i, n in enumerate(shape) if n != 1]:
            return self.reshape(x, [shape[i] for i in permutation])
        return self.emit("transpose", x, permutation=permutation)

    def broadcast(self, x: int, shape: Sequence[int], dims: Sequence[int]) -> int:
        """lax.broadcast_in_dim."""
        if math.prod(shape) == math.prod(self.shape(x)):
            return self.reshape(x, shape)
        return self.emit("broadcast", x, shape=shape, dims=dims)

    def spread(self, x: int, shape: Sequence[int]) -> int:
        """Broadcast of a scalar, or of axes of size 1 of a value of the same rank."""
        if self.shape(x) == tuple(shape):
            return x
        rank = len(self.shape(x))
        return self.broadcast(x, shape, range(len(shape) - rank, len(shape)))

    def slice(
        self, x: int, start: Sequence[int], limit: Sequence[int], stride: Sequence[int] = ()
    ) -> int:
        """Basic slicing with positive strides."""
        shape, stride = self.shape(x), tuple(stride) or (1,) * len(start)
        if not any(start) and tuple(limit) == shape and all(s == 1 for s in stride):
            return x
        return self.emit("slice", x, start=start, limit=limit, stride=stride)

    def cut(self, x: int, axis: int, start: int, limit: int, stride: int = 1) -> int:
        """``x[start:limit:stride]`` along one axis."""
        shape = self.shape(x)
        starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
        starts[axis], limits[axis], strides[axis] = start, limit, stride
        return self.slice(x, starts, limits, strides)

    def concat(self, values: Sequence[int], axis: int) -> int:
        """Join along an axis; empty parts are left out."""
        parts = [v for v in values if self.shape(v)[axis]] or list(values[:1])
        return parts[0] if len(parts) == 1 else self.emit("concat", *parts, axis=axis)

    def take(self, x: int, index: Array) -> int:
        """``x.ravel()[index]`` with a public index of any shape."""
        flat = np.asarray(index)
        if flat.size == math.prod(self.shape(x)) and (flat.ravel() == np.arange(flat.size)).all():
            return self.reshape(x, flat.shape)
        c = self.builder.constant(self.ring.array(flat.astype(np.int64)), 0, 0, self.source)
        return self.emit("take", x, c, shape=flat.shape)

    def narrowed(self, x: int, lo: int | None, hi: int | None) -> int:
        """`x` with the tighter of its own bounds and the promised ones."""
        t = self.type(x)
        if lo is None or hi is None:
            return x
        if t.bounds is not None:
            lo, hi = max(lo, t.bounds[0]), min(hi, t.bounds[1])
            if lo > hi:  # a promise that contradicts what is known: keep what is known
                return x
        if (lo, hi) == t.bounds:
            return x
        return self.emit("retype_a", x, frac=t.frac, range=(lo, hi))
