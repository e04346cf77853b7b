"""Program -> Program rewrites: fewer rounds and bytes, same meaning, still well-formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import cast

from spuvm.bytecode.program import Instruction, Program, live_values
from spuvm.bytecode.types import Type
from spuvm.compiler.rebuild import Rebuild, Rewrite

Pass = Callable[[Program], Program]
Place = tuple[int, ...]


def everywhere(run_pass: Pass, program: Program) -> Program:
    """A pass on the bodies of all loops, the innermost first, and on the program itself."""
    bodies = [i.body and everywhere(run_pass, i.body) for i in program.instructions]
    if any(body is not i.body for i, body in zip(program.instructions, bodies, strict=True)):
        instructions = tuple(
            i if body is i.body else replace(i, body=body)
            for i, body in zip(program.instructions, bodies, strict=True)
        )
        program = replace(program, instructions=instructions)
    return run_pass(program)


def dce(program: Program) -> Program:
    """Leave out what no output depends on, constants included; join equal instructions."""
    live = live_values(program)
    kept = tuple(i for i in program.instructions if not live.isdisjoint(i.results))
    types = program.types
    if program.joined and len(kept) == len(program.instructions):
        return program
    if len(kept) < len(program.instructions):
        program = replace(program, instructions=kept)
    return Rebuild(program, types).run(lambda r, i: None)


def rewritten(program: Program, rewrite: Rewrite, *ops: str) -> Program:
    """What `rewrite` makes of instructions `ops`; bodies of loops may have changed before."""
    joined = program.joined or not any(i.body is not None for i in program.instructions)
    if joined and not any(i.op in ops for i in program.instructions):
        return program
    return Rebuild(program).run(rewrite, *ops)


def number(instruction: Instruction, name: str) -> int:
    """An integer attribute."""
    value = instruction.attrs[name]
    assert isinstance(value, int)
    return value


def drop_retypes(program: Program) -> Program:
    """A retype of a retype, or one that its operand's own type makes superfluous, goes away."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        x = r.new[i.args[0]]
        old, new = r.builder.type(x), i.types[0]
        if old.frac == new.frac and within(old, new):
            return x
        return None

    return rewritten(program, rewrite, "retype_a")


def within(inner: Type, outer: Type) -> bool:
    """The bounds of `inner` imply those of `outer`."""
    if outer.bounds is None:
        return True
    if inner.bounds is None:
        return False
    return outer.bounds[0] <= inner.bounds[0] and inner.bounds[1] <= outer.bounds[1]


def join_slices(program: Program) -> Program:
    """Slices of one value that are joined again in its order: one slice, or the value itself."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        axis, parts = number(i, "axis"), [r.made(a, "slice") for a in i.args]
        boxes = [_box(part) for part in parts if part is not None]
        if None in parts or None in boxes or len({part.args for part in parts if part}) > 1:
            return None
        starts, limits = zip(*(box for box in boxes if box is not None), strict=True)
        start, limit = starts[0], _at(limits[0], axis, limits[-1][axis])
        for before, after in pairwise(range(len(boxes))):
            if starts[after] != _at(start, axis, limits[before][axis]):
                return None
        (x,) = {r.new[part.args[0]] for part in parts if part is not None}
        if any(start) or r.builder.type(x).shape != limit:
            steps = (1,) * len(start)
            x = r.emit("slice", x, source=i.source, start=start, limit=limit, stride=steps)
        have, want = r.builder.type(x), i.types[0]
        same = have.with_(lo=None, hi=None) == want.with_(lo=None, hi=None)
        return x if same and within(have, want) else None

    return rewritten(program, rewrite, "concat")


def _box(part: Instruction) -> tuple[Place, Place] | None:
    """Where a slice begins and ends in each axis, unless it skips elements."""
    start, limit, stride = (part.attrs[name] for name in ("start", "limit", "stride"))
    if cast(Place, stride) != (1,) * len(cast(Place, stride)):
        return None
    return cast(Place, start), cast(Place, limit)


def _at(place: Place, axis: int, value: int) -> Place:
    return (*place[:axis], value, *place[axis + 1 :])


def fuse_truncation(program: Program) -> Program:
    """A product that is only truncated becomes one instruction: two rounds instead of three."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        chain = r.only_use(i.args[0], ("reshape", "retype_a"))
        product = r.made(chain[-1], "mul_aa") or r.made(chain[-1], "dot_aa")
        if product is None or product.attrs["trunc"] != 0 or r.uses[chain[-1]] != 1:
            return None
        args = [r.new[a] for a in product.args]
        bits = number(i, "bits")
        bound = 1 << (program.ring - 2)
        worst = r.types[product.args[0]].shape[-1] if product.op == "dot_aa" else 1
        for a in args:
            worst *= r.builder.type(a).magnitude(bound)
        if worst >= bound:  # the range was proven by other means than by the operands
            return None
        made = r.emit(product.op, *args, source=product.source, trunc=bits, form="narrow")
        return r.shaped(made, i.types[0])

    return rewritten(program, rewrite, "trunc_a")


