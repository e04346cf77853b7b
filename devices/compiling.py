"""From a function and its arguments to a program, once: what SPU calls and simulate share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.compiler import CompileConfig, Compiled, SecretSpec, compile_function
from spuvm.devices.calls import name_of
from spuvm.devices.config import Config
from spuvm.devices.crossings import widest_type
from spuvm.devices.failure import line_of, source_line
from spuvm.devices.recent import Recent
from spuvm.devices.statics import Bound, exactly, rebind
from spuvm.devices.structure import ArraySpec, Shared
from spuvm.errors import CompileError, CostWarning, RangeWarning, SpuvmError, UsageError
from spuvm.fxp import Fxp

Watch = Literal["nothing", "equations"]
KEPT = 256  # compiled programs kept per SPU
Again = Callable[[Sequence[Any]], Compiled]  # compiles with constants of another party
Agree = Callable[[Compiled, Again], Compiled]
_JOINT = "+"  # joins the names of several parties whose data one input depends on


def secret(leaf: Shared) -> SecretSpec:
    """What the compiler is told about a shared array."""
    origin = _JOINT.join(leaf.origins)
    frac = None if np.dtype(leaf.spec.dtype).kind in "iub" else leaf.frac  # bfloat16 is a "V"
    return SecretSpec(
        leaf.spec.shape,
        leaf.spec.dtype,
        origin,
        leaf.lo,
        leaf.hi,
        frac,
        leaf.divisor,
        leaf.squares,
    )


def split_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """Names of parties from the origins of a program's values."""
    return tuple(sorted({name for origin in origins for name in origin.split(_JOINT) if name}))


class Programs:
    """Compiled programs by function and arguments; the least recently used one is forgotten."""

    def __init__(self, config: Config, watch: Watch = "nothing") -> None:
        fxp = config.fxp
        self._watch = watch
        self._config = CompileConfig(fxp.ring, fxp, config.on_overflow)
        self._known: Recent[Hashable, tuple[Compiled, bool]] = Recent(KEPT)

    def get(
        self,
        fn: Callable[..., Any],
        bound: Bound,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        agree: Agree | None = None,
    ) -> Compiled:
        """The program of ``fn(*args, **kwargs)``; leaves are SecretSpecs or public constants.

        `agree` is asked once for a program that is going to run.
        """
        leaves, treedef = jax.tree.flatten((args, kwargs))
        facts = tuple(_fact(leaf) for leaf in leaves)
        key: Hashable = (fn, exactly(bound), treedef, facts, widest_type())
        try:
            found = self._known.get(key)
        except TypeError:  # a callable that cannot be hashed: compiled every time
            key, found = None, None
        compiled, agreed = found or (self._compile(fn, bound, args, kwargs), False)
        if found is None:
            for text in compiled.warnings:
                warnings.warn(text, RangeWarning, stacklevel=4)
            for text in compiled.notes:
                warnings.warn(text, CostWarning, stacklevel=4)
        if agree is not None and not agreed:
            compiled = agree(compiled, lambda c: self._compile(fn, bound, args, kwargs, c))
            agreed = True
        if key is not None:
            self._known.put(key, (compiled, agreed))
        return compiled

    def _compile(
        self,
        fn: Callable[..., Any],
        bound: Bound,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        constants: Sequence[Any] | None = None,
    ) -> Compiled:
        try:
            return compile_function(
                rebind(fn, bound),
                args,
                kwargs,
                config=self._config,
                constants=constants,
                watch=self._watch,
            )
        except CompileError as error:
            if (
                placed := error.placed(line_of(error.__cause__ or error) or source_line())
            ) is error:
                raise
            raise placed from error
        except SpuvmError:
            raise
        except Exception as error:  # the user's own, or JAX's about shapes and dtypes
            raise CompileError(
                f"{name_of(fn)} failed while it was traced: {type(error).__name__}: {error}",
                at=line_of(error) or source_line() or None,
            ) from error


def results_of(compiled: Compiled) -> tuple[Shared, ...]:
    """How the outputs of a program are to be read."""
    found = []
    for out, (shape, dtype) in zip(compiled.program.outputs, compiled.out_specs, strict=True):
        t = compiled.program.types[out.value]
        lo, hi = None, None
        if t.bounds is not None and not t.width:
            lo, hi = (v / (out.divisor << t.frac) for v in t.bounds)
            if t.frac > compiled.program.frac_bits:
                lo, hi = _roomy(lo, hi, 2.0 ** (compiled.program.ring - 3 - t.frac))
        spec = ArraySpec(tuple(shape), str(np.dtype(dtype)))
        origins = split_origins(out.origins)
        additive = t.kind == "z"
        found.append(
            Shared(spec, t.frac, t.width, origins, lo, hi, out.divisor, out.squares, additive)
        )
    return tuple(found)


def _roomy(lo: float, hi: float, most: float) -> tuple[float, float]:
    """Bounds to powers of 16, of a mean that goes from call to call: soon they are the same."""
    top = 16.0 ** math.ceil(math.log(max(-lo, hi, 2.0**-32), 16))
    return ((-top if lo < 0 else 0.0), top) if top < most else (lo, hi)


def _fact(leaf: Any) -> Hashable:
    if isinstance(leaf, SecretSpec):
        return leaf
    if isinstance(leaf, bool | int | float | complex):
        return exactly(leaf)
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(leaf))
        return str(jax.random.key_impl(leaf)), data.shape, data.tobytes()
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise UsageError("an argument is not an array", got=type(leaf).__name__) from error
    if array.dtype.kind not in "biufV":
        raise UsageError(
            "a public argument must be an array of numbers",
            got=type(leaf).__name__,
            next="make it static with static_argnames, or capture it in the function",
        )
    return type(leaf), array.shape, str(array.dtype), array.tobytes()


def resharing(fxp: Fxp, leaves: Sequence[Shared]) -> Program:
    """A program that gives every array in replicated shares: additive ones are re-shared."""
    builder = Builder(fxp.ring, fxp)
    given = []
    for leaf in leaves:
        kind: Any = "z" if leaf.additive else "b" if leaf.width else "a"
        t = Type(kind, leaf.spec.shape, leaf.frac, leaf.width)
        given.append(builder.input(t, _JOINT.join(leaf.origins)))
    for i, (leaf, x) in enumerate(zip(leaves, given, strict=True)):
        made = builder.emit("reshare_z", x) if leaf.additive else x
        builder.output(made, leaf.spec.dtype, str(i), leaf.origins)
    return builder.build()


def sum_of_parts(fxp: Fxp, leaves: Sequence[Shared]) -> Program:
    """A program that adds three additive parts of every array; the parts are uniform."""
    builder = Builder(fxp.ring, fxp)
    parts = []
    for leaf in leaves:
        kind: Any = "b" if leaf.width else "a"
        t = Type(kind, leaf.spec.shape, leaf.frac, leaf.width)
        parts.append([builder.input(t, _JOINT.join(leaf.origins)) for _ in range(3)])
    for i, (leaf, (first, second, third)) in enumerate(zip(leaves, parts, strict=True)):
        add = "xor_bb" if leaf.width else "add_aa"
        total = builder.emit(add, builder.emit(add, first, second), third)
        builder.output(total, leaf.spec.dtype, str(i), leaf.origins)
    return builder.build()
