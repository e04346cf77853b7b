"""Append-only construction of programs; every new value is typed by the instruction table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm.bytecode.isa import infer
from spuvm.bytecode.loops import infer_loop
from spuvm.bytecode.program import AttrValue, Input, Instruction, Output, Program
from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError
from spuvm.fxp import Fxp
from spuvm.ring import Ring


def type_of_constant(ring: Ring, array: npt.NDArray[Any], frac: int = 0, width: int = 0) -> Type:
    """Type of a public array: exact bounds of the signed values; public bits have none.

    `array` holds ring elements (width 0), single bits as uint8 (width 1) or the low `width` bits of
    ring elements.

    Raises:
        VerifyError: a dtype that does not go with the width.
    """
    want = np.dtype(np.uint8) if width == 1 else ring.dtype
    if array.dtype != want:
        raise VerifyError(
            f"a constant of width {width} holds {array.dtype}", expected=f"dtype {want}"
        )
    if width or not array.size:
        return Type("p", array.shape, frac, width)
    return Type("p", array.shape, frac, 0, *ring.signed_ends(array))


def clean_attr(value: Any) -> AttrValue:
    """An attribute value with plain ints and tuples in place of numpy integers and lists."""
    if type(value) is int or isinstance(value, str):
        return value
    if isinstance(value, (tuple, list, range)):
        return tuple(map(clean_attr, value))  # type: ignore[return-value]
    return int(value)


class Builder:
    """Collects inputs, constants, instructions and outputs; ids count up from 0."""

    def __init__(self, ring: Ring, fxp: Fxp) -> None:
        self.ring = ring
        self.fxp = fxp
        self.types: list[Type] = []  # of every value so far
        self._inputs: list[Input] = []
        self._constants: list[npt.NDArray[Any]] = []
        self._constant_index: dict[tuple[Any, ...], int] = {}
        self._constant_ids: dict[tuple[int, int, int], int] = {}
        self._instructions: list[Instruction] = []
        self._made_by: list[Instruction] = []  # per value that is no input
        self._outputs: list[Output] = []

    def type(self, value: int) -> Type:
        """Type of a value id."""
        return self.types[value]

    def instruction(self, value: int) -> Instruction | None:
        """The instruction that made a value; None for inputs."""
        first = len(self._inputs)
        return self._made_by[value - first] if value >= first else None

    def used(self, value: int) -> bool:
        """Whether an instruction takes a value."""
        return any(value in made.args for made in self._instructions)

    def source(self, value: int) -> str:
        """The user's line that made a value; "" for inputs."""
        made = self.instruction(value)
        return made.source if made is not None else ""

    def __len__(self) -> int:
        """Number of values so far."""
        return len(self.types)

    def input(self, type: Type, origin: str) -> int:
        """Add an input; all inputs come before the first instruction."""
        if self._instructions:
            raise VerifyError("inputs come before the first instruction")
        self._inputs.append(Input(type, origin))
        self.types.append(type)
        return len(self.types) - 1

    def constant(
        self, array: npt.NDArray[Any], frac: int = 0, width: int = 0, source: str = ""
    ) -> int:
        """Id of a public array of ring elements (or bits); equal constants share one id."""
        value = np.array(array, order="C", subok=True)
        if width == 0 and value.dtype != self.ring.dtype:
            value = self.ring.array(value)
        elif width == 1 and value.dtype == np.bool_:
            value = value.astype(np.uint8)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constant_index:
            value.setflags(write=False)
            self._constant_index[key] = len(self._constants)
            self._constants.append(value)
        index = self._constant_index[key]
        if (index, frac, width) not in self._constant_ids:
            made = type_of_constant(self.ring, value, frac, width)
            self._constant_ids[index, frac, width] = self._append(
                "const", (), made, {"index": index}, source
            )
        return self._constant_ids[index, frac, width]

    def emit(self, op: str, *args: int, source: str = "", **attrs: Any) -> int:
        """Append ``op args {attrs}`` and return the id of its result.

        Raises:
            VerifyError: operands or attributes do not fit the instruction table.
        """
        clean = {name: clean_attr(value) for name, value in attrs.items()}
        return self.emit_clean(op, args, clean, source)

    def emit_clean(
        self, op: str, args: tuple[int, ...], attrs: dict[str, AttrValue], source: str
    ) -> int:
        """The same of attributes that are plain already."""
        made = infer(self.ring.bits, op, [self.types[a] for a in args], attrs)
        return self._append(op, args, made, attrs, source)

    def begin_as(self, program: Program, count: int) -> None:
        """Take over inputs and the first `count` instructions, whose constants count up from 0."""
        begin = program.instructions[:count]
        constants = len({i.attrs["index"] for i in begin if i.op == "const"})
        self._inputs, self._instructions = list(program.inputs), list(begin)
        self._made_by = [i for i in begin for _ in i.results]
        self._constants = list(program.constants[:constants])
        self._constant_index = {(id(array),): n for n, array in enumerate(self._constants)}
        self.types = program.types[: len(self._inputs) + len(self._made_by)]

    def same(self, instruction: Instruction, args: tuple[int, ...]) -> int:
        """Append an instruction again, on operands of the types that it was inferred for."""
        return self._again(instruction, args, instruction.attrs)

    def same_constant(self, instruction: Instruction, array: npt.NDArray[Any]) -> int:
        """Append a `const` again; `array`, its own, is another than those of earlier calls."""
        key = (id(array),)  # the list of constants keeps it
        if key not in self._constant_index:
            self._constant_index[key] = len(self._constants)
            self._constants.append(array)
        index = self._constant_index[key]
        attrs = instruction.attrs if instruction.attrs["index"] == index else {"index": index}
        return self._again(instruction, (), attrs)

    def _again(
        self, old: Instruction, args: tuple[int, ...], attrs: Mapping[str, AttrValue]
    ) -> int:
        result = len(self.types)
        if old.results[0] != result or old.args != args or old.attrs is not attrs:
            old = Instruction(old.op, args, (result,), old.types, attrs, old.source)
        self.types.append(old.types[0])
        self._instructions.append(old)
        self._made_by.append(old)
        return result

    def loop(
        self, args: Sequence[int], body: Program, source: str = "", **attrs: Any
    ) -> tuple[int, ...]:
        """Append a ``loop`` with a verified body and return the ids of its results.

        Raises:
            VerifyError: operands, attributes and body do not go together.
        """
        clean = {name: clean_attr(value) for name, value in attrs.items()}
        made = infer_loop([self.types[a] for a in args], clean, body)
        return self._append_all("loop", args, made, clean, source, body)

    def _append(
        self, op: str, args: Sequence[int], made: Type, attrs: dict[str, AttrValue], source: str
    ) -> int:
        return self._append_all(op, args, (made,), attrs, source, None)[0]

    def _append_all(
        self,
        op: str,
        args: Sequence[int],
        made: tuple[Type, ...],
        attrs: dict[str, AttrValue],
        source: str,
        body: Program | None,
    ) -> tuple[int, ...]:
        first = len(self.types)
        self.types.extend(made)
        results = tuple(range(first, len(self.types)))
        instruction = Instruction(op, tuple(args), results, made, attrs, source, body)
        self._instructions.append(instruction)
        self._made_by.extend([instruction] * len(results))
        return results

    def output(self, value: int, dtype: str, name: str, origins: Sequence[str] = ()) -> None:
        """Declare an output: the value, the dtype it decodes to, its name and origins."""
        self.declare(Output(value, dtype, name, tuple(origins)))

    def declare(self, output: Output) -> None:
        """Declare an output of any kind."""
        self._outputs.append(output)

    def build(self, *, joined: bool = False) -> Program:
        """The finished program; see Program on `joined`."""
        made = Program(
            ring=self.ring.bits,
            frac_bits=self.fxp.frac_bits,
            inputs=tuple(self._inputs),
            constants=tuple(self._constants),
            instructions=tuple(self._instructions),
            outputs=tuple(self._outputs),
        )
        object.__setattr__(made, "joined", joined)
        return made