def weighted_sums(program: Program) -> Program:
    """A sum over products with a factor that is spread along the kept axes is a matrix product."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        product = r.made(i.args[0], "mul_aa") or r.made(i.args[0], "mul_ap")
        if product is None or r.uses[i.args[0]] != 1:
            return None
        if product.op == "mul_aa" and product.attrs["trunc"] != 0:
            return None
        shape, axes = product.types[0].shape, i.attrs["axes"]
        if not isinstance(axes, tuple) or axes != tuple(range(len(axes))) or not axes:
            return None
        if not product.types[0].size:
            return None
        for factor, other in (product.args, product.args[::-1]):
            weights = r.spread_along(factor, len(axes))
            if weights is None:
                continue
            if product.op == "mul_ap" and factor != product.args[1]:
                continue
            return _as_dot(r, i, product, weights, other, shape, len(axes))
        return None

    return rewritten(program, rewrite, "sum_a")


def _as_dot(
    r: Rebuild,
    total: Instruction,
    product: Instruction,
    weights: int,
    other: int,
    shape: tuple[int, ...],
    axes: int,
) -> int:
    inner = 1
    for n in shape[:axes]:
        inner *= n
    columns = total.types[0].size
    left = r.emit("reshape", weights, source=product.source, shape=(1, 1, inner))
    right = r.emit("reshape", r.new[other], source=product.source, shape=(1, inner, columns))
    if product.op == "mul_ap":
        made = r.emit("dot_pa", left, right, source=total.source)
    else:
        made = r.emit("dot_aa", left, right, source=total.source, trunc=0, form="narrow")
    return r.shaped(made, total.types[0])


def sums_of_products(program: Program) -> Program:
    """A sum of products of two secrets is sent as the sum: batched dot products of rows."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        product = r.made(i.args[0], "mul_aa")
        if product is None or product.attrs["trunc"] != 0 or r.uses[i.args[0]] != 1:
            return None
        shape, axes, count = product.types[0].shape, i.attrs["axes"], i.types[0].size
        assert isinstance(axes, tuple)
        inner = product.types[0].size // max(1, count)
        if inner < 2:
            return None
        kept = [d for d in range(len(shape)) if d not in axes]
        order, rows = (*kept, *axes), []
        for a in product.args:
            moved = r.new[a]
            if order != tuple(range(len(shape))):
                moved = r.emit("transpose", moved, source=product.source, permutation=order)
            rows.append(moved)
        left = r.emit("reshape", rows[0], source=product.source, shape=(count, 1, inner))
        right = r.emit("reshape", rows[1], source=product.source, shape=(count, inner, 1))
        made = r.emit("dot_aa", left, right, source=i.source, trunc=0, form="narrow")
        return r.shaped(made, i.types[0])

    return rewritten(program, rewrite, "sum_a")


