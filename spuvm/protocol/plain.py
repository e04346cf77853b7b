"""The plaintext protocol: the executable meaning of every instruction, with no secrets at all.

Slow and obvious on purpose. Ring elements are unsigned numpy integers, of 128 bits Python integers
in object arrays; single bits are uint8, wider bit strings ring elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.isa import DROPPED, OPS, STRUCTURAL
from spuvm.bytecode.loops import loop_of
from spuvm.bytecode.program import Instruction, Program
from spuvm.bytecode.types import Type
from spuvm.errors import ProtocolError
from spuvm.ring import Ring
from spuvm.wide import WIDE, elements

Array = npt.NDArray[Any]
Meaning = Callable[..., Array]
FEW = 16  # elements, of which Python finds the largest sooner than numpy


@dataclass(frozen=True)
class Plain:
    """What a rule may use: the ring, where stochastic rounding gets its choices, whether to check.

    rng     None rounds to nearest; otherwise every truncation draws one of its allowed results.
    checks  ``ranges`` raises where a value leaves its stated bounds or a truncation its domain.
    """

    ring: Ring
    rng: np.random.Generator | None = None
    checks: Literal["off", "ranges"] = "off"

    def load(self, x: Array) -> Array:
        """Encoded values in the form that the rules compute with."""
        return elements(x).astype(object) if x.dtype == WIDE else x

    def store(self, x: Array) -> Array:
        """The inverse of load."""
        return self.ring.array(x) if x.dtype == object else x

    def made(self, x: Any) -> Array:
        """A result as an array: of 0-d object arrays numpy returns the bare integer."""
        return np.asarray(x, object) if self.ring.bits == 128 else np.asarray(x)

    def wrap(self, x: Any) -> Array:
        """Reduce modulo 2^bits."""
        if self.ring.bits == 128:
            return self.made(self.made(x) & (self.ring.modulus - 1))
        return np.asarray(x).astype(self.ring.dtype, copy=False)

    def signed(self, x: Array) -> Array:
        """Read as signed integers."""
        if x.dtype == object:
            made = self.made(x).copy()
            made[made >= self.ring.modulus >> 1] -= self.ring.modulus
            return made
        return self.ring.signed(x)

    def ends(self, x: Array) -> tuple[int, int]:
        """Least and largest element, read as signed integers."""
        if x.dtype != object and (x.size > FEW or self.ring.bits == 128):
            value = self.ring.signed(x)
            return int(np.minimum.reduce(value, None)), int(np.maximum.reduce(value, None))
        half, whole = self.ring.modulus >> 1, self.ring.modulus
        numbers = [v - whole if v >= half else v for v in x.ravel().tolist()]
        return min(numbers), max(numbers)

    def choices(self, bits: int, shape: tuple[int, ...]) -> Array:
        """Numbers of `bits` bits that decide where truncations round to."""
        if self.rng is None:
            return np.full(shape, 1 << (bits - 1), object if bits > 62 else np.int64)
        if bits <= 62:
            return np.asarray(self.rng.integers(0, 1 << bits, shape))
        high, low = self.choices(bits - 62, shape), self.choices(62, shape)
        return self.made((high.astype(object) << 62) + low.astype(object))

    def trunc(self, x: Array, bits: int) -> Array:
        """floor((x + r) / 2^bits) of the signed value, r in [0, 2^bits): stochastic rounding."""
        if self.checks == "ranges" and x.size:
            lo, hi = self.ends(x)
            if max(-lo, hi) >= self.ring.bound:
                raise ProtocolError(f"truncation of a value outside |x| < 2^{self.ring.bits - 2}")
        return self.rounded(x, bits)

    def rounded(self, x: Array, bits: int, factor: Array | int | None = None) -> Array:
        """As trunc, for all values, times a factor below 2^(k-2-bits)."""
        value = self.signed(x)
        r = self.choices(bits, x.shape)
        high, low = value >> bits, value & ((1 << bits) - 1)
        if factor is not None:
            high, low = high * factor, low * factor  # split first, so that nothing can overflow
        return self.wrap(high + ((low + self.made(r.astype(value.dtype, copy=False))) >> bits))


MEANING: dict[str, Meaning] = {}


def means(name: str) -> Callable[[Meaning], Meaning]:
    """Register the meaning of one instruction: ``(plain, types, *operands, **attrs) -> array``."""

    def register(f: Meaning) -> Meaning:
        if name in MEANING:
            raise ProtocolError(f"the meaning of {name!r} is given twice")
        MEANING[name] = f
        return f

    return register


def run_plain(
    program: Program,
    inputs: Sequence[Array],
    rng: np.random.Generator | None = None,
    checks: Literal["off", "ranges"] = "off",
) -> list[Array]:
    """Run `program` on encoded inputs (ring elements, or uint8 bits) and return encoded outputs.

    Raises:
        ProtocolError: a wrong number, shape or dtype of inputs; with ``checks="ranges"`` also a
            value outside its stated bounds.
    """
    with np.errstate(over="ignore"):  # numpy warns when a scalar wraps, which is meant
        return _run(Plain(Ring(program.ring), rng, checks), program, inputs)


def _run(plain: Plain, program: Program, inputs: Sequence[Array]) -> list[Array]:
    if len(inputs) != len(program.inputs):
        raise ProtocolError(f"{len(program.inputs)} inputs expected, got {len(inputs)}")
    values: list[Array] = []
    for i, (given, array) in enumerate(zip(program.inputs, inputs, strict=True)):
        if array.shape != given.type.shape:
            raise ProtocolError(f"input {i}: shape {given.type.shape} expected, got {array.shape}")
        values.append(plain.load(array))
        _check(plain, ("input", i), given.type, values[-1])
    types = program.types
    for number, instruction in enumerate(program.instructions):
        args = [values[a] for a in instruction.args]
        made = _results(plain, program, instruction, args, [types[a] for a in instruction.args])
        for t, value in zip(instruction.types, made, strict=True):
            _check(plain, (number, instruction.op), t, value)
        values += made
    return [plain.store(values[out.value]) for out in program.outputs]


def _results(
    plain: Plain, program: Program, instruction: Instruction, args: list[Array], kinds: list[Type]
) -> list[Array]:
    if instruction.op == "const":
        return [plain.load(program.constants[int(instruction.attrs["index"])])]  # type: ignore[arg-type]
    if instruction.op == "loop":
        return _loop(plain, instruction, [plain.store(x) for x in args])
    made = MEANING[instruction.op](plain, kinds, *args, **instruction.attrs)
    if type(made) is np.ndarray:  # numpy returns bare numbers for arrays of no axes
        return [made]
    return [np.asarray(made) if instruction.types[0].width == 1 else plain.made(made)]


def _loop(plain: Plain, instruction: Instruction, args: list[Array]) -> list[Array]:
    """Iteration after iteration: carries go round, rows go in and out by the iteration's number."""
    loop = loop_of(instruction)
    captured = args[: loop.first_carry]
    carried = args[loop.first_carry : loop.first_row]
    rows: dict[int, list[Array]] = {}
    for i in loop.iterations():
        scanned = [np.asarray(x[i]) for x in args[loop.first_row :]]
        index = plain.ring.array(np.asarray(i))
        made = _run(plain, loop.body, [index, *captured, *carried, *scanned])
        carried, rows[i] = made[: loop.carries], made[loop.carries :]
    stacked = [np.stack(row) for row in zip(*(rows[i] for i in range(loop.trip)), strict=True)]
    return [plain.load(x) for x in (*carried, *stacked)]


