"""Program -> Program rewrites: shorter, cheaper, same meaning. Each leaves a well-formed program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Instruction, Program
from spuvm.fxp import Fxp
from spuvm.ring import Ring

Pass = Callable[[Program], Program]
Emit = Callable[..., int]
Rewrite = Callable[["Rebuild", Instruction], int | None]


class Rebuild:
    """A program being copied instruction by instruction; a rewrite may replace any of them."""

    def __init__(self, program: Program) -> None:
        ring = Ring(program.ring)
        self.program = program
        self.builder = Builder(ring, Fxp(ring, program.frac_bits))
        self.new: dict[int, int] = {}
        self.made_by = {i.results[0]: i for i in program.instructions}
        self.uses = count_uses(program)
        self._known: dict[tuple[object, ...], int] = {}

    def made(self, value: int, op: str) -> Instruction | None:
        """The instruction that made an old value, if it is an `op`."""
        instruction = self.made_by.get(value)
        return instruction if instruction is not None and instruction.op == op else None

    def emit(self, op: str, *args: int, source: str = "", **attrs: object) -> int:
        """Append to the new program (new ids); equal instructions are made once."""
        key = (op, args, tuple(sorted(attrs.items(), key=lambda item: item[0])))
        if key not in self._known:
            self._known[key] = self.builder.emit(op, *args, source=source, **attrs)
        return self._known[key]

    def run(self, rewrite: Rewrite) -> Program:
        """The new program."""
        old = self.program
        for i, given in enumerate(old.inputs):
            self.new[i] = self.builder.input(given.type, given.origin)
        for instruction in old.instructions:
            result = instruction.results[0]
            replaced = rewrite(self, instruction)
            self.new[result] = self.copy(instruction) if replaced is None else replaced
        for out in old.outputs:
            self.builder.output(self.new[out.value], out.dtype, out.name, out.origins)
        return self.builder.build()

    def copy(self, instruction: Instruction) -> int:
        """The same instruction on the new operands."""
        if instruction.op == "const":
            array = self.program.constants[int(instruction.attrs["index"])]  # type: ignore[arg-type]
            t = instruction.types[0]
            return self.builder.constant(array, t.frac, t.width, instruction.source)
        args = [self.new[a] for a in instruction.args]
        return self.emit(instruction.op, *args, source=instruction.source, **instruction.attrs)


def count_uses(program: Program) -> dict[int, int]:
    """How often each value is an operand or an output."""
    uses: dict[int, int] = {}
    for instruction in program.instructions:
        for a in instruction.args:
            uses[a] = uses.get(a, 0) + 1
    for out in program.outputs:
        uses[out.value] = uses.get(out.value, 0) + 1
    return uses


def dce(program: Program) -> Program:
    """Leave out what no output depends on, constants included."""
    live = {out.value for out in program.outputs}
    kept: list[Instruction] = []
    for instruction in reversed(program.instructions):
        if instruction.results[0] in live:
            kept.append(instruction)
            live.update(instruction.args)
    return Rebuild(replace(program, instructions=tuple(kept[::-1]))).run(lambda r, i: None)


def fuse_truncation(program: Program) -> Program:
    """A product that is only truncated becomes one instruction: two rounds instead of three."""

    def rewrite(r: Rebuild, i: Instruction) -> int | None:
        if i.op != "trunc_a":
            return None
        source = skip_retypes(r, i.args[0])
        product = r.made(source, "mul_aa") or r.made(source, "dot_aa")
        if product is None or product.attrs["trunc"] != 0 or source != i.args[0]:
            return None
        if r.uses[source] != 1:
            return None
        args = [r.new[a] for a in product.args]
        bits = i.attrs["bits"]
        return r.emit(product.op, *args, source=product.source, trunc=bits, form="narrow")

    return Rebuild(program).run(rewrite)


def skip_retypes(r: Rebuild, value: int) -> int:
    """The value itself; retypes between a product and its truncation only narrow a range."""
    return value


PASSES: tuple[Pass, ...] = (dce, fuse_truncation, dce)
