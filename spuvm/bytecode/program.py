"""The program as data: instructions in single assignment, inputs, constants, outputs, digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from spuvm.bytecode.types import Type

AttrValue = int | str | tuple[int, ...] | tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its type and the name of the party whose data it is."""

    type: Type
    origin: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """``results = op args {attrs}``; `results` are fresh value ids, one type each.

    Only ``loop`` has a `body`, a program of its own: see bytecode/loops.py.
    """

    op: str
    args: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[Type, ...]
    attrs: Mapping[str, AttrValue] = field(default_factory=dict)
    source: str = ""
    body: Program | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One output: which value, the JAX dtype it decodes to, a name for reports, its origins.

    divisor: what whoever decodes it divides by; more than 1 for the sum that a mean is made of.
    squares: the next program that takes it needs to know that it is a mean of squares, with more
        fraction bits than other values (compiler/moments.py).
    """

    value: int
    dtype: str
    name: str
    origins: tuple[str, ...] = ()
    divisor: int = 1
    squares: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """A typed, single-assignment program over shares; loops hold their bodies as programs.

    Value ids are 0 .. n-1 for the inputs, then one per instruction result in order. Constants are
    ring-encoded arrays (or bits as uint8) that `const` instructions name by index. Programs are
    equal when their texts are.

    joined  whoever built it made equal instructions once, and no reshape of a reshape; what
            dataclasses.replace makes of it is not.
    """

    ring: int
    frac_bits: int
    inputs: tuple[Input, ...]
    constants: tuple[npt.NDArray[Any], ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Output, ...]
    joined: bool = field(default=False, init=False)

    @cached_property
    def types(self) -> list[Type]:
        """Type of every value id."""
        made = [x.type for x in self.inputs]
        for instruction in self.instructions:
            made += instruction.types
        return made

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text form without source lines: the program's identity."""
        from spuvm.bytecode.text import to_text

        return hashlib.sha256(to_text(self, sources=False).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        from spuvm.bytecode.text import to_text

        return to_text(self)


def live_values(program: Program) -> set[int]:
    """Ids of what some output depends on."""
    live = {out.value for out in program.outputs}
    for instruction in reversed(program.instructions):
        if not live.isdisjoint(instruction.results):
            live.update(instruction.args)
    return live