def _check(plain: Plain, what: tuple[object, object], t: Type, x: Array) -> None:
    if x.shape != t.shape:
        raise ProtocolError(f"{what[0]} {what[1]}: shape {t.shape} expected, got {x.shape}")
    if plain.checks == "off" or t.lo is None or t.hi is None or not x.size:
        return
    lo, hi = plain.ends(x)
    if lo < t.lo or hi > t.hi:
        raise ProtocolError(f"{what[0]} {what[1]}: a value is outside its stated bounds {t.bounds}")


# --- shapes ----------------------------------------------------------------------------------


@means("reshape")
def _reshape(p: Plain, types: Any, x: Array, shape: Any) -> Array:
    return x.reshape(shape)


@means("transpose")
def _transpose(p: Plain, types: Any, x: Array, permutation: Any) -> Array:
    return x.transpose(permutation)


@means("broadcast")
def _broadcast(p: Plain, types: Any, x: Array, shape: Any, dims: Any) -> Array:
    new = [1] * len(shape)
    for n, d in zip(x.shape, dims, strict=True):
        new[d] = n
    return np.broadcast_to(x.reshape(new), shape)


@means("slice")
def _slice(p: Plain, types: Any, x: Array, start: Any, limit: Any, stride: Any) -> Array:
    return x[tuple(slice(a, b, s) for a, b, s in zip(start, limit, stride, strict=True))]


