"""Copying a program instruction by instruction, and what a rewrite may ask about the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Instruction, Program
from spuvm.bytecode.types import Type
from spuvm.fxp import Fxp
from spuvm.ring import Ring

Rewrite = Callable[["Rebuild", Instruction], int | None]


NONE: frozenset[Any] = frozenset()


class Rebuild:
    """An old program, the new one being built, and the new id of every old value.

    Of a program that was made here nothing is copied before something changes, because copies would
    be what is there: until then ids are the old ones, and where nothing changes it is returned
    itself.
    """

    def __init__(self, program: Program, types: list[Type] | None = None) -> None:
        """`types` are those of all values where some of the program's ids are left out."""
        self.program = program
        self.types = program.types if types is None else types
        self.ring = Ring(program.ring)
        self.builder = Builder(self.ring, Fxp(self.ring, program.frac_bits))
        self.new: dict[int, int] = {}
        self._known: dict[tuple[object, ...], int] = {}
        self._origin: dict[int, int] = {}  # what a reshape was made of
        self._taken: int | None = None  # instructions to be taken over once something changes

    @cached_property
    def made_by(self) -> dict[int, Instruction]:
        """The instruction that made an old value."""
        return {r: i for i in self.program.instructions for r in i.results}

    @cached_property
    def uses(self) -> dict[int, int]:
        """How often each old value is an operand or an output."""
        return count_uses(self.program)

    def run(self, rewrite: Rewrite, *ops: str) -> Program:
        """The new program: what `rewrite` returns for an instruction, or a copy where None.

        `rewrite` is asked about instructions `ops`.
        """
        old, place = self.program, 0
        if old.joined:
            self.builder.types = old.types
            self.new = {value: value for value in range(len(old.types))}
            changed = self._first_change(rewrite, ops)
            if changed is None:
                return old
            place = changed
        else:
            for i, given in enumerate(old.inputs):
                self.new[i] = self.builder.input(given.type, given.origin)
        for instruction in old.instructions[place:]:
            if instruction.body is not None:
                self._copy_loop(instruction, instruction.body)
                continue
            replaced = rewrite(self, instruction) if instruction.op in ops else None
            result = instruction.results[0]
            self.new[result] = self.copy(instruction) if replaced is None else replaced
        for out in old.outputs:
            self.builder.declare(replace(out, value=self.new[out.value]))
        return self.builder.build(joined=True)

    def _first_change(self, rewrite: Rewrite, ops: Sequence[str]) -> int | None:
        """The place behind the first instruction that is rewritten; None if none is."""
        for place, instruction in enumerate(self.program.instructions):
            if instruction.op not in ops:
                continue
            self._taken = place
            replaced = rewrite(self, instruction)
            if replaced is None and self._taken is not None:
                continue
            self._take_over()
            result = instruction.results[0]
            self.new[result] = self.copy(instruction) if replaced is None else replaced
            return place + 1
        return None

    def _take_over(self) -> None:
        """Have the new program begin as the old one does, if it has not begun."""
        if self._taken is None:
            return
        begin = self.program.instructions[: self._taken]
        self._taken = None
        self.builder.begin_as(self.program, len(begin))
        for i in begin:
            if i.body is None:
                self._known[self._key(i, i.args)] = i.results[0]
            if i.op == "reshape":
                self._origin[i.results[0]] = i.args[0]

    def _copy_loop(self, loop: Instruction, body: Program) -> None:
        args = [self.new[a] for a in loop.args]
        made = self.builder.loop(args, body, loop.source, **loop.attrs)
        self.new.update(zip(loop.results, made, strict=True))

    def emit(self, op: str, *args: int, source: str = "", **attrs: Any) -> int:
        """Append to the new program (new ids); equal instructions are made once."""
        self._take_over()
        if op == "reshape":
            args = (self._origin.get(args[0], args[0]),)
            if self.builder.type(args[0]).shape == tuple(attrs["shape"]):
                return args[0]
        key = (op, args, frozenset(attrs.items()) if attrs else NONE)
        if key not in self._known:
            self._known[key] = self.builder.emit(op, *args, source=source, **attrs)
            if op == "reshape":
                self._origin[self._known[key]] = args[0]
        return self._known[key]

    def copy(self, instruction: Instruction) -> int:
        """The same instruction on the new operands."""
        op = instruction.op
        if op == "const":
            return self._copy_constant(instruction)
        new, types, made = self.new, self.types, self.builder.types
        args = tuple([new[a] for a in instruction.args])
        for a, old in zip(args, instruction.args):  # noqa: B905 -- as many by construction
            if made[a] is not types[old] and made[a] != types[old]:
                changed = True
                break
        else:
            changed = op == "reshape" and (
                args[0] in self._origin or made[args[0]].shape == instruction.types[0].shape
            )
        if changed:
            return self.emit(op, *args, source=instruction.source, **instruction.attrs)
        key = self._key(instruction, args)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.builder.same(instruction, args)
            if op == "reshape":
                self._origin[known] = args[0]
        return known

    def _key(self, instruction: Instruction, args: tuple[int, ...]) -> tuple[object, ...]:
        """What equal instructions have in common."""
        op, attrs = instruction.op, instruction.attrs
        if op == "const":
            t = instruction.types[0]
            return (op, _index(instruction), t.frac, t.width)
        return (op, args, frozenset(attrs.items()) if attrs else NONE)

    def _copy_constant(self, instruction: Instruction) -> int:
        key = self._key(instruction, ())
        if key not in self._known:
            array = self.program.constants[_index(instruction)]
            self._known[key] = self.builder.same_constant(instruction, array)
        return self._known[key]

    def made(self, value: int, op: str) -> Instruction | None:
        """The instruction that made an old value, if it is an `op`."""
        instruction = self.made_by.get(value)
        return instruction if instruction is not None and instruction.op == op else None

    def only_use(self, value: int, ops: Sequence[str]) -> list[int]:
        """`value` and what it was made of by `ops` (old ids), as long as nothing else uses it."""
        chain = [value]
        while True:
            instruction = self.made_by.get(chain[-1])
            if instruction is None or instruction.op not in ops or self.uses[chain[-1]] != 1:
                return chain
            chain.append(instruction.args[0])

    def reshaped(self, value: int, shape: tuple[int, ...]) -> int:
        """A new value in another shape."""
        if self.builder.type(value).shape == shape:
            return value
        return self.emit("reshape", value, shape=shape)

    def shaped(self, value: int, t: Type) -> int:
        """A new value with the shape and fraction bits of `t`, and its bounds where tighter."""
        value = self.reshaped(value, t.shape)
        have = self.builder.type(value)
        if have.frac != t.frac:
            value = self.emit("retype_a", value, frac=t.frac, range=())
        if t.bounds is None:
            return value
        lo, hi = t.bounds
        if have.bounds is not None:
            lo, hi = max(lo, have.bounds[0]), min(hi, have.bounds[1])
        if have.bounds == (lo, hi) or lo > hi:
            return value
        return self.emit("retype_a", value, frac=t.frac, range=(lo, hi))

    def constant_of(self, value: int) -> npt.NDArray[Any] | None:
        """Signed elements of an old value that is a (reshaped) ring constant, flat."""
        while (instruction := self.made_by.get(value)) is not None and instruction.op == "reshape":
            value = instruction.args[0]
        instruction = self.made(value, "const")
        if instruction is None or instruction.types[0].width:
            return None
        array = self.program.constants[_index(instruction)]
        return np.asarray(self.ring.signed(np.asarray(array, order="C"))).ravel()

    def scalar(self, value: int) -> bool:
        """An old value has shape ()."""
        return self.types[value].shape == ()

    def spread_along(self, value: int, axes: int) -> int | None:
        """New id of the values behind a broadcast that repeats along all but the first axes.

        None if `value` is not one, or if it repeats along the first axes too.
        """
        instruction = self.made(value, "broadcast")
        if instruction is None:
            return None
        shape = instruction.types[0].shape
        small = self.types[instruction.args[0]]
        dims = instruction.attrs["dims"]
        assert isinstance(dims, tuple)
        kept = {d: n for d, n in zip(dims, small.shape, strict=True) if n != 1}
        if set(kept) != {d for d in range(axes) if shape[d] != 1} or len(shape) == axes:
            return None
        return self.new[instruction.args[0]]


def count_uses(program: Program) -> dict[int, int]:
    """How often each value is an operand or an output."""
    uses: dict[int, int] = {}
    for instruction in program.instructions:
        for a in instruction.args:
            uses[a] = uses.get(a, 0) + 1
    for out in program.outputs:
        uses[out.value] = uses.get(out.value, 0) + 1
    return uses


def _index(instruction: Instruction) -> int:
    index = instruction.attrs["index"]
    assert isinstance(index, int)
    return index