def fuse_sum_truncation(program: Program) -> Program:
    """A public combination that is only truncated or rounded is never stored."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        chain = r.only_use(i.args[0], ("reshape", "retype_a"))
        total = r.made(chain[-1], "lincomb_a")
        if total is None or r.uses[chain[-1]] != 1:
            return None
        coefficients, bits = total.attrs["coefficients"], number(i, "bits")
        both, more = ("trunc_sum_a", 0) if i.op == "trunc_a" else ("round_sum_a", 3 << bits - 1)
        most = r.builder.type(r.new[chain[-1]]).magnitude(1 << program.ring)
        if most + more >= 1 << (program.ring - 2):
            return None  # the range was promised later, not proven by the operands
        args = [r.new[a] for a in total.args]
        made = r.emit(both, *args, source=total.source, coefficients=coefficients, bits=bits)
        return r.shaped(made, i.types[0])

    return rewritten(program, rewrite, "trunc_a", "round_a")


def fuse_scaled_sum(program: Program) -> Program:
    """A public combination that is only scaled is never stored either.

    No range is asked for: that the sum is representable is what the scaling relies on as well.
    """

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        chain = r.only_use(i.args[0], ("reshape", "retype_a"))
        total, factor = r.made(chain[-1], "lincomb_a"), r.made(i.args[1], "const")
        if total is None or factor is None or r.uses[chain[-1]] != 1 or factor.types[0].shape:
            return None
        made = r.emit(
            "scale_sum_a",
            *(r.new[a] for a in total.args),
            source=total.source,
            coefficients=total.attrs["coefficients"],
            factor=factor.types[0].lo or 0,
            bits=number(i, "bits"),
        )
        return r.shaped(made, i.types[0])

    return rewritten(program, rewrite, "scale_ap")


def split_rows(program: Program) -> Program:
    """A truncated sum over the leading axis becomes a combination of its rows, which are views."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        if i.attrs["axes"] != (0,):
            return None
        shape = r.types[i.args[0]].shape
        if not 2 <= shape[0] <= MOST_ROWS or i.types[0].size < LEAST_COLUMNS:
            return None
        flat = r.emit(
            "reshape", r.new[i.args[0]], source=i.source, shape=(shape[0], i.types[0].size)
        )
        rows = [
            r.emit(
                "slice",
                flat,
                source=i.source,
                start=(k, 0),
                limit=(k + 1, i.types[0].size),
                stride=(1, 1),
            )
            for k in range(shape[0])
        ]
        total = r.emit("lincomb_a", *rows, source=i.source, coefficients=(1,) * shape[0])
        return r.shaped(total, i.types[0])

    return rewritten(program, rewrite, "sum_a")


MOST_ROWS = 128
LEAST_COLUMNS = 1024
LINEAR = ("add_aa", "sub_aa", "neg_a", "lincomb_a", "shl_a", "mul_ap")
Terms = list[tuple[int, int]]