@means("reverse")
def _reverse(p: Plain, types: Any, x: Array, axes: Any) -> Array:
    return np.flip(x, axes) if axes else x


@means("concat")
def _concat(p: Plain, types: Any, *xs: Array, axis: int) -> Array:
    return np.concatenate(xs, axis)


@means("pad")
def _pad(p: Plain, types: Any, x: Array, low: Any, high: Any, interior: Any) -> Array:
    for axis, (a, b, i) in enumerate(zip(low, high, interior, strict=True)):
        old = np.moveaxis(x, axis, 0)
        spread = np.zeros((len(old) + max(0, len(old) - 1) * i, *old.shape[1:]), x.dtype)
        spread[:: i + 1] = old
        spread = spread[max(0, -a) : max(0, len(spread) + min(0, b))]
        zeros = [np.zeros((max(0, n), *old.shape[1:]), x.dtype) for n in (a, b)]
        x = np.moveaxis(np.concatenate([zeros[0], spread, zeros[1]]), 0, axis)
    return x


@means("take")
def _take(p: Plain, types: Any, x: Array, index: Array, shape: Any) -> Array:
    return x.ravel()[index.ravel().astype(np.int64)].reshape(shape)


@means("window")
def _window(p: Plain, types: Any, x: Array, start: Array, sizes: Any) -> Array:
    return x[tuple(slice(int(a), int(a) + n) for a, n in zip(start, sizes, strict=True))]


@means("put")
def _put(p: Plain, types: Any, x: Array, y: Array, start: Array) -> Array:
    made = np.array(x)
    made[tuple(slice(int(a), int(a) + n) for a, n in zip(start, y.shape, strict=True))] = y
    return made


# --- arithmetic ------------------------------------------------------------------------------


