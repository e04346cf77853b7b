"""THE table of instructions: operand kinds, attributes, type rule, one-line meaning.

Suffixes name operand kinds: ``p`` public, ``a`` arithmetic shares, ``b`` Boolean shares, ``z``
additive shares. The type rules also propagate value ranges; a rule raises VerifyError when
operands or attributes do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from spuvm.bytecode import loops
from spuvm.bytecode.program import AttrValue
from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError

Attrs = Mapping[str, AttrValue]
Rule = Callable[[int, Sequence[Type], Any], Type]


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table. `kinds`: a letter per operand, ``*`` any kind, trailing ``+`` n-ary."""

    name: str
    kinds: str
    attrs: tuple[str, ...]
    meaning: str
    rule: Rule
    local: bool


DROPPED = 1 << 12
"""Terms of a dot product in the full form whose lowest parts are dropped: 11 units as a rule."""

OPS: dict[str, Op] = {}


def _op(name: str, kinds: str, attrs: str, meaning: str, *, local: bool) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        if name in OPS:
            raise VerifyError(f"instruction {name!r} is defined twice")
        OPS[name] = Op(name, kinds, tuple(attrs.split()), meaning, rule, local)
        return rule

    return register


def local(name: str, kinds: str, attrs: str, meaning: str) -> Callable[[Rule], Rule]:
    """Register an instruction that each party does alone."""
    return _op(name, kinds, attrs, meaning, local=True)


def interactive(name: str, kinds: str, attrs: str, meaning: str) -> Callable[[Rule], Rule]:
    """Register an instruction in which the parties talk."""
    return _op(name, kinds, attrs, meaning, local=False)


def need(condition: bool, message: str) -> None:
    """Raise VerifyError(message) unless `condition` holds."""
    if not condition:
        raise VerifyError(message)


def infer(ring: int, op: str, args: Sequence[Type], attrs: Attrs) -> Type:
    """Result type of an instruction; raises VerifyError when operands or attributes do not fit."""
    if op not in OPS:
        raise VerifyError(
            f"unknown instruction {op!r}", expected=f"one of {', '.join(sorted(OPS))}"
        )
    row = OPS[op]
    variadic = row.kinds.endswith("+")
    kinds = row.kinds.rstrip("+")
    if variadic:
        need(len(args) >= 1, "needs at least one operand")
        kinds = kinds * len(args)
    if len(args) != len(kinds):
        raise VerifyError(f"{op}: takes {len(kinds)} operands, got {len(args)}")
    for i, (want, got) in enumerate(zip(kinds, args, strict=True)):
        fits = want == got.kind or (want == "*" and (got.kind != "z" or op in MOVES))
        if not fits:  # messages are made when needed: compiling is hot here
            raise VerifyError(f"{op}: operand {i} must be of kind {want}, got {got.kind}")
    if len(row.attrs) != len(attrs) or not all(map(attrs.__contains__, row.attrs)):
        raise VerifyError(f"{op}: attributes {sorted(row.attrs)} expected, got {sorted(attrs)}")
    return row.rule(ring, args, attrs)


MOVES = ("reshape", "slice")
"""What additive shares go through."""


# --- ranges ----------------------------------------------------------------------------------


def ranged(t: Type, ring: int, lo: int | None, hi: int | None) -> Type:
    """`t` with bounds, or without when they leave the signed range of the ring."""
    if lo is None or hi is None or lo < -(1 << (ring - 1)) or hi >= 1 << (ring - 1):
        return t.with_(lo=None, hi=None)
    return t.with_(lo=lo, hi=hi)


def _add_bounds(ring: int, t: Type, xs: Sequence[Type], coefs: Sequence[int]) -> Type:
    lo = hi = 0
    for x, c in zip(xs, coefs, strict=True):
        if x.bounds is None:
            return t.with_(lo=None, hi=None)
        ends = (c * x.bounds[0], c * x.bounds[1])
        lo, hi = lo + min(ends), hi + max(ends)
    return ranged(t, ring, lo, hi)


