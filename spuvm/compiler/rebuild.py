"""Copying a program instruction by instruction, and what a rewrite may ask about the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from operator import is_
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

    As long as nothing was left out or rewritten, instructions are taken over as they are; a program
    of which all are is returned itself.
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
        old = self.program
        for i, given in enumerate(old.inputs):
            self.new[i] = self.builder.input(given.type, given.origin)
        for instruction in old.instructions:
            if instruction.body is not None:
                self._copy_loop(instruction, instruction.body)
                continue
            replaced = rewrite(self, instruction) if instruction.op in ops else None
            result = instruction.results[0]
            self.new[result] = self.copy(instruction) if replaced is None else replaced
        for out in old.outputs:
            self.builder.output(self.new[out.value], out.dtype, out.name, out.origins)
        made = self.builder.build()
        alike = len(made.instructions) == len(old.instructions) and made.outputs == old.outputs
        if alike and all(map(is_, made.instructions, old.instructions)):
            return old
        return made

    def _copy_loop(self, loop: Instruction, body: Program) -> None:
        args = [self.new[a] for a in loop.args]
        made = self.builder.loop(args, body, loop.source, **loop.attrs)
        self.new.update(zip(loop.results, made, strict=True))

    def emit(self, op: str, *args: int, source: str = "", **attrs: Any) -> int:
        """Append to the new program (new ids); equal instructions are made once."""
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
        attrs = instruction.attrs
        key = (op, args, frozenset(attrs.items()) if attrs else NONE)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.builder.same(instruction, args)
            if op == "reshape":
                self._origin[known] = args[0]
        return known

    def _copy_constant(self, instruction: Instruction) -> int:
        t, index = instruction.types[0], _index(instruction)
        key = ("const", index, t.frac, t.width)
        if key not in self._known:
            array = self.program.constants[index]
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
