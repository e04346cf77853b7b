"""The text form of a program: printed, parsed back exactly, hashed for the digest.

    program ring=64 frac=18
    input %0 : a.f18[3] in [-8, 8] from "alice"
    constant 0 : u64[2] = 1, 18446744073709551615
    %1 = const {index=0} : p[2] in [-1, 1]  # model.py:12
    output %1 : float32 "out" from "alice", "bob"

A type is its kind, ``.f18`` fraction bits or ``.w8`` bit width (nothing for 0), shape, bounds.
``output %1 / 10`` is divided by 10 when it is decoded, ``output %1 of squares`` is such a mean.
Longer constants are base64 of the little-endian bytes. ``  # `` starts the user's source line.
The lines after a ``loop`` are its body, indented, up to ``end``.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spuvm import wide
from spuvm.bytecode.isa import OPS
from spuvm.bytecode.program import AttrValue, Input, Instruction, Output, Program
from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError

INLINE = 8  # elements; longer constants are printed as base64
_DTYPES = {"u8": "|u1", "u32": "<u4", "u64": "<u8", "u128": "|V16"}
_NAMES = {np.dtype(v): k for k, v in _DTYPES.items()}


def to_text(program: Program, sources: bool = True) -> str:
    """Print a program; without `sources` the text depends on nothing but what is computed."""
    head = f"program ring={program.ring} frac={program.frac_bits}"
    return "\n".join([head, *_lines(program, sources)]) + "\n"


def _lines(program: Program, sources: bool) -> list[str]:
    lines = []
    for i, given in enumerate(program.inputs):
        lines.append(f"input %{i} : {type_text(given.type)} from {json.dumps(given.origin)}")
    for i, array in enumerate(program.constants):
        lines.append(f"constant {i} : {_constant_text(array)}")
    for instruction in program.instructions:
        lines.append(instruction_text(instruction, sources))
        if instruction.body is not None:
            lines += ["  " + line for line in _lines(instruction.body, sources)]
            lines.append("end")
    for out in program.outputs:
        origins = ", ".join(json.dumps(o) for o in out.origins)
        tail = f" from {origins}" if origins else ""
        by = f" / {out.divisor}" if out.divisor != 1 else ""
        by += " of squares" if out.squares else ""
        lines.append(f"output %{out.value}{by} : {out.dtype} {json.dumps(out.name)}{tail}")
    return lines


def instruction_text(instruction: Instruction, sources: bool = True) -> str:
    """One line, for example ``%7 = add_aa %3, %5 : a.f18[3]  # model.py:12``."""
    results = ", ".join(f"%{r}" for r in instruction.results)
    args = "".join(", " * bool(i) + f"%{a}" for i, a in enumerate(instruction.args))
    line = f"{results} = {instruction.op}"
    line += f" {args}" if args else ""
    if instruction.attrs:
        line += f" {{{_attrs_text(instruction.op, instruction.attrs)}}}"
    line += " : " + ", ".join(type_text(t) for t in instruction.types)
    if sources and instruction.source:
        line += "  # " + instruction.source.replace("\\", "\\\\").replace("\n", "\\n")
    return line


def type_text(t: Type) -> str:
    """A type, for example ``a.f18[3,4] in [-1024, 1024]``."""
    text = t.kind + (f".f{t.frac}" if t.frac else "") + (f".w{t.width}" if t.width else "")
    text += "[" + ",".join(map(str, t.shape)) + "]"
    return text if t.bounds is None else f"{text} in [{t.lo}, {t.hi}]"


def _attrs_text(op: str, attrs: Mapping[str, AttrValue]) -> str:
    order = {name: i for i, name in enumerate(OPS[op].attrs)} if op in OPS else {}
    names = sorted(attrs, key=lambda name: (order.get(name, len(order)), name))
    return ", ".join(f"{name}={_attr_text(attrs[name])}" for name in names)


def _attr_text(value: AttrValue) -> str:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_]\w*", value):
        return json.dumps(value)
    return str(value)


def _constant_text(array: npt.NDArray[Any]) -> str:
    head = f"{_NAMES[array.dtype]}[{','.join(map(str, array.shape))}] = "
    if array.size <= INLINE:
        return head + ", ".join(str(int(v)) for v in wide.elements(array).ravel())
    return head + "base64 " + base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# --- parsing ---------------------------------------------------------------------------------

_TYPE = r"([pabz])(?:\.f(-?\d+))?(?:\.w(\d+))?\[([\d,]*)\](?: in \[(-?\d+), (-?\d+)\])?"
_STRING = r'"(?:[^"\\]|\\.)*"'
_HEAD = re.compile(r"program ring=(\d+) frac=(\d+)")
_INPUT = re.compile(rf"input %(\d+) : ({_TYPE}) from ({_STRING})")
_CONSTANT = re.compile(r"constant (\d+) : (u\d+)\[([\d,]*)\] = (base64 )?(.*)")
_OUTPUT = re.compile(
    rf"output %(\d+)(?: / (\d+))?( of squares)? : (\w+) ({_STRING})"
    rf"(?: from ((?:{_STRING}(?:, )?)+))?"
)
_VALUE = rf"(?:-?\d+|\w+|{_STRING}|\((?:[^()\"]|\([^()]*\))*\))"
_ATTRS = rf"(?:\w+={_VALUE}(?:, )?)*"
_IDS = r"%\d+(?:, %\d+)*"
_LINE = re.compile(
    rf"({_IDS}) = (\w+)(?: ({_IDS}))?(?: \{{({_ATTRS})\}})? : ({_TYPE}(?:, {_TYPE})*)(?:  # (.*))?"
)