def _product_bounds(
    ring: int, t: Type, x: Type, y: Type, terms: int, trunc: int, form: str = "narrow"
) -> Type:
    if x.bounds is None or y.bounds is None:
        return t.with_(lo=None, hi=None)
    ends = [a * b * terms for a in x.bounds for b in y.bounds]
    lo, hi = min(ends), max(ends)
    if trunc:  # stochastic rounding goes to either neighbour
        lo, hi = lo >> trunc, -(-hi >> trunc)
    if form == "full":  # drops less than one unit per term before it rounds, or rounds twice
        off = terms if terms <= DROPPED else 2
        lo, hi = lo - off, hi + off
    return ranged(t, ring, lo, hi)


def _same_shape(op: str, args: Sequence[Type]) -> tuple[int, ...]:
    shapes = {t.shape for t in args}
    need(len(shapes) == 1, f"{op}: operands must have one shape, got {sorted(shapes)}")
    return args[0].shape


def _same_frac(op: str, args: Sequence[Type]) -> int:
    fracs = {t.frac for t in args}
    need(len(fracs) == 1, f"{op}: operands must have equal fraction bits, got {sorted(fracs)}")
    return args[0].frac


def _public_fits(op: str, x: Type, p: Type) -> None:
    need(
        p.shape in ((), x.shape),
        f"{op}: the public operand must be a scalar or of shape {x.shape}, got {p.shape}",
    )


def _is_ring(op: str, *ts: Type) -> None:
    for t in ts:
        need(t.width == 0, f"{op}: needs ring elements, got bits of width {t.width}")


# --- constants and shapes: any kind, local ---------------------------------------------------


