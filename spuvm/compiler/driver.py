"""compile_function: trace, lower, optimise, verify, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from spuvm.bytecode.program import Output
from spuvm.bytecode.verify import verify
from spuvm.compiler import facts, sums
from spuvm.compiler.additive import additive_results
from spuvm.compiler.complexes import split
from spuvm.compiler.config import CompileConfig, Compiled
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.disclosure import disclosures, with_origins
from spuvm.compiler.lower import lower_closed
from spuvm.compiler.moment_facts import Squared
from spuvm.compiler.overflow import by_line, unproven
from spuvm.compiler.passes import optimised
from spuvm.compiler.rules import missing, terms
from spuvm.compiler.trace import Traced, trace
from spuvm.compiler.values import Value, kind_of, lift, public_result
from spuvm.compiler.watching import leave_out_squares, values_of


def compile_function(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    config: CompileConfig,
    constants: Sequence[Any] | None = None,
    watch: Literal["nothing", "equations"] = "nothing",
) -> Compiled:
    """Compile ``fn(*args, **kwargs)`` to a program.

    Leaves of the arguments that are SecretSpec are the program's inputs, in the order of
    jax.tree_util; every other leaf is a public constant. The same call always gives the same
    program. Results that depend on no secret become shares of public constants. `constants` are
    those of another party's compilation, to be used in the place of this one's: see folded.py.
    With ``watch="equations"`` the result's tree is (result, values) and `watched` says which
    equation took and gave which of the values; for debugging, as everything is opened.

    Raises:
        CompileError: the function cannot be turned into a program (UnsupportedPrimitive: a JAX
            primitive has no rule); the text has the user's source line and what to do.
        UsageError: an argument that JAX would cut to 32 bits.
    """
    traced = split(trace(fn, args, kwargs or {}))
    low, results = _lowered(traced, config, constants, watch, frozenset())
    limited = frozenset(low.cut_squares.below_roots)
    while limited != low.cut_squares.limited:  # all of them, then without those where it is in vain
        low, results = _lowered(traced, config, constants, watch, limited)
        limited -= low.cut_squares.below_roots
    terms.doubt(low)
    specs = _outputs(low, traced, results)
    leave_out_squares(low)
    watched = tuple(low.watched or ())
    values = values_of(watched)
    for value, dtype in values.items():
        low.builder.output(value, str(dtype), f"value {value}")
        specs += ((low.shape(value), "float64" if kind_of(dtype) == "float" else str(dtype)),)
    tree = traced.out_tree
    if watch == "equations":
        tree = jax.tree_util.treedef_tuple((tree, jax.tree.structure(list(values))))
    program = low.builder.build()
    doubtful = by_line(unproven(low, program))
    program = with_origins(verify(additive_results(optimised(program))))
    return Compiled(
        program=program,
        out_tree=tree,
        out_specs=specs,
        warnings=tuple(low.warnings),
        disclosures=disclosures(program),
        public_arguments=traced.public_arguments,
        constants=tuple(low.folded.used),
        watched=watched,
        watched_values=tuple(values),
        notes=tuple(low.notes),
        unproven=doubtful,
    )


def _lowered(
    traced: Traced,
    config: CompileConfig,
    constants: Sequence[Any] | None,
    watch: Literal["nothing", "equations"],
    limited: frozenset[int],
) -> tuple[Lowering, list[Value]]:
    """What all was lowered to, and the results; `limited` as in moment_facts.CutSquares."""
    low = Lowering(config, constants)
    low.source = traced.asked_at
    low.watched = [] if watch == "equations" else None
    low.cut_squares.limited = limited
    secrets: list[Value] = []
    shared = [sums.as_input(low, spec) for spec in traced.secrets]
    for spec, given in zip(traced.secrets, shared, strict=True):
        dtype, kind = np.dtype(spec.dtype), low.type(given)
        value = sums.as_value(low, given, spec)
        if spec.squares:
            facts.mark(low, value, Squared("parts"))
        counted = kind_of(dtype) == "int" and kind.bounds and kind.bounds[0] == kind.bounds[1]
        if counted:  # the state of a counter: its range says what it is
            secrets.append(np.full(spec.shape, kind.lo, dtype))
        else:
            secrets.append(Secret(value, dtype))
    return low, missing.opened(low, lower_closed(low, traced.closed, secrets))


def _outputs(
    low: Lowering, traced: Traced, results: Sequence[Value]
) -> tuple[tuple[tuple[int, ...], str], ...]:
    specs = []
    for name, result, aval in zip(traced.out_names, results, traced.closed.out_avals, strict=True):
        dtype = np.dtype(aval.dtype)
        if not isinstance(result, Secret):
            result = low.folded.take(result)
        low.source = (
            low.builder.source(result.id) if isinstance(result, Secret) else traced.asked_at
        )
        value = lift(low, result, dtype).id if low.inputs else public_result(low, result, dtype)
        output = Output(value, str(dtype), name)
        if low.inputs and kind_of(dtype) == "float":
            output = sums.as_result(low, output)
        low.builder.declare(output)
        specs.append((tuple(aval.shape), str(dtype)))
    return tuple(specs)
