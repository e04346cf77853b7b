"""The verifier: a program that passes is well-formed in every way a VM relies on."""

from __future__ import annotations

from spuvm.bytecode.builder import type_of_constant
from spuvm.bytecode.isa import infer
from spuvm.bytecode.loops import infer_loop
from spuvm.bytecode.program import Instruction, Program
from spuvm.bytecode.types import Type
from spuvm.errors import VerifyError
from spuvm.ring import Ring


def verify(program: Program) -> Program:
    """Return `program` unchanged, or raise.

    Checked: single assignment with ids counting up, definition before use, every stated type equal
    to the one that the instruction table infers, constants, inputs, outputs, bodies of loops.

    Raises:
        VerifyError: the text names the instruction number, and the user's source line if known.
    """
    ring = Ring(program.ring)
    types: list[Type] = []
    for i, given in enumerate(program.inputs):
        _check_type(f"input {i}", given.type, ring)
        types.append(given.type)
    for number, instruction in enumerate(program.instructions):
        where = f"instruction {number} ({instruction.op})"
        try:
            types.extend(_check(program, ring, instruction, types))
        except VerifyError as error:
            raise VerifyError(
                f"{where}: {error.message}",
                at=error.at or instruction.source or None,
                got=error.got,
                expected=error.expected,
            ) from error
    for i, out in enumerate(program.outputs):
        if not 0 <= out.value < len(types):
            raise VerifyError(f"output {i} ({out.name}): value %{out.value} does not exist")
        if (out.dtype == "bool") != (types[out.value].width == 1):
            raise VerifyError(
                f"output {i} ({out.name}): dtype {out.dtype} does not go with "
                f"{types[out.value].kind} of width {types[out.value].width}"
            )
        if out.divisor < 1 or (out.divisor > 1 and (types[out.value].kind != "a")):
            raise VerifyError(
                f"output {i} ({out.name}): divided by {out.divisor}",
                expected="an arithmetic value, divided by 1 or more",
            )
    return program


def _check(
    program: Program, ring: Ring, instruction: Instruction, types: list[Type]
) -> tuple[Type, ...]:
    expected = tuple(range(len(types), len(types) + len(instruction.types)))
    if instruction.results != expected or (instruction.body is None and len(expected) != 1):
        raise VerifyError(
            "results must be assigned once and count up",
            got=" ".join(f"%{r}" for r in instruction.results) or "nothing",
            expected=" ".join(f"%{r}" for r in expected) or f"%{len(types)}",
        )
    for a in instruction.args:
        if not 0 <= a < len(types):
            raise VerifyError(f"value %{a} is used before it is defined")
    for stated in instruction.types:
        _check_type("result", stated, ring)
    want = _inferred(program, ring, instruction, [types[a] for a in instruction.args])
    if want != instruction.types:
        raise VerifyError(
            "the stated type is not the inferred one",
            got=", ".join(map(str, instruction.types)),
            expected=", ".join(map(str, want)),
        )
    return want


def _inferred(
    program: Program, ring: Ring, instruction: Instruction, args: list[Type]
) -> tuple[Type, ...]:
    op, attrs = instruction.op, instruction.attrs
    if (op == "loop") != (instruction.body is not None):
        raise VerifyError("a loop has a body, and nothing else has")
    if op == "const":
        return (_type_of_const(program, ring, instruction, instruction.types[0]),)
    try:
        if instruction.body is None:
            return (infer(program.ring, op, args, attrs),)
        return infer_loop(args, attrs, _body(program, instruction.body))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise VerifyError(f"malformed attributes {dict(attrs)}") from error


def _body(program: Program, body: Program) -> Program:
    if (body.ring, body.frac_bits) != (program.ring, program.frac_bits):
        raise VerifyError("the body is for another ring or other fraction bits")
    return verify(body)


def _type_of_const(program: Program, ring: Ring, instruction: Instruction, stated: Type) -> Type:
    index = instruction.attrs.get("index")
    if set(instruction.attrs) != {"index"} or not isinstance(index, int):
        raise VerifyError(f"attributes ['index'] expected, got {sorted(instruction.attrs)}")
    if instruction.args:
        raise VerifyError(f"takes 0 operands, got {len(instruction.args)}")
    if not 0 <= index < len(program.constants):
        raise VerifyError(f"constant {index} does not exist")
    # Fraction bits and width are not in the array: they are what the instruction states.
    return type_of_constant(ring, program.constants[index], stated.frac, stated.width)


def _check_type(what: str, t: Type, ring: Ring) -> None:
    half = 1 << (ring.bits - 1)
    width_fits = {
        "p": 0 <= t.width <= ring.bits,
        "a": t.width == 0,
        "b": 1 <= t.width <= ring.bits,
        "z": t.width == 0,
    }
    if t.kind not in width_fits:
        raise VerifyError(f"{what}: unknown kind {t.kind!r}")
    if not width_fits[t.kind]:
        raise VerifyError(f"{what}: kind {t.kind} cannot have width {t.width}")
    if any(n < 0 for n in t.shape):
        raise VerifyError(f"{what}: negative size in shape {t.shape}")
    if (t.lo is None) != (t.hi is None):
        raise VerifyError(f"{what}: one bound without the other")
    if t.bounds is not None and not -half <= t.bounds[0] <= t.bounds[1] < half:
        raise VerifyError(f"{what}: bounds {t.bounds} are empty or outside the ring")
    if t.width and (t.frac or t.bounds is not None):
        raise VerifyError(f"{what}: bits have neither fraction bits nor bounds")