class _Parts:
    """What was read so far of a program or of the body of a loop, whose line is `opened_by`."""

    def __init__(self, opened_by: Instruction | None) -> None:
        self.opened_by = opened_by
        self.inputs: list[Input] = []
        self.constants: list[npt.NDArray[Any]] = []
        self.instructions: list[Instruction] = []
        self.outputs: list[Output] = []

    def program(self, ring: int, frac_bits: int) -> Program:
        return Program(
            ring,
            frac_bits,
            tuple(self.inputs),
            tuple(self.constants),
            tuple(self.instructions),
            tuple(self.outputs),
        )


def parse(text: str) -> Program:
    """Read the text form back; ``parse(to_text(p))`` has the text and the digest of `p`.

    Raises:
        VerifyError: a line that is not in the text form (the message has its number).
    """
    ring = frac_bits = -1
    stack = [_Parts(None)]
    for number, line in enumerate(text.split("\n"), start=1):
        indent = "  " * (len(stack) - 1)
        if not line:
            continue
        if len(stack) > 1 and line == indent[2:] + "end":
            body = stack.pop()
            assert body.opened_by is not None
            made = replace(body.opened_by, body=body.program(ring, frac_bits))
            stack[-1].instructions.append(made)
        elif len(stack) == 1 and (m := _HEAD.fullmatch(line)):
            ring, frac_bits = int(m[1]), int(m[2])
        elif not line.startswith(indent) or not _line(stack, line[len(indent) :], number):
            raise VerifyError(f"line {number} is not in the text form", got=line[:120])
    if len(stack) > 1:
        raise VerifyError("the text stops inside of a loop", expected="a line 'end'")
    if ring < 0:
        raise VerifyError("the text has no 'program' line")
    return stack[0].program(ring, frac_bits)


def _line(stack: list[_Parts], line: str, number: int) -> bool:
    """Read a line of the innermost program or body; False if it is none."""
    parts = stack[-1]
    if m := _INPUT.fullmatch(line):
        parts.inputs.append(Input(_parse_type(m[2]), json.loads(m[9])))
    elif m := _CONSTANT.fullmatch(line):
        parts.constants.append(_parse_constant(m, number))
    elif m := _OUTPUT.fullmatch(line):
        origins = tuple(json.loads(o) for o in re.findall(_STRING, m[6] or ""))
        name, divisor, squares = json.loads(m[5]), int(m[2] or 1), m[3] is not None
        parts.outputs.append(Output(int(m[1]), m[4], name, origins, divisor, squares))
    elif m := _LINE.fullmatch(line):
        made = _parse_instruction(m)
        if made.op == "loop":
            stack.append(_Parts(made))
        else:
            parts.instructions.append(made)
    else:
        return False
    return True


def _ids(text: str | None) -> tuple[int, ...]:
    return tuple(int(i) for i in re.findall(r"\d+", text or ""))


def _parse_type(text: str) -> Type:
    m = re.fullmatch(_TYPE, text)
    assert m is not None  # the caller matched it
    lo, hi = (int(m[5]), int(m[6])) if m[5] is not None else (None, None)
    return Type(m[1], _ids(m[4]), int(m[2] or 0), int(m[3] or 0), lo, hi)  # type: ignore[arg-type]


def _parse_instruction(m: re.Match[str]) -> Instruction:
    attrs = {
        name: _parse_value(value) for name, value in re.findall(rf"(\w+)=({_VALUE})", m[4] or "")
    }
    types = tuple(_parse_type(t[0]) for t in re.findall(rf"({_TYPE})", m[5]))
    source = re.sub(r"\\(.)", lambda e: "\n" if e[1] == "n" else e[1], m[m.re.groups] or "")
    return Instruction(m[2], _ids(m[3]), _ids(m[1]), types, attrs, source)


def _parse_value(text: str) -> AttrValue:
    if text.startswith(("(", '"')) or re.fullmatch(r"-?\d+", text):
        value: AttrValue = json.loads(text) if text.startswith('"') else ast.literal_eval(text)
        return value
    return text


def _parse_constant(m: re.Match[str], number: int) -> npt.NDArray[Any]:
    shape = _ids(m[3])
    try:
        dtype = np.dtype(_DTYPES[m[2]])
        if m[4]:
            flat = wide.elements(np.frombuffer(base64.b64decode(m[5], validate=True), dtype))
        else:
            flat = _integers([int(v) for v in m[5].split(",") if v.strip()], dtype)
        array = flat.reshape(shape)
    except (KeyError, ValueError, OverflowError) as error:
        raise VerifyError(f"line {number}: malformed constant", got=m[0][:120]) from error
    array.setflags(write=False)
    return array


def _integers(values: list[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if any(v < 0 or v >> 8 * dtype.itemsize for v in values):
        raise OverflowError(f"a constant beyond {8 * dtype.itemsize} bits")
    return wide.array(values, dtype)