def combine_sums(program: Program) -> Program:
    """Trees of sums and public scalings, and sums over joined rows, become one lincomb_a."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        if i.op in LINEAR:
            terms = _terms(r, i)
            if terms is None or _inner(r, i) == 0:
                return None
        else:
            terms = _rows(r, i)
            if terms is None:
                return None
        merged: dict[int, int] = {}
        for value, coefficient in terms:
            merged[value] = merged.get(value, 0) + coefficient
        args = [r.reshaped(v, i.types[0].shape) for v in merged]
        fracs = [r.builder.type(v).frac for v in args]
        args = [
            v if f == fracs[0] else r.emit("retype_a", v, frac=fracs[0], range=())
            for v, f in zip(args, fracs, strict=True)
        ]
        made = r.emit("lincomb_a", *args, source=i.source, coefficients=tuple(merged.values()))
        return r.shaped(made, i.types[0])

    return rewritten(program, rewrite, *LINEAR, "sum_a", "dot_pa")


def _coefficients(r: Rebuild, i: Instruction) -> list[tuple[int, int]] | None:
    """(old value, coefficient) per operand of a linear instruction; None if not by scalars."""
    if i.op == "lincomb_a":
        coefficients = i.attrs["coefficients"]
        assert isinstance(coefficients, tuple)
        return [(a, c) for a, c in zip(i.args, coefficients, strict=True) if isinstance(c, int)]
    if i.op == "shl_a":
        return [(i.args[0], 1 << number(i, "bits"))]
    if i.op == "mul_ap":
        constant = r.constant_of(i.args[1])
        if constant is None or constant.size != 1 or not r.scalar(i.args[1]):
            return None
        return [(i.args[0], int(constant[0]))]
    signs = {"add_aa": (1, 1), "sub_aa": (1, -1), "neg_a": (-1,)}[i.op]
    return list(zip(i.args, signs, strict=True))


def _inner(r: Rebuild, i: Instruction) -> int:
    """How many operands of a linear instruction can be merged into it."""
    found = 0
    for value, _ in _coefficients(r, i) or ():
        inner = _behind(r, value)
        found += inner is not None and _coefficients(r, inner) is not None
    return found


def _behind(r: Rebuild, value: int) -> Instruction | None:
    """The linear instruction behind a value that nothing else uses, reshapes looked through."""
    inner = r.made_by.get(r.only_use(value, ("reshape",))[-1])
    if inner is None or inner.op not in LINEAR or r.uses[inner.results[0]] != 1:
        return None
    return inner if r.uses[value] == 1 else None


def _terms(r: Rebuild, i: Instruction) -> Terms | None:
    """New ids and coefficients of a tree of sums and scalings whose inner results are used once."""
    parts = _coefficients(r, i)
    if parts is None:
        return None
    found: Terms = []
    waiting = parts[::-1]
    while waiting:  # of any depth: a sum over many clients is as deep as they are many
        value, factor = waiting.pop()
        inner = _behind(r, value)
        below = None if inner is None else _coefficients(r, inner)
        if below is None:
            found.append((r.new[value], factor))
        else:
            waiting += [(v, factor * c) for v, c in reversed(below)]
    return found


def _rows(r: Rebuild, i: Instruction) -> Terms | None:
    """Terms of a sum over the leading axis of rows that were joined only for it."""
    if i.op == "sum_a":
        if i.attrs["axes"] != (0,):
            return None
        stack, weights = i.args[0], None
    else:
        weights = r.constant_of(i.args[0])
        shape = i.types[0].shape
        if weights is None or shape[0] != 1 or shape[1] != 1:
            return None
        stack = i.args[1]
        reshaped = r.made(stack, "reshape")
        if reshaped is not None and r.uses[stack] == 1:
            stack = reshaped.args[0]
    joined = r.made(stack, "concat")
    if joined is None or joined.attrs["axis"] != 0 or r.uses[stack] != 1:
        return None
    rows = [r.builder.type(r.new[a]) for a in joined.args]
    if any(t.shape[0] != 1 or t.size != i.types[0].size for t in rows):
        return None
    values = [1] * len(rows) if weights is None else [int(w) for w in weights]
    if len(values) != len(rows):
        return None
    shape = i.types[0].shape
    return [(r.reshaped(r.new[a], shape), w) for a, w in zip(joined.args, values, strict=True)]


PASSES: tuple[Pass, ...] = (
    dce,
    drop_retypes,
    join_slices,
    weighted_sums,
    sums_of_products,
    dce,
    split_rows,
    combine_sums,
    dce,
    combine_sums,
    fuse_truncation,
    fuse_sum_truncation,
    fuse_scaled_sum,
    dce,
)


def optimised(program: Program) -> Program:
    """The program after all passes, in the bodies of its loops too."""
    for run_pass in PASSES:
        program = everywhere(run_pass, program)
    return program
