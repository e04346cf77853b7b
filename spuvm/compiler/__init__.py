"""From a JAX function to a program."""

from spuvm.compiler.assume import assume_range
from spuvm.compiler.bounded import bounded_while
from spuvm.compiler.config import CompileConfig, Compiled, SecretSpec
from spuvm.compiler.disclosure import Disclosure
from spuvm.compiler.driver import compile_function
from spuvm.compiler.rules import (
    combine,
    compare,
    control,
    conv,
    decomposition,
    elementwise,
    indexing,
    integer,
    linalg,
    mulhi,
    ragged,
    random,
    reduce,
    shape,
    sort,
    special,
    window,
)
from spuvm.compiler.rules import transcendental as _transcendental
from spuvm.compiler.rules import varying as _varying

FAMILIES = (
    combine,
    compare,
    control,
    conv,
    decomposition,
    elementwise,
    indexing,
    integer,
    linalg,
    mulhi,
    ragged,
    random,
    reduce,
    shape,
    sort,
    special,
    window,
    _transcendental,
    _varying,
)

__all__ = [
    "FAMILIES",
    "CompileConfig",
    "Compiled",
    "Disclosure",
    "SecretSpec",
    "assume_range",
    "bounded_while",
    "compile_function",
]
