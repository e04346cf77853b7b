"""The single compilation policy of all kernels: cached on disk, without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.extending import overload

from spuvm.kernels import uint128  # noqa: F401  kernels may be compiled for 128 bits

_settings: Any = numba.config
if not (_settings.CPU_NAME or _settings.CPU_FEATURES):
    # LLVM avoids 512-bit vectors on many processors that have them; ring products gain half again
    # from them. There is no switch per function, only this one per process.
    _settings.CPU_NAME = llvmlite.binding.get_host_cpu_name()
    _settings.CPU_FEATURES = llvmlite.binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"

F = TypeVar("F", bound=Callable[..., Any])


class MachineCode(FunctionCache):
    """The cache of a kernel, which loads the compiler's tables only where something is compiled.

    They are two hundred modules: most of what a process needed for its first kernel. This uses
    what numba does not promise to keep; where it is gone, kernels are loaded in numba's own way.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found, usual = None, cast(Any, super())
        with suppress(AttributeError, OSError):
            rtsys.initialize(target_context)
            found = usual._load_overload(sig, target_context)
        return usual.load_overload(sig, target_context) if found is None else found


def kernel(fn: F) -> F:
    """Compile `fn` on first use per dtype; the machine code is cached beside the source.

    Where an output is also an input, loops that vectorise run their scalar version: right, but 2 to
    30 times slower. Callers pass pieces of apart arrays, or a copy that stays in the cache.
    """
    made: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(fn)
    cache: Any = MachineCode
    made._cache = cache(fn)
    return cast(F, made)


def compiled_for(feature: str) -> bool:
    """Whether kernels are compiled for a feature of processors, by LLVM's name: "avx2"."""
    features = _settings.CPU_FEATURES
    if features is None:  # a processor was named without its features
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return f"+{feature}" in features.split(",")


def bits_of(x: Any) -> int:
    """Bits of an element of `x`: in a kernel a constant, so that loops use lanes of that width."""
    return 8 * int(x.itemsize)


@overload(bits_of, inline="always")
def _bits_of(x: Any) -> Any:
    bits = x.dtype.bitwidth

    def made(x: Any) -> int:
        return bits  # type: ignore[no-any-return]

    return made