@means("add_aa")
@means("add_ap")
@means("add_pp")
def _add(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return p.wrap(x + y)


@means("sub_aa")
@means("sub_pa")
def _sub(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return p.wrap(x - y)


@means("lincomb_a")
def _lincomb(p: Plain, types: Any, *xs: Array, coefficients: Any) -> Array:
    number = int if p.ring.bits == 128 else p.ring.dtype.type
    terms = [
        x if c == 1 else x * number(p.ring.wrap(c)) for x, c in zip(xs, coefficients, strict=True)
    ]
    return p.wrap(sum(terms[1:], terms[0]))


@means("neg_a")
def _neg(p: Plain, types: Any, x: Array) -> Array:
    return p.wrap(0 - x)


@means("rem_p")
def _rem(p: Plain, types: Any, x: Array, modulus: int) -> Array:
    return p.wrap(x % np.asarray(modulus, x.dtype))


@means("clip_p")
def _clip(p: Plain, types: Any, x: Array, range: Any) -> Array:
    return p.wrap(np.clip(p.signed(x), *range))


@means("mul_ap")
@means("mul_pp")
def _mul_ap(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return p.wrap(x * y)


@means("shl_a")
def _shl(p: Plain, types: Any, x: Array, bits: int, frac: int) -> Array:
    return p.wrap(x << bits)


@means("retype_a")
def _retype(p: Plain, types: Any, x: Array, frac: int, range: Any) -> Array:
    return x


@means("sum_a")
def _sum(p: Plain, types: Any, x: Array, axes: Any) -> Array:
    return p.wrap(np.sum(x, axis=axes, dtype=x.dtype))


@means("dot_ap")
@means("dot_pa")
@means("additive_dot_aa")
def _dot(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return p.wrap(x @ y)


def _product(p: Plain, x: Array, y: Array, terms: int, trunc: int, form: str, times: Any) -> Array:
    if trunc == 0:
        return p.wrap(times(x, y))
    if form == "narrow":
        return p.trunc(p.wrap(times(x, y)), trunc)
    half = trunc // 2  # x = xh 2^half + xl; xl*yl is below the last place
    xh, yh = p.trunc(x, half), p.trunc(y, half)
    xl, yl = p.wrap(x - (xh << half)), p.wrap(y - (yh << half))
    cross = p.wrap(times(xh, yl) + times(xl, yh))
    made = times(xh, yh) + p.trunc(cross, half)
    return p.wrap(made + p.trunc(p.wrap(times(xl, yl)), trunc) if terms > DROPPED else made)


@means("mul_aa")
def _mul_aa(p: Plain, types: Any, x: Array, y: Array, trunc: int, form: str) -> Array:
    return _product(p, x, y, 1, trunc, form, lambda a, b: a * b)


@means("dot_aa")
def _dot_aa(p: Plain, types: Any, x: Array, y: Array, trunc: int, form: str) -> Array:
    return _product(p, x, y, x.shape[2], trunc, form, lambda a, b: a @ b)


@means("trunc_sum_a")
def _trunc_sum(p: Plain, types: Any, *xs: Array, coefficients: Any, bits: int) -> Array:
    return p.trunc(_lincomb(p, types, *xs, coefficients=coefficients), bits)


@means("scale_ap")
def _scale(p: Plain, types: Any, x: Array, factors: Array, bits: int) -> Array:
    return p.rounded(x, bits, p.signed(factors))


@means("scale_dot_pa")
def _scale_dot(p: Plain, types: Any, factors: Array, x: Array, bits: int) -> Array:
    f, value = p.signed(factors), p.signed(x)
    low = f @ (value & ((1 << bits) - 1))  # split first, so that nothing can overflow
    r = p.choices(bits, low.shape)
    return p.wrap(f @ (value >> bits) + ((low + p.made(r.astype(low.dtype))) >> bits))


@means("scale_sum_a")
def _scale_sum(
    p: Plain, types: Any, *xs: Array, coefficients: Any, factor: int, bits: int
) -> Array:
    return p.rounded(_lincomb(p, types, *xs, coefficients=coefficients), bits, factor)


@means("round_z")
def _round_additive(p: Plain, types: Any, x: Array, bits: int, range: Any) -> Array:
    return _round(p, types, x, bits)


@means("round_a")
def _round(p: Plain, types: Any, x: Array, bits: int) -> Array:
    """Two of the three parts are uniform: their low bits and those of x decide."""
    value = p.signed(x)
    r, t = (p.choices(bits, x.shape).astype(value.dtype, copy=False) for _ in range(2))
    rest = p.made(value - r - t)
    return p.wrap(p.made(rest - (rest & ((1 << bits) - 1))) + (3 << bits - 1))


@means("reshare_z")
def _reshare(p: Plain, types: Any, x: Array) -> Array:
    return x


@means("round_sum_a")
def _round_sum(p: Plain, types: Any, *xs: Array, coefficients: Any, bits: int) -> Array:
    return _round(p, types, _lincomb(p, types, *xs, coefficients=coefficients), bits)


@means("trunc_a")
def _trunc(p: Plain, types: Any, x: Array, bits: int) -> Array:
    return p.trunc(x, bits)


# --- bits ------------------------------------------------------------------------------------


def _low(x: Array, low: int, width: int) -> Array:
    made = np.asarray((x >> low) & ((1 << width) - 1), x.dtype)
    return made.astype(np.uint8) if width == 1 else made


@means("msb_a")
def _msb(p: Plain, types: Any, x: Array, bits: int) -> Array:
    return _low(x, bits - 1, 1)


@means("eqz_a")
def _eqz(p: Plain, types: Any, x: Array, bits: int) -> Array:
    return np.asarray(x & ((1 << bits) - 1) == 0, np.uint8)


@means("a2b")
def _a2b(p: Plain, types: Any, x: Array, bits: int) -> Array:
    return _low(x, 0, bits)


@means("b2a")
def _b2a(p: Plain, types: Any, x: Array) -> Array:
    return p.wrap(x.astype(object) if p.ring.bits == 128 else x)


@means("mul_ba")
def _mul_ba(p: Plain, types: Any, b: Array, x: Array) -> Array:
    return p.wrap(b.astype(x.dtype) * x)


@means("and_bb")
@means("and_bp")
def _and(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return np.asarray(x & y, x.dtype)


@means("xor_bb")
@means("xor_bp")
def _xor(p: Plain, types: Any, x: Array, y: Array) -> Array:
    return np.asarray(x ^ y, x.dtype)


@means("not_b")
def _not(p: Plain, types: Sequence[Type], x: Array) -> Array:
    return np.asarray(x ^ ((1 << types[0].width) - 1), x.dtype)


@means("bits_b")
def _bits(p: Plain, types: Any, x: Array, low: int, width: int) -> Array:
    return _low(x, low, width)


@means("shift_b")
def _shift_b(p: Plain, types: Any, x: Array, by: int, width: int) -> Array:
    wide = p.wrap(x.astype(object) if p.ring.bits == 128 else x)
    return _low(p.wrap(wide << by if by >= 0 else wide >> -by), 0, width)


@means("random_b")
def _random_b(p: Plain, types: Any, shape: Any, width: int, draw: int) -> Array:
    rng = p.rng if p.rng is not None else np.random.default_rng(draw)
    bits = rng.integers(0, 2, (*shape, width)).astype(object)
    made = np.asarray((bits << np.arange(width).astype(object)).sum(-1)).reshape(shape)
    if width == 1:
        return made.astype(np.uint8)
    return p.made(made) if p.ring.bits == 128 else p.ring.array(made)


@means("reverse_b")
def _reverse_b(p: Plain, types: Sequence[Type], x: Array) -> Array:
    made = np.zeros_like(x)
    for i in range(types[0].width):
        made = made | ((x >> i) & 1) << (types[0].width - 1 - i)
    return np.asarray(made, x.dtype)


# --- order -----------------------------------------------------------------------------------


@means("shuffle_a")
def _shuffle(p: Plain, types: Any, x: Array, draw: int) -> Array:
    if p.rng is None:
        return x
    order = np.argsort(p.rng.random(x.shape[:2]), axis=1)
    return np.asarray(np.take_along_axis(x, order[:, :, None], 1))


@means("sort_a")
def _sort(p: Plain, types: Any, x: Array, keys: Any, lows: Any, sizes: Any, pairs: Any) -> Array:
    made = np.empty_like(x)
    for b, rows in enumerate(x):
        columns = p.signed(np.ascontiguousarray(rows.T))[: len(keys)]
        ranked = [[int(v) for v in columns[:, i]] for i in range(len(rows))]
        made[b] = rows[sorted(range(len(rows)), key=ranked.__getitem__)]
    return made


# --- look-ups ----------------------------------------------------------------------------------


@means("one_hot_a")
def _one_hot(p: Plain, types: Any, x: Array, size: int) -> Array:
    index = x.astype(object) % (1 << (size - 1).bit_length())
    return p.wrap(np.equal(np.asarray(index)[..., None], np.arange(size)).astype(np.int64))


@means("lookup_pa")
def _lookup(p: Plain, types: Any, table: Array, x: Array, bits: int) -> Array:
    cut = p.rounded(x, bits) if bits else x
    index = np.asarray(cut.astype(object) % (1 << (len(table) - 1).bit_length()), np.int64)
    behind = np.zeros((1, table.shape[1]), table.dtype)
    return p.wrap(np.concatenate([table, behind])[np.minimum(index, len(table))])


def missing() -> set[str]:
    """Instructions of the table that have no meaning here (a test keeps this empty)."""
    return set(OPS) - set(MEANING) - STRUCTURAL
