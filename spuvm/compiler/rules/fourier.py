"""Complex numbers: refused, with what to use instead. Fourier transforms exist as real products."""

from __future__ import annotations

from typing import Any

from spuvm.compiler.context import Lowering
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Value
from spuvm.errors import CompileError


@rule("fft", "complex", "real", "imag", "conj")
def complex_numbers(low: Lowering, out: list[Out], *args: Value, **_: Any) -> Any:
    """Raise: a secret complex number would be two secrets, which no other rule knows of."""
    raise CompileError(
        "secret complex numbers are not supported",
        next="spuvm.functions has real_fft(x) -> (re, im) and inverse_real_fft(re, im, n) as "
        "products with public matrices; write other complex arithmetic in real and imaginary parts",
    )