@local("reshape", "*", "shape", "same elements in row-major order, another shape")
def _reshape(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape = tuple(attrs["shape"])
    need(math.prod(shape) == args[0].size, f"reshape: {args[0].shape} does not fit {shape}")
    return args[0].with_(shape=shape)


@local("transpose", "*", "permutation", "axes permuted as numpy.transpose does")
def _transpose(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    perm = tuple(attrs["permutation"])
    shape = args[0].shape
    need(sorted(perm) == list(range(len(shape))), f"transpose: {perm} is no permutation of {shape}")
    return args[0].with_(shape=tuple(shape[i] for i in perm))


@local("broadcast", "*", "shape dims", "lax.broadcast_in_dim: operand axis i becomes axis dims[i]")
def _broadcast(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape, dims = tuple(attrs["shape"]), tuple(attrs["dims"])
    old = args[0].shape
    fits = len(dims) == len(old) and all(
        0 <= d < len(shape) and n in (1, shape[d]) for n, d in zip(old, dims, strict=False)
    )
    need(fits and list(dims) == sorted(set(dims)), f"broadcast: {old} to {shape} along {dims}")
    return args[0].with_(shape=shape)


@local("slice", "*", "start limit stride", "numpy basic slicing in every axis, strides positive")
def _slice(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape = args[0].shape
    start, limit, stride = attrs["start"], attrs["limit"], attrs["stride"]
    fits = len(start) == len(limit) == len(stride) == len(shape) and all(
        0 <= a <= b <= n and s >= 1 for a, b, s, n in zip(start, limit, stride, shape, strict=True)
    )
    need(fits, f"slice: {start}:{limit}:{stride} does not fit {shape}")
    new = tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, stride, strict=True))
    return args[0].with_(shape=new)


@local("reverse", "*", "axes", "elements in reverse order along the axes")
def _reverse(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    rank = len(args[0].shape)
    need(all(0 <= a < rank for a in attrs["axes"]), f"reverse: axes {attrs['axes']} of {rank}")
    return args[0]


@local("concat", "*+", "axis", "operands of one kind joined along an axis")
def _concat(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    axis, first = attrs["axis"], args[0]
    rank = len(first.shape)
    need(0 <= axis < rank, f"concat: axis {axis} of a rank {rank} value")
    for t in args:
        alike = (t.kind, t.frac, t.width) == (first.kind, first.frac, first.width)
        rest = t.shape[:axis] + t.shape[axis + 1 :] == first.shape[:axis] + first.shape[axis + 1 :]
        need(alike and rest and len(t.shape) == rank, f"concat: {t} does not go with {first}")
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in args)
    los, his = [t.lo for t in args], [t.hi for t in args]
    lo = None if None in los else min(x for x in los if x is not None)
    hi = None if None in his else max(x for x in his if x is not None)
    return first.with_(shape=tuple(shape), lo=lo, hi=hi)


@local("pad", "*", "low high interior", "lax.pad with zeros, negative low and high crop")
def _pad(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    t = args[0]
    low, high, interior = attrs["low"], attrs["high"], attrs["interior"]
    need(len(low) == len(high) == len(interior) == len(t.shape), "pad: one entry per axis needed")
    shape = tuple(
        max(0, n + a + b + max(0, n - 1) * i)
        for n, a, b, i in zip(t.shape, low, high, interior, strict=True)
    )
    t = t.with_(shape=shape)
    return t if t.bounds is None else t.with_(lo=min(t.bounds[0], 0), hi=max(t.bounds[1], 0))


@local(
    "take", "*p", "shape", "result[i] = operand.ravel()[index.ravel()[i]], public index in range"
)
def _take(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape = tuple(attrs["shape"])
    _is_ring("take", args[1])
    need(math.prod(shape) == args[1].size, f"take: {args[1].size} indices do not fill {shape}")
    if args[1].bounds is not None and args[1].size:
        lo, hi = args[1].bounds
        need(lo >= 0 and hi < args[0].size, f"take: index range {lo}..{hi} of {args[0].size}")
    return args[0].with_(shape=shape)


@local("window", "*p", "sizes", "x[s_0:s_0+n_0, ...] at a public start s, one entry per axis cut")
def _window(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, start = args
    sizes = tuple(attrs["sizes"])
    _starts("window", x, start, sizes)
    return x.with_(shape=(*sizes, *x.shape[len(sizes) :]))


@local("put", "**p", "", "x with y written over x[s_0:s_0+n_0, ...] at a public start s")
def _put(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, y, start = args
    alike = (x.kind, x.frac, x.width, len(x.shape)) == (y.kind, y.frac, y.width, len(y.shape))
    need(alike and start.size == len(x.shape), f"put: {y} does not go into {x}")
    _starts("put", x, start, y.shape)
    if x.bounds is None or y.bounds is None:
        return x.with_(lo=None, hi=None)
    return x.with_(lo=min(x.bounds[0], y.bounds[0]), hi=max(x.bounds[1], y.bounds[1]))


def _starts(op: str, x: Type, start: Type, sizes: tuple[int, ...]) -> None:
    """Starts are in the range that the VM relies on by their bounds, which hold for all axes."""
    _is_ring(op, start)
    need(start.shape == (len(sizes),) and len(sizes) <= len(x.shape), f"{op}: start {start.shape}")
    room = [n - m for n, m in zip(x.shape, sizes, strict=False)]
    need(min(sizes, default=0) >= 0 and min(room, default=0) >= 0, f"{op}: {sizes} of {x.shape}")
    need(
        start.size == 0 or (start.lo is not None and start.lo >= 0),
        f"{op}: the start may be negative",
    )


@local("add_pp", "pp", "", "p + q of public ring elements, one of them may be a scalar")
def _add_pp(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, _ = _public_pair("add_pp", args)
    return _add_bounds(ring, Type("p", x.shape, _same_frac("add_pp", args)), args, (1, 1))


@local("mul_pp", "pp", "", "p * q of public ring elements, one of them may be a scalar")
def _mul_pp(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, y = _public_pair("mul_pp", args)
    return _product_bounds(ring, Type("p", x.shape, x.frac + y.frac), x, y, 1, 0)


@local("rem_p", "p", "modulus", "p modulo a positive number, of public elements that are not < 0")
def _rem_p(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, modulus = args[0], attrs["modulus"]
    _is_ring("rem_p", x)
    positive = x.size == 0 or (x.lo is not None and x.lo >= 0)
    need(modulus > 0 and positive, "rem_p: needs p >= 0 and modulus > 0")
    return x.with_(lo=0, hi=min(modulus - 1, x.magnitude(modulus)))


@local("clip_p", "p", "range", "p, a public signed number, clipped to (lo, hi)")
def _clip_p(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, (lo, hi) = args[0], attrs["range"]
    _is_ring("clip_p", x)
    need(lo <= hi, f"clip_p: empty range {attrs['range']}")
    if x.lo is None or x.hi is None:
        return ranged(x, ring, lo, hi)
    return x.with_(lo=min(max(x.lo, lo), hi), hi=max(min(x.hi, hi), lo))


def _public_pair(op: str, args: Sequence[Type]) -> tuple[Type, Type]:
    x, y = sorted(args, key=lambda t: t.shape == ())
    _public_fits(op, x, y)
    _is_ring(op, x, y)
    return x, y


# --- linear arithmetic, local ----------------------------------------------------------------


@local("add_aa", "aa", "", "x + y")
def _add_aa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape, frac = _same_shape("add_aa", args), _same_frac("add_aa", args)
    return _add_bounds(ring, Type("a", shape, frac), args, (1, 1))


@local("sub_aa", "aa", "", "x - y")
def _sub_aa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape, frac = _same_shape("sub_aa", args), _same_frac("sub_aa", args)
    return _add_bounds(ring, Type("a", shape, frac), args, (1, -1))


@local("lincomb_a", "a+", "coefficients", "sum of c_i * x_i with public integers c_i, in one pass")
def _lincomb_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    shape, frac = _same_shape("lincomb_a", args), _same_frac("lincomb_a", args)
    coefs = attrs["coefficients"]
    need(len(coefs) == len(args), f"lincomb_a: {len(coefs)} coefficients, {len(args)} operands")
    return _add_bounds(ring, Type("a", shape, frac), args, coefs)


@local("neg_a", "a", "", "-x")
def _neg_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _add_bounds(ring, Type("a", args[0].shape, args[0].frac), args, (-1,))


@local("add_ap", "ap", "", "x + p")
def _add_ap(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, p = args
    _public_fits("add_ap", x, p)
    _is_ring("add_ap", p)
    return _add_bounds(ring, Type("a", x.shape, _same_frac("add_ap", args)), args, (1, 1))


@local("sub_pa", "pa", "", "p - x")
def _sub_pa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    p, x = args
    _public_fits("sub_pa", x, p)
    _is_ring("sub_pa", p)
    return _add_bounds(ring, Type("a", x.shape, _same_frac("sub_pa", args)), args, (1, -1))


@local("mul_ap", "ap", "", "x * p in the ring; fraction bits add up")
def _mul_ap(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, p = args
    _public_fits("mul_ap", x, p)
    _is_ring("mul_ap", p)
    return _product_bounds(ring, Type("a", x.shape, x.frac + p.frac), x, p, 1, 0)


@local("shl_a", "a", "bits frac", "x * 2^bits; the result is declared to have `frac` fraction bits")
def _shl_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    need(0 <= attrs["bits"] < ring, f"shl_a: bits must be in 0..{ring - 1}")
    t = Type("a", args[0].shape, attrs["frac"])
    return _add_bounds(ring, t, args, (1 << attrs["bits"],))


@local(
    "retype_a", "a", "frac range", "same bits; new fraction bits; range () or a promised (lo, hi)"
)
def _retype_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    bounds = attrs["range"]
    need(len(bounds) in (0, 2), "retype_a: range must be () or (lo, hi)")
    t = args[0].with_(frac=attrs["frac"])
    if not bounds:
        return t
    need(bounds[0] <= bounds[1], f"retype_a: empty range {bounds}")
    return t.with_(lo=bounds[0], hi=bounds[1])


@local("sum_a", "a", "axes", "sum over axes")
def _sum_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x = args[0]
    axes = attrs["axes"]
    need(len(set(axes)) == len(axes) and all(0 <= a < len(x.shape) for a in axes), "sum_a: axes")
    count = math.prod(x.shape[a] for a in axes)
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    t = Type("a", shape, x.frac)
    return _add_bounds(ring, t, (x,), (count,)) if count else t.with_(lo=0, hi=0)


def _dot(op: str, ring: int, x: Type, y: Type, trunc: int, form: str = "narrow") -> Type:
    fits = (
        len(x.shape) == len(y.shape) == 3 and x.shape[0] == y.shape[0] and x.shape[2] == y.shape[1]
    )
    need(fits, f"{op}: needs [B,M,K] and [B,K,N], got {x.shape} and {y.shape}")
    _is_ring(op, x, y)
    t = Type("a", (x.shape[0], x.shape[1], y.shape[2]), x.frac + y.frac - trunc)
    return _product_bounds(ring, t, x, y, x.shape[2], trunc, form)


@local("dot_ap", "ap", "", "batched matrix product x[B,M,K] @ p[B,K,N]; fraction bits add up")
def _dot_ap(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _dot("dot_ap", ring, args[0], args[1], 0)


@local("dot_pa", "pa", "", "batched matrix product p[B,M,K] @ x[B,K,N]; fraction bits add up")
def _dot_pa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _dot("dot_pa", ring, args[0], args[1], 0)


# --- products and truncation -----------------------------------------------------------------


def _check_form(op: str, ring: int, x: Type, y: Type, terms: int, attrs: Any) -> None:
    trunc, form = attrs["trunc"], attrs["form"]
    need(form in ("narrow", "full"), f"{op}: form must be narrow or full, got {form!r}")
    need(0 <= trunc < ring - 2, f"{op}: cannot truncate {trunc} of {ring} bits")
    if trunc == 0:
        need(form == "narrow", f"{op}: an exact product has no full form")
    elif form == "full":
        need(trunc % 2 == 0, f"{op}: the full form needs an even number of bits, got {trunc}")
    else:
        bound = 1 << (ring - 2)
        worst = x.magnitude(bound) * y.magnitude(bound) * terms
        need(
            worst < bound,
            f"{op}: the narrow form needs |x*y| < 2^{ring - 2}; the ranges give {worst}",
        )


@interactive("mul_aa", "aa", "trunc form", "x * y / 2^trunc; rounding is stochastic, exact on ties")
def _mul_aa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, y = args
    shape = _same_shape("mul_aa", args)
    _check_form("mul_aa", ring, x, y, 1, attrs)
    t = Type("a", shape, x.frac + y.frac - attrs["trunc"])
    return _product_bounds(ring, t, x, y, 1, attrs["trunc"], attrs["form"])


@interactive("dot_aa", "aa", "trunc form", "batched matrix product [B,M,K]@[B,K,N] / 2^trunc")
def _dot_aa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, y = args
    t = _dot("dot_aa", ring, x, y, attrs["trunc"], attrs["form"])
    _check_form("dot_aa", ring, x, y, x.shape[2], attrs)
    return t


@interactive("trunc_a", "a", "bits", "x / 2^bits, stochastic rounding; needs |x| < 2^(ring-2)")
def _trunc_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, bits = args[0], attrs["bits"]
    need(0 < bits < ring - 2, f"trunc_a: cannot truncate {bits} of {ring} bits")
    t = x.with_(frac=x.frac - bits)
    if x.bounds is None:
        return t
    return t.with_(lo=x.bounds[0] >> bits, hi=-(-x.bounds[1] >> bits))


@interactive("trunc_sum_a", "a+", "coefficients bits", "sum of c_i * x_i, then as trunc_a")
def _trunc_sum_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    total = _lincomb_a(ring, args, {"coefficients": attrs["coefficients"]})
    need(
        total.magnitude(1 << (ring - 1)) < 1 << (ring - 2),
        f"trunc_sum_a: the ranges do not prove that the sum is below 2^{ring - 2}",
    )
    return _trunc_a(ring, (total,), {"bits": attrs["bits"]})


@local("round_a", "a", "bits", "x near an odd multiple of 2^(bits-1), whose lower bits say nothing")
def _round_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, bits = args[0], attrs["bits"]
    need(0 < bits < ring - 2, f"round_a: cannot round {bits} of {ring} bits")
    most = 3 << bits - 1
    need(
        x.magnitude(1 << (ring - 1)) + most < 1 << (ring - 2),
        f"round_a: the range does not prove that the result is below 2^{ring - 2}",
    )
    assert x.bounds is not None  # otherwise it could not
    return x.with_(lo=x.bounds[0] - most, hi=x.bounds[1] + most)


@local("additive_dot_aa", "aa", "", "batched matrix product, exact, as additive shares")
def _additive_dot_aa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _dot("additive_dot_aa", ring, args[0], args[1], 0).with_(kind="z")


@local("round_z", "z", "bits range", "as round_a; range () or a promised (lo, hi)")
def _round_z(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    made, promised = _round_a(ring, args, attrs), attrs["range"]
    need(len(promised) in (0, 2), "round_z: range must be () or (lo, hi)")
    if not promised:
        return made
    need(promised[0] <= promised[1], f"round_z: empty range {promised}")
    return ranged(made, ring, *promised)


@interactive("reshare_z", "z", "", "the same value in replicated shares")
def _reshare_z(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return args[0].with_(kind="a")


@local("round_sum_a", "a+", "coefficients bits", "sum of c_i * x_i, then as round_a")
def _round_sum_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    total = _lincomb_a(ring, args, {"coefficients": attrs["coefficients"]})
    return _round_a(ring, (total,), {"bits": attrs["bits"]})


def _room(op: str, ring: int, factor: Type, terms: int, bits: int) -> None:
    need(0 < bits < ring - 2, f"{op}: cannot truncate {bits} of {ring} bits")
    largest = factor.magnitude(1 << (ring - 1)) if factor.size else 0
    need(
        terms * largest << bits < 1 << (ring - 2),
        f"{op}: {terms} x {factor.bounds} leaves no room for {bits} bits more in {ring}",
    )


def _scaled(op: str, ring: int, x: Type, factor: Type, bits: int) -> Type:
    _room(op, ring, factor, 1, bits)
    t = Type("a", x.shape, x.frac + factor.frac - bits)
    return _product_bounds(ring, t, x, factor, 1, bits)


@interactive("scale_ap", "ap", "bits", "x * p / 2^bits as trunc_a, for x of any size")
def _scale_ap(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    x, factors = args
    _public_fits("scale_ap", x, factors)
    _is_ring("scale_ap", factors)
    return _scaled("scale_ap", ring, x, factors, attrs["bits"])


@interactive("scale_dot_pa", "pa", "bits", "batched p[B,M,K] @ x[B,K,N] / 2^bits as scale_ap")
def _scale_dot_pa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    factors, x, bits = args[0], args[1], attrs["bits"]
    t = _dot("scale_dot_pa", ring, factors, x, bits)
    _room("scale_dot_pa", ring, factors, x.shape[1], bits)
    return t


@interactive("scale_sum_a", "a+", "coefficients factor bits", "sum of c_i * x_i, then as scale_ap")
def _scale_sum_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    total = _lincomb_a(ring, args, {"coefficients": attrs["coefficients"]})
    factor = Type("p", (), 0, 0, attrs["factor"], attrs["factor"])
    return _scaled("scale_sum_a", ring, total, factor, attrs["bits"])


# --- bits ------------------------------------------------------------------------------------


def _bits(shape: tuple[int, ...], width: int) -> Type:
    return Type("b", shape, 0, width)


def _same_bits(op: str, args: Sequence[Type]) -> Type:
    shape = _same_shape(op, args)
    need(len({t.width for t in args}) == 1 and args[0].width > 0, f"{op}: equal bit widths needed")
    return _bits(shape, args[0].width)


@interactive("msb_a", "a", "bits", "bit number bits-1 of x: its sign when |x| < 2^(bits-1)")
def _msb_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    need(2 <= attrs["bits"] <= ring, f"msb_a: bits must be in 2..{ring}, got {attrs['bits']}")
    return _bits(args[0].shape, 1)


@interactive("eqz_a", "a", "bits", "1 where x = 0 modulo 2^bits")
def _eqz_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    need(1 <= attrs["bits"] <= ring, f"eqz_a: bits must be in 1..{ring}, got {attrs['bits']}")
    return _bits(args[0].shape, 1)


@interactive("a2b", "a", "bits", "the low bits of x as Boolean shares")
def _a2b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    need(1 <= attrs["bits"] <= ring, f"a2b: bits must be in 1..{ring}, got {attrs['bits']}")
    return _bits(args[0].shape, attrs["bits"])


@interactive("b2a", "b", "", "Boolean shares read as an unsigned integer, as arithmetic shares")
def _b2a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return ranged(Type("a", args[0].shape), ring, 0, (1 << args[0].width) - 1)


@interactive("mul_ba", "ba", "", "bit * x (bit injection): x where the bit is 1, else 0")
def _mul_ba(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    b, x = args
    _same_shape("mul_ba", args)
    need(b.width == 1, f"mul_ba: needs a single bit, got width {b.width}")
    return x if x.bounds is None else x.with_(lo=min(x.bounds[0], 0), hi=max(x.bounds[1], 0))


@interactive("and_bb", "bb", "", "bitwise and")
def _and_bb(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _same_bits("and_bb", args)


@local("xor_bb", "bb", "", "bitwise exclusive or")
def _xor_bb(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _same_bits("xor_bb", args)


@local("xor_bp", "bp", "", "bitwise exclusive or with public bits")
def _xor_bp(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    b, p = args
    _public_fits("xor_bp", b, p)
    need(b.width == p.width, f"xor_bp: widths {b.width} and {p.width} differ")
    return _bits(b.shape, b.width)


@local("and_bp", "bp", "", "bitwise and with public bits")
def _and_bp(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    b, p = args
    _public_fits("and_bp", b, p)
    need(b.width == p.width, f"and_bp: widths {b.width} and {p.width} differ")
    return _bits(b.shape, b.width)


@local("not_b", "b", "", "bitwise not")
def _not_b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return args[0]


@local("bits_b", "b", "low width", "bits low .. low+width-1 of every element")
def _bits_b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    low, width = attrs["low"], attrs["width"]
    need(
        low >= 0 and 1 <= width <= args[0].width - low, f"bits_b: {low}+{width} of {args[0].width}"
    )
    return _bits(args[0].shape, width)


@local("shift_b", "b", "by width", "bits moved up `by` places (down if negative), low `width` kept")
def _shift_b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    by, width = attrs["by"], attrs["width"]
    need(1 <= width <= ring, f"shift_b: width must be in 1..{ring}, got {width}")
    need(-ring < by < ring, f"shift_b: cannot shift by {by} in {ring} bits")
    return _bits(args[0].shape, width)


@local(
    "random_b", "", "shape width draw", "uniform bits that no party knows, anew at each execution"
)
def _random_b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    need(1 <= attrs["width"] <= ring, f"random_b: width must be in 1..{ring}")
    return _bits(tuple(attrs["shape"]), attrs["width"])


# Local instructions that draw masks. `draw` keeps equal ones apart that shall not be the same.
DRAWING = frozenset({"random_b", "additive_dot_aa"})


@local("reverse_b", "b", "", "bit i becomes bit width-1-i")
def _reverse_b(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return args[0]


# --- order -----------------------------------------------------------------------------------


def _rows(op: str, x: Type) -> Type:
    need(len(x.shape) == 3 and x.size > 0, f"{op}: needs rows [B,N,C], got {x.shape}")
    return x


@interactive("shuffle_a", "a", "draw", "rows x[b, :] in a uniform secret order, each b its own")
def _shuffle_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    return _rows("shuffle_a", args[0])


@interactive("sort_a", "a", "keys lows sizes pairs", "rows x[b, :] sorted stably by first columns")
def _sort_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    """keys, lows: key column k is in lows[k] .. lows[k] + 2^keys[k] - 1, what is not is sorted
    otherwise; sizes: rows placed after each phase of the protocol; pairs: comparisons between new
    rows in each, all batches together.
    """
    x = _rows("sort_a", args[0])
    groups, rows, columns = x.shape
    keys, sizes, pairs = attrs["keys"], attrs["sizes"], attrs["pairs"]
    fits = 1 <= len(keys) <= columns and all(1 <= k < ring for k in keys)
    half, lows = 1 << (ring - 1), attrs["lows"]
    fits = fits and len(lows) == len(keys) and all(-half <= low < half for low in lows)
    need(fits, f"sort_a: keys {keys} from {lows} of {columns} columns in {ring} bits")
    rising = all(a < b and a & (a + 1) == 0 for a, b in pairwise(sizes))
    alike = len(sizes) == len(pairs)
    need(rows >= 2 and rising and alike, f"sort_a: sizes {sizes}, pairs {pairs}")
    first = groups * sizes[0] * (sizes[0] - 1) // 2 if sizes else 0
    need(sizes[-1:] == (rows,) and pairs[0] == first, f"sort_a: {sizes}, {pairs} for {rows} rows")
    return x


# --- look-ups ----------------------------------------------------------------------------------


def _index_fits(op: str, ring: int, size: int) -> None:
    need(2 <= size <= 1 << (ring - 1), f"{op}: a table of {size} rows in {ring} bits")


@interactive("one_hot_a", "a", "size", "numbers [..., size]: 1 at x mod 2^b, b bits of size - 1")
def _one_hot_a(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    _index_fits("one_hot_a", ring, attrs["size"])
    return Type("a", (*args[0].shape, attrs["size"]), 0, 0, 0, 1)


@interactive("lookup_pa", "pa", "bits", "row x / 2^bits mod 2^b of p[N,C], b bits of N - 1; else 0")
def _lookup_pa(ring: int, args: Sequence[Type], attrs: Any) -> Type:
    table, x, cut = args[0], args[1], attrs["bits"]
    _is_ring("lookup_pa", table)
    need(len(table.shape) == 2, f"lookup_pa: needs a table [N,C], got {table.shape}")
    rows = table.shape[0]
    _index_fits("lookup_pa", ring, rows)
    fits = 0 <= cut <= ring - (rows - 1).bit_length()
    need(fits, f"lookup_pa: cannot cut {cut} bits of an index into {rows} rows in {ring} bits")
    t = Type("a", (*x.shape, table.shape[1]), table.frac)
    if table.bounds is None:
        return t
    lo, hi = table.bounds
    if x.bounds is None or x.bounds[0] < 0 or -(-x.bounds[1] >> cut) >= rows:
        lo, hi = min(lo, 0), max(hi, 0)
    return t.with_(lo=lo, hi=hi)


# `const` is typed by its array, `loop` by its body; protocols do not see them, machines do:
# see builder.type_of_constant and loops.infer_loop.
OPS["const"] = Op("const", "", ("index",), "constant number `index`, public", _reshape, True)
OPS["loop"] = Op("loop", "*+", loops.ATTRS, "a body, run a public number of times", _reshape, False)
STRUCTURAL = frozenset(("const", "loop"))
